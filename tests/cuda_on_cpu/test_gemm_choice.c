/* Which algorithm cuda_gemm uses, where the algorithms and their times are known: the fake
 * cuBLASLt's. */
#include "kernels/cuda/gemm_plan.h"
#include "tests/cuda/cuda_suite.h"
#include "tests/support/check_err.h"

#include <inttypes.h>
#include <xxhash.h>

/* c (m,n) = a (m,k) b (k,n) in float32, plus a bias. */
typedef struct {
    int64_t m, n, k;
    Twin a, b, c, bias;
} Product;

static void multiply(Device *dev, void *arg)
{
    Product *p = arg;
    cuda_gemm(dev, p->m, p->n, p->k, (CudaGemmIn){p->a.t.data, DTYPE_F32, p->k, false},
              (CudaGemmIn){p->b.t.data, DTYPE_F32, p->n, false}, 0,
              (CudaGemmOut){p->c.t.data, DTYPE_F32, p->n}, p->bias.t.data);
}

/* One for all products of a test: filling 32 MiB takes longer than the products. */
static void need_workspace(OpFixture *fx)
{
    if (!tensor_present(fx->dev.workspace))
        op_workspace(fx, (OpLimits){1, 1, 1, 1, 1});
}

static Product product_make(OpFixture *fx, int64_t m, int64_t n, int64_t k)
{
    need_workspace(fx);
    return (Product){m,
                     n,
                     k,
                     twin_normal(fx, DTYPE_F32, m, k, 1),
                     twin_normal(fx, DTYPE_F32, k, n, 1),
                     twin_garbage(fx, DTYPE_F32, m, n),
                     twin_normal(fx, DTYPE_F32, n, 1, 1)};
}

static void open_device(OpFixture *fx, Device *dev)
{
    check_no_err(device_open(dev, &(DeviceArgs){.kind = DEVICE_CUDA}));
    device_set_workspace(dev, fx->dev.workspace);
}

/* The plan that the device has for its only product. */
static GemmPlan *only_plan(Device *dev)
{
    const GemmTuner *tuner = cuda_device(dev)->tuner;
    assert_int_equal(tuner->n_plans, 1);
    return tuner->plan[0];
}

