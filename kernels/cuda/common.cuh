/* What the kernels share: 16-byte accesses, sums over a warp and a block, and the choice of a
 * template by a tensor's dtype. No machine code here: see <primitives.cuh>. */
#ifndef GPT_KERNELS_CUDA_COMMON_CUH
#define GPT_KERNELS_CUDA_COMMON_CUH

#include <primitives.cuh>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_ops.h"

/* ---- accesses ------------------------------------------------------------------------------ */

/* N values of T as floats: N = lanes_of<T>() (16 bytes) where everything is aligned, else N = 1.
 * "streamed" data is not read again soon: it leaves the caches first. */
template <class T> __host__ __device__ constexpr int lanes_of()
{
    return (int)(16 / sizeof(T));
}

template <class T, int N> struct Lanes; /* load and store of N values */

template <class T> struct Lanes<T, 1> {
    static __device__ __forceinline__ void load(float *x, const T *p)
    {
        x[0] = to_float(*p);
    }
    static __device__ __forceinline__ void store(T *p, const float *x)
    {
        *p = from_float<T>(x[0]);
    }
};

template <> struct Lanes<float, 4> {
    static __device__ __forceinline__ void load(float *x, const float *p)
    {
        float4 v = *(const float4 *)p;
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    }
    static __device__ __forceinline__ void store(float *p, const float *x)
    {
        *(float4 *)p = make_float4(x[0], x[1], x[2], x[3]);
    }
};

template <class T> struct Lanes<T, 4> { /* 8 bytes: beside four floats */
    static __device__ __forceinline__ void load(float *x, const T *p)
    {
        uint2 v = *(const uint2 *)p;
        float2 lo = unpack2<T>(v.x), hi = unpack2<T>(v.y);
        x[0] = lo.x, x[1] = lo.y, x[2] = hi.x, x[3] = hi.y;
    }
    static __device__ __forceinline__ void store(T *p, const float *x)
    {
        *(uint2 *)p = make_uint2(pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]));
    }
};

template <> struct Lanes<float, 8> { /* 32 bytes: beside eight of 16 bits */
    static __device__ __forceinline__ void load(float *x, const float *p)
    {
        Lanes<float, 4>::load(x, p);
        Lanes<float, 4>::load(x + 4, p + 4);
    }
    static __device__ __forceinline__ void store(float *p, const float *x)
    {
        Lanes<float, 4>::store(p, x);
        Lanes<float, 4>::store(p + 4, x + 4);
    }
};

template <class T> struct Lanes<T, 8> {
    static __device__ __forceinline__ void load(float *x, const T *p)
    {
        uint4 v = *(const uint4 *)p;
        const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 two = unpack2<T>(word[i]);
            x[2 * i] = two.x, x[2 * i + 1] = two.y;
        }
    }
    static __device__ __forceinline__ void store(T *p, const float *x)
    {
        *(uint4 *)p = make_uint4(pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]), pack2<T>(x[4], x[5]),
                                 pack2<T>(x[6], x[7]));
    }
};

template <class T, int N> __device__ __forceinline__ void load_lanes(float *x, const T *p)
{
    Lanes<T, N>::load(x, p);
}

template <class T, int N> __device__ __forceinline__ void store_lanes(T *p, const float *x)
{
    Lanes<T, N>::store(p, x);
}

/* 16 bytes as memory holds them: values waiting in registers take half the room they take as
 * floats. */
template <class T> struct Packet {
    uint4 bits;
};
template <> struct Packet<float> {
    float4 bits;
};

template <class T> __device__ __forceinline__ Packet<T> load_packet(const T *p)
{
    return *(const Packet<T> *)p;
}

template <class T> __device__ __forceinline__ void unpack(float *x, const Packet<T> &packet)
{
    load_lanes<T, lanes_of<T>()>(x, (const T *)&packet);
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* Over the 32 lanes, the same bits in all of them. */
template <class T> __device__ __forceinline__ T warp_sum(T x)
{
    for (int step = 16; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* Over a block of n_threads, in a fixed order; thread 0 has it. All threads must call it. */
template <int n_threads, class T> __device__ __forceinline__ T block_sum(T x)
{
    SHARED_ARRAY(T, of_warp, n_threads / 32);
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    for (int w = 1; threadIdx.x == 0 && w < n_threads / 32; w++)
        x += of_warp[w];
    return x;
}

/* NaN, once there, stays only if the caller looks for it: fmaxf drops it. */
__device__ __forceinline__ float warp_max(float x)
{
    for (int step = 16; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* ---- launching ------------------------------------------------------------------------------ */

/* Blocks of `per_block` that cover n. */
static inline unsigned blocks_for(int64_t n, int64_t per_block)
{
    return (unsigned)((n + per_block - 1) / per_block);
}

/* Can n values of a T be taken lanes_of<T>() at a time from each of these addresses? */
template <class T, class... Pointers> static inline bool fits_lanes(int64_t n, Pointers... p)
{
    const uintptr_t address[] = {(uintptr_t)p...};
    bool aligned = n % lanes_of<T>() == 0;
    for (uintptr_t a : address)
        aligned = aligned && a % 16 == 0;
    return aligned;
}

/* Run a statement with T the C++ type of a float dtype: BY_DTYPE(x.dtype, launch_gelu<T>(...)); */
#define BY_DTYPE(dtype_, ...)                                                                      \
    do {                                                                                           \
        switch (dtype_) {                                                                          \
        case DTYPE_F32: {                                                                          \
            typedef float T;                                                                       \
            __VA_ARGS__;                                                                           \
            break;                                                                                 \
        }                                                                                          \
        case DTYPE_BF16: {                                                                         \
            typedef bf16 T;                                                                        \
            __VA_ARGS__;                                                                           \
            break;                                                                                 \
        }                                                                                          \
        case DTYPE_F16: {                                                                          \
            typedef f16 T;                                                                         \
            __VA_ARGS__;                                                                           \
            break;                                                                                 \
        }                                                                                          \
        default:                                                                                   \
            cuda_refuse_dtype(dev, dtype_);                                                        \
        }                                                                                          \
    } while (0)

#endif
