/* Bias gradients: column sums of (N,O), added to float32. Runs of rows are summed by blocks of
 * their own into scratch (scratch.h), then the runs in order. How rows are divided and in what
 * order they are added depends on N only: the same bits on every card, and for every way of
 * loading. */
#include "kernels/cuda/common.cuh"

#include "base/check.h"
#include "kernels/cuda/scratch.h"

enum { WARPS = 8, THREADS = 32 * WARPS };

/* What the warps of a block hold for a column, added in the order of the warps; thread t of the
 * first 32 * L gets column t. */
template <int L> __device__ __forceinline__ float sum_of_warps(const float *of_warp, int column)
{
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++)
        sum += of_warp[warp * 32 * L + column];
    return sum;
}

/* partial (runs, O): block (x, y) sums columns [32 L x, 32 L (x + 1)) of rows [y rows_per_run,
 * (y + 1) rows_per_run), warp w the rows w, w + 8, ... of them, L columns per lane. */
template <class T, int L>
__global__ void __launch_bounds__(THREADS)
    sum_runs_kernel(float *partial, const T *x, int64_t N, int64_t O, int64_t rows_per_run)
{
    SHARED_ARRAY(float, of_warp, WARPS * 32 * L);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int64_t first_column = (int64_t)blockIdx.x * 32 * L, column = first_column + lane * L;
    int64_t begin = blockIdx.y * rows_per_run, end = begin + rows_per_run;
    end = end < N ? end : N;

    float sum[L] = {};
    if (column < O) {
#pragma unroll 4
        for (int64_t row = begin + warp; row < end; row += WARPS) {
            float value[L];
            load_lanes<T, L>(value, x + row * O + column);
#pragma unroll
            for (int i = 0; i < L; i++)
                sum[i] += value[i];
        }
    }
#pragma unroll
    for (int i = 0; i < L; i++)
        of_warp[(warp * 32 + lane) * L + i] = sum[i];
    __syncthreads();

    int c = (int)threadIdx.x;
    if (c < 32 * L && first_column + c < O)
        partial[blockIdx.y * O + first_column + c] = sum_of_warps<L>(of_warp, c);
}

/* sums (O) += partial (runs, O): warp w adds the runs w, w + 8, ... of 32 columns, then the warps
 * are added in order. */
__global__ void __launch_bounds__(THREADS)
    add_runs_kernel(float *sums, const float *partial, int64_t runs, int64_t O)
{
    SHARED_ARRAY(float, of_warp, WARPS * 32);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int64_t column = (int64_t)blockIdx.x * 32 + lane;

    float sum = 0;
    if (column < O) {
#pragma unroll 8
        for (int64_t run = warp; run < runs; run += WARPS)
            sum += partial[run * O + column];
    }
    of_warp[warp * 32 + lane] = sum;
    __syncthreads();

    if (warp == 0 && column < O)
        sums[column] += sum_of_warps<1>(of_warp, lane);
}

template <class T, int L>
static void launch(cudaStream_t stream, float *sums, const T *x, float *partial, int64_t N,
                   int64_t O)
{
    int64_t runs = cuda_row_partials(N), rows_per_run = (N + runs - 1) / runs;
    dim3 grid(blocks_for(O, 32 * L), (unsigned)runs);
    LAUNCH((sum_runs_kernel<T, L>), grid, THREADS, 0, stream, partial, x, N, O, rows_per_run);
    LAUNCH(add_runs_kernel, blocks_for(O, 32), THREADS, 0, stream, sums, partial, runs, O);
}

template <class T> static void add_column_sums(Device *dev, Tensor db, Tensor dy)
{
    int64_t N = dy.dim[0], O = dy.dim[1];
    cudaStream_t stream = cuda_device(dev)->stream;
    float *sums = (float *)db.data, *partial = (float *)dev->workspace.data;
    const T *x = (const T *)dy.data;
    if (fits_lanes<T>(O, x))
        launch<T, lanes_of<T>()>(stream, sums, x, partial, N, O);
    else
        launch<T, 1>(stream, sums, x, partial, N, O);
}

void cuda_add_column_sums(Device *dev, Tensor db, Tensor dy)
{
    size_t wanted = cuda_column_sums_scratch_bytes(dy.dim[0], dy.dim[1]);
    ASSERT(tensor_bytes(dev->workspace) >= wanted,
           "column sums want %zu bytes of workspace, have %zu", wanted,
           tensor_bytes(dev->workspace));
    BY_DTYPE(dy.dtype, add_column_sums<T>(dev, db, dy));
    cuda_launched(dev, "column sums");
}
