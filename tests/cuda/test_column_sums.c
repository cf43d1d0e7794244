/* Column sums on the GPU: bias gradients. */
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/cuda/cuda_suite.h"

typedef struct {
    int64_t n, o;
} Shape;

/* Rows on both sides of what makes one more run, of what fills all runs, and of longer ones. */
static const Shape SHAPES[] = {{1, 1},    {1, 8},    {2, 7},    {15, 64},   {16, 65},
                               {17, 31},  {33, 264}, {130, 40}, {257, 768}, {4095, 3},
                               {4096, 8}, {4097, 9}, {9000, 4}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };
static const DType DTYPES[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

typedef struct {
    Twin db, dy;
} Sums;

static void add_column_sums(Device *dev, void *arg)
{
    Sums *a = arg;
    cuda_add_column_sums(dev, a->db.t, a->dy.t);
}

static Sums sums_make(OpFixture *fx, DType dtype, Shape s)
{
    op_workspace(fx, (OpLimits){s.n, s.n, s.o, 1, s.o});
    return (Sums){twin_normal(fx, DTYPE_F32, s.o, 1, 1), twin_normal(fx, dtype, s.n, s.o, 1)};
}

/* sums (o) += columns of x (n,o); size (o): the same of absolute values. */
static void oracle(double *sums, double *size, const double *x, Shape s)
{
    for (int64_t c = 0; c < s.o; c++) {
        size[c] = fabs(sums[c]);
        for (int64_t r = 0; r < s.n; r++) {
            sums[c] += x[r * s.o + c];
            size[c] += fabs(x[r * s.o + c]);
        }
    }
}

static void column_sums_match_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int k = 0; k < 3 * N_SHAPES; k++) {
        Shape s = SHAPES[k / 3];
        Sums a = sums_make(fx, DTYPES[k % 3], s);
        double *size = op_array(fx, s.o);
        add_column_sums(&fx->dev, &a);
        oracle(a.db.ref, size, a.dy.ref, s);
        CHECK_TWIN(fx, a.db, tolerance_sum(DTYPE_F32, s.n, max_abs(size, s.o)));
    }
}

/* However many SMs there are; and the 16-byte way adds in the order of the plain one, which is
 * taken from an address that is not aligned. */
static void column_sums_have_the_same_bits_everywhere(void **state)
{
    OpFixture *fx = *state;
    static const Shape LARGE = {613, 48};
    for (int k = 0; k < 3; k++) {
        Sums a = sums_make(fx, DTYPES[k], LARGE), other = a;
        other.db = twin_copy(fx, a.db);
        Twin shifted = twin_garbage(fx, DTYPES[k], 1, LARGE.n * LARGE.o + 1);
        memcpy(shifted.ref + 1, a.dy.ref, (size_t)(LARGE.n * LARGE.o) * sizeof(double));
        twin_push(fx, shifted);
        other.dy.t.data = (char *)shifted.t.data + dtype_bytes(DTYPES[k]);
        add_column_sums(&fx->dev, &a);
        int32_t n_sms = cuda_device(&fx->dev)->n_sms;
        cuda_device(&fx->dev)->n_sms = 1;
        add_column_sums(&fx->dev, &other);
        cuda_device(&fx->dev)->n_sms = n_sms;
        CHECK_TWINS_SAME(fx, other.db, a.db);
    }
}

static void column_sums_repeat_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Sums a = sums_make(fx, DTYPE_BF16, (Shape){301, 136});
    CHECK_REPEATS(fx, add_column_sums, &a, a.db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(column_sums_match_the_oracle),
        OP_TEST(column_sums_have_the_same_bits_everywhere),
        OP_TEST(column_sums_repeat_bit_for_bit),
    };
    return CUDA_SUITE("column sums", tests);
}
