#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>
#include <string.h>

#include "base/check.h"

static const OracleAttention SHAPES[] = {
    /* b, t, h, head */
    {1, 1, 1, 1},   {2, 1, 3, 20},  {3, 2, 1, 3},    {1, 5, 2, 3},
    {2, 17, 2, 20}, {1, 31, 1, 64}, {2, 33, 3, 20},  {1, 64, 2, 64},
    {2, 65, 1, 80}, {1, 100, 4, 1}, {1, 130, 2, 32}, {1, 257, 1, 64},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

typedef struct {
    Twin out, lse, qkv, dqkv, delta, dout;
    Dropout dropout;
    OracleAttention shape;
} Attention;

static Twin per_row(OpFixture *fx, OracleAttention s)
{
    Twin twin = twin_garbage(fx, DTYPE_F32, s.b * s.h * s.t, 1);
    twin.t = tensor_3d(twin.t.data, DTYPE_F32, s.b, s.h, s.t);
    return twin;
}

static Attention attention_make(OpFixture *fx, OracleAttention s, float rate)
{
    int64_t n = s.b * s.t, c = s.h * s.head;
    op_workspace(fx, (OpLimits){n, s.t, c, (int32_t)s.h, 1});
    return (Attention){
        .out = twin_garbage(fx, fx->dtype, n, c),
        .lse = per_row(fx, s),
        .qkv = twin_normal(fx, fx->dtype, n, 3 * c, 1),
        .dqkv = twin_garbage(fx, fx->dtype, n, 3 * c),
        .delta = per_row(fx, s),
        .dout = twin_normal(fx, fx->dtype, n, c, 1),
        .dropout = {rate, 77, 9, 3, s.t},
        .shape = s,
    };
}

static void forward_call(Device *dev, void *arg)
{
    Attention *a = arg;
    op_attention_forward(dev, a->out.t, a->lse.t, a->qkv.t, a->dropout);
}

static void backward_call(Device *dev, void *arg)
{
    Attention *a = arg;
    op_attention_backward(dev, &(AttentionBackward){.dqkv = a->dqkv.t,
                                                    .delta = a->delta.t,
                                                    .dout = a->dout.t,
                                                    .out = a->out.t,
                                                    .lse = a->lse.t,
                                                    .qkv = a->qkv.t,
                                                    .dropout = a->dropout});
}

static void both_call(Device *dev, void *arg)
{
    forward_call(dev, arg);
    backward_call(dev, arg);
}

/* ---- magnitudes: what the tolerances are relative to ------------------------------------- */

static const double *part_of(const Attention *a, int64_t b, int64_t t, int part, int64_t h)
{
    OracleAttention s = a->shape;
    return a->qkv.ref + ((b * s.t + t) * 3 + part) * s.h * s.head + h * s.head;
}

static double inner_abs(const double *x, const double *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs(x[i] * y[i]);
    return sum;
}

/* The largest sum of |q k| / sqrt(head): a score's rounding is the relative error of a probability.
 */
static double score_size(const Attention *a)
{
    OracleAttention s = a->shape;
    double size = 0;
    for (int64_t b = 0; b < s.b; b++)
        for (int64_t h = 0; h < s.h; h++)
            for (int64_t i = 0; i < s.t; i++)
                for (int64_t j = 0; j <= i; j++)
                    size = fmax(size,
                                inner_abs(part_of(a, b, i, 0, h), part_of(a, b, j, 1, h), s.head));
    return size / sqrt((double)s.head);
}

static double value_size(const Attention *a)
{
    return max_abs(a->qkv.ref, tensor_count(a->qkv.t)) / (1 - (double)a->dropout.rate);
}

/* |dS| = P (|dP| + sum P |dP|) is at most 2 max |dP|; a sum of P over a row is 1, over a column at
 * most what the oracle's dv says. */
static double gradient_size(OpFixture *fx, const Attention *a)
{
    OracleAttention s = a->shape;
    int64_t n = tensor_count(a->qkv.t), n_out = tensor_count(a->out.t);
    double *column = op_array(fx, n), *ones = op_array(fx, n_out);
    for (int64_t i = 0; i < n_out; i++)
        ones[i] = 1;
    oracle_attention_backward(column, ones, a->qkv.ref, s, a->dropout);
    double columns = 1;
    for (int64_t r = 0; r < s.b * s.t; r++)
        columns = fmax(columns, max_abs(column + (3 * r + 2) * s.h * s.head, s.h * s.head));
    double dp = 0, dout = max_abs(a->dout.ref, n_out), x = value_size(a);
    for (int64_t r = 0; r < s.b * s.t; r++)
        for (int64_t h = 0; h < s.h; h++)
            dp = fmax(dp, inner_abs(a->dout.ref + (r * s.h + h) * s.head,
                                    part_of(a, r / s.t, r % s.t, 2, h), s.head));
    return columns * fmax(dout, 2 * dp * x / sqrt((double)s.head));
}

/* ---- checks ------------------------------------------------------------------------------ */

static void check_forward(OpFixture *fx, Attention *a, double scores)
{
    OracleAttention s = a->shape;
    oracle_attention_forward(a->out.ref, a->lse.ref, a->qkv.ref, s, a->dropout);
    double lse = max_abs(a->lse.ref, tensor_count(a->lse.t));
    CHECK_TWIN(fx, a->lse, tolerance_sum(DTYPE_F32, s.t + s.head, 1 + lse + scores));
    CHECK_TWIN(fx, a->out, tolerance_sum(fx->dtype, s.t + s.head, value_size(a) * (1 + scores)));
}

static void check_backward(OpFixture *fx, Attention *a, double scores)
{
    OracleAttention s = a->shape;
    oracle_attention_backward(a->dqkv.ref, a->dout.ref, a->qkv.ref, s, a->dropout);
    double size = gradient_size(fx, a) * (1 + scores);
    CHECK_TWIN(fx, a->dqkv, tolerance_sum(fx->dtype, s.t + s.head, size));
}

static void forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Attention a = attention_make(fx, SHAPES[i], 0);
        forward_call(&fx->dev, &a);
        check_forward(fx, &a, score_size(&a));
    }
}

