/* Sums of a vector in double, as in kernels/cpu/reduce.c: float32 values and their squares cannot
 * overflow there, and NaN and infinity pass through. Double arithmetic is slow on most cards, but
 * one addition for four bytes read is still near the memory's speed.
 *
 * Two kernels: the vector is dealt out to a number of blocks that depends on n alone, and one block
 * adds up what they found. */
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/scratch.h"

enum { THREADS = 256, QUAD = 4 };

/* x[0..QUAD), with zeros from `left` on. The same values however they are loaded. */
__device__ __forceinline__ void load_quad(float *v, const float *x, int64_t left, bool aligned)
{
    if (aligned && left >= QUAD) {
        load_lanes<float, QUAD>(v, x);
        return;
    }
#pragma unroll
    for (int k = 0; k < QUAD; k++)
        v[k] = k < left ? x[k] : 0.0f;
}

/* partial (gridDim.x) = sums of x or of its squares; thread j takes quads j, j + all threads, ...
 */
template <bool squares>
__global__ void __launch_bounds__(THREADS)
    sum_partials(double *partial, const float *x, int64_t n, bool aligned)
{
    int64_t step = (int64_t)gridDim.x * THREADS * QUAD;
    double sum = 0;
#pragma unroll 4
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * QUAD; i < n; i += step) {
        float v[QUAD];
        load_quad(v, x + i, n - i, aligned);
#pragma unroll
        for (int k = 0; k < QUAD; k++)
            sum += squares ? (double)v[k] * (double)v[k] : (double)v[k];
    }
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

/* total (1) += scale * sum of partial (n); one block. */
__global__ void __launch_bounds__(THREADS)
    add_partials(double *total, const double *partial, int n, double scale)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        sum += partial[i];
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        *total += scale * sum;
}

template <bool squares> static void add(Device *dev, Tensor total, Tensor x, double scale)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    int64_t n = tensor_count(x);
    int n_partials = (int)cuda_sum_partials(n);
    double *partial = (double *)dev->workspace.data;
    LAUNCH(sum_partials<squares>, (unsigned)n_partials, THREADS, 0, stream, partial,
           (const float *)x.data, n, fits_lanes<float>(0, x.data));
    LAUNCH(add_partials, 1, THREADS, 0, stream, (double *)total.data, partial, n_partials, scale);
}

void cuda_add_sum(Device *dev, Tensor total, Tensor x, double scale)
{
    add<false>(dev, total, x, scale);
    cuda_launched(dev, "add_sum");
}

void cuda_add_sum_squares(Device *dev, Tensor total, Tensor x)
{
    add<true>(dev, total, x, 1);
    cuda_launched(dev, "add_sum_squares");
}
