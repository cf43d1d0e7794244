#include "base/tensor.h"

#include <string.h>

#include "base/check.h"

size_t dtype_bytes(DType dtype)
{
    switch (dtype) {
    case DTYPE_F64:
        return 8;
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_BF16:
    case DTYPE_F16:
    case DTYPE_U16:
        return 2;
    case DTYPE_U8:
        return 1;
    }
    ASSERT(false, "dtype %d", (int)dtype);
    return 0;
}

const char *dtype_name(DType dtype)
{
    static const char *const NAMES[] = {
        [DTYPE_F32] = "float32", [DTYPE_BF16] = "bfloat16", [DTYPE_F16] = "float16",
        [DTYPE_F64] = "float64", [DTYPE_I32] = "int32",     [DTYPE_U16] = "uint16",
        [DTYPE_U8] = "uint8",
    };
    return NAMES[dtype];
}

Tensor tensor_1d(void *data, DType dtype, int64_t n)
{
    return (Tensor){data, dtype, 1, {n, 1, 1, 1}};
}

Tensor tensor_2d(void *data, DType dtype, int64_t rows, int64_t cols)
{
    return (Tensor){data, dtype, 2, {rows, cols, 1, 1}};
}

Tensor tensor_3d(void *data, DType dtype, int64_t d0, int64_t d1, int64_t d2)
{
    return (Tensor){data, dtype, 3, {d0, d1, d2, 1}};
}

Tensor tensor_none(void)
{
    return (Tensor){NULL, DTYPE_F32, 1, {0, 1, 1, 1}};
}

bool tensor_present(Tensor t)
{
    return t.data != NULL;
}

int64_t tensor_count(Tensor t)
{
    return t.dim[0] * t.dim[1] * t.dim[2] * t.dim[3];
}

size_t tensor_bytes(Tensor t)
{
    return (size_t)tensor_count(t) * dtype_bytes(t.dtype);
}

static void *offset_data(Tensor t, int64_t elements)
{
    return t.data ? (char *)t.data + (size_t)elements * dtype_bytes(t.dtype) : NULL;
}

Tensor tensor_rows(Tensor t, int64_t begin, int64_t n)
{
    ASSERT(begin >= 0 && n >= 0 && begin + n <= t.dim[0], "rows %lld + %lld of %lld",
           (long long)begin, (long long)n, (long long)t.dim[0]);
    t.data = offset_data(t, begin * t.dim[1] * t.dim[2] * t.dim[3]);
    t.dim[0] = n;
    return t;
}

Tensor tensor_range(Tensor t, int64_t begin, int64_t n)
{
    ASSERT(begin >= 0 && n >= 0 && begin + n <= tensor_count(t), "range %lld + %lld of %lld",
           (long long)begin, (long long)n, (long long)tensor_count(t));
    return tensor_1d(offset_data(t, begin), t.dtype, n);
}

Tensor tensor_as_2d(Tensor t, int64_t rows, int64_t cols)
{
    ASSERT(rows * cols == tensor_count(t), "%lld x %lld of %lld", (long long)rows, (long long)cols,
           (long long)tensor_count(t));
    return tensor_2d(t.data, t.dtype, rows, cols);
}

uint16_t bf16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* quiet NaN: rounding could carry it to infinity */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

float bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t f16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x47800000u) /* 65536 */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* 2^-14: subnormal, units of 2^-24 */
        float shifted;
        memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5f; /* an ulp of 0.5 is 2^-24 */
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1); /* a carry past the exponent makes infinity */
    return (uint16_t)(sign | ((magnitude - 0x38000000u) >> 13));
}

float f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    uint32_t wide;
    float value;
    if (magnitude < 0x400u) { /* zero and subnormals */
        value = (float)magnitude * 0x1p-24f;
        memcpy(&wide, &value, sizeof wide);
    } else if (magnitude >= 0x7c00u) {
        wide = 0x7f800000u | (magnitude & 0x3ffu) << 13;
    } else {
        wide = (magnitude << 13) + 0x38000000u;
    }
    wide |= sign;
    memcpy(&value, &wide, sizeof value);
    return value;
}

Halves f32_split(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        bits = (bits & 0x80000000u) | 0x7fc00000u; /* rounding could make a number of a NaN */
    return (Halves){(uint16_t)((bits + 0x8000u) >> 16), (uint16_t)bits};
}

float f32_join(Halves halves)
{
    uint32_t rounded_up = halves.low >= 0x8000u;
    uint32_t bits = ((uint32_t)halves.high - rounded_up) << 16 | halves.low;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void f32_to_parameters(DType dtype, float *values, int64_t n)
{
    ASSERT(dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F16, "parameters in %s",
           dtype_name(dtype));
    char *out = (char *)values; /* never past what is read next: 2 bytes for 4 */
    for (int64_t i = 0; i < n && dtype != DTYPE_F32; i++) {
        uint16_t half = dtype == DTYPE_BF16 ? f32_split(values[i]).high : f16_from_f32(values[i]);
        memcpy(out + 2 * i, &half, sizeof half);
    }
}
