/* The primitives of kernels against the PTX manual ("PTX ISA", sections cvt, ex2, shfl.sync,
 * ldmatrix, mma and cp.async), in plain C. */
#include "tests/cuda/cuda_suite.h"
#include "tests/cuda/primitive_kernels.h"

#include <float.h>

enum { N_PATTERNS = 1 << 16 };

/* ---- memory on both sides -------------------------------------------------------------------- */

/* n_bytes on the device, freed by the fixture; from `host` unless NULL. */
static void *on_device(OpFixture *fx, const void *host, size_t n_bytes)
{
    Twin twin = twin_garbage(fx, DTYPE_I32, (int64_t)(n_bytes + 3) / 4, 1);
    if (host) {
        device_upload(&fx->dev, tensor_1d(twin.t.data, DTYPE_U8, (int64_t)n_bytes), host);
        assert_null(device_sync(&fx->dev));
    }
    return twin.t.data;
}

/* Back into `host`; fails on a fault of the device. */
static void fetch(OpFixture *fx, void *host, void *device, size_t n_bytes)
{
    device_download(&fx->dev, host, tensor_1d(device, DTYPE_U8, (int64_t)n_bytes));
    Err err = device_sync(&fx->dev);
    if (err)
        fail_msg("%s", err_message(err));
}

#define ON_DEVICE(fx, array)      on_device((fx), (array), sizeof(array))
#define FETCH(fx, array, device)  fetch((fx), (array), (device), sizeof(array))
#define ROOM_ON_DEVICE(fx, array) on_device((fx), NULL, sizeof(array))

/* The instructions of compute capability 8.0. */
static bool skipped_before_sm80(OpFixture *fx)
{
    DeviceInfo info;
    assert_null(device_info(&fx->dev, &info));
    return info.compute_capability < 80;
}

/* ---- 16-bit floats, by definition --------------------------------------------------------------
 */

typedef struct {
    DType dtype;
    int mantissa_bits, least_exponent; /* of a normal number */
    double largest;
} Format;

static const Format FORMATS[] = {{DTYPE_BF16, 7, -126, 0x1.fep127}, {DTYPE_F16, 10, -14, 65504.0}};
enum { N_FORMATS = 2 };

/* What 16 bits stand for: sign, exponent, mantissa. */
static double format_value(const Format *f, uint16_t bits)
{
    int mantissa = bits & ((1 << f->mantissa_bits) - 1);
    int exponent = (bits & 0x7fff) >> f->mantissa_bits;
    double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 0x7fff >> f->mantissa_bits)
        return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent > 0)
        mantissa |= 1 << f->mantissa_bits;
    else
        exponent = 1;
    return sign * ldexp(mantissa, f->least_exponent + exponent - 1 - f->mantissa_bits);
}

/* x rounded to the nearest, ties to even: a multiple of the last place at x. */
static double format_round(const Format *f, double x)
{
    int exponent;
    frexp(x, &exponent); /* |x| is in [0.5, 1) 2^exponent */
    exponent = exponent - 1 < f->least_exponent ? f->least_exponent : exponent - 1;
    double place = ldexp(1, exponent - f->mantissa_bits), rounded = rint(x / place) * place;
    return fabs(rounded) > f->largest ? copysign((double)INFINITY, x) : rounded;
}

