/* Products on AMX: against double precision, against the library's own accuracy, where numbers end,
 * and for any number of threads. Skipped where there is no AMX. */
#include "kernels/cpu/amx.h"
#include "kernels/device.h"
#include "base/rng.h"
#include "tests/support/close.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAD = 5 }; /* elements after each row that nobody may touch; inputs have NaNs there */

/* A product with memory of its own. */
typedef struct {
    Product p;
    float *a, *b, *c, *bias;
    void *scratch;
    int64_t c_floats;
} Case;

static void require_amx(void **state)
{
    (void)state;
    if (!amx_open()) {
        printf("skipped: no AMX here, or not built for it\n");
        skip();
    }
}

static float *floats(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    return x;
}

/* (rows, columns) of random numbers, PAD NaNs after each row. wide: of any magnitude from 2^-20 to
 * 2^20. */
static float *matrix(int64_t rows, int64_t columns, bool wide, uint64_t stream)
{
    int64_t ld = columns + PAD;
    float *x = floats(rows * ld);
    rng_fill_normal(x, rows * ld, 1, 1, RNG_INIT, stream);
    for (int64_t i = 0; wide && i < rows * ld; i++)
        x[i] = ldexpf(x[i], (int)rng_below(2, RNG_INIT, stream, (uint64_t)i, 41) - 20);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = columns; c < ld; c++)
            x[r * ld + c] = NAN;
    return x;
}

/* a stored (m,k), or (k,m) when transposed, and so on. */
static Case case_make(int64_t m, int64_t n, int64_t k, bool a_transposed, bool b_transposed,
                      bool wide)
{
    Case s = {.c_floats = m * (n + PAD)};
    s.a = a_transposed ? matrix(k, m, wide, 1) : matrix(m, k, wide, 1);
    s.b = b_transposed ? matrix(n, k, wide, 2) : matrix(k, n, wide, 2);
    s.c = matrix(m, n, false, 3);
    s.bias = floats(n);
    rng_fill_normal(s.bias, n, 1, 1, RNG_INIT, 4);
    s.scratch = aligned_alloc(64, amx_scratch_bytes(3));
    assert_non_null(s.scratch);
    s.p = (Product){.m = m,
                    .n = n,
                    .k = k,
                    .a = {s.a, (a_transposed ? m : k) + PAD, a_transposed},
                    .b = {s.b, (b_transposed ? k : n) + PAD, b_transposed},
                    .c = s.c,
                    .ldc = n + PAD};
    return s;
}

static void case_free(Case *s)
{
    free(s->a);
    free(s->b);
    free(s->c);
    free(s->bias);
    free(s->scratch);
}

static int64_t element(GemmIn x, int64_t row, int64_t column)
{
    return x.transposed ? column * x.ld + row : row * x.ld + column;
}

/* Element (i,j) of p in double precision; *size: the sum of the terms' absolute values. */
static double exact(const Product *p, const float *c_before, int64_t i, int64_t j, double *size)
{
    double sum = p->add ? c_before[i * p->ldc + j] : p->bias ? p->bias[j] : 0;
    *size = fabs(sum);
    for (int64_t k = 0; k < p->k; k++) {
        double term = (double)p->a.data[element(p->a, i, k)] * p->b.data[element(p->b, k, j)];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* What a float32 sum of products of such terms may be off by, element by element. */
static void check_case(const Case *s, const float *before)
{
    const Product *p = &s->p;
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            double size, wanted = exact(p, before, i, j, &size), got = p->c[i * p->ldc + j];
            check_close(&got, &wanted, 1, tolerance_sum(DTYPE_F32, p->k, size), "c", __FILE__,
                        __LINE__);
        }
        CHECK_SAME_BITS(p->c + i * p->ldc + p->n, before + i * p->ldc + p->n, PAD, sizeof(float));
    }
}

/* ---- what is computed -------------------------------------------------------------------- */