static void forward_with_dropout_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Attention a = attention_make(fx, SHAPES[i], 0.25f);
        forward_call(&fx->dev, &a);
        check_forward(fx, &a, score_size(&a));
    }
}

static void backward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Attention a = attention_make(fx, SHAPES[i], 0);
        both_call(&fx->dev, &a);
        check_backward(fx, &a, score_size(&a));
    }
}

static void backward_with_dropout_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Attention a = attention_make(fx, SHAPES[i], 0.25f);
        both_call(&fx->dev, &a);
        check_backward(fx, &a, score_size(&a));
    }
}

static void a_row_sees_nothing_after_itself(void **state)
{
    OpFixture *fx = *state;
    Attention a = attention_make(fx, (OracleAttention){1, 65, 2, 20}, 0);
    forward_call(&fx->dev, &a);
    double *before = twin_pull(fx, a.out);
    for (int64_t i = 40 * 3 * 40; i < 65 * 3 * 40; i++)
        a.qkv.ref[i] = 100 - a.qkv.ref[i];
    twin_push(fx, a.qkv);
    forward_call(&fx->dev, &a);
    CHECK_SAME_BITS(twin_pull(fx, a.out), before, 40 * 40, sizeof(double));
}

static void the_mask_does_not_depend_on_the_micro_batch(void **state)
{
    OpFixture *fx = *state;
    OracleAttention s = {2, 33, 2, 20};
    Attention whole = attention_make(fx, s, 0.3f), part = whole;
    both_call(&fx->dev, &whole);
    part.out = twin_garbage(fx, fx->dtype, 66, 40);
    part.dqkv = twin_garbage(fx, fx->dtype, 66, 120);
    for (int64_t b = 0; b < 2; b++) { /* each sequence on its own */
        Attention one = whole;
        one.out.t = tensor_rows(part.out.t, b * 33, 33);
        one.dqkv.t = tensor_rows(part.dqkv.t, b * 33, 33);
        one.dout.t = tensor_rows(whole.dout.t, b * 33, 33);
        one.qkv.t = tensor_rows(whole.qkv.t, b * 33, 33);
        one.lse.t = tensor_rows(whole.lse.t, b, 1);
        one.delta.t = tensor_rows(whole.delta.t, b, 1);
        one.dropout.first_sample += b;
        both_call(&fx->dev, &one);
    }
    CHECK_TWINS_SAME(fx, part.out, whole.out);
    CHECK_TWINS_SAME(fx, part.dqkv, whole.dqkv);
}

