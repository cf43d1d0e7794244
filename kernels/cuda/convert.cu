#include "kernels/cuda/common.cuh"

enum { THREADS = 256, QUAD = 4 };

/* ---- one value ----------------------------------------------------------------------------- */

/* The float towards zero from x, with its last bit set when it is not x: rounding that to 16 bits
 * is rounding x once. NaN stays NaN. Source: Boldo and Melquiond 2005, rounding to odd. */
__device__ __forceinline__ float round_to_odd(double x)
{
    float f = (float)x;
    if ((double)f == x)
        return f;
    uint32_t bits = __float_as_uint(f);
    return __uint_as_float((fabs((double)f) > fabs(x) ? bits - 1 : bits) | 1u);
}

/* float is exact for all sources but double, so that one rounding is left. */
template <class D, class S> struct Converted {
    static __device__ __forceinline__ D of(S x)
    {
        return from_float<D>(to_float(x));
    }
};
template <class S> struct Converted<double, S> {
    static __device__ __forceinline__ double of(S x)
    {
        return (double)to_float(x);
    }
};
template <class D> struct Converted<D, double> {
    static __device__ __forceinline__ D of(double x)
    {
        return from_float<D>(round_to_odd(x));
    }
};
template <> struct Converted<float, double> {
    static __device__ __forceinline__ float of(double x)
    {
        return (float)x;
    }
};
template <> struct Converted<double, double> {
    static __device__ __forceinline__ double of(double x)
    {
        return x;
    }
};

/* ---- kernels ------------------------------------------------------------------------------- */

template <class D, class S>
__global__ void __launch_bounds__(THREADS) convert_each(D *dst, const S *src, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        dst[i] = Converted<D, S>::of(src[i]);
}

/* Neither is double, both are 16-byte aligned, n is a multiple of QUAD. */
template <class D, class S>
__global__ void __launch_bounds__(THREADS) convert_quads(D *dst, const S *src, int64_t n)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * QUAD;
    if (i >= n)
        return;
    float v[QUAD];
    load_lanes<S, QUAD>(v, src + i);
    store_lanes<D, QUAD>(dst + i, v);
}

/* ---- launches ------------------------------------------------------------------------------ */

template <class D, class S> static void launch_each(cudaStream_t stream, Tensor dst, Tensor src)
{
    int64_t n = tensor_count(src);
    LAUNCH((convert_each<D, S>), blocks_for(n, THREADS), THREADS, 0, stream, (D *)dst.data,
           (const S *)src.data, n);
}

template <class D, class S> static void launch_floats(cudaStream_t stream, Tensor dst, Tensor src)
{
    int64_t n = tensor_count(src);
    if (n % QUAD == 0 && fits_lanes<S>(0, dst.data, src.data))
        LAUNCH((convert_quads<D, S>), blocks_for(n, THREADS * QUAD), THREADS, 0, stream,
               (D *)dst.data, (const S *)src.data, n);
    else
        launch_each<D, S>(stream, dst, src);
}

template <class S> static void convert_from(Device *dev, Tensor dst, Tensor src)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    if (dst.dtype == DTYPE_F64)
        launch_each<double, S>(stream, dst, src);
    else
        BY_DTYPE(dst.dtype, launch_floats<T, S>(stream, dst, src));
}

template <> void convert_from<double>(Device *dev, Tensor dst, Tensor src)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    if (dst.dtype == DTYPE_F64)
        launch_each<double, double>(stream, dst, src);
    else
        BY_DTYPE(dst.dtype, launch_each<T, double>(stream, dst, src));
}

void cuda_convert(Device *dev, Tensor dst, Tensor src)
{
    if (src.dtype == DTYPE_F64)
        convert_from<double>(dev, dst, src);
    else
        BY_DTYPE(src.dtype, convert_from<T>(dev, dst, src));
    cuda_launched(dev, "convert");
}
