/* Which algorithm a product uses. Only such that give the same bits in every run come into
 * question: cuBLAS promises that for its algorithms on one card when the workspace is the caller's
 * (cuBLAS library, "Results Reproducibility"), as ours is. A sum over k may be split; the parts are
 * then added in float32 in a step of their own (COMPUTE_TYPE). Parts that are added in the output
 * itself (INPLACE) or are kept in its type (OUTPUT_TYPE) are rounded to 16 bits on the way, and of
 * the first only that it happens one after the other is documented, not in which order. */
#include "kernels/cuda/gemm_plan.h"

#include "kernels/cuda/scratch.h"

#include <stdlib.h>

enum { MAX_CANDIDATES = 16, TIMED_RUNS = 5 };

typedef struct {
    int n;
    cublasLtMatmulHeuristicResult_t result[MAX_CANDIDATES]; /* the one expected fastest first */
} Candidates;

/* ---- candidates -------------------------------------------------------------------------- */

static cublasStatus_t set(cublasLtMatmulPreference_t preference,
                          cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                          size_t n_bytes)
{
    return cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, n_bytes);
}

/* Our c is both its C and its D. */
static cublasStatus_t set_alignments(cublasLtMatmulPreference_t preference, const GemmKey *key)
{
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        int64_t align;
    } each[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key->align_b},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key->align_a},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key->align_c},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key->align_c}};
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 4 && !status; i++) {
        uint32_t align = (uint32_t)each[i].align;
        status = set(preference, each[i].attribute, &align, sizeof align);
    }
    return status;
}

static cublasStatus_t set_preference(cublasLtMatmulPreference_t preference, const GemmKey *key)
{
    size_t workspace = CUDA_GEMM_BYTES;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasStatus_t status =
        set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    if (!status)
        status =
            set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes);
    return status ? status : set_alignments(preference, key);
}

/* Does it add in a fixed order and in float32, within the workspace? */
static bool is_suitable(const cublasLtMatmulAlgo_t *algo, size_t workspace_bytes)
{
    uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_MASK;
    size_t written = 0;
    cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
        algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written);
    return status == CUBLAS_STATUS_SUCCESS && workspace_bytes <= CUDA_GEMM_BYTES &&
           (scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
            scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
}

static void keep_suitable(Candidates *list)
{
    int n = 0;
    for (int i = 0; i < list->n; i++) {
        const cublasLtMatmulHeuristicResult_t *result = &list->result[i];
        if (result->state == CUBLAS_STATUS_SUCCESS &&
            is_suitable(&result->algo, result->workspaceSize))
            list->result[n++] = *result;
    }
    list->n = n;
}

