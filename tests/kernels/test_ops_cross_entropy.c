#include "tests/support/check_err.h"
#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>

/* Rows of any length, and of each kind that a GPU keeps in registers or reads again. */
static const OracleLogits SHAPES[] = {
    {1, 1, 1},       {1, 1, 128},       {3, 5, 128},       {4, 63, 67},       {7, 65, 128},
    {33, 127, 128},  {40, 200, 256},    {3, 1003, 1003},   {5, 1024, 1024},   {5, 5003, 5120},
    {2, 9001, 9001}, {2, 20011, 20096}, {2, 50257, 50304}, {1, 57400, 57408},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

typedef struct {
    Twin losses, logits, targets;
    OracleLogits shape;
    float dloss;
} Loss;

/* Columns V.. hold 50, a value that would dominate every sum if it were counted. */
static Loss loss_make(OpFixture *fx, OracleLogits s, double stddev)
{
    Loss a = {
        .losses = twin_garbage(fx, DTYPE_F32, s.n, 1),
        .logits = twin_normal(fx, fx->dtype, s.n, s.vp, stddev),
        .targets = twin_below(fx, s.n, 1, s.v),
        .shape = s,
        .dloss = 1.0f / 480,
    };
    for (int64_t r = 0; r < s.n; r++)
        for (int64_t i = s.v; i < s.vp; i++)
            a.logits.ref[r * s.vp + i] = 50;
    twin_push(fx, a.logits);
    return a;
}

static void forward_call(Device *dev, void *arg)
{
    Loss *a = arg;
    op_cross_entropy_forward(dev, a->losses.t, a->logits.t, a->targets.t, a->shape.v);
}

static void both_call(Device *dev, void *arg)
{
    Loss *a = arg;
    op_cross_entropy_forward_backward(dev, a->losses.t, a->logits.t, a->targets.t, a->shape.v,
                                      a->dloss);
}

/* spread: how large logit - max may be; its rounding is the relative error of a probability. */
static void check_losses(OpFixture *fx, Loss *a, double spread)
{
    OracleLogits s = a->shape;
    oracle_cross_entropy_forward(a->losses.ref, a->logits.ref, a->targets.ref, s);
    CHECK_TWIN(fx, a->losses, tolerance_sum(DTYPE_F32, s.v, 1 + log((double)s.v) + spread));
}

/* Compares the overwritten logits with the oracle's gradient of the ones in ref. */
static void check_both(OpFixture *fx, Loss *a, double spread)
{
    OracleLogits s = a->shape;
    check_losses(fx, a, spread);
    Twin dlogits = {a->logits.t, op_array(fx, s.n * s.vp)};
    oracle_cross_entropy_backward(dlogits.ref, a->logits.ref, a->targets.ref, s, (double)a->dloss);
    CHECK_TWIN(fx, dlogits, tolerance_sum(fx->dtype, s.v, (double)a->dloss * (1 + spread)));
}

static void forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Loss a = loss_make(fx, SHAPES[i], 2);
        Twin before = twin_copy(fx, a.logits);
        forward_call(&fx->dev, &a);
        check_losses(fx, &a, 20);
        CHECK_TWINS_SAME(fx, a.logits, before); /* unchanged */
    }
}

static void both_match_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Loss a = loss_make(fx, SHAPES[i], 2);
        both_call(&fx->dev, &a);
        check_both(fx, &a, 20);
    }
}

static void padded_columns_get_exactly_zero(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){7, 65, 128}, 2);
    both_call(&fx->dev, &a);
    double *got = twin_pull(fx, a.logits);
    for (int64_t r = 0; r < 7; r++)
        assert_true(max_abs(got + r * 128 + 65, 128 - 65) == 0);
}

static void ignored_targets_give_zero_loss_and_zero_gradient(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){7, 65, 128}, 2);
    a.targets.ref[0] = a.targets.ref[3] = a.targets.ref[6] = -1;
    twin_push(fx, a.targets);
    forward_call(&fx->dev, &a);
    check_losses(fx, &a, 20);
    both_call(&fx->dev, &a);
    check_both(fx, &a, 20);
    double *losses = twin_pull(fx, a.losses), *got = twin_pull(fx, a.logits);
    for (int64_t r = 0; r < 7; r += 3)
        assert_true(losses[r] == 0 && max_abs(got + r * 128, 128) == 0);
}

static void a_row_of_gradients_sums_to_zero(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){40, 200, 256}, 2);
    both_call(&fx->dev, &a);
    double *got = twin_pull(fx, a.logits), zero = 0;
    Tolerance rounding = tolerance_sum(fx->dtype, 200, 2 * (double)a.dloss);
    rounding.absolute += 2 * unit_roundoff(fx->dtype) * (double)a.dloss;
    for (int64_t r = 0; r < 40; r++) {
        double sum = oracle_sum(got + r * 256, 256);
        CHECK_CLOSE(&sum, &zero, 1, rounding);
    }
}

