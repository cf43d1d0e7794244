/* c is divided among the threads, and each takes its part in blocks: K_BLOCK of k times N_BLOCK
 * columns of b are split and packed, then M_BLOCK rows of a at a time, and each panel of a meets
 * each panel of b (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008).
 * A panel is PANEL rows of a or columns of b; every STEP of k of it is six tiles: the high, middle
 * and low parts of one half, side by side with those of the other.
 *
 * A tile is 16 rows of 16 pairs of bfloat16. A pair holds elements k and k + 16 of a step, in a and
 * b alike: any order of k gives the same sum, and in this one no bfloat16 moves to another lane. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/parallel.h"

#include <immintrin.h>
#include <omp.h>

enum {
    TILE = 16,
    PANEL = 2 * TILE,
    STEP = 2 * TILE,
    TILE_FLOATS = TILE * TILE,
    PART_FLOATS = 2 * TILE_FLOATS, /* one part (high, middle or low) of both halves */
    STEP_FLOATS = 3 * PART_FLOATS,
    ROW_BYTES = TILE * sizeof(float),
    M_BLOCK = 192,
    N_BLOCK = 768,
    K_BLOCK = 384, /* with 768 columns 1.7 MiB, most of an L2 cache of 2 MiB */
    PACKED_A_FLOATS = M_BLOCK / PANEL * (K_BLOCK / STEP) * STEP_FLOATS,
    PACKED_B_FLOATS = N_BLOCK / PANEL * (K_BLOCK / STEP) * STEP_FLOATS,
};

static int64_t at_most(int64_t n, int64_t limit)
{
    return n < limit ? n : limit;
}

/* ---- splitting and packing --------------------------------------------------------------- */

/* A factor, seen as rows or columns ("lines") along k: rows of a, columns of b. */
typedef struct {
    const float *data;
    int64_t ld;
    bool along_k;    /* rows of memory run along k, not across the lines */
    bool transposed; /* so they lie the other way than the tiles want them */
} Source;

/* From this line and this k on. */
static Source source_at(Source s, int64_t line, int64_t k)
{
    s.data += s.along_k ? line * s.ld + k : k * s.ld + line;
    return s;
}

/* Of the next 16 lanes, those below n. */
static inline __mmask16 lanes(int64_t n)
{
    return n >= TILE ? 0xffff : (__mmask16)((1u << (n > 0 ? n : 0)) - 1);
}

/* A block of 16 by 16 floats where `rows` by `columns` may be there; the rest is zero. */
typedef struct {
    const float *data;
    int64_t ld, rows;
    __mmask16 columns;
} Square;

/* The first (late false) or second 16 of k of a step of 16 lines, where lines by k are there. */
static inline Square square_of(Source s, int64_t lines, int64_t k, bool late)
{
    Source from = source_at(s, 0, late ? TILE : 0);
    k -= late ? TILE : 0;
    return (Square){from.data, s.ld, s.along_k ? lines : k, lanes(s.along_k ? k : lines)};
}

static inline __m512 square_row(const Square *s, int64_t r)
{
    return _mm512_maskz_loadu_ps(r < s->rows ? s->columns : 0, s->data + r * s->ld);
}

/* v[0], v[4], v[8], v[12] become rows of 4 by 4 blocks of four lanes, transposed as blocks. */
static inline void transpose_blocks(__m512 *v)
{
    __m512 a = _mm512_shuffle_f32x4(v[0], v[4], 0x88), b = _mm512_shuffle_f32x4(v[0], v[4], 0xdd);
    __m512 c = _mm512_shuffle_f32x4(v[8], v[12], 0x88), d = _mm512_shuffle_f32x4(v[8], v[12], 0xdd);
    v[0] = _mm512_shuffle_f32x4(a, c, 0x88);
    v[4] = _mm512_shuffle_f32x4(b, d, 0x88);
    v[8] = _mm512_shuffle_f32x4(a, c, 0xdd);
    v[12] = _mm512_shuffle_f32x4(b, d, 0xdd);
}