static bool same_algo(const cublasLtMatmulAlgo_t *a, const cublasLtMatmulAlgo_t *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* ---- what the library offers ------------------------------------------------------------- */

enum { MAX_OFFERS = 8 };

typedef struct {
    int n;
    cublasLtMatmulHeuristicResult_t result[MAX_OFFERS];
} Offers;

static void set_preference(cublasLtMatmulPreference_t preference, uint32_t schemes)
{
    uint64_t workspace = (uint64_t)32 << 20;
    uint32_t align = KEY_MAX_ALIGN;
    assert_int_equal(cublasLtMatmulPreferenceSetAttribute(
                         preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, 8),
                     0);
    assert_int_equal(cublasLtMatmulPreferenceSetAttribute(
                         preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, 4),
                     0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            cublasLtMatmulPreferenceSetAttribute(
                preference,
                (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES +
                                                       i),
                &align, 4),
            0);
}

static Offers offers_for(Device *dev, const GemmPlan *plan, uint32_t schemes)
{
    Offers offers = {0};
    cublasLtMatmulPreference_t preference = NULL;
    assert_int_equal(cublasLtMatmulPreferenceCreate(&preference), 0);
    set_preference(preference, schemes);
    assert_int_equal(cublasLtMatmulAlgoGetHeuristic(cuda_device(dev)->cublas, plan->desc, plan->b,
                                                    plan->a, plan->c, plan->c, preference,
                                                    MAX_OFFERS, offers.result, &offers.n),
                     0);
    assert_int_equal(cublasLtMatmulPreferenceDestroy(preference), 0);
    return offers;
}

static const uint32_t REPEATABLE =
    CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

static float time_of(Device *dev, const GemmPlan *plan, const Product *p,
                     const cublasLtMatmulAlgo_t *algo)
{
    GemmData data = {p->a.t.data, p->b.t.data, p->bias.t.data, p->c.t.data, 0};
    cudaStream_t stream = cuda_device(dev)->stream;
    cudaEvent_t begin, end;
    float ms = 0;
    assert_int_equal(cudaEventCreate(&begin), 0);
    assert_int_equal(cudaEventCreate(&end), 0);
    assert_int_equal(cudaEventRecord(begin, stream), 0);
    assert_int_equal(gemm_plan_run(dev, plan, algo, &data), 0);
    assert_int_equal(cudaEventRecord(end, stream), 0);
    assert_int_equal(cudaEventSynchronize(end), 0);
    assert_int_equal(cudaEventElapsedTime(&ms, begin, end), 0);
    assert_int_equal(cudaEventDestroy(begin), 0);
    assert_int_equal(cudaEventDestroy(end), 0);
    return ms;
}

/* ---- tuning ------------------------------------------------------------------------------ */

enum { N_SHAPES = 8 };

/* Of each product the fastest algorithm is taken, and that is not always the first. */
static void tuning_takes_the_fastest(void **state)
{
    OpFixture *fx = *state;
    int n_first = 0;
    for (int i = 0; i < N_SHAPES; i++) {
        Product p = product_make(fx, 16 + 8 * i, 32, 64);
        Device dev = {0};
        open_device(fx, &dev);
        device_tune(&dev, true);
        multiply(&dev, &p);
        GemmPlan *plan = only_plan(&dev);
        Offers offers = offers_for(&dev, plan, REPEATABLE);
        assert_true(offers.n >= 4);
        float chosen = time_of(&dev, plan, &p, &plan->algo);
        for (int k = 0; k < offers.n; k++)
            if (!same_algo(&offers.result[k].algo, &plan->algo))
                assert_true(chosen < time_of(&dev, plan, &p, &offers.result[k].algo));
        n_first += same_algo(&offers.result[0].algo, &plan->algo);
        check_no_err(device_sync(&dev));
        device_close(&dev);
    }
    assert_true(n_first < N_SHAPES);
}

static void without_tuning_the_first_is_taken(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Product p = product_make(fx, 16 + 8 * i, 32, 64);
        Device dev = {0};
        open_device(fx, &dev);
        multiply(&dev, &p);
        Offers offers = offers_for(&dev, only_plan(&dev), REPEATABLE);
        assert_true(same_algo(&offers.result[0].algo, &only_plan(&dev)->algo));
        check_no_err(device_sync(&dev));
        device_close(&dev);
    }
}

/* What the tests of travelling choices stand on. */
static void algorithms_differ_in_their_bits(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 32, 32, 512);
    multiply(&fx->dev, &p);
    GemmPlan *plan = only_plan(&fx->dev);
    Offers offers = offers_for(&fx->dev, plan, REPEATABLE);
    double *last = twin_pull(fx, p.c);
    for (int k = 1; k < offers.n; k++) {
        plan->algo = offers.result[k].algo;
        multiply(&fx->dev, &p);
        double *now = twin_pull(fx, p.c);
        assert_memory_not_equal(now, last, 32 * 32 * sizeof *now);
        last = now;
    }
}

/* No descriptor is made and nothing is asked when a product comes again, wherever its data is. */
static void a_repeated_product_prepares_nothing(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 24, 40, 56), q = product_make(fx, 24, 40, 56);
    multiply(&fx->dev, &p);
    int64_t before = fake_cublaslt_preparations();
    multiply(&fx->dev, &p);
    multiply(&fx->dev, &q);
    assert_int_equal(fake_cublaslt_preparations(), before);
    q.bias = twin_none();
    multiply(&fx->dev, &q);
    assert_true(fake_cublaslt_preparations() > before);
    check_no_err(device_sync(&fx->dev));
}

