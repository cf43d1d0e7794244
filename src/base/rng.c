#include "base/rng.h"

#include <math.h>

__extension__ typedef unsigned __int128 Wide;

uint64_t rng_below(uint64_t seed, RngUse use, uint64_t stream, uint64_t index, uint64_t n)
{
    RngBlock block = rng_block(seed, use, stream, index);
    uint64_t bits = (uint64_t)block.word[1] << 32 | block.word[0];
    return (uint64_t)((Wide)bits * n >> 64);
}

/* Two normal values from two random words. Source: Box and Muller 1958. */
static void box_muller(uint32_t a, uint32_t b, float stddev, float out[2])
{
    double u = ((double)a + 1.0) * 0x1p-32, angle = 6.283185307179586 * (double)b * 0x1p-32;
    double radius = (double)stddev * sqrt(-2.0 * log(u));
    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

void rng_fill_normal(float *out, int64_t n, float stddev, uint64_t seed, RngUse use,
                     uint64_t stream)
{
    for (int64_t i = 0; i < n; i += 4) {
        RngBlock block = rng_block(seed, use, stream, (uint64_t)i / 4);
        float value[4];
        box_muller(block.word[0], block.word[1], stddev, value);
        box_muller(block.word[2], block.word[3], stddev, value + 2);
        for (int64_t j = 0; j < 4 && i + j < n; j++)
            out[i + j] = value[j];
    }
}
