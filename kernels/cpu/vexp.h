/* exp and erf for loops that the compiler vectorises: no branches, no table, no call. Write the
 * loop with `#pragma omp simd` and call them per element. */
#ifndef GPT_KERNELS_CPU_VEXP_H
#define GPT_KERNELS_CPU_VEXP_H

#include <stdint.h>
#include <string.h>

/* e^x within 1 unit in the last place for x <= 88; above that it means nothing, so callers clamp x
 * or throw the result away. Below -87, for -infinity too, it is 0: products with such a value are
 * 0 and not denormal, which would cost a hundred times the time. NaN gives NaN.
 * x = n ln2 + r with n an integer in the low bits of x * log2(e) + 1.5 * 2^23; e^r by a polynomial
 * (Cephes expf, Moshier). */
static inline __attribute__((always_inline)) float vexp(float x)
{
    const float round = 12582912.0f;
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
    return x < -87.0f ? 0.0f : p * power;
}

/* erf(x) within 1.5e-7. Two minimax polynomials, both evaluated and one selected: odd in x near 0,
 * and the logarithm of 1 - erf(|x|) beyond (N. Juffa). Past |x| = 4 it is 1 in float32. */
static inline __attribute__((always_inline)) float verf(float x)
{
    float t = x < 0.0f ? -x : x, s = x * x;
    float near = -5.96761703e-4f;
    near = near * s + 4.99119423e-3f;
    near = near * s - 2.67681349e-2f;
    near = near * s + 1.12819925e-1f;
    near = near * s - 3.76125336e-1f;
    near = near * s + 1.28379166e-1f;
    near = near * x + x;
    float u = t > 4.0f ? 4.0f : t;
    float log_tail = -1.72853470e-5f;
    log_tail = log_tail * u + 3.83197126e-4f;
    log_tail = log_tail * u - 3.88396438e-3f;
    log_tail = log_tail * u + 2.42546219e-2f;
    log_tail = log_tail * u - 1.06777877e-1f;
    log_tail = log_tail * u - 6.34846687e-1f;
    log_tail = log_tail * u - 1.28717512e-1f;
    log_tail = log_tail * u - u;
    float far = 1.0f - vexp(log_tail);
    far = x < 0.0f ? -far : far;
    return t > 0.927734375f ? far : near;
}

#endif
