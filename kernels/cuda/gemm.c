#include "kernels/cuda/gemm_plan.h"

#include "base/check.h"
#include "kernels/cuda/scratch.h"

#include <stdlib.h>
#include <string.h>

/* ---- plans ------------------------------------------------------------------------------- */

static size_t bucket_of(const GemmKey *key)
{
    int64_t field[sizeof *key / sizeof(int64_t)];
    memcpy(field, key, sizeof *key);
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof field / sizeof *field; i++)
        hash = (hash ^ (hash >> 29) ^ (uint64_t)field[i]) * 0x9e3779b97f4a7c15u;
    return (size_t)(hash >> 32) % TUNER_BUCKETS;
}

GemmPlan *gemm_tuner_find(const GemmTuner *tuner, const GemmKey *key)
{
    GemmPlan *plan = tuner->bucket[bucket_of(key)];
    while (plan && memcmp(&plan->key, key, sizeof *key) != 0)
        plan = plan->next_in_bucket;
    return plan;
}

static bool has_room(GemmTuner *tuner)
{
    if (tuner->n_plans < tuner->capacity)
        return true;
    int64_t capacity = tuner->capacity ? 2 * tuner->capacity : 64;
    GemmPlan **plan = realloc(tuner->plan, (size_t)capacity * sizeof(GemmPlan *));
    if (!plan)
        return false;
    tuner->plan = plan;
    tuner->capacity = capacity;
    return true;
}

GemmPlan *gemm_tuner_add(GemmTuner *tuner, const GemmKey *key)
{
    GemmPlan *plan = has_room(tuner) ? calloc(1, sizeof *plan) : NULL;
    if (!plan)
        return NULL;
    GemmPlan **bucket = &tuner->bucket[bucket_of(key)];
    plan->key = *key;
    plan->next_in_bucket = *bucket;
    *bucket = plan;
    tuner->plan[tuner->n_plans++] = plan;
    return plan;
}

GemmTuner *gemm_tuner_new(void)
{
    return calloc(1, sizeof(GemmTuner));
}

/* Of descriptors only: a failure to destroy one leaves nothing to be done. */
static void close_descriptors(GemmPlan *plan)
{
    cublasLtMatrixLayout_t layout[] = {plan->a, plan->b, plan->c};
    for (int i = 0; i < 3; i++)
        if (layout[i])
            (void)cublasLtMatrixLayoutDestroy(layout[i]);
    if (plan->desc)
        (void)cublasLtMatmulDescDestroy(plan->desc);
    plan->a = plan->b = plan->c = NULL;
    plan->desc = NULL;
}

void gemm_tuner_free(GemmTuner *tuner)
{
    if (!tuner)
        return;
    for (int64_t i = 0; i < tuner->n_plans; i++) {
        close_descriptors(tuner->plan[i]);
        free(tuner->plan[i]);
    }
    free(tuner->plan);
    free(tuner);
}

/* ---- keys -------------------------------------------------------------------------------- */

static cudaDataType_t data_type(DType dtype)
{
    switch (dtype) {
    case DTYPE_BF16:
        return CUDA_R_16BF;
    case DTYPE_F16:
        return CUDA_R_16F;
    default:
        ASSERT(dtype == DTYPE_F32, "a product of %s", dtype_name(dtype));
        return CUDA_R_32F;
    }
}

static int64_t alignment_of(const void *address)
{
    int64_t align = KEY_MAX_ALIGN;
    while ((uintptr_t)address % (uintptr_t)align != 0)
        align /= 2;
    return align;
}

/* ---- descriptors ------------------------------------------------------------------------- */

/* The layout of a row-major (rows, cols). */
static cublasStatus_t make_layout(cublasLtMatrixLayout_t *layout, int64_t type, int64_t rows,
                                  int64_t cols, int64_t ld)
{
    return cublasLtMatrixLayoutCreate(layout, (cudaDataType_t)type, (uint64_t)cols, (uint64_t)rows,
                                      ld);
}

static cublasStatus_t make_layouts(GemmPlan *plan)
{
    const GemmKey *key = &plan->key;
    int64_t m = key->m, n = key->n, k = key->k;
    cublasStatus_t status =
        make_layout(&plan->a, key->in, key->ta ? k : m, key->ta ? m : k, key->lda);
    if (!status)
        status = make_layout(&plan->b, key->in, key->tb ? n : k, key->tb ? k : n, key->ldb);
    if (!status)
        status = make_layout(&plan->c, key->out, m, n, key->ldc);
    return status;
}

static cublasStatus_t set(GemmPlan *plan, cublasLtMatmulDescAttributes_t attribute,
                          const void *value, size_t n_bytes)
{
    return cublasLtMatmulDescSetAttribute(plan->desc, attribute, value, n_bytes);
}

static cublasStatus_t set_bias(const GemmPlan *plan, const void *bias)
{
    return cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                          sizeof bias);
}

/* The bias address is one of the key's alignment: the heuristic looks at that only. */
static cublasStatus_t make_epilogue(GemmPlan *plan)
{
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t status = set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    return status ? status : set_bias(plan, (const void *)(uintptr_t)plan->key.align_bias);
}

