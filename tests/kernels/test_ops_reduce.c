/* Sums over a vector, and conversions between dtypes. */
#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>

static const int64_t COUNTS[] = {1, 7, 16, 31, 513, 4099, 100003};
enum { N_COUNTS = sizeof COUNTS / sizeof *COUNTS };

typedef struct {
    Twin total, x;
} Sum;

static Sum sum_make(OpFixture *fx, int64_t n)
{
    op_workspace(fx, (OpLimits){n, n, 1, 1, 1});
    return (Sum){
        .total = twin_filled(fx, DTYPE_F64, 1, 1, 1000), /* += : not empty */
        .x = twin_normal(fx, DTYPE_F32, n, 1, 1),
    };
}

static void sum_call(Device *dev, void *arg)
{
    Sum *a = arg;
    op_add_sum(dev, a->total.t, a->x.t, 0.125);
}

static void squares_call(Device *dev, void *arg)
{
    Sum *a = arg;
    op_add_sum_squares(dev, a->total.t, a->x.t);
}

static void add_sum_adds_the_scaled_sum(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_COUNTS; i++) {
        Sum a = sum_make(fx, COUNTS[i]);
        sum_call(&fx->dev, &a);
        a.total.ref[0] += 0.125 * oracle_sum(a.x.ref, COUNTS[i]);
        double size = 0.125 * oracle_sum(twin_abs(fx, a.x), COUNTS[i]);
        CHECK_TWIN(fx, a.total, tolerance_sum(DTYPE_F64, COUNTS[i], size));
    }
}

static void add_sum_squares_adds_the_sum_of_squares(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_COUNTS; i++) {
        Sum a = sum_make(fx, COUNTS[i]);
        squares_call(&fx->dev, &a);
        double squares = oracle_sum_squares(a.x.ref, COUNTS[i]);
        a.total.ref[0] += squares;
        CHECK_TWIN(fx, a.total, tolerance_sum(DTYPE_F64, COUNTS[i], squares));
    }
}

/* More partial sums than a GPU's block has threads. Ones are exact in any order. */
static void a_long_vector_is_summed_whole(void **state)
{
    OpFixture *fx = *state;
    int64_t n = (1 << 20) + 4099;
    op_workspace(fx, (OpLimits){n, n, 1, 1, 1});
    Sum a = {.total = twin_filled(fx, DTYPE_F64, 1, 1, 0),
             .x = twin_filled(fx, DTYPE_F32, n, 1, 1)};
    sum_call(&fx->dev, &a);
    squares_call(&fx->dev, &a);
    a.total.ref[0] = 1.125 * (double)n;
    CHECK_TWIN(fx, a.total, ((Tolerance){0, 0}));
}

static void sums_of_nothing_add_nothing(void **state)
{
    OpFixture *fx = *state;
    Sum a = sum_make(fx, 1);
    op_add_sum(&fx->dev, a.total.t, tensor_none(), 1);
    op_add_sum_squares(&fx->dev, a.total.t, tensor_none());
    CHECK_TWIN(fx, a.total, ((Tolerance){0, 0}));
}

/* Wherever it is: in a vector's body, in its tail, in any chunk. */
static void one_bad_element_makes_the_sum_of_squares_not_finite(void **state)
{
    OpFixture *fx = *state;
    static const double BAD[] = {NAN, INFINITY, -INFINITY};
    static const int64_t PLACES[] = {0, 15, 16, 2000, 4095, 4098};
    for (int i = 0; i < 3 * 6; i++) {
        Sum a = sum_make(fx, 4099);
        a.x.ref[PLACES[i / 3]] = BAD[i % 3];
        twin_push(fx, a.x);
        squares_call(&fx->dev, &a);
        assert_false(isfinite(twin_pull(fx, a.total)[0]));
    }
}

static void the_order_of_a_sum_does_not_depend_on_the_address(void **state)
{
    OpFixture *fx = *state;
    Sum a = sum_make(fx, 8193), moved = sum_make(fx, 8196);
    for (int64_t i = 0; i < 8193; i++)
        moved.x.ref[i + 3] = a.x.ref[i];
    twin_push(fx, moved.x);
    moved.x.t = tensor_range(moved.x.t, 3, 8193);
    squares_call(&fx->dev, &a);
    squares_call(&fx->dev, &moved);
    CHECK_TWINS_SAME(fx, moved.total, a.total);
}

static void sums_repeat_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Sum a = sum_make(fx, 100003);
    CHECK_REPEATS(fx, sum_call, &a, a.total);
    CHECK_REPEATS(fx, squares_call, &a, a.total);
}

/* ---- convert ----------------------------------------------------------------------------- */

static const DType DTYPES[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_F16};

