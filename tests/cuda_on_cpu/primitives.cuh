/* The twin of kernels/cuda/ptx/primitives.cuh on the host: the same names with the same meanings,
 * without a GPU. test_primitives.cu compares both with the formulas of the PTX manual.
 *
 * Stricter than the hardware where that finds mistakes: a cp.async is carried out when it is waited
 * for and leaves NaNs until then, shared memory begins as NaNs, and addresses are checked. */
#ifndef GPT_TESTS_PRIMITIVES_CUH
#define GPT_TESTS_PRIMITIVES_CUH

#include <cuda_runtime.h>
#include <float.h>
#include <stdint.h>
#include <string.h>

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

#define SHARED_ARRAY(type, name, n)                                                                \
    static const char name##_key_ = 0;                                                             \
    type(&name)[n] = *(type(*)[n])emu::shared_array(&name##_key_, sizeof(type[n]))
#define DYN_SHARED(type, name) type *name = (type *)emu::dynamic_shared()

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    emu::launch({#kernel, (grid), (block), (size_t)(shared_bytes)}, (stream), (kernel), __VA_ARGS__)

/* ---- conversions, rounding to nearest even ------------------------------------------------ */

namespace emu
{

static inline uint16_t bf16_bits(float x)
{
    uint32_t u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff; /* the one NaN that cvt makes */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static inline uint16_t f16_bits(float x)
{
    uint32_t u = __float_as_uint(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return 0x7fff;
    if (magnitude >= 0x477ff000u) /* 65520: rounds to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, the last place of 0.5 */
        uint32_t rounded = __float_as_uint(__uint_as_float(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}

static inline float float_of_bf16(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

static inline float float_of_f16(uint32_t bits)
{
    uint32_t sign = (bits & 0x8000u) << 16;
    uint32_t u = __float_as_uint(__uint_as_float((bits & 0x7fffu) << 13) * 0x1p112f);
    if ((bits & 0x7c00u) == 0x7c00u)
        u = 0x7f800000u | (bits & 0x3ffu) << 13;
    return __uint_as_float(sign | u);
}

} // namespace emu

static inline float to_float(float x)
{
    return x;
}
static inline float to_float(bf16 x)
{
    return emu::float_of_bf16(x.bits);
}
static inline float to_float(f16 x)
{
    return emu::float_of_f16(x.bits);
}

template <class T> inline T from_float(float x);
template <> inline float from_float<float>(float x)
{
    return x;
}
template <> inline bf16 from_float<bf16>(float x)
{
    return {emu::bf16_bits(x)};
}
template <> inline f16 from_float<f16>(float x)
{
    return {emu::f16_bits(x)};
}

template <class T> inline uint32_t pack2(float lo, float hi)
{
    return from_float<T>(lo).bits | (uint32_t)from_float<T>(hi).bits << 16;
}

template <class T> inline float2 unpack2(uint32_t v)
{
    return {to_float(T{(uint16_t)v}), to_float(T{(uint16_t)(v >> 16)})};
}

static inline float fast_exp2(float x)
{
    float y = exp2f(x);
    return y < FLT_MIN ? 0.0f : y;
}

/* ---- asynchronous copies -------------------------------------------------------------------- */

static inline void cp_async16(void *dst, const void *src, bool valid)
{
    emu::begin_copy(dst, src, valid);
    memset(dst, 0xff, 16);
}

static inline void cp_async_commit()
{
    emu::commit_copies();
}

template <int newest> static inline void cp_async_wait()
{
    for (emu::Copy copy; emu::next_copy(newest, &copy);)
        if (copy.src)
            memcpy(copy.dst, copy.src, 16);
        else
            memset(copy.dst, 0, 16);
}

/* ---- matrix fragments ------------------------------------------------------------------------ */

namespace emu
{

/* Element (row, col) of matrix m, from the row addresses that the lanes gave. */
static inline uint32_t element(const Words *lanes, int m, int row, int col)
{
    const uint16_t *address;
    memcpy(&address, lanes[8 * m + row], sizeof address);
    return address[col];
}

static inline const Words *give_row(const void *row, Site site)
{
    check_shared(row, 16, site.name);
    return exchange(&row, sizeof row / 4, site, false);
}

/* The fragments of one product from all lanes as matrices of floats, multiplied, and put back as
 * fragments: words 0-3 are a and become the sums, words 4 and 5 are b. */
template <float (*widen)(uint32_t)> static inline void multiply_fragments(Words *lanes)
{
    float a[16][16], b[16][8], d[16][8] = {};
    for (int l = 0; l < WARP; l++) {
        int g = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                a[g + i % 2 * 8][2 * t + i / 2 * 8 + h] = widen(lanes[l][i] >> 16 * h & 0xffff);
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < 2; h++)
                b[2 * t + 8 * i + h][g] = widen(lanes[l][4 + i] >> 16 * h & 0xffff);
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++)
                d[m][n] += a[m][k] * b[k][n];
    for (int l = 0; l < WARP; l++)
        for (int i = 0; i < 4; i++)
            lanes[l][i] = __float_as_uint(d[l / 4 + i / 2 * 8][2 * (l % 4) + i % 2]);
}

} // namespace emu

static inline void ldmatrix_x4(uint32_t r[4], const void *row, int line = __builtin_LINE())
{
    const emu::Words *lanes = emu::give_row(row, {"ldmatrix", line});
    int g = emu::lane() / 4, t = emu::lane() % 4;
    for (int m = 0; m < 4; m++)
        r[m] = emu::element(lanes, m, g, 2 * t) | emu::element(lanes, m, g, 2 * t + 1) << 16;
}

static inline void ldmatrix_x4_transposed(uint32_t r[4], const void *row,
                                          int line = __builtin_LINE())
{
    const emu::Words *lanes = emu::give_row(row, {"ldmatrix.trans", line});
    int g = emu::lane() / 4, t = emu::lane() % 4;
    for (int m = 0; m < 4; m++)
        r[m] = emu::element(lanes, m, 2 * t, g) | emu::element(lanes, m, 2 * t + 1, g) << 16;
}

namespace emu
{

static inline void mma(WarpFunction *multiply, float d[4], const uint32_t a[4], const uint32_t b[2],
                       int line)
{
    const uint32_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const uint32_t *sums = exchange_by(multiply, words, 6, {"mma", line})[lane()];
    for (int i = 0; i < 4; i++)
        d[i] += __uint_as_float(sums[i]);
}

} // namespace emu

template <class T>
inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2],
                        int line = __builtin_LINE());
template <>
inline void mma_16x8x16<bf16>(float d[4], const uint32_t a[4], const uint32_t b[2], int line)
{
    emu::mma(emu::multiply_fragments<emu::float_of_bf16>, d, a, b, line);
}
template <>
inline void mma_16x8x16<f16>(float d[4], const uint32_t a[4], const uint32_t b[2], int line)
{
    emu::mma(emu::multiply_fragments<emu::float_of_f16>, d, a, b, line);
}

#endif
