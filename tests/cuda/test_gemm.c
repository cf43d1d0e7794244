/* cuda_gemm and the choices of algorithms, on whatever GPU there is. What needs to know the
 * algorithms is in tests/cuda_on_cpu/test_gemm_choice.c. */
#include "kernels/cuda/gemm.h"
#include "tests/cuda/cuda_suite.h"
#include "tests/support/check_err.h"

typedef struct {
    int64_t m, n, k;
} Shape;

static const Shape SHAPES[] = {{1, 1, 1},    {1, 5, 3},    {7, 1, 9},     {33, 17, 65},
                               {64, 64, 64}, {40, 136, 1}, {19, 24, 200}, {128, 96, 48}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES, MAX_N = 136 };

typedef struct {
    DType in, out;
} Types;

/* A product: what is asked, and matrices to ask it of. What lies between their rows is NaN, and
 * must stay so in c. */
typedef struct {
    Shape s;
    bool ta, tb, add;
    Twin a, b, c, bias;
} Product;

static CudaGemmIn in(Twin x, bool transposed)
{
    return (CudaGemmIn){x.t.data, x.t.dtype, x.t.dim[1], transposed};
}

static void multiply(Device *dev, void *arg)
{
    Product *p = arg;
    cuda_gemm(dev, p->s.m, p->s.n, p->s.k, in(p->a, p->ta), in(p->b, p->tb), p->add ? 1 : 0,
              (CudaGemmOut){p->c.t.data, p->c.t.dtype, p->c.t.dim[1]}, p->bias.t.data);
}

/* Random (rows, cols + gap), NaN in the gaps. */
static Twin gapped(OpFixture *fx, DType dtype, int64_t rows, int64_t cols, int64_t gap)
{
    Twin twin = twin_normal(fx, dtype, rows, cols + gap, 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = cols; c < cols + gap; c++)
            twin.ref[r * (cols + gap) + c] = NAN;
    twin_push(fx, twin);
    return twin;
}

/* One for all products of a test: filling 32 MiB takes longer than the products. */
static void need_workspace(OpFixture *fx)
{
    if (!tensor_present(fx->dev.workspace))
        op_workspace(fx, (OpLimits){1, 1, 1, 1, 1});
}

/* The kinds of a product, by the bits of `kind`: transposes, then nothing, a bias or beta 1. */
enum { N_KINDS = 12 };

static Product product_make(OpFixture *fx, Shape s, Types types, int kind, int64_t gap)
{
    need_workspace(fx);
    bool ta = kind & 1, tb = kind & 2, bias = kind / 4 == 1, add = kind / 4 == 2;
    return (Product){
        .s = s,
        .ta = ta,
        .tb = tb,
        .add = add,
        .a = gapped(fx, types.in, ta ? s.k : s.m, ta ? s.m : s.k, gap),
        .b = gapped(fx, types.in, tb ? s.n : s.k, tb ? s.k : s.n, gap),
        .c = add ? gapped(fx, types.out, s.m, s.n, gap)
                 : twin_garbage(fx, types.out, s.m, s.n + gap),
        .bias = bias ? twin_normal(fx, types.out, s.n, 1, 1) : twin_none(),
    };
}

static double element(Twin x, bool transposed, int64_t row, int64_t col)
{
    return x.ref[transposed ? col * x.t.dim[1] + row : row * x.t.dim[1] + col];
}

/* row (n) = c's row i, and size (n) the same of absolute values. */
static void oracle_row(const Product *p, int64_t i, double *row, double *size)
{
    for (int64_t j = 0; j < p->s.n; j++) {
        row[j] = p->add ? element(p->c, false, i, j) : 0;
        row[j] += p->bias.ref ? p->bias.ref[j] : 0;
        size[j] = fabs(row[j]);
        for (int64_t k = 0; k < p->s.k; k++) {
            double term = element(p->a, p->ta, i, k) * element(p->b, p->tb, k, j);
            row[j] += term;
            size[j] += fabs(term);
        }
    }
}

static void check_product(OpFixture *fx, Product *p)
{
    double row[MAX_N], size[MAX_N];
    multiply(&fx->dev, p);
    const double *got = twin_pull(fx, p->c);
    for (int64_t i = 0; i < p->s.m; i++, got += p->c.t.dim[1]) {
        oracle_row(p, i, row, size);
        CHECK_CLOSE(got, row, p->s.n,
                    tolerance_sum(p->c.t.dtype, p->s.k + 1, max_abs(size, p->s.n)));
        for (int64_t j = p->s.n; j < p->c.t.dim[1]; j++)
            assert_true(isnan(got[j]));
    }
}

/* Every shape and kind, with rows that follow one another, and 1 or 8 elements apart. */
static void check_types(OpFixture *fx, Types types)
{
    static const int64_t GAPS[] = {0, 1, 8};
    if (types.in == DTYPE_BF16 && cuda_device(&fx->dev)->compute_capability < 80)
        skip();
    for (int i = 0; i < N_SHAPES; i++)
        for (int kind = 0; kind < N_KINDS; kind++) {
            Product p = product_make(fx, SHAPES[i], types, kind, GAPS[(i + kind) % 3]);
            check_product(fx, &p);
        }
}