/* In each block of four lanes, the 4 by 4 matrix of v[0] to v[3] transposed. */
static inline void transpose_lanes(__m512 *v)
{
    __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[0], v[1]));
    __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[0], v[1]));
    __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[2], v[3]));
    __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[2], v[3]));
    v[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    v[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    v[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    v[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
}

static inline void load_transposed(__m512 v[TILE], const Square *s)
{
    for (int64_t r = 0; r < TILE; r++)
        v[r] = square_row(s, r);
    for (int64_t r = 0; r < TILE; r += 4)
        transpose_lanes(v + r);
    for (int64_t r = 0; r < 4; r++)
        transpose_blocks(v + r);
}

static inline __m512i upper_bits(void)
{
    return _mm512_set1_epi32((int32_t)0xffff0000);
}

/* x rounded to bfloat16. A NaN may come out as anything: low_part keeps it. */
static inline __m512 rounded(__m512 x)
{
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_and_si512(bits, upper_bits()));
}

/* The upper halves of u and v as pairs; u in the lower half, where a pair begins. */
static inline void store_pairs(float *to, __m512 u, __m512 v)
{
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(u), 16);
    __m512i high = _mm512_and_si512(_mm512_castps_si512(v), upper_bits());
    _mm512_store_si512(to, _mm512_or_si512(low, high));
}

/* One row of three tiles. What is left after two roundings fits a bfloat16, so it is cut, not
 * rounded: exact, and a NaN stays one. */
static inline void split(float *to, __m512 u, __m512 v)
{
    for (int64_t part = 0; part < 2; part++, to += PART_FLOATS) {
        __m512 u_part = rounded(u), v_part = rounded(v);
        store_pairs(to, u_part, v_part);
        u = _mm512_sub_ps(u, u_part);
        v = _mm512_sub_ps(v, v_part);
    }
    store_pairs(to, u, v);
}

/* One half of a step. */
static inline void pack_half(float *to, Source s, int64_t lines, int64_t k)
{
    Square early = square_of(s, lines, k, false), late = square_of(s, lines, k, true);
    __m512 u[TILE], v[TILE];
    if (s.transposed) {
        load_transposed(u, &early);
        load_transposed(v, &late);
        for (int64_t r = 0; r < TILE; r++)
            split(to + r * TILE, u[r], v[r]);
    } else {
        for (int64_t r = 0; r < TILE; r++)
            split(to + r * TILE, square_row(&early, r), square_row(&late, r));
    }
}

static void pack_step(float *to, Source s, int64_t lines, int64_t k)
{
    pack_half(to, s, lines, k);
    pack_half(to + TILE_FLOATS, source_at(s, lines > TILE ? TILE : 0, 0), lines - TILE, k);
}

static int64_t steps_of(int64_t k)
{
    return (k + STEP - 1) / STEP;
}

/* lines by k of s as panels, in the order in which they lie in memory. */
static void pack(float *to, Source s, int64_t lines, int64_t k)
{
    int64_t n_panels = (lines + PANEL - 1) / PANEL, n_steps = steps_of(k);
    for (int64_t i = 0; i < n_panels * n_steps; i++) {
        int64_t panel = s.along_k ? i / n_steps : i % n_panels;
        int64_t step = s.along_k ? i % n_steps : i / n_panels;
        pack_step(to + (panel * n_steps + step) * STEP_FLOATS,
                  source_at(s, panel * PANEL, step * STEP), lines - panel * PANEL, k - step * STEP);
    }
}

/* ---- multiplying ------------------------------------------------------------------------- */

/* Tiles 0 to 3 are the sums of a block of c, 4 and 5 the two halves of a panel of a, 6 and 7 those
 * of b.
 *
 * At least eight other instructions stand between two of AMX: where another program runs on the
 * core's second thread, AMX instructions in a row go at half the speed (100 against 170 GFLOP/s
 * measured on Sapphire Rapids; alone there is no difference). */
static inline void space(void)
{
    __asm__ volatile(".rept 8\n\tnop\n\t.endr");
}

/* The next 512 bytes of what comes next; as good as space(). */
static inline void fetch(const float *next)
{
    for (int64_t line = 0; line < 8; line++)
        _mm_prefetch((const char *)(next + line * TILE), _MM_HINT_T0);
}

static inline void load_a(const float *part)
{
    _tile_loadd(4, part, ROW_BYTES);
    space();
    _tile_loadd(5, part + TILE_FLOATS, ROW_BYTES);
    space();
}

static inline void load_b(const float *part)
{
    _tile_loadd(6, part, ROW_BYTES);
    space();
    _tile_loadd(7, part + TILE_FLOATS, ROW_BYTES);
    space();
}

/* Adds the product of the parts in the tiles, and fetches PART_FLOATS. */
static inline void multiply(const float *next)
{
    _tile_dpbf16ps(0, 4, 6);
    fetch(next);
    _tile_dpbf16ps(1, 4, 7);
    fetch(next + PART_FLOATS / 4);
    _tile_dpbf16ps(2, 5, 6);
    fetch(next + PART_FLOATS / 2);
    _tile_dpbf16ps(3, 5, 7);
    fetch(next + PART_FLOATS / 4 * 3);
}

/* The six products of a step, in an order in which only one factor changes each time. */
static inline void multiply_step(const float *a, const float *b)
{
    enum { HIGH = 0, MIDDLE = PART_FLOATS, LOW = 2 * PART_FLOATS };
    const float *next_a = a + STEP_FLOATS, *next_b = b + STEP_FLOATS;
    load_a(a + HIGH);
    load_b(b + LOW);
    multiply(next_a);
    load_b(b + MIDDLE);
    multiply(next_a + PART_FLOATS);
    load_a(a + MIDDLE);
    multiply(next_a + 2 * PART_FLOATS);
    load_b(b + HIGH);
    multiply(next_b);
    load_a(a + LOW);
    multiply(next_b + PART_FLOATS);
    load_a(a + HIGH);
    multiply(next_b + 2 * PART_FLOATS);
}

/* What was written before is in memory: GCC does not know that AMX instructions read it. */
static inline void finish_writes(const void *memory)
{
    __asm__ volatile("" : : "r"(memory) : "memory");
}

/* A block of c that two panels make. */
typedef struct {
    float *c;
    int64_t ldc, rows, columns; /* of the (PANEL, PANEL) those that are in c */
    const float *base;          /* added to the sum: c itself, or the bias, or NULL */
    int64_t base_ld;            /* 0 for the bias */
} Block;

/* sums (PANEL, PANEL) = a panel of a times a panel of b; fetches the block of c meanwhile. */
static void multiply_panels(float *sums, const float *a, const float *b, int64_t n_steps,
                            const Block *block)
{
    int64_t row = 0;
    finish_writes(a);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < n_steps; step++, a += STEP_FLOATS, b += STEP_FLOATS) {
        multiply_step(a, b);
        for (; row * n_steps < block->rows * (step + 1); row++) {
            __builtin_prefetch(block->c + row * block->ldc, 1);
            __builtin_prefetch(block->c + row * block->ldc + at_most(block->columns, TILE), 1);
        }
    }
    _tile_stored(0, sums, PANEL * sizeof(float));
    _tile_stored(1, sums + TILE, PANEL * sizeof(float));
    _tile_stored(2, sums + TILE * PANEL, PANEL * sizeof(float));
    _tile_stored(3, sums + TILE * PANEL + TILE, PANEL * sizeof(float));
}

