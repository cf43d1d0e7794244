/* Every dtype here is exact in double: load to double, store from it with one rounding. */
#include "kernels/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/parallel.h"

enum { BLOCK = 1024 };

static bool is_half(DType dtype)
{
    return dtype == DTYPE_BF16 || dtype == DTYPE_F16;
}

static void load(double *out, Tensor src, int64_t begin, int64_t n)
{
    if (src.dtype == DTYPE_F64) {
        memcpy(out, (const double *)src.data + begin, (size_t)n * sizeof *out);
    } else if (src.dtype == DTYPE_F32) {
        const float *x = (const float *)src.data + begin;
        for (int64_t i = 0; i < n; i++)
            out[i] = (double)x[i];
    } else {
        ASSERT(is_half(src.dtype), "convert from %s", dtype_name(src.dtype));
        const uint16_t *x = (const uint16_t *)src.data + begin;
        for (int64_t i = 0; i < n; i++)
            out[i] = (double)(src.dtype == DTYPE_F16 ? f16_to_f32(x[i]) : bf16_to_f32(x[i]));
    }
}

/* The float32 towards zero from x, with its last bit set when it is not x: rounding that to 16 bits
 * is rounding x once. NaN stays NaN. Source: Boldo and Melquiond 2005, rounding to odd. */
static float round_to_odd(double x)
{
    float f = (float)x;
    if ((double)f == x)
        return f;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    bits = (fabs((double)f) > fabs(x) ? bits - 1 : bits) | 1;
    memcpy(&f, &bits, sizeof bits);
    return f;
}

static void store(Tensor dst, int64_t begin, const double *in, int64_t n)
{
    if (dst.dtype == DTYPE_F64) {
        memcpy((double *)dst.data + begin, in, (size_t)n * sizeof *in);
    } else if (dst.dtype == DTYPE_F32) {
        float *y = (float *)dst.data + begin;
        for (int64_t i = 0; i < n; i++)
            y[i] = (float)in[i];
    } else {
        ASSERT(is_half(dst.dtype), "convert to %s", dtype_name(dst.dtype));
        uint16_t *y = (uint16_t *)dst.data + begin;
        for (int64_t i = 0; i < n; i++) {
            float x = round_to_odd(in[i]);
            y[i] = dst.dtype == DTYPE_F16 ? f16_from_f32(x) : bf16_from_f32(x);
        }
    }
}

void cpu_convert(Device *dev, Tensor dst, Tensor src)
{
    int64_t n = tensor_count(src);
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        double block[BLOCK];
        int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
        load(block, src, begin, count);
        store(dst, begin, block, count);
    }
}
