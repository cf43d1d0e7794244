/* A block owns one head of one query. Each warp takes some keys at a time, a lane some channels of
 * each, and keeps a running softmax (Milakov and Gimelshein 2018); at the end the block adds up
 * what its warps have, in order. Plain float32 arithmetic: one query is the memory's work. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/common.cuh"

namespace
{

constexpr float LOG2_E = 1.44269504f;

enum { WARPS = 8, THREADS = WARPS * 32 };

/* Keys that a warp looks at together: as many as registers hold with P channels a lane of each. */
template <int P> constexpr int GROUP = P > 4 ? 2 : 4;

/* ---- appending ------------------------------------------------------------------------------ */

/* k and v begin at the first row that is written; n values each. */
template <class T>
__global__ void __launch_bounds__(THREADS) append(T *k, T *v, const T *qkv, int64_t n, int C)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    const T *from = qkv + i / C * 3 * C + i % C;
    k[i] = from[C];
    v[i] = from[2 * C];
}

template <class T> void launch_append(Device *dev, KvCache cache, Tensor qkv, int64_t first)
{
    int64_t n = qkv.dim[0], C = qkv.dim[1] / 3;
    LAUNCH((append<T>), blocks_for(n * C, THREADS), THREADS, 0, cuda_device(dev)->stream,
           (T *)cache.k.data + first * C, (T *)cache.v.data + first * C, (const T *)qkv.data, n * C,
           (int)C);
}

/* ---- attention ------------------------------------------------------------------------------ */

template <class T> struct Queries {
    T *out;               /* rows of C */
    const T *qkv, *k, *v; /* rows of 3C, C and C */
    int64_t first;        /* row i sees keys 0 .. first + i */
    int C, H, D;
    float scale; /* log2(e) / sqrt(D): exp is exp2 of what is scaled so */
};

/* What a warp has of the keys it has seen; a lane's channels are its number, plus 32, 64, ... */
template <int P> struct Partial {
    float max, sum, value[P];
};

/* x[i] = channel lane + 32 i of D, 0 behind them. */
template <class T, int P>
__device__ __forceinline__ void load_channels(float *x, const T *row, int D)
{
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < P; i++)
        x[i] = lane + 32 * i < D ? to_float(row[lane + 32 * i]) : 0.0f;
}

/* n of GROUP<P> keys, whose rows of C begin at k and v. The others weigh nothing. */
template <class T, int P>
__device__ __forceinline__ void add_keys(Partial<P> &own, const float *query, const T *k,
                                         const T *v, const Queries<T> &a, int n)
{
    float key[GROUP<P>][P], value[GROUP<P>][P], score[GROUP<P>];
#pragma unroll
    for (int j = 0; j < GROUP<P>; j++) {
        load_channels<T, P>(key[j], k + (int64_t)j * a.C, j < n ? a.D : 0);
        load_channels<T, P>(value[j], v + (int64_t)j * a.C, j < n ? a.D : 0);
    }
    float max = own.max;
#pragma unroll
    for (int j = 0; j < GROUP<P>; j++) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < P; i++)
            sum += query[i] * key[j][i];
        score[j] = j < n ? warp_sum(sum) : -INFINITY;
        max = fmaxf(max, score[j]);
    }
    float shrink = fast_exp2(own.max - max);
    own.max = max;
    own.sum *= shrink;
#pragma unroll
    for (int i = 0; i < P; i++)
        own.value[i] *= shrink;
#pragma unroll
    for (int j = 0; j < GROUP<P>; j++) {
        float p = fast_exp2(score[j] - max); /* a NaN stays one, whatever the maximum made of it */
        own.sum += p;
#pragma unroll
        for (int i = 0; i < P; i++)
            own.value[i] += p * value[j][i];
    }
}

