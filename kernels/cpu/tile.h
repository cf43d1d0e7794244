/* Small matrix products and transposes on padded, contiguous blocks: what attention is made of. A
 * library call per block would cost more than the block.
 *
 * Everything is a multiple of the tile: rows of TILE_ROWS, columns of VEC_LANES; callers pad with
 * zeros. A sum over k runs from 0 upward whatever the shape, so results depend on the data only. */
#ifndef GPT_KERNELS_CPU_TILE_H
#define GPT_KERNELS_CPU_TILE_H

#include "kernels/cpu/vector.h"

#include <stdbool.h>
#include <string.h>

/* TILE_ROWS x 2 vectors of sums fit the register file: 32 registers with AVX-512, 16 else. */
enum { TILE_ROWS = VEC_LANES == 16 ? 8 : 4 };

/* n rounded up to a multiple of unit. */
static inline int64_t tile_round(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* c (TILE_ROWS, n_vec vectors) = or += the sum over k of a(i,k) b(k,:). a(i,k) is a[i * a_row + k *
 * a_step]; rows of b and c are ldb and ldc apart. Called with constants for n_vec and one of the
 * strides of a. */
static inline __attribute__((always_inline)) void
tile_vectors(int32_t n_vec, int64_t k, const float *a, int64_t a_row, int64_t a_step,
             const float *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    Vec sum[TILE_ROWS][2];
    for (int32_t i = 0; i < TILE_ROWS; i++)
        for (int32_t v = 0; v < n_vec; v++)
            sum[i][v] = add ? vec_load(c + i * ldc + v * VEC_LANES) : (Vec){0};
    for (int64_t step = 0; step < k; step++, a += a_step, b += ldb) {
        Vec row[2];
        for (int32_t v = 0; v < n_vec; v++)
            row[v] = vec_load(b + v * VEC_LANES);
        for (int32_t i = 0; i < TILE_ROWS; i++)
            for (int32_t v = 0; v < n_vec; v++)
                sum[i][v] += a[i * a_row] * row[v];
    }
    for (int32_t i = 0; i < TILE_ROWS; i++)
        for (int32_t v = 0; v < n_vec; v++)
            vec_store(c + i * ldc + v * VEC_LANES, sum[i][v]);
}

static inline __attribute__((always_inline)) void tile_row(int64_t n, int64_t k, const float *a,
                                                           int64_t a_row, int64_t a_step,
                                                           const float *b, int64_t ldb, float *c,
                                                           int64_t ldc, bool add)
{
    int64_t j = 0;
    for (; j + 2 * VEC_LANES <= n; j += 2 * VEC_LANES)
        tile_vectors(2, k, a, a_row, a_step, b + j, ldb, c + j, ldc, add);
    if (j < n)
        tile_vectors(1, k, a, a_row, a_step, b + j, ldb, c + j, ldc, add);
}

/* c (TILE_ROWS, n) = or += a b, with a (TILE_ROWS, k) stored by rows, lda apart, and b (k, n). */
static inline void tile_product(int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                                int64_t ldb, float *c, int64_t ldc, bool add)
{
    tile_row(n, k, a, lda, 1, b, ldb, c, ldc, add);
}

/* The same with a stored by columns: a(i,k) is a[i + k * lda]. */
static inline void tile_product_columns(int64_t n, int64_t k, const float *a, int64_t lda,
                                        const float *b, int64_t ldb, float *c, int64_t ldc,
                                        bool add)
{
    tile_row(n, k, a, 1, lda, b, ldb, c, ldc, add);
}

/* One perfect shuffle: the two halves of `in` interleaved. It turns the bits of an index left by
 * one. */
static inline void tile_shuffle(float *restrict out, const float *restrict in)
{
    enum { HALF = VEC_LANES * VEC_LANES / 2 };
    for (int32_t i = 0; i < HALF; i++) {
        out[2 * i] = in[i];
        out[2 * i + 1] = in[HALF + i];
    }
}

/* out (cols, rows) = in (rows, cols) transposed; both counts are multiples of VEC_LANES. A square
 * of VEC_LANES = 2^s rows is transposed by s shuffles, which swap the two halves of each index's
 * bits. */
static inline void tile_transpose(float *out, int64_t ld_out, const float *in, int64_t ld_in,
                                  int64_t rows, int64_t cols)
{
    float square[2][VEC_LANES * VEC_LANES];
    for (int64_t r = 0; r < rows; r += VEC_LANES)
        for (int64_t c = 0; c < cols; c += VEC_LANES) {
            for (int32_t i = 0; i < VEC_LANES; i++)
                vec_store(square[0] + i * VEC_LANES, vec_load(in + (r + i) * ld_in + c));
            int32_t now = 0;
            for (int32_t lanes = VEC_LANES; lanes > 1; lanes /= 2, now ^= 1)
                tile_shuffle(square[now ^ 1], square[now]);
            for (int32_t i = 0; i < VEC_LANES; i++)
                vec_store(out + (c + i) * ld_out + r, vec_load(square[now] + i * VEC_LANES));
        }
}

#endif