static bool same_value(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

/* Floats at and next to every 16-bit value, half way between them, and what is special. */
static int64_t interesting_floats(const Format *f, float *x)
{
    int64_t n = 0;
    for (int i = 0; i < N_PATTERNS; i += 3) {
        float here = (float)format_value(f, (uint16_t)i);
        float next = (float)format_value(f, (uint16_t)(i + 1));
        float middle = here + (next - here) / 2;
        x[n++] = here;
        x[n++] = middle;
        x[n++] = nextafterf(middle, here);
        x[n++] = nextafterf(middle, next);
    }
    const float special[] = {0.0f,     -0.0f,    FLT_MIN,   -FLT_MIN, FLT_TRUE_MIN, FLT_MAX,
                             -FLT_MAX, INFINITY, -INFINITY, NAN,      65519.0f,     65520.0f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        x[n++] = special[i];
    return n;
}

static void check_narrow(const Format *f, float x, uint16_t bits)
{
    double wanted = isfinite(x) ? format_round(f, x) : (double)x;
    if (!same_value(format_value(f, bits), wanted))
        fail_msg("%s of %a: got %04x = %a, wanted %a", dtype_name(f->dtype), (double)x, bits,
                 format_value(f, bits), wanted);
}

static void floats_are_rounded_to_the_nearest_even(void **state)
{
    OpFixture *fx = *state;
    static float x[2 * N_PATTERNS];
    static uint16_t single[2 * N_PATTERNS];
    static uint32_t packed[2 * N_PATTERNS];
    for (int k = 0; k < N_FORMATS; k++) {
        const Format *f = &FORMATS[k];
        int64_t n = interesting_floats(f, x);
        void *bits = ROOM_ON_DEVICE(fx, single), *pairs = ROOM_ON_DEVICE(fx, packed);
        primitive_narrow(&fx->dev, f->dtype, bits, pairs, ON_DEVICE(fx, x), n);
        FETCH(fx, single, bits);
        FETCH(fx, packed, pairs);
        for (int64_t i = 0; i < n; i++) {
            check_narrow(f, x[i], single[i]);
            check_narrow(f, x[i], (uint16_t)packed[i]);
            check_narrow(f, x[n - 1 - i], (uint16_t)(packed[i] >> 16));
        }
    }
}

static void all_16_bit_floats_are_widened_exactly(void **state)
{
    OpFixture *fx = *state;
    static uint16_t bits[N_PATTERNS];
    static float single[N_PATTERNS], pairs[N_PATTERNS][2];
    for (int i = 0; i < N_PATTERNS; i++)
        bits[i] = (uint16_t)i;
    for (int k = 0; k < N_FORMATS; k++) {
        const Format *f = &FORMATS[k];
        void *one = ROOM_ON_DEVICE(fx, single), *two = ROOM_ON_DEVICE(fx, pairs);
        primitive_widen(&fx->dev, f->dtype, one, two, ON_DEVICE(fx, bits), N_PATTERNS);
        FETCH(fx, single, one);
        FETCH(fx, pairs, two);
        for (int i = 0; i < N_PATTERNS; i++) {
            double wanted = format_value(f, (uint16_t)i);
            assert_true(same_value((double)single[i], wanted));
            assert_true(same_value((double)pairs[i][0], wanted));
            assert_true(same_value((double)pairs[N_PATTERNS - 1 - i][1], wanted));
        }
    }
}

/* ex2.approx.ftz: a relative error up to 2^-22, denormals in and out are zeros of their sign. */
static void exp2_is_close_and_flushes_denormals(void **state)
{
    OpFixture *fx = *state;
    enum { N = 4096 };
    float x[N], y[N];
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - N / 2) * 0.071f; /* -145.4 to 145.3 */
    const float special[] = {0, -0.0f, FLT_TRUE_MIN, -FLT_TRUE_MIN, INFINITY, -INFINITY, NAN};
    memcpy(x, special, sizeof special);
    void *result = ROOM_ON_DEVICE(fx, y);
    primitive_exp2(&fx->dev, result, ON_DEVICE(fx, x), N);
    FETCH(fx, y, result);
    for (int i = 0; i < N; i++) {
        double wanted = exp2((double)x[i]), got = (double)y[i];
        bool right = fabs(got - wanted) <= wanted * 0x1p-22;
        if (isnan(x[i]))
            right = isnan(got);
        else if (wanted < (double)FLT_MIN * (1 - 0x1p-22))
            right = got == 0 && !signbit(got);
        else if (wanted > (double)FLT_MAX)
            right = isinf(got) && got > 0;
        if (!right && fabs(wanted / (double)FLT_MIN - 1) > 0x1p-22)
            fail_msg("2^%a: got %a, wanted %a", (double)x[i], got, wanted);
    }
}

/* ---- warps ----------------------------------------------------------------------------------- */

/* Of which lane `lane` gets the value, in the words of shfl.sync: each lane computes j from its own
 * number and keeps its own value where j is outside its group of `width`. */
static int shuffle_source(int kind, int lane, int step, int width)
{
    int first = lane / width * width, last = first + width - 1;
    switch (kind) {
    case 0: /* idx */
        return first + step % width;
    case 1: /* bfly */
        return (lane ^ step) <= last ? lane ^ step : lane;
    case 2: /* down */
        return lane + step <= last ? lane + step : lane;
    default: /* up */
        return lane - step >= first ? lane - step : lane;
    }
}

static void shuffles_take_from_the_right_lane(void **state)
{
    OpFixture *fx = *state;
    double x[LANES], y[N_SHUFFLES][LANES];
    for (int l = 0; l < LANES; l++)
        x[l] = 1000.0 / (l + 1);
    double *in = ON_DEVICE(fx, x), *out = ROOM_ON_DEVICE(fx, y);
    for (int width = 1; width <= LANES; width *= 2)
        for (int step = 0; step < LANES; step += step < 4 ? 1 : 5) {
            primitive_shuffle(&fx->dev, out, in, step, width);
            FETCH(fx, y, out);
            for (int kind = 0; kind < N_SHUFFLES; kind++)
                for (int l = 0; l < LANES; l++)
                    assert_true(y[kind][l] == x[shuffle_source(kind, l, step, width)]);
        }
}

/* ---- matrices ----------------------------------------------------------------------------------
 */

static void ldmatrix_spreads_four_matrices(void **state)
{
    OpFixture *fx = *state;
    if (skipped_before_sm80(fx))
        skip();
    uint16_t memory[LANES][LDMATRIX_STRIDE];
    int32_t order[LANES];
    uint32_t plain[LANES][4], transposed[LANES][4];
    for (int r = 0; r < LANES; r++) {
        order[r] = (7 * r + 3) % LANES;
        for (int c = 0; c < LDMATRIX_STRIDE; c++)
            memory[r][c] = (uint16_t)(r << 8 | c);
    }
    void *p = ROOM_ON_DEVICE(fx, plain), *t = ROOM_ON_DEVICE(fx, transposed);
    primitive_ldmatrix(&fx->dev, p, t, ON_DEVICE(fx, memory), ON_DEVICE(fx, order));
    FETCH(fx, plain, p);
    FETCH(fx, transposed, t);
    for (int l = 0; l < LANES; l++)
        for (int m = 0; m < 4; m++)
            for (int half = 0; half < 2; half++) {
                int i = l / 4, j = l % 4 * 2 + half; /* element (i, j) of matrix m */
                assert_int_equal(plain[l][m] >> 16 * half & 0xffff, memory[order[8 * m + i]][j]);
                assert_int_equal(transposed[l][m] >> 16 * half & 0xffff,
                                 memory[order[8 * m + j]][i]);
            }
}

/* The 16-bit float nearest to a number that is one. */
static uint16_t format_bits(const Format *f, double value)
{
    for (int i = 0; i < N_PATTERNS; i++)
        if (format_value(f, (uint16_t)i) == value)
            return (uint16_t)i;
    fail_msg("%g is no %s", value, dtype_name(f->dtype));
    return 0;
}

typedef struct {
    double a[16][16], b[16][8], d[16][8];
} Product;

/* Element i of lane l's fragments: "mma.m16n8k16 with floating point type", the manual's figures.
 */
static void place_of_a(int l, int i, int *row, int *col)
{
    *row = l / 4 + (i / 2 % 2 == 1 ? 8 : 0);
    *col = l % 4 * 2 + i % 2 + (i < 4 ? 0 : 8);
}

static void place_of_b(int l, int i, int *row, int *col)
{
    *row = l % 4 * 2 + i % 2 + (i < 2 ? 0 : 8);
    *col = l / 4;
}

static void place_of_d(int l, int i, int *row, int *col)
{
    *row = l / 4 + (i < 2 ? 0 : 8);
    *col = l % 4 * 2 + i % 2;
}

/* Small multiples of `unit`, so that every sum is exact in float32, in whatever order. */
static void product_fill(Product *p, double unit)
{
    int seed = 1;
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            p->a[m][k] = unit * (double)((seed = (seed * 75 + 74) % 65537) % 31 - 15);
    for (int k = 0; k < 16; k++)
        for (int n = 0; n < 8; n++)
            p->b[k][n] = (double)((seed = (seed * 75 + 74) % 65537) % 29 - 14);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++)
            p->d[m][n] = unit * (double)((seed = (seed * 75 + 74) % 65537) % 999);
}

