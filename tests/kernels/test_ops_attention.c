#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>
#include <string.h>

#include "base/check.h"

/* Tokens on both sides of the edges of tiles, and among the head sizes all that tensor cores take.
 */
static const OracleAttention SHAPES[] = {
    /* b, t, h, head */
    {1, 1, 1, 1},    {2, 1, 3, 20},   {3, 2, 1, 3},    {1, 5, 2, 3},     {2, 17, 2, 20},
    {1, 31, 1, 64},  {2, 33, 3, 20},  {1, 64, 2, 64},  {2, 65, 1, 80},   {1, 100, 4, 1},
    {1, 130, 2, 32}, {1, 257, 1, 64}, {2, 1, 2, 64},   {2, 17, 3, 64},   {2, 36, 2, 32},
    {1, 132, 1, 96}, {1, 66, 1, 96},  {1, 17, 2, 128}, {1, 130, 1, 128}, {2, 17, 2, 130},
    {1, 66, 1, 161}, {1, 40, 1, 256},
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

/* Where q, k or v (part 0, 1, 2) of a token and head begins in qkv and dqkv. */
static int64_t part_index(OracleAttention s, int64_t b, int64_t t, int part, int64_t h)
{
    return (((b * s.t + t) * 3 + part) * s.h + h) * s.head;
}

static const double *part_of(const Attention *a, int64_t b, int64_t t, int part, int64_t h)
{
    return a->qkv.ref + part_index(a->shape, b, t, part, h);
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

/* A query and a key it sees, in absolute values: p, what dropout multiplies it by, and dp after
 * that. */
typedef struct {
    double p, mask, dp;
} PairSize;

static PairSize pair_size(const Attention *a, int64_t b, int64_t h, int64_t i, int64_t j)
{
    OracleAttention s = a->shape;
    const double *q = part_of(a, b, i, 0, h), *k = part_of(a, b, j, 1, h);
    const double *dout = a->dout.ref + ((b * s.t + i) * s.h + h) * s.head;
    double score = 0, lse = a->lse.ref[(b * s.h + h) * s.t + i];
    for (int64_t c = 0; c < s.head; c++)
        score += q[c] * k[c];
    PairSize pair = {.p = exp(score / sqrt((double)s.head) - lse)};
    pair.mask =
        oracle_dropout_factor(a->dropout, a->dropout.first_sample + b, (h * s.t + i) * s.t + j);
    pair.dp = pair.mask * inner_abs(dout, part_of(a, b, j, 2, h), s.head);
    return pair;
}

static void add_scaled(double *sum, double factor, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += factor * fabs(x[i]);
}

/* size, like dqkv, += the absolute values that its elements are sums of, for one query. p and ds,
 * which a device may round, count as `least` at least. */
static void add_gradient_size(double *size, const Attention *a, int64_t b, int64_t h, int64_t i,
                              double least)
{
    OracleAttention s = a->shape;
    const double *dout = a->dout.ref + ((b * s.t + i) * s.h + h) * s.head;
    double delta = 0, scale = 1 / sqrt((double)s.head);
    for (int64_t j = 0; j <= i; j++) {
        PairSize pair = pair_size(a, b, h, i, j);
        delta += pair.p * pair.dp;
    }
    for (int64_t j = 0; j <= i; j++) {
        PairSize pair = pair_size(a, b, h, i, j);
        double p = fmax(pair.p * pair.mask, least), ds = fmax(pair.p * (pair.dp + delta), least);
        add_scaled(size + part_index(s, b, i, 0, h), scale * ds, part_of(a, b, j, 1, h), s.head);
        add_scaled(size + part_index(s, b, j, 1, h), scale * ds, part_of(a, b, i, 0, h), s.head);
        add_scaled(size + part_index(s, b, j, 2, h), p, dout, s.head);
    }
}

/* Of a sum over keys or queries. Tensor cores take p and ds in the compute dtype: `roundings` more
 * that are relative to size. */
static Tolerance attention_tolerance(OpFixture *fx, OracleAttention s, double size, double scores,
                                     double roundings)
{
    Tolerance t = tolerance_sum(fx->dtype, s.t + s.head, size * (1 + scores));
    if (fx->dtype != DTYPE_F32)
        t.absolute += roundings * unit_roundoff(fx->dtype) * size;
    return t;
}

/* ---- checks ------------------------------------------------------------------------------ */

static void check_forward(OpFixture *fx, Attention *a, double scores)
{
    OracleAttention s = a->shape;
    oracle_attention_forward(a->out.ref, a->lse.ref, a->qkv.ref, s, a->dropout);
    double lse = max_abs(a->lse.ref, tensor_count(a->lse.t));
    CHECK_TWIN(fx, a->lse, tolerance_sum(DTYPE_F32, s.t + s.head, 1 + lse + scores));
    CHECK_TWIN(fx, a->out, attention_tolerance(fx, s, value_size(a), scores, 1)); /* p */
}

/* ds is rounded itself, and takes from delta the roundings of out and of p in forward. */
enum { DS_ROUNDINGS = 3 };

static void check_backward(OpFixture *fx, Attention *a, double scores)
{
    OracleAttention s = a->shape;
    oracle_attention_forward(a->out.ref, a->lse.ref, a->qkv.ref, s, a->dropout);
    oracle_attention_backward(a->dqkv.ref, a->dout.ref, a->qkv.ref, s, a->dropout);
    double *size = op_array(fx, tensor_count(a->dqkv.t)), *got = twin_pull(fx, a->dqkv);
    double least = fx->dtype == DTYPE_F16 ? 0x1p-14 : 0; /* below, roundings are not relative */
    for (int64_t i = 0; i < s.b * s.h * s.t; i++)
        add_gradient_size(size, a, i / s.t / s.h, i / s.t % s.h, i % s.t, least);
    for (int64_t r = 0; r < s.b * s.t * 3; r++) {
        int64_t c = s.h * s.head, first = r * c;
        double row = max_abs(size + first, c);
        char what[64];
        snprintf(what, sizeof what, "d%c of row %d", "qkv"[r % 3], (int)(r / 3));
        check_close(got + first, a->dqkv.ref + first, c,
                    attention_tolerance(fx, s, row, scores, DS_ROUNDINGS), what, __FILE__,
                    __LINE__);
    }
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

/* Below, heads of 20 are what plain arithmetic takes, heads of 64 go to tensor cores where there
 * are some. */
static const int64_t HEADS[] = {20, 64};
enum { N_HEADS = sizeof HEADS / sizeof *HEADS };

static void a_row_sees_nothing_after_itself(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_HEADS; i++) {
        int64_t c = 2 * HEADS[i];
        Attention a = attention_make(fx, (OracleAttention){1, 65, 2, HEADS[i]}, 0);
        forward_call(&fx->dev, &a);
        double *before = twin_pull(fx, a.out);
        for (int64_t k = 40 * 3 * c; k < 65 * 3 * c; k++)
            a.qkv.ref[k] = 100 - a.qkv.ref[k];
        twin_push(fx, a.qkv);
        forward_call(&fx->dev, &a);
        CHECK_SAME_BITS(twin_pull(fx, a.out), before, 40 * c, sizeof(double));
    }
}

static void check_sequences_alone(OpFixture *fx, OracleAttention s)
{
    int64_t c = s.h * s.head;
    Attention whole = attention_make(fx, s, 0.3f), part = whole;
    both_call(&fx->dev, &whole);
    part.out = twin_garbage(fx, fx->dtype, s.b * s.t, c);
    part.dqkv = twin_garbage(fx, fx->dtype, s.b * s.t, 3 * c);
    for (int64_t b = 0; b < s.b; b++) {
        Attention one = whole;
        one.out.t = tensor_rows(part.out.t, b * s.t, s.t);
        one.dqkv.t = tensor_rows(part.dqkv.t, b * s.t, s.t);
        one.dout.t = tensor_rows(whole.dout.t, b * s.t, s.t);
        one.qkv.t = tensor_rows(whole.qkv.t, b * s.t, s.t);
        one.lse.t = tensor_rows(whole.lse.t, b, 1);
        one.delta.t = tensor_rows(whole.delta.t, b, 1);
        one.dropout.first_sample += b;
        both_call(&fx->dev, &one);
    }
    CHECK_TWINS_SAME(fx, part.out, whole.out);
    CHECK_TWINS_SAME(fx, part.dqkv, whole.dqkv);
}

static void the_mask_does_not_depend_on_the_micro_batch(void **state)
{
    check_sequences_alone(*state, (OracleAttention){2, 33, 2, 20});
    check_sequences_alone(*state, (OracleAttention){2, 36, 2, 64});
}

/* Integers, and a head of 64: scores up to 64 * 7 * 7 / 8 are exact in float32, probabilities are 0
 * or 1 almost everywhere. In backward they have the rounding of lse as their relative error. */
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
    check_backward(fx, &a, max_abs(a.lse.ref, tensor_count(a.lse.t)));
}

/* A run that diverges must be seen: nothing may turn what is not a number into one. */
static void a_nan_reaches_every_row_that_sees_it(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_HEADS; i++) {
        int64_t d = HEADS[i], c = 2 * d;
        Attention a = attention_make(fx, (OracleAttention){1, 65, 2, d}, 0);
        a.qkv.ref[30 * 3 * c + c] = NAN; /* token 30, k of head 0 */
        twin_push(fx, a.qkv);
        both_call(&fx->dev, &a);
        double *out = twin_pull(fx, a.out), *dqkv = twin_pull(fx, a.dqkv);
        for (int64_t r = 0; r < 65; r++) {
            assert_true(isfinite(out[r * c + d])); /* head 1 */
            assert_int_equal(isfinite(out[r * c]) != 0, r < 30);
            if (r >= 30)
                assert_false(isfinite(dqkv[r * 3 * c])); /* q of head 0 */
        }
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