static void float32_products_match_the_oracle(void **state)
{
    check_types(*state, (Types){DTYPE_F32, DTYPE_F32});
}

static void bfloat16_products_match_the_oracle(void **state)
{
    check_types(*state, (Types){DTYPE_BF16, DTYPE_BF16});
}

static void bfloat16_products_into_float32_match_the_oracle(void **state)
{
    check_types(*state, (Types){DTYPE_BF16, DTYPE_F32});
}

static void float16_products_match_the_oracle(void **state)
{
    check_types(*state, (Types){DTYPE_F16, DTYPE_F16});
}

static void float16_products_into_float32_match_the_oracle(void **state)
{
    check_types(*state, (Types){DTYPE_F16, DTYPE_F32});
}

/* Data that begins anywhere an element may. */
static void products_of_unaligned_data_match_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int kind = 0; kind < N_KINDS; kind++) {
        Product p = product_make(fx, (Shape){24, 32, 40}, (Types){DTYPE_F16, DTYPE_F16}, kind, 8);
        Twin *operand[] = {&p.a, &p.b, &p.c};
        for (int i = 0; i < 3; i++) { /* the same numbers, one element further on */
            Tensor t = operand[i]->t;
            Twin longer = twin_garbage(fx, t.dtype, 1, tensor_count(t) + 1);
            memcpy(longer.ref + 1, operand[i]->ref, (size_t)tensor_count(t) * sizeof(double));
            twin_push(fx, longer);
            operand[i]->t.data = (char *)longer.t.data + dtype_bytes(t.dtype);
        }
        check_product(fx, &p);
    }
}

/* What stands in for a bias that the library cannot add. */
static void filled_rows_are_the_row(void **state)
{
    static const DType DTYPES[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    enum { ROWS = 2100, COLS = 261, GAP = 3 };
    OpFixture *fx = *state;
    for (int t = 0; t < 3; t++) {
        Twin c = twin_garbage(fx, DTYPES[t], ROWS, COLS + GAP);
        Twin row = twin_normal(fx, DTYPES[t], 1, COLS, 1);
        cuda_fill_rows(&fx->dev, ROWS, COLS, (CudaGemmOut){c.t.data, DTYPES[t], COLS + GAP},
                       row.t.data);
        const double *got = twin_pull(fx, c);
        for (int64_t r = 0; r < ROWS; r++, got += COLS + GAP) {
            CHECK_SAME_BITS(got, row.ref, COLS, sizeof *got);
            for (int64_t i = COLS; i < COLS + GAP; i++)
                assert_true(isnan(got[i]));
        }
    }
}

/* Inputs may be rounded to 10 bits (relative 2^-11 each), nothing else may. */
static void tf32_products_match_the_oracle(void **state)
{
    OpFixture *fx = *state;
    Device tf32 = {0};
    double row[MAX_N], size[MAX_N];
    Product p = product_make(fx, (Shape){33, 17, 65}, (Types){DTYPE_F32, DTYPE_F32}, 0, 0);
    check_no_err(device_open(&tf32, &(DeviceArgs){.kind = DEVICE_CUDA, .tf32 = true}));
    device_set_workspace(&tf32, fx->dev.workspace);
    multiply(&tf32, &p);
    check_no_err(device_sync(&tf32));
    device_close(&tf32);
    const double *got = twin_pull(fx, p.c);
    for (int64_t i = 0; i < p.s.m; i++) {
        oracle_row(&p, i, row, size);
        Tolerance tolerance = tolerance_sum(DTYPE_F32, p.s.k, max_abs(size, p.s.n));
        tolerance.absolute += 0x1p-10 * max_abs(size, p.s.n);
        CHECK_CLOSE(got + i * p.s.n, row, p.s.n, tolerance);
    }
}

/* ---- choices ----------------------------------------------------------------------------- */

static const Types F16_F32 = {DTYPE_F16, DTYPE_F32};

static void products_repeat_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    for (int kind = 0; kind < N_KINDS; kind++) {
        Product p = product_make(fx, (Shape){136, 72, 520}, F16_F32, kind, 0);
        CHECK_REPEATS(fx, multiply, &p, p.c);
    }
}

/* Another device like the fixture's; the fixture's workspace serves both. */
static void open_device(OpFixture *fx, Device *dev)
{
    need_workspace(fx);
    check_no_err(device_open(dev, &(DeviceArgs){.kind = DEVICE_CUDA}));
    device_set_workspace(dev, fx->dev.workspace);
}

static char *export_from(Device *dev)
{
    char *text = NULL;
    check_no_err(device_tuning_export(dev, &text));
    return text;
}

/* What the product is, as this device computes it. */
static Twin result_on(OpFixture *fx, Device *dev, Product p)
{
    p.c = twin_copy(fx, p.c);
    multiply(dev, &p);
    check_no_err(device_sync(dev));
    return p.c;
}

enum { N_TUNED = 12 };

