#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

/* N elements per thread; n is a multiple of N. */
template <class S, int N>
__global__ void __launch_bounds__(THREADS) add_lanes(float *dst, const S *src, int64_t n)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= n)
        return;
    float y[N], x[N];
    load_lanes<float, N>(y, dst + i);
    load_lanes<S, N>(x, src + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        y[k] += x[k];
    store_lanes<float, N>(dst + i, y);
}

template <class S> static void launch(cudaStream_t stream, Tensor dst, Tensor src)
{
    constexpr int N = lanes_of<S>();
    int64_t n = tensor_count(src);
    if (fits_lanes<S>(n, dst.data, src.data))
        LAUNCH((add_lanes<S, N>), blocks_for(n, THREADS * N), THREADS, 0, stream, (float *)dst.data,
               (const S *)src.data, n);
    else
        LAUNCH((add_lanes<S, 1>), blocks_for(n, THREADS), THREADS, 0, stream, (float *)dst.data,
               (const S *)src.data, n);
}

void cuda_add(Device *dev, Tensor dst, Tensor src)
{
    BY_DTYPE(src.dtype, launch<T>(cuda_device(dev)->stream, dst, src));
    cuda_launched(dev, "add");
}
