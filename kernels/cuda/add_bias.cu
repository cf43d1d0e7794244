/* For products to which cuBLASLt cannot add a bias itself (gemm.c): a plain pass over the result.
 */
#include "kernels/cuda/common.cuh"

#include "kernels/cuda/gemm.h"

enum { THREADS = 256 };

/* Block (x, y): 256 columns of rows y, y + gridDim.y, ... */
template <class T>
__global__ void __launch_bounds__(THREADS)
    add_bias_kernel(T *c, const T *bias, int64_t m, int64_t n, int64_t ld)
{
    int64_t column = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (column >= n)
        return;
    float b = to_float(bias[column]);
    for (int64_t row = blockIdx.y; row < m; row += gridDim.y)
        c[row * ld + column] = from_float<T>(to_float(c[row * ld + column]) + b);
}

void cuda_add_bias(Device *dev, int64_t m, int64_t n, CudaGemmOut c, const void *bias)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    dim3 grid(blocks_for(n, THREADS), (unsigned)(m < 1024 ? m : 1024));
    BY_DTYPE(c.dtype, LAUNCH(add_bias_kernel<T>, grid, THREADS, 0, stream, (T *)c.data,
                             (const T *)bias, m, n, c.ld));
    cuda_launched(dev, "add bias");
}
