#include "kernels/cuda/common.cuh"

#include <math.h>

enum { THREADS = 256, QUAD = 4 };

/* What is the same for every element. Computed in double from the settings, as torch does. */
struct AdamwFactors {
    float grad_scale, decay, one_minus_beta1, beta2, one_minus_beta2;
    float sqrt_correction2, step_size, eps;
};

static AdamwFactors factors_of(const AdamwArgs *a)
{
    double correction1 = 1 - pow(a->beta1, (double)a->step);
    double correction2 = 1 - pow(a->beta2, (double)a->step);
    AdamwFactors f;
    f.grad_scale = (float)a->grad_scale;
    f.decay = (float)(1 - a->lr * a->weight_decay);
    f.one_minus_beta1 = (float)(1 - a->beta1);
    f.beta2 = (float)a->beta2;
    f.one_minus_beta2 = (float)(1 - a->beta2);
    f.sqrt_correction2 = (float)sqrt(correction2);
    f.step_size = (float)(a->lr / correction1);
    f.eps = (float)a->eps;
    return f;
}

/* Every product that is added to something is an explicit fmaf: the compiler has nothing to choose,
 * so it is the same update wherever the weights are. */
__device__ __forceinline__ void update(float *p, float *m, float *v, float grad,
                                       const AdamwFactors &f)
{
    float g = grad * f.grad_scale;
    *m = fmaf(f.one_minus_beta1, fmaf(grad, f.grad_scale, -*m), *m);
    *v = fmaf(f.one_minus_beta2 * g, g, *v * f.beta2);
    float denominator = sqrtf(*v) / f.sqrt_correction2 + f.eps;
    *p = fmaf(-f.step_size, *m / denominator, *p * f.decay);
}

/* ---- halves of float32 --------------------------------------------------------------------- */

/* The bits of x for f32_split: a NaN without payload. */
__device__ __forceinline__ uint32_t split_bits(float x)
{
    uint32_t bits = __float_as_uint(x);
    bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return is_nan ? (bits & 0x80000000u) | 0x7fc00000u : bits;
}

/* f32_split's high and low half. */
__device__ __forceinline__ uint32_t high_half(float x)
{
    return (split_bits(x) + 0x8000u) >> 16;
}
__device__ __forceinline__ uint32_t low_half(float x)
{
    return split_bits(x) & 0xffffu;
}

/* f32_join */
__device__ __forceinline__ float join_halves(uint32_t high, uint32_t low)
{
    uint32_t rounded_up = low >> 15;
    return __uint_as_float((high - rounded_up) << 16 | low);
}

/* N consecutive 16-bit words, 1 or QUAD. */
template <int N> struct Words16;
template <> struct Words16<1> {
    static __device__ __forceinline__ void load(uint32_t *x, const uint16_t *p)
    {
        x[0] = *p;
    }
    static __device__ __forceinline__ void store(uint16_t *p, const uint32_t *x)
    {
        *p = (uint16_t)x[0];
    }
};
template <> struct Words16<QUAD> {
    static __device__ __forceinline__ void load(uint32_t *x, const uint16_t *p)
    {
        uint2 v = *(const uint2 *)p;
        x[0] = v.x & 0xffffu, x[1] = v.x >> 16, x[2] = v.y & 0xffffu, x[3] = v.y >> 16;
    }
    static __device__ __forceinline__ void store(uint16_t *p, const uint32_t *x)
    {
        *(uint2 *)p = make_uint2(x[0] | x[1] << 16, x[2] | x[3] << 16);
    }
};

/* ---- where masters are ---------------------------------------------------------------------- */

/* param = x rounded as parameters are. */
template <class T, int N> struct Rounded {
    static __device__ __forceinline__ void store(T *param, const float *x)
    {
        store_lanes<T, N>(param, x);
    }
};
template <int N> struct Rounded<bf16, N> {
    static __device__ __forceinline__ void store(bf16 *param, const float *x)
    {
        uint32_t high[N];
#pragma unroll
        for (int k = 0; k < N; k++)
            high[k] = high_half(x[k]);
        Words16<N>::store((uint16_t *)param, high);
    }
};

/* In float32, with rounded parameters beside them; param is NULL when they are the parameters. */
template <class T> struct WideMasters {
    T *param;
    float *master;

    template <int N> __device__ __forceinline__ void load(float *x, int64_t i) const
    {
        load_lanes<float, N>(x, master + i);
    }
    template <int N> __device__ __forceinline__ void store(int64_t i, const float *x) const
    {
        store_lanes<float, N>(master + i, x);
        if (param)
            Rounded<T, N>::store(param + i, x);
    }
};

/* In halves, the high ones being the bfloat16 parameters. */
struct SplitMasters {
    uint16_t *high, *low;

    template <int N> __device__ __forceinline__ void load(float *x, int64_t i) const
    {
        uint32_t h[N], l[N];
        Words16<N>::load(h, high + i);
        Words16<N>::load(l, low + i);
#pragma unroll
        for (int k = 0; k < N; k++)
            x[k] = join_halves(h[k], l[k]);
    }
    template <int N> __device__ __forceinline__ void store(int64_t i, const float *x) const
    {
        uint32_t h[N], l[N];
#pragma unroll
        for (int k = 0; k < N; k++)
            h[k] = high_half(x[k]), l[k] = low_half(x[k]);
        Words16<N>::store(high + i, h);
        Words16<N>::store(low + i, l);
    }
};

/* ---- the kernel ----------------------------------------------------------------------------- */

template <class Masters, int N>
__global__ void __launch_bounds__(THREADS)
    adamw(Masters masters, float *m, float *v, const float *grad, int64_t n, AdamwFactors factors)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= n)
        return;
    float p[N], first[N], second[N], g[N];
    masters.template load<N>(p, i);
    load_lanes<float, N>(first, m + i);
    load_lanes<float, N>(second, v + i);
    load_lanes<float, N>(g, grad + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        update(&p[k], &first[k], &second[k], g[k], factors);
    masters.template store<N>(i, p);
    store_lanes<float, N>(m + i, first);
    store_lanes<float, N>(v + i, second);
}

template <class Masters, int N>
static void launch_lanes(cudaStream_t stream, Masters masters, const AdamwArgs *a)
{
    int64_t n = tensor_count(a->m);
    LAUNCH((adamw<Masters, N>), blocks_for(n, THREADS * N), THREADS, 0, stream, masters,
           (float *)a->m.data, (float *)a->v.data, (const float *)a->grad.data, n, factors_of(a));
}

template <class Masters>
static void launch(cudaStream_t stream, Masters masters, const AdamwArgs *a)
{
    if (fits_lanes<float>(tensor_count(a->m), a->param.data, a->master.data, a->m.data, a->v.data,
                          a->grad.data))
        launch_lanes<Masters, QUAD>(stream, masters, a);
    else
        launch_lanes<Masters, 1>(stream, masters, a);
}

template <class T> static void launch_wide(cudaStream_t stream, const AdamwArgs *a)
{
    bool has_master = tensor_present(a->master);
    WideMasters<T> masters = {has_master ? (T *)a->param.data : NULL,
                              (float *)(has_master ? a->master.data : a->param.data)};
    launch(stream, masters, a);
}

void cuda_adamw(Device *dev, const AdamwArgs *a)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    SplitMasters halves = {(uint16_t *)a->param.data, (uint16_t *)a->master.data};
    if (a->master.dtype == DTYPE_U16)
        launch(stream, halves, a);
    else
        BY_DTYPE(a->param.dtype, launch_wide<T>(stream, a));
    cuda_launched(dev, "adamw");
}