static cublasStatus_t make_descriptors(GemmPlan *plan)
{
    const GemmKey *key = &plan->key;
    cublasOperation_t of_a = key->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t of_b = key->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status =
        cublasLtMatmulDescCreate(&plan->desc, (cublasComputeType_t)key->compute, CUDA_R_32F);
    if (!status)
        status = set(plan, CUBLASLT_MATMUL_DESC_TRANSA, &of_b, sizeof of_b);
    if (!status)
        status = set(plan, CUBLASLT_MATMUL_DESC_TRANSB, &of_a, sizeof of_a);
    if (!status && key->align_bias)
        status = make_epilogue(plan);
    return status ? status : make_layouts(plan);
}

/* ---- products ---------------------------------------------------------------------------- */

/* True on success; else the device's sticky error says what failed for which product. */
static bool lt_ok(Device *dev, cublasStatus_t status, const char *what, const GemmKey *key)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return true;
    char text[GEMM_KEY_TEXT_BYTES];
    gemm_key_print(text, key);
    if (!dev->err)
        dev->err = ERR_NEW(ERR_SYSTEM, "%s: %s (%s) for the product %s", what,
                           cublasLtGetStatusName(status), cublasLtGetStatusString(status), text);
    return false;
}

static bool make_ready(Device *dev, GemmPlan *plan, const GemmData *data)
{
    cublasStatus_t status = make_descriptors(plan);
    const char *what = "cuBLASLt descriptor";
    if (!status) {
        status = gemm_plan_choose(dev, plan, data);
        what = "cuBLASLt algorithm";
        plan->bias_apart = status && !dev->err && plan->key.align_bias;
    }
    plan->ready = !status || plan->bias_apart;
    if (!plan->ready || plan->bias_apart)
        close_descriptors(plan);
    return plan->ready || lt_ok(dev, status, what, &plan->key);
}

/* The plan of a key, ready to run; NULL with a sticky error. */
static GemmPlan *ready_plan(Device *dev, const GemmKey *key, const GemmData *data)
{
    GemmTuner *tuner = cuda_device(dev)->tuner;
    GemmPlan *plan = gemm_tuner_find(tuner, key);
    if (!plan)
        plan = gemm_tuner_add(tuner, key);
    if (!plan) {
        dev->err = ERR_NEW(ERR_SYSTEM, "no memory for a product's descriptors");
        return NULL;
    }
    return plan->ready || make_ready(dev, plan, data) ? plan : NULL;
}

cublasStatus_t gemm_plan_run(Device *dev, const GemmPlan *plan, const cublasLtMatmulAlgo_t *algo,
                             const GemmData *data)
{
    const CudaDevice *cuda = cuda_device(dev);
    const float one = 1;
    cublasStatus_t status = data->bias ? set_bias(plan, data->bias) : CUBLAS_STATUS_SUCCESS;
    if (status)
        return status;
    return cublasLtMatmul(cuda->cublas, plan->desc, &one, data->b, plan->b, data->a, plan->a,
                          &data->beta, data->c, plan->c, data->c, plan->c, algo,
                          dev->workspace.data, CUDA_GEMM_BYTES, cuda->stream);
}

/* What the operands say of a product's key; the caller adds the rest. */
static GemmKey key_of(const CudaDevice *cuda, CudaGemmIn a, CudaGemmIn b, CudaGemmOut c)
{
    bool tf32 = cuda->tf32 && a.dtype == DTYPE_F32;
    return (GemmKey){
        .lda = a.ld,
        .ldb = b.ld,
        .ldc = c.ld,
        .ta = a.transposed,
        .tb = b.transposed,
        .in = data_type(a.dtype),
        .out = data_type(c.dtype),
        .compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        .align_a = alignment_of(a.data),
        .align_b = alignment_of(b.data),
        .align_c = alignment_of(c.data),
    };
}

void cuda_gemm(Device *dev, int64_t m, int64_t n, int64_t k, CudaGemmIn a, CudaGemmIn b, float beta,
               CudaGemmOut c, const void *bias)
{
    if (dev->err)
        return;
    ASSERT(a.dtype == b.dtype && (c.dtype == a.dtype || c.dtype == DTYPE_F32),
           "a product of %s and %s into %s", dtype_name(a.dtype), dtype_name(b.dtype),
           dtype_name(c.dtype));
    ASSERT(!bias || beta == 0, "a product with a bias and beta %g", (double)beta);
    ASSERT(tensor_bytes(dev->workspace) >= CUDA_GEMM_BYTES,
           "a product wants %zu bytes of workspace, has %zu", CUDA_GEMM_BYTES,
           tensor_bytes(dev->workspace));
    GemmKey key = key_of(cuda_device(dev), a, b, c);
    key.m = m, key.n = n, key.k = k;
    key.add = beta != 0;
    key.align_bias = bias ? alignment_of(bias) : 0;
    GemmData data = {a.data, b.data, bias, c.data, beta};
    GemmPlan *plan = ready_plan(dev, &key, &data);
    if (!plan)
        return;
    if (plan->bias_apart) {
        cuda_fill_rows(dev, m, n, c, bias); /* beta 1 adds it in float32, as the epilogue does */
        cuda_gemm(dev, m, n, k, a, b, 1, c, NULL);
        return;
    }
    (void)lt_ok(dev, gemm_plan_run(dev, plan, &plan->algo, &data), "cublasLtMatmul", &key);
}