/* c += a b reads c: how fast that is says nothing of c = a b. */
static void a_product_that_adds_is_another_product(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 24, 40, 56);
    const CudaGemmIn a = {p.a.t.data, DTYPE_F32, 56, false}, b = {p.b.t.data, DTYPE_F32, 40, false};
    const CudaGemmOut c = {p.c.t.data, DTYPE_F32, 40};
    for (int run = 0; run < 2; run++) {
        cuda_gemm(&fx->dev, 24, 40, 56, a, b, 0, c, NULL);
        cuda_gemm(&fx->dev, 24, 40, 56, a, b, 1, c, NULL);
        assert_int_equal(cuda_device(&fx->dev)->tuner->n_plans, 2);
    }
    check_no_err(device_sync(&fx->dev));
}

/* ---- imported choices -------------------------------------------------------------------- */

/* A line with a right checksum about a plan. */
static void write_line(char line[2048], const char *card, int64_t version, const GemmPlan *plan,
                       const cublasLtMatmulAlgo_t *algo)
{
    char key[GEMM_KEY_TEXT_BYTES];
    gemm_key_print(key, &plan->key);
    size_t n = (size_t)snprintf(line, 2048, "%s | %" PRId64 " | %s |", card, version, key);
    for (int i = 0; i < 8; i++)
        n += (size_t)snprintf(line + n, 2048 - n, " %016" PRIx64, algo->data[i]);
    snprintf(line + n, 2048 - n, " | %016" PRIx64 "\n", (uint64_t)XXH64(line, n, 0));
}

/* The card as an exported text names it. */
static void card_of(Device *dev, char card[256])
{
    char *text = NULL;
    check_no_err(device_tuning_export(dev, &text));
    snprintf(card, 256, "%.*s", (int)strcspn(text, "|") - 1, text);
    free(text);
}

/* What another device takes when it is told to use an algorithm for the product. */
static void check_import(OpFixture *fx, Product *p, const cublasLtMatmulAlgo_t *told,
                         const cublasLtMatmulAlgo_t *taken)
{
    char line[2048], card[256];
    Device other = {0};
    card_of(&fx->dev, card);
    write_line(line, card, (int64_t)cublasLtGetVersion(), only_plan(&fx->dev), told);
    open_device(fx, &other);
    check_no_err(device_tuning_import(&other, line));
    multiply(&other, p);
    assert_true(same_algo(&only_plan(&other)->algo, taken));
    check_no_err(device_sync(&other));
    device_close(&other);
}

static void an_imported_choice_wins(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 48, 32, 64);
    multiply(&fx->dev, &p);
    Offers offers = offers_for(&fx->dev, only_plan(&fx->dev), REPEATABLE);
    for (int k = 0; k < offers.n; k++)
        check_import(fx, &p, &offers.result[k].algo, &offers.result[k].algo);
}

/* The last algorithm offered for a product whose rows are all aligned, which it needs. */
static cublasLtMatmulAlgo_t demanding_algo(OpFixture *fx)
{
    Product p = product_make(fx, 48, 32, 64);
    Device dev = {0};
    open_device(fx, &dev);
    multiply(&dev, &p);
    Offers offers = offers_for(&dev, only_plan(&dev), REPEATABLE);
    check_no_err(device_sync(&dev));
    device_close(&dev);
    return offers.result[offers.n - 1].algo;
}

static void an_import_that_cannot_run_is_as_absent(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 5, 7, 9);
    multiply(&fx->dev, &p);
    const cublasLtMatmulAlgo_t first = only_plan(&fx->dev)->algo;
    cublasLtMatmulAlgo_t wrong = first, demanding = demanding_algo(fx);
    wrong.data[3] ^= 4;
    check_import(fx, &p, &wrong, &first);
    check_import(fx, &p, &demanding, &first);
}