typedef struct {
    int64_t m, n, k;
} Shape;

/* Below and above a tile (16), a panel (32), and blocks of m (192), n (768) and k (384). */
static const Shape SHAPES[] = {{1, 1, 1},    {15, 17, 33},  {16, 16, 32},  {33, 47, 31},
                               {64, 32, 16}, {77, 130, 83}, {195, 3, 390}, {5, 770, 769}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES, N_ROLES = 4, N_ENDS = 3 };

static void product_matches_double_precision(void **state)
{
    require_amx(state);
    for (int k = 0; k < N_SHAPES * N_ROLES * N_ENDS; k++) {
        Shape shape = SHAPES[k / (N_ROLES * N_ENDS)];
        int role = k / N_ENDS % N_ROLES, end = k % N_ENDS;
        Case s = case_make(shape.m, shape.n, shape.k, role & 1, role & 2, false);
        s.p.add = end == 1;
        s.p.bias = end == 2 ? s.bias : NULL;
        float *before = floats(s.c_floats);
        memcpy(before, s.c, (size_t)s.c_floats * sizeof(float));
        amx_product(1, s.scratch, &s.p);
        check_case(&s, before);
        free(before);
        case_free(&s);
    }
}

/* The three parts hold all 24 bits: a times the unit matrix is a. */
static void unit_matrix_gives_back_every_bit(void **state)
{
    require_amx(state);
    for (int k = 0; k < 4; k++) {
        Case s = case_make(40, 50, 50, k & 1, false, k & 2);
        for (int64_t r = 0; r < 50; r++)
            for (int64_t c = 0; c < 50; c++)
                s.b[element(s.p.b, r, c)] = r == c;
        amx_product(1, s.scratch, &s.p);
        for (int64_t i = 0; i < 40; i++)
            for (int64_t j = 0; j < 50; j++)
                CHECK_SAME_BITS(&s.c[i * s.p.ldc + j], &s.a[element(s.p.a, i, j)], 1,
                                sizeof(float));
        case_free(&s);
    }
}

/* Root mean square, over the elements of c, of the error relative to the terms' absolute values. */
static double error_of(const Case *s)
{
    double squares = 0;
    for (int64_t i = 0; i < s->p.m; i++)
        for (int64_t j = 0; j < s->p.n; j++) {
            double size, wanted = exact(&s->p, NULL, i, j, &size);
            double error = (s->c[i * s->p.ldc + j] - wanted) / size;
            squares += error * error;
        }
    return sqrt(squares / (double)(s->p.m * s->p.n));
}

/* Sums of GPT-2's lengths, of numbers of one magnitude and of all magnitudes. */
static void errors_are_no_larger_than_the_librarys(void **state)
{
    static const int64_t LENGTHS[] = {384, 768, 1536, 3072, 16384};
    require_amx(state);
    for (int k = 0; k < 10; k++) {
        Case s = case_make(64, 48, LENGTHS[k / 2], false, false, k % 2);
        amx_product(1, s.scratch, &s.p);
        double got = error_of(&s);
        err_free(cpu_gemm(s.p.m, s.p.n, s.p.k, s.p.a, s.p.b, 0, s.c, s.p.ldc));
        double library = error_of(&s);
        if (!(got <= library))
            fail_msg("k %lld%s: error %.3g, the library's %.3g", (long long)LENGTHS[k / 2],
                     k % 2 ? ", all magnitudes" : "", got, library);
        case_free(&s);
    }
}

/* ---- where numbers end ------------------------------------------------------------------- */

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Infinities; NaNs of both signs, with the first and the last payload, signalling and quiet. */
static const uint32_t NOT_FINITE[] = {0x7f800000, 0xff800000, 0x7fffffff, 0xffffffff, 0x7f800001,
                                      0xff800001, 0x7fc00000, 0x7f80ffff, 0x7fff8000};