template <class T, int P>
__device__ __forceinline__ Partial<P> see_keys(const Queries<T> &a, int64_t row, int h)
{
    Partial<P> own = {-INFINITY, 0, {}};
    float query[P];
    load_channels<T, P>(query, a.qkv + row * 3 * a.C + h * a.D, a.D);
#pragma unroll
    for (int i = 0; i < P; i++)
        query[i] *= a.scale;
    const int64_t n_keys = a.first + row + 1;
    for (int64_t j = (int64_t)threadIdx.x / 32 * GROUP<P>; j < n_keys; j += WARPS * GROUP<P>) {
        int64_t at = j * a.C + h * a.D, left = n_keys - j;
        add_keys<T, P>(own, query, a.k + at, a.v + at, a, left < GROUP<P> ? (int)left : GROUP<P>);
    }
    return own;
}

/* Channel c of the head: what the warps have of it, in their order. A warp without keys has the
 * weight 0. */
template <int P>
__device__ __forceinline__ float combine(const float *max, const float *sum, const float *value,
                                         int c)
{
    float largest = max[0], total = 0, x = 0;
#pragma unroll
    for (int w = 1; w < WARPS; w++)
        largest = fmaxf(largest, max[w]);
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
        float weight = fast_exp2(max[w] - largest);
        total += weight * sum[w];
        x += weight * value[w * 32 * P + c];
    }
    return x / total;
}

template <class T, int P> __global__ void __launch_bounds__(THREADS) attend(Queries<T> a)
{
    SHARED_ARRAY(float, max, WARPS);
    SHARED_ARRAY(float, sum, WARPS);
    SHARED_ARRAY(float, value, WARPS * 32 * P);
    const int64_t row = blockIdx.x / a.H;
    const int h = (int)blockIdx.x % a.H, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    Partial<P> own = see_keys<T, P>(a, row, h);
    max[warp] = own.max; /* the same in all lanes */
    sum[warp] = own.sum;
#pragma unroll
    for (int i = 0; i < P; i++)
        value[(warp * P + i) * 32 + lane] = own.value[i];
    __syncthreads();
    const int c = (int)threadIdx.x;
    if (c < a.D)
        a.out[row * a.C + h * a.D + c] = from_float<T>(combine<P>(max, sum, value, c));
}

template <class T, int P> void launch_attend(Device *dev, const Queries<T> &a, int64_t n)
{
    LAUNCH((attend<T, P>), (unsigned)(n * a.H), THREADS, 0, cuda_device(dev)->stream, a);
}

/* P: channels of a lane. */
template <class T> void launch_by_head_size(Device *dev, const Queries<T> &a, int64_t n)
{
    if (a.D <= 64)
        launch_attend<T, 2>(dev, a, n);
    else if (a.D <= 128)
        launch_attend<T, 4>(dev, a, n);
    else
        launch_attend<T, CUDA_MAX_HEAD_SIZE / 32>(dev, a, n);
}

template <class T>
void launch(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first, int32_t n_head)
{
    Queries<T> a;
    a.out = (T *)out.data;
    a.qkv = (const T *)qkv.data, a.k = (const T *)cache.k.data, a.v = (const T *)cache.v.data;
    a.first = first;
    a.C = (int)out.dim[1], a.H = n_head, a.D = a.C / n_head;
    a.scale = LOG2_E / sqrtf((float)a.D);
    launch_by_head_size<T>(dev, a, out.dim[0]);
}

} // namespace

static_assert((int)CUDA_MAX_HEAD_SIZE <= (int)THREADS, "a thread for each channel of a head");

void cuda_cache_append(Device *dev, KvCache cache, Tensor qkv, int64_t first)
{
    BY_DTYPE(qkv.dtype, launch_append<T>(dev, cache, qkv, first));
    cuda_launched(dev, "cache_append");
}

void cuda_attention_cached(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                           int32_t n_head)
{
    if (out.dim[1] / n_head > CUDA_MAX_HEAD_SIZE) {
        dev->err = ERR_NEW(ERR_SYSTEM,
                           "attention: a head has %lld channels, the GPU's kernels take at most %d",
                           (long long)(out.dim[1] / n_head), CUDA_MAX_HEAD_SIZE);
        return;
    }
    BY_DTYPE(qkv.dtype, launch<T>(dev, out, qkv, cache, first, n_head));
    cuda_launched(dev, "attention_cached");
}
