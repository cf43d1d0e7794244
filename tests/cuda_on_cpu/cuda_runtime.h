/* CUDA C++ for the host: the qualifiers, vector types and functions that the dialect of
 * kernels/cuda/ptx/primitives.cuh uses, found in place of NVIDIA's header in an emulated build. */
#ifndef GPT_TESTS_CUDA_RUNTIME_H
#define GPT_TESTS_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>

#include "tests/cuda_on_cpu/emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)

#define threadIdx (emu::place.thread)
#define blockIdx  (emu::place.block)
#define blockDim  (emu::place.block_dim)
#define gridDim   (emu::place.grid_dim)

using std::max;
using std::min;

/* ---- vectors ------------------------------------------------------------------------------- */

struct __align__(8) float2
{
    float x, y;
};
struct __align__(16) float4
{
    float x, y, z, w;
};
struct __align__(16) double2
{
    double x, y;
};
struct __align__(8) uint2
{
    unsigned x, y;
};
struct __align__(16) uint4
{
    unsigned x, y, z, w;
};
struct __align__(8) int2
{
    int x, y;
};
struct __align__(16) int4
{
    int x, y, z, w;
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}
static inline int4 make_int4(int x, int y, int z, int w)
{
    return {x, y, z, w};
}

/* ---- barriers and warps -------------------------------------------------------------------- */

static inline void __syncthreads(int line = __builtin_LINE())
{
    emu::sync_block(line);
}

namespace emu
{

enum { FULL_MASK = -1 };

static inline void check_warp(unsigned mask, int width)
{
    if (mask != (unsigned)FULL_MASK)
        fail("a warp operation with the mask %08x", mask);
    if (width < 1 || width > WARP || (width & (width - 1)) != 0)
        fail("a shuffle with the width %d", width);
}

/* The value of lane `source`. */
template <class T> static inline T shuffle(T value, int source, Site site)
{
    static_assert(sizeof(T) % 4 == 0 && sizeof(T) <= 4 * MAX_WORDS, "4 to 32 bytes");
    uint32_t words[sizeof(T) / 4];
    memcpy(words, &value, sizeof value);
    const Words *lanes = exchange(words, sizeof(T) / 4, site, false);
    memcpy(&value, lanes[source], sizeof value);
    return value;
}

} // namespace emu

static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE())
{
    emu::check_warp(mask, emu::WARP);
    emu::exchange(nullptr, 0, {"__syncwarp", line}, true);
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                            int line = __builtin_LINE())
{
    emu::check_warp(mask, width);
    int first = emu::lane() & -width;
    return emu::shuffle(value, first + (source & (width - 1)), {"__shfl_sync", line});
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                                int line = __builtin_LINE())
{
    emu::check_warp(mask, width);
    int self = emu::lane(), source = self ^ bits;
    bool inside = source < (self & -width) + width;
    return emu::shuffle(value, inside ? source : self, {"__shfl_xor_sync", line});
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 int line = __builtin_LINE())
{
    emu::check_warp(mask, width);
    int self = emu::lane(), source = self + (int)delta;
    bool inside = source < (self & -width) + width;
    return emu::shuffle(value, inside ? source : self, {"__shfl_down_sync", line});
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               int line = __builtin_LINE())
{
    emu::check_warp(mask, width);
    int self = emu::lane(), source = self - (int)delta;
    bool inside = source >= (self & -width);
    return emu::shuffle(value, inside ? source : self, {"__shfl_up_sync", line});
}

/* ---- bits, arithmetic --------------------------------------------------------------------- */

static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
/* The C library has functions of these names, for itself. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)

#endif
#endif