static void tune_products(OpFixture *fx, Device *dev, Product product[N_TUNED])
{
    assert_true(device_can_tune(dev));
    device_tune(dev, true);
    for (int i = 0; i < N_TUNED; i++) {
        product[i] = product_make(fx, (Shape){32 + 8 * i, 64, 328}, F16_F32, i, 0);
        Product spoilt = product[i]; /* tuning loses what is in c */
        spoilt.c = twin_copy(fx, product[i].c);
        multiply(dev, &spoilt);
    }
    device_tune(dev, false);
    check_no_err(device_sync(dev));
}

static void tuned_choices_travel_to_another_device(void **state)
{
    OpFixture *fx = *state;
    Product product[N_TUNED];
    Device other = {0};
    tune_products(fx, &fx->dev, product);
    char *text = export_from(&fx->dev);
    open_device(fx, &other);
    check_no_err(device_tuning_import(&other, text));
    for (int i = 0; i < N_TUNED; i++)
        CHECK_TWINS_SAME(fx, result_on(fx, &other, product[i]),
                         result_on(fx, &fx->dev, product[i]));
    char *again = export_from(&other);
    assert_string_equal(again, text);
    device_close(&other);
    free(again);
    free(text);
}

static void a_choice_once_made_stays(void **state)
{
    OpFixture *fx = *state;
    Product product[N_TUNED];
    Device other = {0};
    open_device(fx, &other);
    tune_products(fx, &other, product);
    char *tuned = export_from(&other);
    device_close(&other);
    for (int i = 0; i < N_TUNED; i++)
        multiply(&fx->dev, &product[i]);
    char *before = export_from(&fx->dev);
    check_no_err(device_tuning_import(&fx->dev, tuned));
    device_tune(&fx->dev, true);
    for (int i = 0; i < N_TUNED; i++)
        multiply(&fx->dev, &product[i]);
    char *after = export_from(&fx->dev);
    assert_string_equal(after, before);
    free(tuned);
    free(before);
    free(after);
}

static void a_new_device_has_chosen_nothing(void **state)
{
    OpFixture *fx = *state;
    char *text = export_from(&fx->dev);
    assert_string_equal(text, "");
    check_no_err(device_tuning_import(&fx->dev, text));
    free(text);
}

/* Nothing of a text is taken when a line is damaged. */
static void refuse(OpFixture *fx, const char *text)
{
    check_err(device_tuning_import(&fx->dev, text), ERR_DATA, "tuning text");
    char *taken = export_from(&fx->dev);
    assert_string_equal(taken, "");
    free(taken);
}

/* Two choices as text, from a device that is gone. */
static char *some_text(OpFixture *fx)
{
    Device other = {0};
    Product p = product_make(fx, (Shape){8, 16, 24}, F16_F32, 0, 0);
    Product q = product_make(fx, (Shape){8, 16, 24}, F16_F32, 4, 0);
    open_device(fx, &other);
    multiply(&other, &p);
    multiply(&other, &q);
    char *text = export_from(&other);
    check_no_err(device_sync(&other));
    device_close(&other);
    return text;
}

static void a_damaged_text_is_refused(void **state)
{
    OpFixture *fx = *state;
    char *text = some_text(fx), *end_of_first = strchr(text, '\n');
    assert_non_null(end_of_first);
    for (char *c = text; *c; c++) {
        char whole = *c;
        *c = (char)(whole ^ 1);
        refuse(fx, text);
        *c = 0;
        if (c != text && c != end_of_first + 1)
            refuse(fx, text);
        *c = whole;
    }
    check_no_err(device_tuning_import(&fx->dev, text));
    free(text);
}

static void nonsense_is_refused(void **state)
{
    static const char *const TEXTS[] = {
        "\n",
        "x",
        "|",
        " | \n",
        " |  |  |  | \n",
        "card | 1 | m=1\n",
        "card | 99999999999999999999999999 | m=1 n=1\n",
        "card | -1 | m=1 n=1\n",
        "{\"card\": 1}\n",
    };
    OpFixture *fx = *state;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        refuse(fx, TEXTS[i]);
    char *wide = malloc(100001);
    assert_non_null(wide);
    for (int fill = 0; fill < 4; fill++) {
        memset(wide, "x |7"[fill], 100000);
        wide[100000] = 0;
        refuse(fx, wide);
    }
    free(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(float32_products_match_the_oracle),
        OP_TEST(bfloat16_products_match_the_oracle),
        OP_TEST(bfloat16_products_into_float32_match_the_oracle),
        OP_TEST(float16_products_match_the_oracle),
        OP_TEST(float16_products_into_float32_match_the_oracle),
        OP_TEST(products_of_unaligned_data_match_the_oracle),
        OP_TEST(filled_rows_are_the_row),
        OP_TEST(tf32_products_match_the_oracle),
        OP_TEST(products_repeat_bit_for_bit),
        OP_TEST(tuned_choices_travel_to_another_device),
        OP_TEST(a_choice_once_made_stays),
        OP_TEST(a_new_device_has_chosen_nothing),
        OP_TEST(a_damaged_text_is_refused),
        OP_TEST(nonsense_is_refused),
    };
    return CUDA_SUITE("gemm", tests);
}