/* Small integers are exact everywhere, so every pair must carry them over. */
static void every_pair_of_dtypes_carries_small_integers(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 4 * 4 * N_COUNTS; i++) {
        int64_t n = COUNTS[i / 16] > 5000 ? 5000 : COUNTS[i / 16];
        Twin src = twin_filled(fx, DTYPES[i % 4], n, 1, 0);
        Twin dst = twin_garbage(fx, DTYPES[i / 4 % 4], n, 1);
        for (int64_t k = 0; k < n; k++)
            src.ref[k] = dst.ref[k] = (double)(k * 37 % 257 - 128);
        twin_push(fx, src);
        op_convert(&fx->dev, dst.t, src.t);
        CHECK_TWIN(fx, dst, ((Tolerance){0, 0}));
    }
}

static void check_convert(OpFixture *fx, DType to, DType from, const double *in, const double *out,
                          int64_t n)
{
    Twin src = twin_filled(fx, from, n, 1, 0), dst = twin_garbage(fx, to, n, 1);
    for (int64_t i = 0; i < n; i++) {
        src.ref[i] = in[i];
        dst.ref[i] = out[i];
    }
    twin_push(fx, src);
    op_convert(&fx->dev, dst.t, src.t);
    CHECK_TWIN(fx, dst, ((Tolerance){0, 0}));
}

static void ties_round_to_even(void **state)
{
    OpFixture *fx = *state;
    double bf16_in[] = {1 + 0x1p-8, 1 + 3 * 0x1p-8, -(1 + 0x1p-8), 1 + 0x1p-8 + 0x1p-20, 257, 259};
    double bf16_out[] = {1, 1 + 4 * 0x1p-8, -1, 1 + 0x1p-7, 256, 260};
    check_convert(fx, DTYPE_BF16, DTYPE_F32, bf16_in, bf16_out, 6);
    check_convert(fx, DTYPE_BF16, DTYPE_F64, bf16_in, bf16_out, 6);
    double f16_in[] = {1 + 0x1p-11, 1 + 3 * 0x1p-11, 2049, 2051, 0x1p-25, 3 * 0x1p-25};
    double f16_out[] = {1, 1 + 4 * 0x1p-11, 2048, 2052, 0, 2 * 0x1p-24};
    check_convert(fx, DTYPE_F16, DTYPE_F32, f16_in, f16_out, 6);
    double f32_in[] = {1 + 0x1p-24, 1 + 3 * 0x1p-24, -(1 + 0x1p-24)};
    double f32_out[] = {1, 1 + 4 * 0x1p-24, -1};
    check_convert(fx, DTYPE_F32, DTYPE_F64, f32_in, f32_out, 3);
}

/* Just past a tie, by less than float32 can tell: rounding twice would go down. */
static void double_is_rounded_once(void **state)
{
    OpFixture *fx = *state;
    double in[] = {1 + 0x1p-8 + 0x1p-40, -(1 + 0x1p-8 + 0x1p-40), 1 + 3 * 0x1p-8 - 0x1p-40};
    double out[] = {1 + 0x1p-7, -(1 + 0x1p-7), 1 + 0x1p-7};
    check_convert(fx, DTYPE_BF16, DTYPE_F64, in, out, 3);
    double half_in[] = {1 + 0x1p-11 + 0x1p-40}, half_out[] = {1 + 0x1p-10};
    check_convert(fx, DTYPE_F16, DTYPE_F64, half_in, half_out, 1);
}

static void infinities_overflows_and_nan_survive(void **state)
{
    OpFixture *fx = *state;
    double in[] = {INFINITY, -INFINITY, 1e39, -1e39},
           far[] = {INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++)
        if (DTYPES[i] != DTYPE_F64)
            check_convert(fx, DTYPES[i], DTYPE_F64, in, far, 4);
    for (int i = 0; i < 16; i++) {
        Twin src = twin_filled(fx, DTYPES[i % 4], 3, 1, NAN);
        Twin dst = twin_filled(fx, DTYPES[i / 4], 3, 1, 0);
        op_convert(&fx->dev, dst.t, src.t);
        assert_true(isnan(twin_pull(fx, dst)[2]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(add_sum_adds_the_scaled_sum),
        OP_TEST(add_sum_squares_adds_the_sum_of_squares),
        OP_TEST(a_long_vector_is_summed_whole),
        OP_TEST(sums_of_nothing_add_nothing),
        OP_TEST(one_bad_element_makes_the_sum_of_squares_not_finite),
        OP_TEST(the_order_of_a_sum_does_not_depend_on_the_address),
        OP_TEST(sums_repeat_bit_for_bit),
        OP_TEST(every_pair_of_dtypes_carries_small_integers),
        OP_TEST(ties_round_to_even),
        OP_TEST(double_is_rounded_once),
        OP_TEST(infinities_overflows_and_nan_survive),
    };
    return OP_SUITE("reduce", tests);
}