/* Integers, and a head of 64: scores up to 64 * 7 * 7 / 8 are exact in float32, probabilities are 0
 * or 1 almost everywhere. */
static void large_scores_are_stable(void **state)
{
    OpFixture *fx = *state;
    Attention a = attention_make(fx, (OracleAttention){1, 65, 2, 64}, 0);
    for (int64_t i = 0; i < tensor_count(a.qkv.t); i++)
        a.qkv.ref[i] = (double)((i * 2654435761 >> 7) % 15 - 7);
    for (int64_t i = 0; i < 65 * 64; i++) /* every score of head 0 far below zero but its own */
        a.qkv.ref[i / 64 * 384 + i % 64] = i / 64 % 2 ? 7 : -7;
    twin_push(fx, a.qkv);
    both_call(&fx->dev, &a);
    check_forward(fx, &a, 1);
    check_backward(fx, &a, 1);
}

/* A run that diverges must be seen: nothing may turn what is not a number into one. */
static void a_nan_reaches_every_row_that_sees_it(void **state)
{
    OpFixture *fx = *state;
    Attention a = attention_make(fx, (OracleAttention){1, 65, 2, 20}, 0);
    a.qkv.ref[30 * 120 + 40] = NAN; /* token 30, k of head 0 */
    twin_push(fx, a.qkv);
    both_call(&fx->dev, &a);
    double *out = twin_pull(fx, a.out), *dqkv = twin_pull(fx, a.dqkv);
    for (int64_t r = 0; r < 65; r++) {
        assert_true(isfinite(out[r * 40 + 20])); /* head 1 */
        assert_int_equal(isfinite(out[r * 40]) != 0, r < 30);
        if (r >= 30)
            assert_false(isfinite(dqkv[r * 120])); /* q of head 0 */
    }
}

static void backward_is_the_slope_of_forward(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2; i++) {
        Attention a = attention_make(fx, (OracleAttention){2, 33, 2, 20}, i ? 0.25f : 0);
        both_call(&fx->dev, &a);
        double *dqkv = twin_pull(fx, a.dqkv);
        CHECK_DIFFERENCE(fx, forward_call, &a, a.qkv, a.out, a.dout, dqkv);
    }
}

/* The workspace is planned for the longest sequence and the whole batch; less must do too. */
static void a_larger_workspace_than_needed_changes_nothing(void **state)
{
    OpFixture *fx = *state;
    Attention a = attention_make(fx, (OracleAttention){2, 33, 2, 20}, 0.25f), b = a;
    both_call(&fx->dev, &a);
    op_workspace(fx, (OpLimits){512, 128, 40, 2, 1});
    b.out = twin_garbage(fx, fx->dtype, 66, 40);
    b.dqkv = twin_garbage(fx, fx->dtype, 66, 120);
    both_call(&fx->dev, &b);
    CHECK_TWINS_SAME(fx, b.out, a.out);
    CHECK_TWINS_SAME(fx, b.dqkv, a.dqkv);
}

static void it_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    static const OracleAttention LARGE[] = {{2, 65, 3, 20}, {1, 257, 1, 64}, {3, 130, 2, 32}};
    for (int i = 0; i < 6; i++) {
        Attention a = attention_make(fx, LARGE[i / 2], i % 2 ? 0.25f : 0);
        CHECK_REPEATS(fx, both_call, &a, a.out, a.lse, a.dqkv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(forward_matches_the_oracle),
        OP_TEST(forward_with_dropout_matches_the_oracle),
        OP_TEST(backward_matches_the_oracle),
        OP_TEST(backward_with_dropout_matches_the_oracle),
        OP_TEST(a_row_sees_nothing_after_itself),
        OP_TEST(the_mask_does_not_depend_on_the_micro_batch),
        OP_TEST(large_scores_are_stable),
        OP_TEST(a_nan_reaches_every_row_that_sees_it),
        OP_TEST(backward_is_the_slope_of_forward),
        OP_TEST(a_larger_workspace_than_needed_changes_nothing),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("attention", tests);
}
