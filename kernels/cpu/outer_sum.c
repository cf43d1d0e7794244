/* c is divided among the threads, and each takes its part in blocks that stay in its caches: ROWS
 * rows of b in panels as wide as a tile (they stay in L2 while a passes by), the same rows of a in
 * panels as high as a tile (one at a time in L1), and one tile of c per pair of panels (Goto and
 * van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008). */
#include "kernels/cpu/outer_sum.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/tile.h"

#include <string.h>

enum {
    ROWS = 256,    /* of a and b in a block */
    COLUMNS = 384, /* of a, and of b, in a block: 384 KiB */
    TILE_COLUMNS = 2 * VEC_LANES,
    GAP = 16, /* floats between panels, which spreads them over a cache's sets */
};

static int64_t panel_floats(int64_t width)
{
    return ROWS * width + GAP;
}

/* COLUMNS is a multiple of every tile's width. */
static int64_t packed_floats(int64_t width)
{
    return COLUMNS / width * panel_floats(width);
}

static int64_t thread_floats(void)
{
    return packed_floats(TILE_ROWS) + packed_floats(TILE_COLUMNS);
}

size_t cpu_outer_sum_scratch_bytes(int32_t n_threads)
{
    return (size_t)n_threads * (size_t)thread_floats() * sizeof(float);
}

/* src (rows, columns), ld apart, into panels of `width` columns; the last is padded with zeros.
 * Called with a constant width. */
static inline __attribute__((always_inline)) void pack(float *panels, const float *src, int64_t ld,
                                                       int64_t rows, int64_t columns, int64_t width)
{
    int64_t whole = columns / width * width, left = columns - whole;
    for (int64_t r = 0; r < rows; r++, src += ld, panels += width) {
        float *to = panels;
        for (int64_t c = 0; c < whole; c += width, to += panel_floats(width))
            memcpy(to, src + c, (size_t)width * sizeof(float));
        if (left > 0) {
            memset(to, 0, (size_t)width * sizeof(float));
            memcpy(to, src + whole, (size_t)left * sizeof(float));
        }
    }
}

static void pack_a(float *panels, const float *a, int64_t ld, int64_t rows, int64_t columns)
{
    pack(panels, a, ld, rows, columns, TILE_ROWS);
}

static void pack_b(float *panels, const float *b, int64_t ld, int64_t rows, int64_t columns)
{
    pack(panels, b, ld, rows, columns, TILE_COLUMNS);
}

/* One tile of c += one panel of a, transposed, times one of b. */
static void add_tile(float *c, int64_t ldc, const float *a, const float *b, int64_t rows)
{
    tile_vectors(2, rows, a, 1, TILE_ROWS, b, TILE_COLUMNS, c, ldc, true);
}

/* The same where only (height, width) of the tile lies in c. */
static void add_tile_part(float *c, int64_t ldc, const float *a, const float *b, int64_t rows,
                          int64_t height, int64_t width)
{
    float tile[TILE_ROWS * TILE_COLUMNS] = {0};
    add_tile(tile, TILE_COLUMNS, a, b, rows);
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++)
            c[i * ldc + j] += tile[i * TILE_COLUMNS + j];
}

static int64_t at_most(int64_t n, int64_t limit)
{
    return n < limit ? n : limit;
}

/* c (I,O), O apart, += the packed rows of a and b. */
static void add_packed(float *c, int64_t ldc, const float *a, const float *b, int64_t rows,
                       int64_t I, int64_t O)
{
    for (int64_t i = 0; i < I; i += TILE_ROWS, a += panel_floats(TILE_ROWS)) {
        const float *panel = b;
        for (int64_t j = 0; j < O; j += TILE_COLUMNS, panel += panel_floats(TILE_COLUMNS)) {
            float *tile = c + i * ldc + j;
            int64_t height = at_most(I - i, TILE_ROWS), width = at_most(O - j, TILE_COLUMNS);
            if (height == TILE_ROWS && width == TILE_COLUMNS)
                add_tile(tile, ldc, a, panel, rows);
            else
                add_tile_part(tile, ldc, a, panel, rows, height, width);
        }
    }
}

/* One thread's part: a, b and c point at its first columns. */
typedef struct {
    float *c;
    const float *a, *b;
    int64_t lda, ldb; /* ldc is ldb */
    int64_t N, I, O;
    float *packed_a, *packed_b;
} Part;

static void add_rows(const Part *p, int64_t row, int64_t column)
{
    int64_t rows = at_most(p->N - row, ROWS), O = at_most(p->O - column, COLUMNS);
    pack_b(p->packed_b, p->b + row * p->ldb + column, p->ldb, rows, O);
    for (int64_t i = 0; i < p->I; i += COLUMNS) {
        int64_t I = at_most(p->I - i, COLUMNS);
        pack_a(p->packed_a, p->a + row * p->lda + i, p->lda, rows, I);
        add_packed(p->c + i * p->ldb + column, p->ldb, p->packed_a, p->packed_b, rows, I, O);
    }
}

static void add_part(const Part *p)
{
    for (int64_t column = 0; column < p->O; column += COLUMNS)
        for (int64_t row = 0; row < p->N; row += ROWS)
            add_rows(p, row, column);
}

void cpu_outer_sum(int32_t n_threads, void *scratch, float *c, const float *a, const float *b,
                   int64_t N, int64_t I, int64_t O)
{
    int64_t i_parts = cpu_parts_of_rows(n_threads, I, O), o_parts = n_threads / i_parts;
#pragma omp parallel for schedule(static, 1) num_threads(n_threads)
    for (int32_t t = 0; t < n_threads; t++) {
        Span i = cpu_span(I, i_parts, t / o_parts, TILE_ROWS);
        Span o = cpu_span(O, o_parts, t % o_parts, TILE_COLUMNS);
        float *packed = (float *)scratch + t * thread_floats();
        add_part(&(Part){
            .c = c + i.begin * O + o.begin,
            .a = a + i.begin,
            .b = b + o.begin,
            .lda = I,
            .ldb = O,
            .N = N,
            .I = i.end - i.begin,
            .O = o.end - o.begin,
            .packed_a = packed,
            .packed_b = packed + packed_floats(TILE_ROWS),
        });
    }
}
