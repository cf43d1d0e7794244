/* A bias as the start of a sum, for products to which cuBLASLt cannot add it itself (gemm.c). */
#include "kernels/cuda/common.cuh"

#include "kernels/cuda/gemm.h"

enum { THREADS = 256, MAX_GRID_ROWS = 1024 };

/* Block (x, y): 256 columns of rows y, y + gridDim.y, ... */
template <class T>
__global__ void __launch_bounds__(THREADS)
    fill_rows_kernel(T *c, const T *row, int64_t m, int64_t n, int64_t ld)
{
    int64_t column = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (column >= n)
        return;
    T value = row[column];
    for (int64_t r = blockIdx.y; r < m; r += gridDim.y)
        c[r * ld + column] = value;
}

void cuda_fill_rows(Device *dev, int64_t m, int64_t n, CudaGemmOut c, const void *row)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    int64_t grid_rows = m < MAX_GRID_ROWS ? m : (int64_t)MAX_GRID_ROWS;
    dim3 grid(blocks_for(n, THREADS), (unsigned)grid_rows);
    BY_DTYPE(c.dtype, LAUNCH(fill_rows_kernel<T>, grid, THREADS, 0, stream, (T *)c.data,
                             (const T *)row, m, n, c.ld));
    cuda_launched(dev, "fill rows");
}