/* The block = base + sums. Reads all before it writes: rows of c may be a multiple of 4 KiB apart,
 * and then a load waits for the store before it. */
static void put_block(const Block *block, float *sums)
{
    __mmask16 left = lanes(block->columns), right = lanes(block->columns - TILE);
    for (int64_t r = 0; block->base && r < block->rows; r++) {
        const float *base = block->base + r * block->base_ld;
        float *sum = sums + r * PANEL;
        __m512 x = _mm512_maskz_loadu_ps(left, base);
        __m512 y = _mm512_maskz_loadu_ps(right, base + TILE);
        _mm512_store_ps(sum, _mm512_add_ps(x, _mm512_load_ps(sum)));
        _mm512_store_ps(sum + TILE, _mm512_add_ps(y, _mm512_load_ps(sum + TILE)));
    }
    for (int64_t r = 0; r < block->rows; r++) {
        float *c = block->c + r * block->ldc;
        _mm512_mask_storeu_ps(c, left, _mm512_load_ps(sums + r * PANEL));
        _mm512_mask_storeu_ps(c + TILE, right, _mm512_load_ps(sums + r * PANEL + TILE));
    }
}

/* ---- blocks and threads ------------------------------------------------------------------ */

/* One thread's rows and columns of a product, and its scratch. */
typedef struct {
    const Product *p;
    Span rows, columns;
    float *packed_a, *packed_b;
} Part;

/* A block of packed columns and k. */
typedef struct {
    int64_t column, n_columns, k, n_k;
} Slab;

static Block block_at(const Product *p, int64_t row, int64_t column, bool first)
{
    Block block = {.c = p->c + row * p->ldc + column, .ldc = p->ldc};
    if (!first || p->add) {
        block.base = block.c;
        block.base_ld = p->ldc;
    } else if (p->bias) {
        block.base = p->bias + column;
    }
    return block;
}

