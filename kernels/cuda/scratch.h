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
    return runs < CUDA_MAX_PARTIALS ? runs : (int64_t)CUDA_MAX_PARTIALS;
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

enum {
    CUDA_SORT_TILE = 1024, /* rows that one block sorts by a digit */
    CUDA_SORT_DIGITS = 256,
    CUDA_RUN_TILE = 128 /* sorted rows at most that one warp adds up */
};

/* Where each part of it is, in bytes from the workspace's start. */
typedef struct {
    size_t keys[2], rows[2]; /* (N) int32: read by one pass, written by the next */
    size_t counts;           /* (sort tiles, digits) int32 */
    size_t heads;            /* (run tiles, C) float32 */
    size_t n_bytes;
} CudaEmbeddingScratch;

static inline CudaEmbeddingScratch cuda_embedding_scratch(int64_t N, int64_t C)
{
    size_t pairs = ((size_t)N * sizeof(int32_t) + 255) / 256 * 256;
    size_t sort_tiles = ((size_t)N + CUDA_SORT_TILE - 1) / CUDA_SORT_TILE;
    size_t run_tiles = ((size_t)N + CUDA_RUN_TILE - 1) / CUDA_RUN_TILE;
    CudaEmbeddingScratch s;
    s.keys[0] = 0;
    s.keys[1] = pairs;
    s.rows[0] = 2 * pairs;
    s.rows[1] = 3 * pairs;
    s.counts = 4 * pairs;
    s.heads = s.counts + sort_tiles * CUDA_SORT_DIGITS * sizeof(int32_t);
    s.n_bytes = s.heads + run_tiles * (size_t)C * sizeof(float);
    return s;
}

/* ---- reduce.cu ------------------------------------------------------------------------------ */

enum { CUDA_SUM_BLOCK = 4096, CUDA_MAX_SUM_PARTIALS = 1024 };

/* Into how many partial sums, in float64, n values are divided. */
static inline int64_t cuda_sum_partials(int64_t n)
{
    int64_t blocks = (n + CUDA_SUM_BLOCK - 1) / CUDA_SUM_BLOCK;
    return blocks < CUDA_MAX_SUM_PARTIALS ? blocks : (int64_t)CUDA_MAX_SUM_PARTIALS;
}

#define CUDA_SUM_SCRATCH_BYTES (CUDA_MAX_SUM_PARTIALS * sizeof(double))

/* The largest of all of the above within these limits. */
size_t cuda_workspace_bytes(const OpLimits *limits);

#ifdef __cplusplus
}
#endif
#endif
