#include "tests/cuda_on_cpu/emulator_kernels.h"

#include <primitives.cuh>

static unsigned index_here()
{
    return blockIdx.x * blockDim.x + threadIdx.x;
}

/* ---- fatal -------------------------------------------------------------------------------------
 */

static __global__ void barrier_left_out_by_a_warp(float *, const float *)
{
    if (threadIdx.x < 32)
        __syncthreads();
}

static __global__ void barrier_after_others_ended(float *, const float *)
{
    if (threadIdx.x < 32)
        return;
    __syncthreads();
}

static __global__ void barriers_of_two_branches(float *, const float *)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}

static __global__ void shuffle_by_half_a_warp(float *out, const float *)
{
    if (threadIdx.x % 32 < 16)
        out[0] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

static __global__ void shuffle_against_syncwarp(float *out, const float *)
{
    if (threadIdx.x % 2 == 0)
        __syncwarp();
    else
        out[0] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

static __global__ void barrier_against_syncwarp(float *, const float *)
{
    if (threadIdx.x % 32 == 5)
        __syncthreads();
    else
        __syncwarp();
}

static __global__ void copy_not_waited_for(float *, const float *in)
{
    SHARED_ARRAY(float4, place, KERNEL_THREADS);
    cp_async16(&place[threadIdx.x], in, true);
    cp_async_commit();
    cp_async_wait<1>();
}

static __global__ void copy_not_aligned(float *, const float *in)
{
    SHARED_ARRAY(float4, place, KERNEL_THREADS);
    cp_async16(&place[threadIdx.x], in + 1, true);
}

static __global__ void ldmatrix_of_global_memory(float *out, const float *in)
{
    uint32_t r[4];
    ldmatrix_x4(r, in);
    out[0] = (float)r[0];
}

static __global__ void dynamic_shared_not_asked_for(float *out, const float *)
{
    DYN_SHARED(float, bytes);
    out[0] = bytes[0];
}

static __global__ void shared_beyond_48_kib(float *out, const float *)
{
    SHARED_ARRAY(float, values, 12 * 1024);
    DYN_SHARED(float, bytes);
    out[index_here()] = values[threadIdx.x] + bytes[0];
}

static __global__ void write_far_outside(float *out, const float *)
{
    out[1 << 14] = 1;
}

/* ---- wrong -------------------------------------------------------------------------------------
 */

static __global__ void shared_not_written(float *out, const float *)
{
    SHARED_ARRAY(float, values, KERNEL_THREADS);
    out[index_here()] = values[threadIdx.x];
}

static __global__ void barrier_missing(float *out, const float *in)
{
    SHARED_ARRAY(float, values, KERNEL_THREADS);
    values[threadIdx.x] = in[index_here()];
    out[index_here()] = values[blockDim.x - 1 - threadIdx.x];
}

static __global__ void blocks_depend(float *out, const float *)
{
    out[index_here()] = 1 + (blockIdx.x > 0 ? out[index_here() - blockDim.x] : 0.0f);
}

static __global__ void copy_read_too_early(float *out, const float *in)
{
    SHARED_ARRAY(float4, place, KERNEL_THREADS);
    const float *mine = (const float *)&place[threadIdx.x];
    cp_async16(&place[threadIdx.x], in + index_here() / 4 * 4, true);
    cp_async_commit();
    out[index_here()] = mine[threadIdx.x % 4];
    cp_async_wait<0>();
}

static __global__ void reverse_blocks(float *out, const float *in)
{
    SHARED_ARRAY(float, values, KERNEL_THREADS);
    values[threadIdx.x] = in[index_here()];
    __syncthreads();
    out[index_here()] = values[blockDim.x - 1 - threadIdx.x];
}

/* ---- launching ---------------------------------------------------------------------------------
 */

typedef void Kernel(float *, const float *);

static Kernel *const KERNELS[] = {
    barrier_left_out_by_a_warp,
    barrier_after_others_ended,
    barriers_of_two_branches,
    shuffle_by_half_a_warp,
    shuffle_against_syncwarp,
    barrier_against_syncwarp,
    copy_not_waited_for,
    copy_not_aligned,
    ldmatrix_of_global_memory,
    dynamic_shared_not_asked_for,
    shared_beyond_48_kib,
    write_far_outside,
    shared_not_written,
    barrier_missing,
    blocks_depend,
    copy_read_too_early,
    reverse_blocks,
};

void emulator_launch(EmulatorKernel kernel, float *out, const float *in, cudaStream_t stream)
{
    const size_t shared_bytes = kernel == SHARED_BEYOND_48_KIB ? 16 : 0;
    LAUNCH(KERNELS[kernel], KERNEL_BLOCKS, KERNEL_THREADS, shared_bytes, stream, out, in);
}

static __global__ void nothing(int)
{
}

void emulator_launch_shape(unsigned grid, unsigned block, size_t shared_bytes, cudaStream_t stream)
{
    LAUNCH(nothing, grid, block, shared_bytes, stream, 0);
}