enum { N_NOT_FINITE = sizeof NOT_FINITE / sizeof *NOT_FINITE };

/* One such number in row 21 of a makes all of row 21 of c not finite, and nothing else; one in
 * column 21 of b likewise. */
static void what_is_not_finite_stays_so(void **state)
{
    require_amx(state);
    for (int k = 0; k < N_NOT_FINITE * 8; k++) {
        bool in_a = k & 1, a_transposed = k & 2, b_transposed = k & 4;
        Case s = case_make(37, 35, 70, a_transposed, b_transposed, false);
        float *place = in_a ? s.a + element(s.p.a, 21, 40) : s.b + element(s.p.b, 40, 21);
        *place = from_bits(NOT_FINITE[k / 8]);
        amx_product(1, s.scratch, &s.p);
        for (int64_t i = 0; i < s.p.m; i++)
            for (int64_t j = 0; j < s.p.n; j++) {
                bool hit = (in_a ? i : j) == 21, finite = isfinite(s.c[i * s.p.ldc + j]);
                if (finite == hit)
                    fail_msg("%08x in %s: (%lld,%lld) is %g", NOT_FINITE[k / 8], in_a ? "a" : "b",
                             (long long)i, (long long)j, s.c[i * s.p.ldc + j]);
            }
        case_free(&s);
    }
}

/* The largest floats, squared, are infinite; the largest that bfloat16 holds, times 1, are exact.
 */
static void large_numbers_do_not_wrap(void **state)
{
    require_amx(state);
    static const uint32_t LARGE[] = {0x7f7fffff, 0x7f7f8000, 0x7f7f0000, 0xff7f7fff};
    for (int k = 0; k < 4; k++) {
        Case s = case_make(1, 2, 1, false, false, false);
        s.a[0] = from_bits(LARGE[k]);
        s.b[0] = s.a[0];
        s.b[1] = 1;
        amx_product(1, s.scratch, &s.p);
        assert_false(isfinite(s.c[0]));
        if (k < 2) /* rounds up to 2^128 */
            assert_false(isfinite(s.c[1]));
        else
            CHECK_SAME_BITS(&s.c[1], s.a, 1, sizeof(float));
        case_free(&s);
    }
}

/* ---- threads and the device -------------------------------------------------------------- */

static void threads_do_not_change_bits(void **state)
{
    require_amx(state);
    static const Shape LARGE[] = {{193, 770, 400}, {1, 65, 40}, {300, 33, 1000}};
    for (int k = 0; k < 3 * N_ROLES; k++) {
        Shape shape = LARGE[k / N_ROLES];
        Case s = case_make(shape.m, shape.n, shape.k, k & 1, k & 2, true);
        float *first = floats(s.c_floats);
        amx_product(1, s.scratch, &s.p);
        memcpy(first, s.c, (size_t)s.c_floats * sizeof(float));
        for (int32_t n_threads = 1; n_threads <= 3; n_threads++) {
            amx_product(n_threads, s.scratch, &s.p);
            CHECK_SAME_BITS(s.c, first, s.c_floats, sizeof(float));
        }
        free(first);
        case_free(&s);
    }
}

static void the_device_says_whether_it_uses_amx(void **state)
{
    (void)state;
    Device dev;
    DeviceInfo info;
    err_free(device_open(&dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = 1}));
    assert_int_equal(dev.amx, cpu_gemm_allows_amx() && amx_open());
    err_free(device_info(&dev, &info));
    assert_int_equal(dev.amx, strstr(info.name, "AMX") != NULL);
    device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_matches_double_precision),
        cmocka_unit_test(unit_matrix_gives_back_every_bit),
        cmocka_unit_test(errors_are_no_larger_than_the_librarys),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(large_numbers_do_not_wrap),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(the_device_says_whether_it_uses_amx),
    };
    return cmocka_run_group_tests_name("amx", tests, NULL, NULL);
}
