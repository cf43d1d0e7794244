/* cuBLASLt on the CPU: queues products on fake streams.
 *
 * Layouts, transposes, alpha, beta and the bias epilogue are honoured exactly; c is not read when
 * beta is 0. Sums are float32 in the order of the algorithm. Not emulated: the rounding of float32
 * inputs to TF32, memory orders other than columns, batches, other epilogues.
 *
 * Stricter than the library: memory must lie inside one block of cudaMalloc and be as aligned as
 * the heuristic was told, every status is checked, an algorithm with one wrong bit is refused.
 *
 * The algorithms differ in the order of their sums, hence in the last bits, in what alignment and
 * workspace they need, and in a made-up time: which is fastest depends on the shape, and it is
 * seldom the one that the heuristic names first. INPLACE adds its parts in an order that changes
 * from run to run: who lets it in sees results that do not repeat. It stands for as many as are
 * wanted: who asks for sums of its kind is offered nothing else. */
#include <cublasLt.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/tensor.h"
#include "tests/cuda_on_cpu/fake_stream.h"

struct cublasLtContext {
    uint32_t n_runs; /* of INPLACE */
};

struct FakeMatmulDesc {
    cublasComputeType_t compute;
    int32_t op_a, op_b;
    uint32_t epilogue;
    const void *bias;
};

struct FakeMatrixLayout {
    cudaDataType_t type;
    int64_t rows, cols, ld;
};

struct FakeMatmulPreference {
    uint64_t workspace_bytes;
    uint32_t schemes;
    uint32_t align[4]; /* A, B, C, D */
};

static _Atomic int64_t n_preparations;

int64_t fake_cublaslt_preparations(void)
{
    return atomic_load(&n_preparations);
}

/* ---- the library --------------------------------------------------------------------------- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    int n_devices = 0;
    if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = calloc(1, sizeof **handle);
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return 130000;
}

static const struct {
    cublasStatus_t status;
    const char *name, *text;
} STATUS[] = {
    {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS", "success"},
    {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED", "not initialized"},
    {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED", "out of memory"},
    {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE", "invalid value"},
    {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH", "not for this architecture"},
    {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED", "execution failed"},
    {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR", "internal error"},
    {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED", "not supported"},
};

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    for (size_t i = 0; i < sizeof STATUS / sizeof *STATUS; i++)
        if (STATUS[i].status == status)
            return STATUS[i].name;
    return "CUBLAS_STATUS_UNKNOWN";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    for (size_t i = 0; i < sizeof STATUS / sizeof *STATUS; i++)
        if (STATUS[i].status == status)
            return STATUS[i].text;
    return "unknown";
}

/* ---- descriptors --------------------------------------------------------------------------- */

