/* Counter-based random numbers: Philox4x32-10. A value is a function of (seed, use, stream,
 * index), so there is no state to keep, to save or to share: any rank can compute any value, in
 * any order. Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3
 * (SC 2011). */
#ifndef GPT_BASE_RNG_H
#define GPT_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Keeps the streams of different purposes apart under one seed. The numbers are part of what
 * makes a run repeatable: never change one. */
typedef enum {
    RNG_INIT = 1,
    RNG_DATA = 2,
    RNG_DROPOUT = 3,
    RNG_SAMPLER = 4,
    RNG_SHUFFLE = 5
} RngUse;

typedef struct {
    uint32_t word[4];
} RngBlock;

/* The 128 random bits at (seed, use, stream, index). */
static inline RngBlock rng_block(uint64_t seed, RngUse use, uint64_t stream, uint64_t index)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32) ^ ((uint32_t)use << 24);
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    RngBlock block = {{c0, c1, c2, c3}};
    return block;
}

/* Uniform in [0, 1), 24 bits. */
static inline float rng_unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* Uniform in [0, n) with no bias that matters: 64 random bits scaled by n (n < 2^40). */
uint64_t rng_below(uint64_t seed, RngUse use, uint64_t stream, uint64_t index, uint64_t n);

/* out[0..n) = N(0, stddev^2), value i being a function of (seed, use, stream, i). Box-Muller. */
void rng_fill_normal(float *out, int64_t n, float stddev, uint64_t seed, RngUse use,
                     uint64_t stream);

#ifdef __cplusplus
}
#endif
#endif