/* The last logit is the last byte of its memory. */
static void nothing_behind_the_logits_is_touched(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Loss a = loss_make(fx, SHAPES[i], 2), edge = a;
        check_no_err(device_alloc(&fx->dev, tensor_bytes(a.logits.t), &edge.logits.t.data));
        device_copy(&fx->dev, edge.logits.t, a.logits.t);
        forward_call(&fx->dev, &edge);
        both_call(&fx->dev, &edge);
        both_call(&fx->dev, &a);
        CHECK_TWINS_SAME(fx, edge.logits, a.logits);
        device_free(&fx->dev, edge.logits.t.data);
    }
}

/* Multiples of 64 up to 16384 are exact in every dtype, and so are their differences. */
static void large_logits_are_stable(void **state)
{
    OpFixture *fx = *state;
    for (int sign = -1; sign <= 1; sign += 2) {
        Loss a = loss_make(fx, (OracleLogits){9, 65, 128}, 1);
        for (int64_t r = 0; r < 9; r++)
            for (int64_t i = 0; i < 65; i++)
                a.logits.ref[r * 128 + i] = sign * (double)(64 * ((r * 31 + i * 7) % 257));
        twin_push(fx, a.logits);
        forward_call(&fx->dev, &a);
        check_losses(fx, &a, 1);
        both_call(&fx->dev, &a);
        check_both(fx, &a, 1);
    }
}

/* The warps of a block see maxima that differ by 40 and more, each in turn the largest. */
static void one_huge_logit_wins_wherever_it_is(void **state)
{
    OpFixture *fx = *state;
    static const int64_t AT[] = {0, 1023, 1024, 2600, 5002};
    Loss a = loss_make(fx, (OracleLogits){10, 5003, 5120}, 1);
    for (int64_t r = 0; r < 10; r++) {
        a.logits.ref[r * 5120 + AT[r % 5]] = 90;
        a.logits.ref[r * 5120 + 3000] = 50;
        if (r < 5)
            a.targets.ref[r] = (double)AT[r];
    }
    twin_push(fx, a.logits);
    twin_push(fx, a.targets);
    forward_call(&fx->dev, &a);
    check_losses(fx, &a, 100);
    both_call(&fx->dev, &a);
    check_both(fx, &a, 100);
}

static void unaligned_rows_give_the_same(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){3, 1003, 1024}, 2);
    a.logits = twin_unaligned(fx, a.logits);
    forward_call(&fx->dev, &a);
    check_losses(fx, &a, 20);
    both_call(&fx->dev, &a);
    check_both(fx, &a, 20);
}

static void equal_logits_give_log_v(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){3, 5003, 5120}, 1);
    for (int64_t i = 0; i < 3 * 5120; i++)
        a.logits.ref[i] = 10240;
    twin_push(fx, a.logits);
    forward_call(&fx->dev, &a);
    for (int i = 0; i < 3; i++)
        a.losses.ref[i] = log(5003);
    CHECK_TWIN(fx, a.losses, tolerance_sum(DTYPE_F32, 5003, log(5003)));
}

static void a_nan_among_the_logits_reaches_the_loss(void **state)
{
    OpFixture *fx = *state;
    static const double BAD[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        Loss a = loss_make(fx, (OracleLogits){3, 65, 128}, 1);
        a.logits.ref[128 + 40] = BAD[i];
        twin_push(fx, a.logits);
        forward_call(&fx->dev, &a);
        assert_false(isfinite(twin_pull(fx, a.losses)[1]));
        both_call(&fx->dev, &a);
        double *losses = twin_pull(fx, a.losses);
        assert_true(isfinite(losses[0]) && !isfinite(losses[1]) && isfinite(losses[2]));
    }
}

static void backward_is_the_slope_of_forward(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){5, 65, 128}, 2);
    Twin weight = twin_filled(fx, DTYPE_F32, 5, 1, 1);
    a.dloss = 1;
    both_call(&fx->dev, &a);
    double *gradient = twin_pull(fx, a.logits);
    CHECK_DIFFERENCE(fx, forward_call, &a, a.logits, a.losses, weight, gradient);
}

static void it_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Loss a = loss_make(fx, (OracleLogits){33, 1003, 1024}, 2);
    CHECK_REPEATS(fx, forward_call, &a, a.losses);
    CHECK_REPEATS(fx, both_call, &a, a.losses, a.logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(forward_matches_the_oracle),
        OP_TEST(both_match_the_oracle),
        OP_TEST(padded_columns_get_exactly_zero),
        OP_TEST(ignored_targets_give_zero_loss_and_zero_gradient),
        OP_TEST(a_row_of_gradients_sums_to_zero),
        OP_TEST(nothing_behind_the_logits_is_touched),
        OP_TEST(large_logits_are_stable),
        OP_TEST(one_huge_logit_wins_wherever_it_is),
        OP_TEST(unaligned_rows_give_the_same),
        OP_TEST(equal_logits_give_log_v),
        OP_TEST(a_nan_among_the_logits_reaches_the_loss),
        OP_TEST(backward_is_the_slope_of_forward),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("cross_entropy", tests);
}
