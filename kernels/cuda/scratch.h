/* How much of dev->workspace each CUDA op needs, and how sums are divided: arithmetic that the plan
 * does without a GPU, so no CUDA header here. How a sum is divided depends on shapes only, never on
 * the number of SMs, so that two different cards add in the same order. */
#ifndef GPT_KERNELS_CUDA_SCRATCH_H
#define GPT_KERNELS_CUDA_SCRATCH_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What cuBLASLt may use. NVIDIA recommends 32 MiB for Hopper. */
#define CUDA_GEMM_BYTES ((size_t)32 << 20)

/* ---- sums over rows: partial sums of runs of rows, then their sum in order ------------------- */

enum { CUDA_MAX_PARTIALS = 256 };

/* Into how many runs N rows are divided, at least 16 rows each. */
static inline int64_t cuda_row_partials(int64_t N)
{
    int64_t runs = (N + 15) / 16;
    return runs < CUDA_MAX_PARTIALS ? runs : CUDA_MAX_PARTIALS;
}

/* column_sums.cu: (partials, O) float32 */
static inline size_t cuda_column_sums_scratch_bytes(int64_t N, int64_t O)
{
    return (size_t)cuda_row_partials(N) * (size_t)O * sizeof(float);
}

/* layernorm.cu: (partials, 2C) float32, dw and db */
static inline size_t cuda_layernorm_scratch_bytes(int64_t N, int64_t C)
{
    return (size_t)cuda_row_partials(N) * 2 * (size_t)C * sizeof(float);
}

/* ---- embedding.cu: tokens sorted by value, stably ------------------------------------------- */

/* ---- reduce.cu ------------------------------------------------------------------------------ */

/* The largest of all of the above within these limits. */
size_t cuda_workspace_bytes(const OpLimits *limits);

#ifdef __cplusplus
}
#endif
#endif