/* On success there is at least one. */
static cublasStatus_t find_candidates(Device *dev, const GemmPlan *plan, Candidates *list)
{
    cublasLtMatmulPreference_t preference = NULL;
    list->n = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (status)
        return status;
    status = set_preference(preference, &plan->key);
    if (!status)
        status = cublasLtMatmulAlgoGetHeuristic(cuda_device(dev)->cublas, plan->desc, plan->b,
                                                plan->a, plan->c, plan->c, preference,
                                                MAX_CANDIDATES, list->result, &list->n);
    (void)cublasLtMatmulPreferenceDestroy(preference);
    if (status)
        return status;
    keep_suitable(list);
    return list->n > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* Can the algorithm that came from a text compute this product here? */
static bool import_is_good(Device *dev, const GemmPlan *plan)
{
    cublasLtMatmulHeuristicResult_t result = {0};
    cublasStatus_t status =
        cublasLtMatmulAlgoCheck(cuda_device(dev)->cublas, plan->desc, plan->b, plan->a, plan->c,
                                plan->c, &plan->algo, &result);
    return status == CUBLAS_STATUS_SUCCESS && is_suitable(&plan->algo, result.workspaceSize);
}

/* ---- timing ------------------------------------------------------------------------------ */

/* Around runs that follow one another. */
typedef struct {
    cudaEvent_t event[TIMED_RUNS + 1];
} Marks;

static void close_marks(Device *dev, Marks *marks)
{
    for (int i = 0; i <= TIMED_RUNS; i++)
        if (marks->event[i])
            (void)cuda_ok(dev, cudaEventDestroy(marks->event[i]), "destroying an event");
}

static bool open_marks(Device *dev, Marks *marks)
{
    bool ok = true;
    for (int i = 0; i <= TIMED_RUNS && ok; i++)
        ok = cuda_ok(dev, cudaEventCreate(&marks->event[i]), "creating an event");
    return ok;
}

/* One run to warm up and TIMED_RUNS between marks, queued. A candidate may fail, then *status says
 * so; false: the device did. */
static bool queue_runs(Device *dev, const GemmPlan *plan, const cublasLtMatmulAlgo_t *algo,
                       const GemmData *data, const Marks *marks, cublasStatus_t *status)
{
    for (int i = -1; i < TIMED_RUNS; i++) {
        *status = gemm_plan_run(dev, plan, algo, data);
        if (*status)
            return true;
        if (!cuda_ok(dev, cudaEventRecord(marks->event[i + 1], cuda_device(dev)->stream),
                     "timing a product"))
            return false;
    }
    return true;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static bool median_ms(Device *dev, const Marks *marks, float *median)
{
    float ms[TIMED_RUNS];
    if (!cuda_ok(dev, cudaEventSynchronize(marks->event[TIMED_RUNS]), "timing a product"))
        return false;
    for (int i = 0; i < TIMED_RUNS; i++)
        if (!cuda_ok(dev, cudaEventElapsedTime(&ms[i], marks->event[i], marks->event[i + 1]),
                     "timing a product"))
            return false;
    qsort(ms, TIMED_RUNS, sizeof *ms, compare);
    *median = ms[TIMED_RUNS / 2];
    return true;
}

/* plan->algo = the candidate with the smallest median; the first of equals. The status is that of
 * the last failure where none can run. */
static cublasStatus_t keep_fastest(Device *dev, GemmPlan *plan, const Candidates *list,
                                   const GemmData *data, const Marks *marks)
{
    cublasStatus_t last = CUBLAS_STATUS_NOT_SUPPORTED;
    float best = 0;
    for (int i = 0; i < list->n; i++) {
        const cublasLtMatmulAlgo_t *algo = &list->result[i].algo;
        cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
        float ms = 0;
        if (!queue_runs(dev, plan, algo, data, marks, &status))
            return CUBLAS_STATUS_EXECUTION_FAILED;
        if (status) {
            (void)cudaGetLastError(); /* or the next kernel would report it */
            last = status;
            continue;
        }
        if (!median_ms(dev, marks, &ms))
            return CUBLAS_STATUS_EXECUTION_FAILED;
        if (!plan->chosen || ms < best) {
            plan->algo = *algo;
            plan->chosen = true;
            best = ms;
        }
    }
    return plan->chosen ? CUBLAS_STATUS_SUCCESS : last;
}

static cublasStatus_t choose_fastest(Device *dev, GemmPlan *plan, const Candidates *list,
                                     const GemmData *data)
{
    Marks marks = {0};
    cublasStatus_t status = CUBLAS_STATUS_EXECUTION_FAILED;
    if (open_marks(dev, &marks))
        status = keep_fastest(dev, plan, list, data, &marks);
    close_marks(dev, &marks);
    return status;
}

/* ---- the choice -------------------------------------------------------------------------- */

cublasStatus_t gemm_plan_choose(Device *dev, GemmPlan *plan, const GemmData *data)
{
    if (plan->chosen && import_is_good(dev, plan))
        return CUBLAS_STATUS_SUCCESS;
    plan->chosen = false;
    Candidates list;
    cublasStatus_t status = find_candidates(dev, plan, &list);
    if (status)
        return status;
    if (cuda_device(dev)->tuner->tuning && list.n > 1)
        return choose_fastest(dev, plan, &list, data);
    plan->algo = list.result[0].algo;
    plan->chosen = true;
    return CUBLAS_STATUS_SUCCESS;
}

void cuda_tune(Device *dev, bool tuning)
{
    cuda_device(dev)->tuner->tuning = tuning;
}

bool cuda_can_tune(const Device *dev)
{
    (void)dev;
    return true;
}
