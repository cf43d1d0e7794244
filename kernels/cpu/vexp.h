/* exp and erf for loops that the compiler vectorises: no branches, no table, no call. Write the
 * loop with
 * `#pragma omp simd` and call them per element. */
#ifndef GPT_KERNELS_CPU_VEXP_H
#define GPT_KERNELS_CPU_VEXP_H

#include <stdint.h>
#include <string.h>

/* e^x within 1.5 units in the last place for -87 <= x <= 88; x is clamped to that range, so that
 * very negative arguments (-infinity too) give about 1.6e-38 and large ones 1.65e38. NaN gives NaN.
 * x = n ln2 + r with n an integer in the low bits of x * log2(e) + 1.5 * 2^23; e^r by a polynomial
 * (Cephes expf, Moshier). */
static inline __attribute__((always_inline)) float vexp(float x)
{
    const float round = 12582912.0f;
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + round;
    float n = shifted - round;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits + 127u) << 23; /* 2^n: the low byte of `shifted` is n, the rest is shifted out */
    float power;
    memcpy(&power, &bits, sizeof(power));
    return p * power;
}

#endif