static void product_fragments(const Product *p, const Format *f, uint32_t a[LANES][4],
                              uint32_t b[LANES][2], float d[LANES][4])
{
    int row, col;
    memset(a, 0, LANES * sizeof *a);
    memset(b, 0, LANES * sizeof *b);
    for (int l = 0; l < LANES; l++) {
        for (int i = 0; i < 8; i++) {
            place_of_a(l, i, &row, &col);
            a[l][i / 2] |= (uint32_t)format_bits(f, p->a[row][col]) << 16 * (i % 2);
        }
        for (int i = 0; i < 4; i++) {
            place_of_b(l, i, &row, &col);
            b[l][i / 2] |= (uint32_t)format_bits(f, p->b[row][col]) << 16 * (i % 2);
            place_of_d(l, i, &row, &col);
            d[l][i] = (float)p->d[row][col];
        }
    }
}

static void check_product(const Product *p, float d[LANES][4])
{
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < 4; i++) {
            int row, col;
            place_of_d(l, i, &row, &col);
            double wanted = p->d[row][col];
            for (int k = 0; k < 16; k++)
                wanted += p->a[row][k] * p->b[k][col];
            assert_true((double)d[l][i] == wanted);
        }
}

static void mma_adds_a_product(void **state)
{
    OpFixture *fx = *state;
    if (skipped_before_sm80(fx))
        skip();
    static const double UNITS[] = {1, 0x1p-20}; /* the second: denormals of float16 */
    for (int k = 0; k < N_FORMATS; k++)
        for (int u = 0; u < 2; u++) {
            Product p;
            uint32_t a[LANES][4], b[LANES][2];
            float d[LANES][4];
            product_fill(&p, UNITS[u]);
            product_fragments(&p, &FORMATS[k], a, b, d);
            void *sums = ON_DEVICE(fx, d);
            primitive_mma(&fx->dev, FORMATS[k].dtype, sums, ON_DEVICE(fx, a), ON_DEVICE(fx, b));
            FETCH(fx, d, sums);
            check_product(&p, d);
        }
}

