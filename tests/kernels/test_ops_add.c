#include "tests/support/op_fixture.h"

static const int64_t COUNTS[] = {1, 3, 8, 257, 4096, 8191};
static const DType FROM[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

typedef struct {
    Twin dst, src;
} Add;

static Add add_make(OpFixture *fx, DType from, int64_t n)
{
    return (Add){twin_normal(fx, DTYPE_F32, n, 1, 3), twin_normal(fx, from, n, 1, 2)};
}

static void add_call(Device *dev, void *arg)
{
    Add *a = arg;
    op_add(dev, a->dst.t, a->src.t);
}

/* One rounding: the float nearest to the sum. */
static void check_add(OpFixture *fx, Twin dst, Twin src)
{
    for (int64_t i = 0; i < tensor_count(dst.t); i++)
        dst.ref[i] = (double)((float)dst.ref[i] + (float)src.ref[i]);
    CHECK_TWIN(fx, dst, ((Tolerance){0, 0}));
}

static void add_is_exact_but_for_one_rounding(void **state)
{
    OpFixture *fx = *state;
    for (size_t d = 0; d < sizeof FROM / sizeof *FROM; d++)
        for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++) {
            Add a = add_make(fx, FROM[d], COUNTS[c]);
            add_call(&fx->dev, &a);
            check_add(fx, a.dst, a.src);
        }
}

/* What a slice of a bucket looks like when the world does not divide by eight. */
static void add_takes_any_alignment(void **state)
{
    OpFixture *fx = *state;
    for (size_t d = 0; d < sizeof FROM / sizeof *FROM; d++)
        for (int64_t shift = 1; shift < 8; shift++) {
            Add a = add_make(fx, FROM[d], 264);
            op_add(&fx->dev, tensor_range(a.dst.t, 8 - shift, 256),
                   tensor_range(a.src.t, shift, 256));
            for (int64_t i = 0; i < 256; i++)
                a.dst.ref[8 - shift + i] =
                    (double)((float)a.dst.ref[8 - shift + i] + (float)a.src.ref[shift + i]);
            CHECK_TWIN(fx, a.dst, ((Tolerance){0, 0}));
        }
}

static void add_repeats_for_any_number_of_threads(void **state)
{
    OpFixture *fx = *state;
    Add a = add_make(fx, DTYPE_BF16, 8191);
    CHECK_REPEATS(fx, add_call, &a, a.dst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(add_is_exact_but_for_one_rounding),
        OP_TEST(add_takes_any_alignment),
        OP_TEST(add_repeats_for_any_number_of_threads),
    };
    return OP_SUITE("add", tests);
}
