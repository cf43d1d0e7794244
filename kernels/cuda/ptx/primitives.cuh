/* What kernels need of the machine: inline PTX, shared memory and launches. The one file with
 * assembler, found as <primitives.cuh>; tests/cuda_on_cpu/primitives.cuh is its twin on the host,
 * with the same names and meanings, so that every kernel runs on a CPU too. The dialect kernels are
 * written in:
 *
 *   - kernels are launched by LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...);
 *     a template instance in parentheses: LAUNCH((gelu_kernel<T, 8>), ...)
 *   - shared memory comes from SHARED_ARRAY(type, name, n) and DYN_SHARED(type, name)
 *   - blockDim.y and z are 1, blockDim.x is a multiple of 32, at most 1024
 *   - warp operations take the full mask and are reached by all lanes of a warp; barriers by all
 *     threads of the block
 *   - no atomics, no static device variables, no printf
 *   - tensor cores, ldmatrix, cp.async: only through the functions below; files that use them end
 *     in _sm80.cu and are compiled for compute capability 8.0 and newer only */
#ifndef GPT_KERNELS_CUDA_PRIMITIVES_CUH
#define GPT_KERNELS_CUDA_PRIMITIVES_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

#define SHARED_ARRAY(type, name, n) __shared__ type name[n]
/* What the launch asked for in shared_bytes, 128-byte aligned; at most one per kernel. */
#define DYN_SHARED(type, name)                                                                     \
    extern __shared__ __align__(128) unsigned char dyn_shared_bytes_[];                            \
    type *name = (type *)dyn_shared_bytes_

/* More than 48 KiB of dynamic shared memory must be asked for once per kernel; asking again costs
 * little. A fault shows in cudaGetLastError, as a launch's own does. */
template <class Kernel> inline void allow_shared(Kernel *kernel, size_t bytes)
{
    if (bytes > 48 * 1024)
        (void)cudaFuncSetAttribute((const void *)kernel,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    do {                                                                                           \
        allow_shared(kernel, shared_bytes);                                                        \
        (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__);                      \
    } while (0)

/* ---- conversions, rounding to nearest even ------------------------------------------------ */

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ f16 from_float<f16>(float x) { return __float2half_rn(x); }

/* Two values in a register, lo in the low half. */
template <class T> __device__ __forceinline__ uint32_t pack2(float lo, float hi);
template <> __device__ __forceinline__ uint32_t pack2<bf16>(float lo, float hi)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *(uint32_t *)&v;
}
template <> __device__ __forceinline__ uint32_t pack2<f16>(float lo, float hi)
{
    __half2 v = __floats2half2_rn(lo, hi);
    return *(uint32_t *)&v;
}

template <class T> __device__ __forceinline__ float2 unpack2(uint32_t v);
template <> __device__ __forceinline__ float2 unpack2<bf16>(uint32_t v)
{
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack2<f16>(uint32_t v)
{
    return __half22float2(*(__half2 *)&v);
}

/* 2^x, within 2 units in the last place; denormal results are 0. */
__device__ __forceinline__ float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- asynchronous copies of 16 bytes from global to shared memory (sm_80) ------------------ */

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* dst = src, or zeros where !valid (src is not read then). Both 16-byte aligned. */
__device__ __forceinline__ void cp_async16(void *dst, const void *src, bool valid)
{
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)),
                 "l"(src), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most `newest` of this thread's groups are under way. Others' need a barrier after it. */
template <int newest> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(newest) : "memory");
}

/* ---- matrix fragments (sm_80) --------------------------------------------------------------- */

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (16
 * bytes, aligned). r[m]: elements (l / 4, 2 (l % 4) + {0, 1}) of matrix m. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
/* The same, each matrix transposed: r[m] holds elements (2 (l % 4) + {0, 1}, l / 4). */
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* d (16x8, float) += a (16x16) b (16x8), T = bf16 or f16. Lane l, g = l / 4, t = l % 4:
 *   a[0..3]: rows g, g + 8, g, g + 8; columns 2t + {0,1}, same, 2t + 8 + {0,1}, same
 *   b[0..1]: rows 2t + {0,1} and 2t + 8 + {0,1}; column g
 *   d[0..3]: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
 * PTX ISA, mma.m16n8k16. */
template <class T>
__device__ __forceinline__ void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2]);
template <>
__device__ __forceinline__ void mma_16x8x16<bf16>(float d[4], const uint32_t a[4],
                                                  const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma_16x8x16<f16>(float d[4], const uint32_t a[4],
                                                 const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
