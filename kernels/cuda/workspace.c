/* Built with and without CUDA: the plan for a GPU is made on machines that have none. */
#include "kernels/cuda/scratch.h"

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Bias gradients have up to 4C columns. */
size_t cuda_workspace_bytes(const OpLimits *limits)
{
    int64_t N = limits->n_rows, C = limits->n_embd;
    size_t sums =
        larger(cuda_column_sums_scratch_bytes(N, 4 * C), cuda_layernorm_scratch_bytes(N, C));
    size_t embedding = cuda_embedding_scratch(N, C).n_bytes;
    return larger(larger(CUDA_GEMM_BYTES, CUDA_SUM_SCRATCH_BYTES), larger(sums, embedding));
}