/* INPLACE adds in an order of the moment: it is offered first, and never used. */
static void sums_in_any_order_are_never_used(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 48, 32, 64);
    multiply(&fx->dev, &p);
    Offers all = offers_for(&fx->dev, only_plan(&fx->dev), CUBLASLT_REDUCTION_SCHEME_MASK);
    uint32_t scheme = 0;
    size_t written = 0;
    assert_int_equal(cublasLtMatmulAlgoConfigGetAttribute(&all.result[0].algo,
                                                          CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                          &scheme, sizeof scheme, &written),
                     0);
    assert_int_equal(scheme, CUBLASLT_REDUCTION_SCHEME_INPLACE);
    check_import(fx, &p, &all.result[0].algo, &only_plan(&fx->dev)->algo);
}

static void choices_of_other_cards_and_versions_are_ignored(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 48, 32, 64);
    multiply(&fx->dev, &p);
    const GemmPlan *plan = only_plan(&fx->dev);
    char lines[2][2048], card[256];
    int64_t version = (int64_t)cublasLtGetVersion();
    card_of(&fx->dev, card);
    write_line(lines[0], "NVIDIA GeForce Unheard Of, 7 SMs", version, plan, &plan->algo);
    write_line(lines[1], card, version + 1, plan, &plan->algo);
    Device other = {0};
    open_device(fx, &other);
    for (int i = 0; i < 2; i++)
        check_no_err(device_tuning_import(&other, lines[i]));
    assert_int_equal(cuda_device(&other)->tuner->n_plans, 0);
    device_close(&other);
    check_no_err(device_sync(&fx->dev));
}

/* ---- faults ------------------------------------------------------------------------------ */

/* The fake cuBLASLt knows no bias for one column: it is the start of the sum instead. */
static void a_bias_that_the_library_cannot_add_is_added(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 5, 1, 3);
    multiply(&fx->dev, &p);
    assert_true(cuda_device(&fx->dev)->tuner->plan[0]->bias_apart);
    for (int64_t i = 0; i < 5; i++) {
        p.c.ref[i] = p.bias.ref[0];
        for (int64_t k = 0; k < 3; k++)
            p.c.ref[i] += p.a.ref[i * 3 + k] * p.b.ref[k];
    }
    CHECK_TWIN(fx, p.c, tolerance_sum(DTYPE_F32, 4, 20));
}

/* The sticky error says what failed, for which product; what follows does nothing. */
static void a_product_that_is_not_supported_is_named(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 8, 8, 8);
    p.a.t.data = (char *)p.a.t.data + 1;
    multiply(&fx->dev, &p);
    multiply(&fx->dev, &p);
    Err err = device_sync(&fx->dev);
    assert_non_null(strstr(err_message(err), "m=8 n=8 k=8"));
    check_err(err, ERR_SYSTEM, "CUBLAS_STATUS_NOT_SUPPORTED");
}

static void a_product_past_its_memory_is_refused(void **state)
{
    OpFixture *fx = *state;
    Product p = product_make(fx, 8, 8, 8);
    p.m = 80;
    multiply(&fx->dev, &p);
    check_err(device_sync(&fx->dev), ERR_SYSTEM, "cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(tuning_takes_the_fastest),
        OP_TEST(without_tuning_the_first_is_taken),
        OP_TEST(algorithms_differ_in_their_bits),
        OP_TEST(a_repeated_product_prepares_nothing),
        OP_TEST(a_product_that_adds_is_another_product),
        OP_TEST(an_imported_choice_wins),
        OP_TEST(an_import_that_cannot_run_is_as_absent),
        OP_TEST(sums_in_any_order_are_never_used),
        OP_TEST(choices_of_other_cards_and_versions_are_ignored),
        OP_TEST(a_bias_that_the_library_cannot_add_is_added),
        OP_TEST(a_product_that_is_not_supported_is_named),
        OP_TEST(a_product_past_its_memory_is_refused),
    };
    return CUDA_SUITE("gemm choice", tests);
}