/* ---- asynchronous copies ------------------------------------------------------------------------
 */

static void copies_arrive_or_become_zeros(void **state)
{
    OpFixture *fx = *state;
    if (skipped_before_sm80(fx))
        skip();
    uint32_t src[N_GROUPS][LANES][GROUP_WORDS], seen[N_GROUPS][LANES][GROUP_WORDS];
    int32_t valid[N_GROUPS][LANES];
    for (int g = 0; g < N_GROUPS; g++)
        for (int l = 0; l < LANES; l++) {
            valid[g][l] = (l + g) % 3 != 0;
            for (int w = 0; w < GROUP_WORDS; w++)
                src[g][l][w] = (uint32_t)(g << 16 | l << 8 | (w + 1));
        }
    void *result = ROOM_ON_DEVICE(fx, seen);
    primitive_cp_async(&fx->dev, result, ON_DEVICE(fx, src), ON_DEVICE(fx, valid));
    FETCH(fx, seen, result);
    for (int g = 0; g < N_GROUPS; g++)
        for (int l = 0; l < LANES; l++)
            for (int w = 0; w < GROUP_WORDS; w++)
                assert_int_equal(seen[g][l][w], valid[g][l] ? src[g][l][w] : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(floats_are_rounded_to_the_nearest_even),
        OP_TEST(all_16_bit_floats_are_widened_exactly),
        OP_TEST(exp2_is_close_and_flushes_denormals),
        OP_TEST(shuffles_take_from_the_right_lane),
        OP_TEST(ldmatrix_spreads_four_matrices),
        OP_TEST(mma_adds_a_product),
        OP_TEST(copies_arrive_or_become_zeros),
    };
    return CUDA_SUITE("primitives", tests);
}