/* The packed rows [row, row + n_rows) of a times the packed slab of b. */
static void multiply_packed(const Part *part, const Slab *slab, int64_t row, int64_t n_rows)
{
    int64_t n_steps = steps_of(slab->n_k), panel_floats = n_steps * STEP_FLOATS;
    const float *b = part->packed_b;
    for (int64_t j = 0; j < slab->n_columns; j += PANEL, b += panel_floats) {
        const float *a = part->packed_a;
        for (int64_t i = 0; i < n_rows; i += PANEL, a += panel_floats) {
            float sums[PANEL * PANEL] __attribute__((aligned(64)));
            Block block = block_at(part->p, row + i, slab->column + j, slab->k == 0);
            block.rows = at_most(n_rows - i, PANEL);
            block.columns = at_most(slab->n_columns - j, PANEL);
            multiply_panels(sums, a, b, n_steps, &block);
            put_block(&block, sums);
        }
    }
}

static void multiply_slab(const Part *part, const Slab *slab)
{
    GemmIn a = part->p->a, b = part->p->b;
    Source from_a = {a.data, a.ld, !a.transposed, a.transposed};
    Source from_b = {b.data, b.ld, b.transposed, b.transposed};
    pack(part->packed_b, source_at(from_b, slab->column, slab->k), slab->n_columns, slab->n_k);
    for (int64_t row = part->rows.begin; row < part->rows.end; row += M_BLOCK) {
        int64_t n_rows = at_most(part->rows.end - row, M_BLOCK);
        pack(part->packed_a, source_at(from_a, row, slab->k), n_rows, slab->n_k);
        multiply_packed(part, slab, row, n_rows);
    }
}

static void multiply_part(const Part *part)
{
    int64_t k = part->p->k, n_blocks = (k + K_BLOCK - 1) / K_BLOCK;
    int64_t length = steps_of((k + n_blocks - 1) / n_blocks) * STEP; /* blocks of about the same */
    for (int64_t j = part->columns.begin; j < part->columns.end; j += N_BLOCK)
        for (int64_t begin = 0; begin < k; begin += length)
            multiply_slab(part, &(Slab){.column = j,
                                        .n_columns = at_most(part->columns.end - j, N_BLOCK),
                                        .k = begin,
                                        .n_k = at_most(k - begin, length)});
}

/* Eight tiles of 16 rows of 64 bytes. Tiles belong to a thread: each parallel region configures and
 * releases its own. */
static void configure_tiles(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int32_t tile = 0; tile < 8; tile++) {
        config.row_bytes[tile] = ROW_BYTES;
        config.rows[tile] = TILE;
    }
    finish_writes(&config);
    _tile_loadconfig(&config);
}

static int64_t thread_floats(void)
{
    return PACKED_A_FLOATS + PACKED_B_FLOATS;
}

size_t amx_scratch_bytes(int32_t n_threads)
{
    return (size_t)n_threads * (size_t)thread_floats() * sizeof(float);
}

void amx_product(int32_t n_threads, void *scratch, const Product *p)
{
    int64_t row_parts = cpu_parts_of_rows(n_threads, p->m, p->n);
    int64_t column_parts = n_threads / row_parts;
#pragma omp parallel for schedule(static, 1) num_threads(n_threads)
    for (int32_t t = 0; t < n_threads; t++) {
        float *packed = (float *)scratch + t * thread_floats();
        configure_tiles();
        multiply_part(&(Part){
            .p = p,
            .rows = cpu_span(p->m, row_parts, t / column_parts, PANEL),
            .columns = cpu_span(p->n, column_parts, t % column_parts, PANEL),
            .packed_a = packed,
            .packed_b = packed + PACKED_A_FLOATS,
        });
        _tile_release();
    }
}

/* ---- speed ------------------------------------------------------------------------------- */

enum { PEAK_STEPS = 4000, ROUNDS = 20 };

/* Steps on the same tiles, which stay in L1. */
static void multiply_same(const float *panel)
{
    configure_tiles();
    finish_writes(panel);
    for (int64_t step = 0; step < PEAK_STEPS; step++)
        multiply_step(panel, panel);
    _tile_release();
}

double amx_peak_flops(int32_t n_threads)
{
    double flops = 2.0 * PANEL * PANEL * STEP * PEAK_STEPS * n_threads, best = 0;
    for (int32_t round = 0; round < ROUNDS; round++) {
        double begin = omp_get_wtime();
#pragma omp parallel num_threads(n_threads)
        {
            float panel[2 * STEP_FLOATS] __attribute__((aligned(64))) = {0};
            multiply_same(panel);
        }
        double speed = flops / (omp_get_wtime() - begin);
        best = speed > best ? speed : best;
    }
    return best;
}
