/* The oracle against itself: every backward is the derivative of its forward, by central
 * differences in double. */
#include "tests/support/close.h"
#include "tests/support/oracle.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

enum { MAX_ELEMENTS = 4096 };

/* Inputs, output weights and shapes of the op under test; each test uses what it needs. */
typedef struct {
    double x[MAX_ELEMENTS], w[MAX_ELEMENTS], b[MAX_ELEMENTS], r[MAX_ELEMENTS];
    double tokens[64], out[MAX_ELEMENTS], lse[MAX_ELEMENTS];
    int64_t n, c, o;
    GeluKind gelu;
    OracleAttention attention;
    OracleLogits logits;
    Dropout dropout;
} Case;

static void fill(double *x, int64_t n, uint64_t stream)
{
    ASSERT(n <= MAX_ELEMENTS, "%lld elements", (long long)n);
    float value[MAX_ELEMENTS];
    rng_fill_normal(value, n, 1, 1, RNG_INIT, stream);
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)value[i];
}

static int setup(void **state)
{
    Case *s = calloc(1, sizeof *s);
    ASSERT(s, "no memory");
    fill(s->x, MAX_ELEMENTS, 1);
    fill(s->w, MAX_ELEMENTS, 2);
    fill(s->b, MAX_ELEMENTS, 3);
    fill(s->r, MAX_ELEMENTS, 4);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static double weighted(const Case *s, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += s->r[i] * s->out[i];
    return sum;
}

typedef double Value(Case *s);

/* gradient[0..n) of value by x. The best step is cbrt(u) and leaves an error of order u^(2/3). */
static void check_gradient(Case *s, Value *value, double *x, const double *gradient, int64_t n)
{
    double u = 0x1p-53, h = cbrt(u), slope[MAX_ELEMENTS];
    for (int64_t i = 0; i < n; i++) {
        double at = x[i];
        x[i] = at + h;
        double up = value(s);
        x[i] = at - h;
        slope[i] = (up - value(s)) / (2 * h);
        x[i] = at;
    }
    double size = fabs(value(s)) + max_abs(gradient, n) + 1;
    CHECK_CLOSE(slope, gradient, n, ((Tolerance){0, 100 * pow(u, 2.0 / 3) * size}));
}

static double dropout_value(Case *s)
{
    oracle_dropout(s->out, s->x, s->n, s->c, s->dropout);
    return weighted(s, s->n * s->c);
}

static void dropout_is_its_own_derivative(void **state)
{
    Case *s = *state;
    double dx[MAX_ELEMENTS];
    s->n = 6;
    s->c = 5;
    s->dropout = (Dropout){0.4f, 9, 3, 2, 3};
    oracle_dropout(dx, s->r, 6, 5, s->dropout);
    check_gradient(s, dropout_value, s->x, dx, 30);
}

static double embedding_value(Case *s)
{
    oracle_embedding_forward(s->out, s->tokens, s->w, s->b, 2, 3, s->c);
    return weighted(s, 6 * s->c);
}

static void embedding_backward_is_the_derivative(void **state)
{
    Case *s = *state;
    double dwte[20] = {0}, dwpe[12] = {0};
    s->c = 4;
    for (int i = 0; i < 6; i++)
        s->tokens[i] = i * i % 5;
    oracle_embedding_backward(dwte, dwpe, s->r, s->tokens, 2, 3, 4);
    check_gradient(s, embedding_value, s->w, dwte, 20);
    check_gradient(s, embedding_value, s->b, dwpe, 12);
}

static double layernorm_value(Case *s)
{
    double mean[16], rstd[16];
    oracle_layernorm_forward(s->out, mean, rstd, s->x, s->w, s->b, s->n, s->c);
    return weighted(s, s->n * s->c);
}

static void layernorm_backward_is_the_derivative(void **state)
{
    Case *s = *state;
    double dx[77] = {0}, dw[11] = {0}, db[11] = {0};
    s->n = 7;
    s->c = 11;
    oracle_layernorm_backward(dx, dw, db, s->r, s->x, s->w, 7, 11);
    check_gradient(s, layernorm_value, s->x, dx, 77);
    check_gradient(s, layernorm_value, s->w, dw, 11);
    check_gradient(s, layernorm_value, s->b, db, 11);
}

static double linear_value(Case *s)
{
    oracle_linear_forward(s->out, s->x, s->w, s->b, s->n, s->c, s->o);
    return weighted(s, s->n * s->o);
}

static void linear_backward_is_the_derivative(void **state)
{
    Case *s = *state;
    double dx[15], dw[35] = {0}, db[7] = {0};
    s->n = 3;
    s->c = 5;
    s->o = 7;
    oracle_linear_backward_data(dx, s->r, s->w, 3, 5, 7);
    oracle_linear_backward_weight(dw, db, s->x, s->r, 3, 5, 7);
    check_gradient(s, linear_value, s->x, dx, 15);
    check_gradient(s, linear_value, s->w, dw, 35);
    check_gradient(s, linear_value, s->b, db, 7);
}

static double gelu_value(Case *s)
{
    for (int64_t i = 0; i < s->n; i++)
        s->out[i] = oracle_gelu(s->x[i], s->gelu);
    return weighted(s, s->n);
}

static void gelu_derivative_is_the_derivative(void **state)
{
    Case *s = *state;
    double dx[41];
    s->n = 41;
    for (s->gelu = GELU_TANH; s->gelu <= GELU_ERF; s->gelu++) {
        for (int64_t i = 0; i < 41; i++) {
            s->x[i] = (double)(i - 20) / 4;
            dx[i] = s->r[i] * oracle_gelu_derivative(s->x[i], s->gelu);
        }
        check_gradient(s, gelu_value, s->x, dx, 41);
    }
}

static double attention_value(Case *s)
{
    oracle_attention_forward(s->out, s->lse, s->x, s->attention, s->dropout);
    return weighted(s, s->attention.b * s->attention.t * s->attention.h * s->attention.head);
}

static void attention_backward_is_the_derivative(void **state)
{
    Case *s = *state;
    double dqkv[240];
    s->attention = (OracleAttention){.b = 2, .t = 5, .h = 2, .head = 4};
    oracle_attention_backward(dqkv, s->r, s->x, s->attention, s->dropout);
    check_gradient(s, attention_value, s->x, dqkv, 240);
}

static void attention_backward_with_dropout_is_the_derivative(void **state)
{
    Case *s = *state;
    double dqkv[240];
    s->attention = (OracleAttention){.b = 2, .t = 5, .h = 2, .head = 4};
    s->dropout = (Dropout){0.3f, 5, 1, 7, 5};
    oracle_attention_backward(dqkv, s->r, s->x, s->attention, s->dropout);
    check_gradient(s, attention_value, s->x, dqkv, 240);
}

static double head_value(Case *s)
{
    oracle_head_forward(s->out, s->x, s->w, s->n, s->c, s->o);
    return weighted(s, s->n * s->o);
}

static void head_backward_is_the_derivative(void **state)
{
    Case *s = *state;
    double dx[15], dwte[35] = {0};
    s->n = 3;
    s->c = 5;
    s->o = 7;
    oracle_head_backward(dx, dwte, s->r, s->x, s->w, 3, 5, 7);
    check_gradient(s, head_value, s->x, dx, 15);
    check_gradient(s, head_value, s->w, dwte, 35);
}

static double cross_entropy_value(Case *s)
{
    double losses[4], sum = 0;
    oracle_cross_entropy_forward(losses, s->x, s->tokens, s->logits);
    for (int i = 0; i < 4; i++)
        sum += 0.25 * losses[i];
    return sum;
}

static void cross_entropy_backward_is_the_derivative(void **state)
{
    Case *s = *state;
    double dlogits[32];
    s->logits = (OracleLogits){.n = 4, .v = 6, .vp = 8};
    s->tokens[0] = 5;
    s->tokens[1] = -1;
    oracle_cross_entropy_backward(dlogits, s->x, s->tokens, s->logits, 0.25);
    check_gradient(s, cross_entropy_value, s->x, dlogits, 32);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dropout_is_its_own_derivative),
        TEST(embedding_backward_is_the_derivative),
        TEST(layernorm_backward_is_the_derivative),
        TEST(linear_backward_is_the_derivative),
        TEST(gelu_derivative_is_the_derivative),
        TEST(attention_backward_is_the_derivative),
        TEST(attention_backward_with_dropout_is_the_derivative),
        TEST(head_backward_is_the_derivative),
        TEST(cross_entropy_backward_is_the_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