/* *field = *value when the caller's idea of its size is right. */
static cublasStatus_t set_field(void *field, size_t field_bytes, const void *value, size_t n_bytes)
{
    if (!value || n_bytes != field_bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

#define SET_FIELD(field, value, n_bytes) set_field(&(field), sizeof(field), (value), (n_bytes))

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    atomic_fetch_add(&n_preparations, 1);
    if (!desc || scale != CUDA_R_32F)
        return CUBLAS_STATUS_INVALID_VALUE;
    *desc = calloc(1, sizeof **desc);
    if (!*desc)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **desc =
        (struct FakeMatmulDesc){compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    free(desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t n_bytes)
{
    if (!desc)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return SET_FIELD(desc->op_a, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return SET_FIELD(desc->op_b, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return SET_FIELD(desc->epilogue, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return SET_FIELD(desc->bias, value, n_bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    atomic_fetch_add(&n_preparations, 1);
    if (!layout || rows == 0 || cols == 0 || rows > INT64_MAX || cols > INT64_MAX)
        return CUBLAS_STATUS_INVALID_VALUE;
    *layout = calloc(1, sizeof **layout);
    if (!*layout)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **layout = (struct FakeMatrixLayout){type, (int64_t)rows, (int64_t)cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    atomic_fetch_add(&n_preparations, 1);
    *preference = calloc(1, sizeof **preference);
    if (!*preference)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **preference =
        (struct FakeMatmulPreference){0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t n_bytes)
{
    if (!preference)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return SET_FIELD(preference->workspace_bytes, value, n_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return SET_FIELD(preference->schemes, value, n_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return SET_FIELD(preference->align[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                         value, n_bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- products ------------------------------------------------------------------------------ */

/* All of a product but its memory. */
typedef struct {
    int64_t m, n, k; /* d is (m,n), columns m apart at least */
    struct FakeMatmulDesc desc;
    struct FakeMatrixLayout a, b, c, d;
} Product;

static size_t type_bytes(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static bool is_layout(const struct FakeMatrixLayout *layout)
{
    return layout && layout->ld >= layout->rows;
}

static bool types_are_supported(const Product *p)
{
    cudaDataType_t in = p->a.type, out = p->d.type;
    bool wide = in == CUDA_R_32F, bf16 = in == CUDA_R_16BF;
    if (!wide && !bf16 && in != CUDA_R_16F)
        return false;
    if (bf16 && fake_compute_capability() < 80)
        return false;
    if (p->b.type != in || p->c.type != out || (out != in && out != CUDA_R_32F))
        return false;
    return p->desc.compute == CUBLAS_COMPUTE_32F ||
           (wide && p->desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32);
}

/* A bias for a column vector is what this library does not know. */
static bool epilogue_is_supported(const Product *p)
{
    return p->desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT ||
           (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS && p->m > 1);
}

static cublasStatus_t make_product(Product *p, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                   cublasLtMatrixLayout_t d)
{
    if (!desc || !is_layout(a) || !is_layout(b) || !is_layout(c) || !is_layout(d))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool ta = desc->op_a == CUBLAS_OP_T, tb = desc->op_b == CUBLAS_OP_T;
    *p = (Product){d->rows, d->cols, ta ? a->rows : a->cols, *desc, *a, *b, *c, *d};
    bool fits = (ta ? a->cols : a->rows) == p->m && (tb ? b->cols : b->rows) == p->k &&
                (tb ? b->rows : b->cols) == p->n && c->rows == p->m && c->cols == p->n;
    if (!fits || (desc->epilogue == CUBLASLT_EPILOGUE_BIAS && !desc->bias))
        return CUBLAS_STATUS_INVALID_VALUE;
    return types_are_supported(p) && epilogue_is_supported(p) ? CUBLAS_STATUS_SUCCESS
                                                              : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* ---- algorithms ---------------------------------------------------------------------------- */

typedef enum { INPLACE, FORWARD, BACKWARD, BLOCKS, SPLIT, N_ALGOS } AlgoId;

enum { BLOCK_K = 32, N_PARTS = 3 };

static const struct {
    uint32_t scheme, align; /* of a, b, c, d and their columns; 1: any */
    bool needs_workspace;
} ALGOS[N_ALGOS] = {
    [INPLACE] = {CUBLASLT_REDUCTION_SCHEME_INPLACE, 1, false},
    [FORWARD] = {CUBLASLT_REDUCTION_SCHEME_NONE, 1, false},
    [BACKWARD] = {CUBLASLT_REDUCTION_SCHEME_NONE, 1, false},
    [BLOCKS] = {CUBLASLT_REDUCTION_SCHEME_NONE, 16, false},
    [SPLIT] = {CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 16, true},
};

/* The words of an algorithm: a name, the id, the alignments promised to the heuristic, a sum. */
static cublasLtMatmulAlgo_t make_algo(AlgoId id, const uint32_t align[4])
{
    cublasLtMatmulAlgo_t algo = {{0x464b4c54, id, align[0], align[1], align[2], align[3]}};
    for (int i = 0; i < 7; i++)
        algo.data[7] = (algo.data[7] ^ algo.data[i]) * 0x100000001b3u + 0xcbf29ce484222325u;
    return algo;
}

static bool read_algo(const cublasLtMatmulAlgo_t *algo, AlgoId *id, uint32_t align[4])
{
    for (int i = 0; i < 4; i++)
        align[i] = (uint32_t)algo->data[2 + i];
    *id = (AlgoId)algo->data[1];
    cublasLtMatmulAlgo_t whole = make_algo(*id, align);
    return algo->data[1] < N_ALGOS && memcmp(&whole, algo, sizeof whole) == 0;
}

static size_t workspace_of(AlgoId id, const Product *p)
{
    return ALGOS[id].needs_workspace ? (size_t)p->m * (size_t)p->n * N_PARTS * sizeof(float) : 0;
}

/* Can it run when addresses are aligned so? */
static bool algo_fits(AlgoId id, const Product *p, const uint32_t align[4])
{
    const struct FakeMatrixLayout *layout[4] = {&p->a, &p->b, &p->c, &p->d};
    for (int i = 0; i < 4; i++) {
        size_t column = (size_t)layout[i]->ld * type_bytes(layout[i]->type);
        if (align[i] == 0 || align[i] % type_bytes(layout[i]->type) != 0 ||
            align[i] % ALGOS[id].align != 0 || column % ALGOS[id].align != 0)
            return false;
    }
    return true;
}

/* Made up, different for all of them; INPLACE is tempting. */
static double microseconds(AlgoId id, const Product *p)
{
    static const double FACTOR[] = {1, 1.25, 1.5, 1.75};
    double us = 2 + 1e-6 * (double)p->m * (double)p->n * (double)p->k;
    uint64_t mix = (uint64_t)(p->m * 31 + p->n * 17 + p->k * 7);
    return id == INPLACE ? us / 2 : us * FACTOR[(mix / 8 + (uint64_t)id) % 4];
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t *result, int *n_found)
{
    atomic_fetch_add(&n_preparations, 1);
    Product p;
    if (!handle || !preference || n_wanted <= 0 || !result || !n_found)
        return CUBLAS_STATUS_INVALID_VALUE;
    *n_found = 0;
    cublasStatus_t status = make_product(&p, desc, a, b, c, d);
    if (status)
        return status;
    for (int id = 0; id < N_ALGOS; id++) {
        size_t workspace = workspace_of((AlgoId)id, &p);
        if ((ALGOS[id].scheme & ~preference->schemes) != 0 ||
            workspace > preference->workspace_bytes ||
            !algo_fits((AlgoId)id, &p, preference->align))
            continue;
        for (int left = id == INPLACE ? n_wanted : 1; left > 0 && *n_found < n_wanted; left--)
            result[(*n_found)++] = (cublasLtMatmulHeuristicResult_t){
                .algo = make_algo((AlgoId)id, preference->align), .workspaceSize = workspace};
    }
    return *n_found > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    Product p;
    AlgoId id;
    uint32_t align[4];
    if (!handle || !algo || !result || !read_algo(algo, &id, align))
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = make_product(&p, desc, a, b, c, d);
    if (!status && !algo_fits(id, &p, align))
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    result->state = status;
    result->workspaceSize = status ? 0 : workspace_of(id, &p);
    return status;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void *value, size_t n_bytes, size_t *n_written)
{
    AlgoId id;
    uint32_t align[4];
    if (!algo || !value || attribute != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME ||
        n_bytes != sizeof(uint32_t) || !read_algo(algo, &id, align))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, &ALGOS[id].scheme, sizeof(uint32_t));
    if (n_written)
        *n_written = sizeof(uint32_t);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- arithmetic ---------------------------------------------------------------------------- */

/* What waits on the stream. */
typedef struct {
    Product p;
    AlgoId id;
    bool reversed; /* INPLACE: this time the last part came first */
    const void *a, *b, *c;
    void *d;
    float alpha, beta, *workspace;
} Run;

/* One tile of d is ROWS x COLS; its sums stay in registers. */
enum { ROWS = 16, COLS = 4 };

typedef struct {
    float sum[COLS][ROWS];
} Tile;

static float get(const void *x, cudaDataType_t type, int64_t i)
{
    switch (type) {
    case CUDA_R_16BF:
        return bf16_to_f32(((const uint16_t *)x)[i]);
    case CUDA_R_16F:
        return f16_to_f32(((const uint16_t *)x)[i]);
    default:
        return ((const float *)x)[i];
    }
}

static void put(void *x, cudaDataType_t type, int64_t i, float value)
{
    switch (type) {
    case CUDA_R_16BF:
        ((uint16_t *)x)[i] = bf16_from_f32(value);
        break;
    case CUDA_R_16F:
        ((uint16_t *)x)[i] = f16_from_f32(value);
        break;
    default:
        ((float *)x)[i] = value;
    }
}

/* Where one operand lies: element (i, p) of op(a), or (j, p) of op(b)^T, at i * step_i + p *
 * step_k. */
typedef struct {
    const void *x;
    cudaDataType_t type;
    int64_t step_i, step_k;
} Operand;

/* packed (k, width) = lines [first, first + width) of the operand, zeros from line n on. */
static void pack(float *packed, int64_t width, Operand x, int64_t first, int64_t n, int64_t k)
{
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < width; i++)
            packed[p * width + i] =
                first + i < n ? get(x.x, x.type, (first + i) * x.step_i + p * x.step_k) : 0;
}

/* Compilers keep these in registers; an array they do not. */
typedef float Row __attribute__((vector_size(ROWS * sizeof(float))));

/* tile = sum over n steps from a and b, which are packed; step 1 or -1. */
static Tile sum_run(const float *a, const float *b, int64_t n, int64_t step)
{
    Row sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0}, row;
    for (int64_t p = 0; p < n; p++, a += step * ROWS, b += step * COLS) {
        memcpy(&row, a, sizeof row);
        sum0 += row * b[0];
        sum1 += row * b[1];
        sum2 += row * b[2];
        sum3 += row * b[3];
    }
    const Row sum[COLS] = {sum0, sum1, sum2, sum3};
    Tile tile;
    memcpy(&tile, sum, sizeof tile);
    return tile;
}

static void add_tile(Tile *tile, const Tile *part)
{
    for (int j = 0; j < COLS; j++)
        for (int i = 0; i < ROWS; i++)
            tile->sum[j][i] += part->sum[j][i];
}

static Tile sum_blocks(const float *a, const float *b, int64_t k, int64_t block)
{
    Tile tile = {0};
    for (int64_t p = 0; p < k; p += block) {
        Tile part = sum_run(a + p * ROWS, b + p * COLS, k - p < block ? k - p : block, 1);
        add_tile(&tile, &part);
    }
    return tile;
}

static Tile sum_parts(const float *a, const float *b, int64_t k, bool reversed)
{
    Tile tile = {0};
    for (int64_t i = 0; i < N_PARTS; i++) {
        int64_t part = reversed ? N_PARTS - 1 - i : i;
        int64_t begin = k * part / N_PARTS, end = k * (part + 1) / N_PARTS;
        Tile sum = sum_run(a + begin * ROWS, b + begin * COLS, end - begin, 1);
        add_tile(&tile, &sum);
    }
    return tile;
}

static Tile sum_tile(const Run *run, const float *a, const float *b)
{
    int64_t k = run->p.k;
    switch (run->id) {
    case BACKWARD:
        return sum_run(a + (k - 1) * ROWS, b + (k - 1) * COLS, k, -1);
    case BLOCKS:
        return sum_blocks(a, b, k, BLOCK_K);
    case SPLIT:
    case INPLACE:
        return sum_parts(a, b, k, run->reversed);
    default:
        return sum_run(a, b, k, 1);
    }
}

/* d at rows from i0, columns from j0 on. */
static void store_tile(const Run *run, const Tile *tile, int64_t i0, int64_t j0)
{
    const Product *p = &run->p;
    for (int64_t j = j0; j < j0 + COLS && j < p->n; j++)
        for (int64_t i = i0; i < i0 + ROWS && i < p->m; i++) {
            float value = run->alpha * tile->sum[j - j0][i - i0];
            if (run->beta != 0)
                value += run->beta * get(run->c, p->c.type, j * p->c.ld + i);
            if (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
                value += get(p->desc.bias, p->d.type, i);
            put(run->d, p->d.type, j * p->d.ld + i, value);
        }
}

static void multiply(const Run *run, float *a, float *b)
{
    const Product *p = &run->p;
    bool ta = p->desc.op_a == CUBLAS_OP_T, tb = p->desc.op_b == CUBLAS_OP_T;
    Operand of_a = {run->a, p->a.type, ta ? p->a.ld : 1, ta ? 1 : p->a.ld};
    Operand of_b = {run->b, p->b.type, tb ? 1 : p->b.ld, tb ? p->b.ld : 1};
    for (int64_t j = 0; j < p->n; j += COLS)
        pack(b + j * p->k, COLS, of_b, j, p->n, p->k);
    for (int64_t i = 0; i < p->m; i += ROWS) {
        pack(a, ROWS, of_a, i, p->m, p->k);
        for (int64_t j = 0; j < p->n; j += COLS) {
            Tile tile = sum_tile(run, a, b + j * p->k);
            store_tile(run, &tile, i, j);
        }
    }
}

/* FakeWork. What a split sum leaves in the workspace is nobody's business: it is spoilt. */
static bool run_product(void *arg)
{
    const Run *run = arg;
    const Product *p = &run->p;
    size_t columns = (size_t)(p->n + COLS - 1) / COLS * COLS, k = (size_t)p->k;
    float *a = malloc(k * ROWS * sizeof *a), *b = malloc(k * columns * sizeof *b);
    ASSERT(a && b, "no memory for a fake product");
    if (ALGOS[run->id].needs_workspace)
        memset(run->workspace, 0xff, workspace_of(run->id, p));
    multiply(run, a, b);
    free(a);
    free(b);
    return true;
}

/* ---- queueing ------------------------------------------------------------------------------ */

static bool is_aligned(const void *x, uint32_t align)
{
    return (uintptr_t)x % align == 0;
}

static bool is_matrix(const void *x, const struct FakeMatrixLayout *layout)
{
    size_t n = (size_t)(layout->cols - 1) * (size_t)layout->ld + (size_t)layout->rows;
    return x && fake_is_device_memory(x, n * type_bytes(layout->type));
}

static bool memory_is_right(const Run *run, const uint32_t align[4], size_t workspace_bytes)
{
    const Product *p = &run->p;
    size_t wanted = workspace_of(run->id, p), bias = (size_t)p->m * type_bytes(p->d.type);
    if (wanted > workspace_bytes || !fake_is_device_memory(run->workspace, workspace_bytes))
        return false;
    if (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS &&
        (!fake_is_device_memory(p->desc.bias, bias) ||
         !is_aligned(p->desc.bias, (uint32_t)type_bytes(p->d.type))))
        return false;
    return is_matrix(run->a, &p->a) && is_matrix(run->b, &p->b) && is_matrix(run->c, &p->c) &&
           is_matrix(run->d, &p->d) && is_aligned(run->a, align[0]) &&
           is_aligned(run->b, align[1]) && is_aligned(run->c, align[2]) &&
           is_aligned(run->d, align[3]) && (run->c != run->d || p->c.ld == p->d.ld);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    Run run = {.a = a, .b = b, .c = c, .d = d, .workspace = workspace};
    uint32_t align[4];
    if (!handle || !alpha || !beta || !algo || !read_algo(algo, &run.id, align))
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = make_product(&run.p, desc, a_layout, b_layout, c_layout, d_layout);
    if (status)
        return status;
    if (!algo_fits(run.id, &run.p, align) || !memory_is_right(&run, align, workspace_bytes))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&run.alpha, alpha, sizeof run.alpha);
    memcpy(&run.beta, beta, sizeof run.beta);
    run.reversed = run.id == INPLACE && handle->n_runs++ % 2;
    double us = microseconds(run.id, &run.p);
    return fake_stream_push(stream, run_product, &run, sizeof run, us) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
