/* Checksums: the words are dealt out to a number of blocks that depends on n alone, and one block
 * adds up what they found. Integers: any order gives the same sum. */
#include "kernels/checksum.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/scratch.h"

enum { THREADS = 256 };

typedef unsigned long long Word;
static_assert(sizeof(Word) == CHECKSUM_WORD_BYTES, "a word has 64 bits");

/* partial (gridDim.x); thread j takes words j, j + all threads, ... */
__global__ void __launch_bounds__(THREADS)
    checksum_partials(Word *partial, const Word *x, int64_t n)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    Word sum = 0;
#pragma unroll 4
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step) {
        Word seed = CHECKSUM_SEED(x[i], i);
        sum += CHECKSUM_MIX(seed);
    }
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

/* total (1) = sum of partial (n); one block. */
__global__ void __launch_bounds__(THREADS) checksum_total(Word *total, const Word *partial, int n)
{
    Word sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        sum += partial[i];
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        *total = sum;
}

void cuda_checksum(Device *dev, Tensor sum, Tensor x)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    int64_t n = (int64_t)(tensor_bytes(x) / CHECKSUM_WORD_BYTES);
    int n_partials = (int)cuda_sum_partials(n);
    Word *partial = (Word *)dev->workspace.data; /* as long as that many float64 */
    LAUNCH(checksum_partials, (unsigned)n_partials, THREADS, 0, stream, partial,
           (const Word *)x.data, n);
    LAUNCH(checksum_total, 1, THREADS, 0, stream, (Word *)sum.data, partial, n_partials);
    cuda_launched(dev, "checksum");
}
