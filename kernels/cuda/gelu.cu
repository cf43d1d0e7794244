#include "kernels/cuda/common.cuh"

#define SQRT_2_OVER_PI 0.79788456f
#define SQRT_HALF      0.70710678f
#define CUBIC          0.044715f
#define INV_SQRT_2_PI  0.39894228f
#define LOG2_E         1.44269504f

enum { THREADS = 256 };

/* gelu(x) = x * gate(x), as in kernels/cpu/gelu.c. Forward and backward must give the same bits, so
 * every product that is added to something is an explicit fmaf: the compiler has nothing to choose.
 *
 * tanh: 0.5 (1 + tanh u) = 1 / (1 + e^(-2u)). Beyond +-16 the gate is exactly 1 or 0 and its slope
 * 0; clamping there keeps x^3 finite. A NaN loses itself in the clamp, but comes back as the factor
 * x. erf: the normal distribution function. */
template <GeluKind kind> __device__ __forceinline__ float gate(float x)
{
    if (kind == GELU_ERF)
        return fmaf(0.5f, erff(x * SQRT_HALF), 0.5f);
    float near = fminf(fmaxf(x, -16.0f), 16.0f);
    float cubic = fmaf(CUBIC, near * near, 1.0f);
    return 1.0f / (1.0f + fast_exp2(-2.0f * LOG2_E * SQRT_2_OVER_PI * near * cubic));
}

/* d gate / dx, given the gate g. */
template <GeluKind kind> __device__ __forceinline__ float gate_slope(float x, float g)
{
    if (kind == GELU_ERF)
        return INV_SQRT_2_PI * fast_exp2(-0.5f * LOG2_E * x * x);
    float near = fminf(fmaxf(x, -16.0f), 16.0f);
    float du = SQRT_2_OVER_PI * fmaf(3.0f * CUBIC, near * near, 1.0f);
    return 2.0f * g * (1.0f - g) * du;
}

template <class T, int N, GeluKind kind>
__global__ void __launch_bounds__(THREADS) gelu_forward(T *y, const T *x, int64_t n)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= n)
        return;
    float v[N];
    load_lanes<T, N>(v, x + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        v[k] *= gate<kind>(v[k]);
    store_lanes<T, N>(y + i, v);
}

/* y is NULL when nobody wants it. Everything is read before anything is written: dx may be dy and y
 * may be x. */
template <class T, int N, GeluKind kind>
__global__ void __launch_bounds__(THREADS)
    gelu_backward(T *dx, T *y, const T *dy, const T *x, int64_t n)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= n)
        return;
    float v[N], d[N];
    load_lanes<T, N>(v, x + i);
    load_lanes<T, N>(d, dy + i);
#pragma unroll
    for (int k = 0; k < N; k++) {
        float g = gate<kind>(v[k]);
        d[k] *= fmaf(v[k], gate_slope<kind>(v[k], g), g);
        v[k] *= g;
    }
    store_lanes<T, N>(dx + i, d);
    if (y)
        store_lanes<T, N>(y + i, v);
}

/* ---- launches ------------------------------------------------------------------------------ */

template <class T, int N>
static void launch_forward(cudaStream_t stream, Tensor y, Tensor x, GeluKind kind)
{
    int64_t n = tensor_count(x);
    unsigned blocks = blocks_for(n, THREADS * N);
    if (kind == GELU_ERF)
        LAUNCH((gelu_forward<T, N, GELU_ERF>), blocks, THREADS, 0, stream, (T *)y.data,
               (const T *)x.data, n);
    else
        LAUNCH((gelu_forward<T, N, GELU_TANH>), blocks, THREADS, 0, stream, (T *)y.data,
               (const T *)x.data, n);
}

template <class T> static void forward(cudaStream_t stream, Tensor y, Tensor x, GeluKind kind)
{
    if (fits_lanes<T>(tensor_count(x), y.data, x.data))
        launch_forward<T, lanes_of<T>()>(stream, y, x, kind);
    else
        launch_forward<T, 1>(stream, y, x, kind);
}

template <class T, int N>
static void launch_backward(cudaStream_t stream, Tensor dx, Tensor y, Tensor dy, Tensor x,
                            GeluKind kind)
{
    int64_t n = tensor_count(x);
    unsigned blocks = blocks_for(n, THREADS * N);
    if (kind == GELU_ERF)
        LAUNCH((gelu_backward<T, N, GELU_ERF>), blocks, THREADS, 0, stream, (T *)dx.data,
               (T *)y.data, (const T *)dy.data, (const T *)x.data, n);
    else
        LAUNCH((gelu_backward<T, N, GELU_TANH>), blocks, THREADS, 0, stream, (T *)dx.data,
               (T *)y.data, (const T *)dy.data, (const T *)x.data, n);
}

template <class T>
static void backward(cudaStream_t stream, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind)
{
    if (fits_lanes<T>(tensor_count(x), dx.data, y.data, dy.data, x.data))
        launch_backward<T, lanes_of<T>()>(stream, dx, y, dy, x, kind);
    else
        launch_backward<T, 1>(stream, dx, y, dy, x, kind);
}

void cuda_gelu_forward(Device *dev, Tensor y, Tensor x, GeluKind kind)
{
    BY_DTYPE(x.dtype, forward<T>(cuda_device(dev)->stream, y, x, kind));
    cuda_launched(dev, "gelu_forward");
}

void cuda_gelu_backward(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind)
{
    BY_DTYPE(x.dtype, backward<T>(cuda_device(dev)->stream, dx, y, dy, x, kind));
    cuda_launched(dev, "gelu_backward");
}
