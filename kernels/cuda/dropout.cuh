/* Dropout's mask on the device: the same bits as kernels/cpu/mask.c and base/rng.h. */
#ifndef GPT_KERNELS_CUDA_DROPOUT_CUH
#define GPT_KERNELS_CUDA_DROPOUT_CUH

#include "kernels/cuda/common.cuh"

/* What a kernel needs of a Dropout; scale 1 and rate 0 keep everything. */
struct DropoutMask {
    uint64_t seed, site; /* the site is the low 16 bits of the stream */
    int64_t first_sample;
    float rate, scale; /* scale = 1 / (1 - rate) */
};

static inline DropoutMask dropout_mask(Dropout d)
{
    DropoutMask m = {d.seed, d.site, d.first_sample, d.rate, (float)(1 / (1 - (double)d.rate))};
    return m;
}

/* Philox4x32-10 at (seed, RNG_DROPOUT, stream, index): rng_block of base/rng.h, whose test vectors
 * it shares. */
__device__ __forceinline__ uint4 dropout_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32) ^ (3u << 24); /* RNG_DROPOUT */
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

__device__ __forceinline__ float dropout_choose(const DropoutMask &m, uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f >= m.rate ? m.scale : 0.0f;
}

/* What elements 4 quad ... 4 quad + 3 of a sample are multiplied by: 0 or scale. `sample` counts
 * from the tensor's first. */
__device__ __forceinline__ float4 dropout_factors(const DropoutMask &m, int64_t sample,
                                                  int64_t quad)
{
    uint64_t stream = (uint64_t)(m.first_sample + sample) << 16 | m.site;
    uint4 bits = dropout_bits(m.seed, stream, (uint64_t)quad);
    return make_float4(dropout_choose(m, bits.x), dropout_choose(m, bits.y),
                       dropout_choose(m, bits.z), dropout_choose(m, bits.w));
}

/* The same for the one element e. */
__device__ __forceinline__ float dropout_factor(const DropoutMask &m, int64_t sample, int64_t e)
{
    uint64_t stream = (uint64_t)(m.first_sample + sample) << 16 | m.site;
    uint4 bits = dropout_bits(m.seed, stream, (uint64_t)e / 4);
    return dropout_choose(m, e % 4 == 0   ? bits.x
                             : e % 4 == 1 ? bits.y
                             : e % 4 == 2 ? bits.z
                                          : bits.w);
}

#endif
