/* Causal attention, one head of one sequence per task, in blocks of BLOCK queries by BLOCK keys as
 * in FlashAttention (Dao et al. 2022, 2023), so that a task works in the nearest caches.
 *
 * A block of scores is held by keys: queries are the lanes of a vector, and the softmax over keys
 * needs no sum across lanes. Vectors of queries that lie wholly before a key are skipped; in what
 * remains of the upper triangle p is set to 0. Queries, keys and channels are padded with zeros to
 * whole tiles, so any head size and any T will do.
 *
 * Forward, for each block of queries, over the blocks of keys:
 *   1. scores    2. running maximum, exp, sums    3. dropout    4. out += p v
 * and at the end division by the sums. Backward, for each block of queries, over the blocks of
 * keys:
 *   1. scores, dp = v dout^T    2. dropout on dp    3. p from lse, ds = p (dp - delta)
 *   4. dq += ds k, dk += ds q, dv += p dout */
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/mask.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vexp.h"

#include "base/check.h"

#include <math.h>
#include <omp.h>

enum { BLOCK = 64 };       /* queries or keys; a multiple of every VEC_LANES */
enum { LINE_FLOATS = 64 }; /* threads do not share cache lines */

/* One head of one sequence: T tokens, D channels, P channels when padded. q, k, v lie in rows of
 * 3C. */
typedef struct {
    int64_t T, D, P, C;
    const float *qkv; /* the head's q of token 0; k and v follow at C and 2C */
    float scale;
    Dropout dropout;
    int64_t sample, first_element; /* dropout's; of query 0 and key 0 */
} Head;

/* Queries [i0, i0 + queries) against keys [j0, j0 + keys). */
typedef struct {
    int64_t i0, queries, lanes; /* lanes: queries padded to whole vectors */
    int64_t j0, keys;
} Pair;

/* ---- scratch ----------------------------------------------------------------------------- */

/* One thread's. */
typedef struct {
    float *k, *v, *dk, *dv;          /* (T,P) of a head, T padded to tiles */
    float *q, *dout, *sum;           /* (BLOCK,P); sum: of out or of dq */
    float *q_columns, *dout_columns; /* (P,BLOCK) */
    float *score, *dscore;           /* (keys, queries), BLOCK each: scores then p; dp then ds */
    float *mask, *mask_rows;         /* (keys, queries); (BLOCK queries, T keys padded to blocks) */
} Scratch;

static int64_t scratch_floats(int64_t T, int64_t D)
{
    int64_t P = tile_round(D, VEC_LANES);
    int64_t n = 4 * tile_round(T, TILE_ROWS) * P + 5 * BLOCK * P + 3 * BLOCK * BLOCK;
    n += BLOCK * tile_round(T, BLOCK);
    return tile_round(n, LINE_FLOATS);
}

static float *take(float **next, int64_t n)
{
    float *taken = *next;
    *next += n;
    return taken;
}

static Scratch scratch_carve(float *base, int64_t T, int64_t D)
{
    int64_t P = tile_round(D, VEC_LANES), all = tile_round(T, TILE_ROWS) * P;
    Scratch s;
    s.k = take(&base, all);
    s.v = take(&base, all);
    s.dk = take(&base, all);
    s.dv = take(&base, all);
    s.q = take(&base, BLOCK * P);
    s.dout = take(&base, BLOCK * P);
    s.sum = take(&base, BLOCK * P);
    s.q_columns = take(&base, BLOCK * P);
    s.dout_columns = take(&base, BLOCK * P);
    s.score = take(&base, BLOCK * BLOCK);
    s.dscore = take(&base, BLOCK * BLOCK);
    s.mask = take(&base, BLOCK * BLOCK);
    s.mask_rows = take(&base, BLOCK * tile_round(T, BLOCK));
    return s;
}

size_t cpu_attention_scratch_bytes(int32_t n_threads, const OpLimits *limits)
{
    int64_t floats = scratch_floats(limits->block_size, limits->n_embd / limits->n_head);
    return (size_t)n_threads * (size_t)floats * sizeof(float);
}

/* ---- pieces both directions share -------------------------------------------------------- */

/* dst (padded_rows, P) = scale * src (rows, D), with zeros in the padding; rows of src are ld
 * apart. */
static void load_rows(float *dst, int64_t padded_rows, const float *src, int64_t ld, int64_t rows,
                      const Head *head, float scale)
{
    int64_t whole = head->D / VEC_LANES * VEC_LANES;
    for (int64_t r = 0; r < rows; r++, src += ld, dst += head->P) {
        for (int64_t c = 0; c < whole; c += VEC_LANES)
            vec_store(dst + c, scale * vec_load(src + c));
        for (int64_t c = whole; c < head->P; c++)
            dst[c] = c < head->D ? scale * src[c] : 0;
    }
    memset(dst, 0, (size_t)((padded_rows - rows) * head->P) * sizeof(float));
}

/* dst (rows, D), ld apart, = scale * src (rows, P). */
static void store_rows(float *dst, int64_t ld, const float *src, int64_t rows, const Head *head,
                       float scale)
{
    int64_t whole = head->D / VEC_LANES * VEC_LANES;
    for (int64_t r = 0; r < rows; r++, src += head->P, dst += ld) {
        for (int64_t c = 0; c < whole; c += VEC_LANES)
            vec_store(dst + c, scale * vec_load(src + c));
        for (int64_t c = whole; c < head->D; c++)
            dst[c] = scale * src[c];
    }
}

static void load_keys(Scratch *s, const Head *head)
{
    int64_t T = head->T, padded = tile_round(T, TILE_ROWS), ld = 3 * head->C;
    load_rows(s->k, padded, head->qkv + head->C, ld, T, head, 1);
    load_rows(s->v, padded, head->qkv + 2 * head->C, ld, T, head, 1);
}

static Pair pair_of_queries(const Head *head, int64_t i0)
{
    int64_t queries = head->T - i0 < BLOCK ? head->T - i0 : BLOCK;
    return (Pair){.i0 = i0, .queries = queries, .lanes = tile_round(queries, VEC_LANES)};
}

/* The queries' keys from j0 on, as far as the last query sees. */
static void pair_set_keys(Pair *pair, int64_t j0)
{
    int64_t left = pair->i0 + pair->queries - j0;
    pair->j0 = j0;
    pair->keys = left < BLOCK ? left : BLOCK;
}

/* Query v + i of a pair sees its key j when i >= first_query(pair, j, v); may be negative. */
static int32_t first_query(const Pair *pair, int64_t j, int64_t v)
{
    return (int32_t)(pair->j0 + j - pair->i0 - v);
}

/* The vector of queries in which the first that sees key j lies. */
static int64_t first_vector(const Pair *pair, int64_t j)
{
    int64_t first = first_query(pair, j, 0);
    return first > 0 ? first / VEC_LANES * VEC_LANES : 0;
}

/* Keys of a pair that any query before `end` sees. */
static int64_t keys_seen(const Pair *pair, int64_t end)
{
    int64_t seen = pair->i0 + end - pair->j0;
    return seen < pair->keys ? seen : pair->keys;
}

/* score (keys, queries) = rows (keys, D) times columns (D, queries). */
static void multiply_keys(float *score, const float *rows, const float *columns, const Head *head,
                          const Pair *pair)
{
    for (int64_t j = 0; j < pair->keys; j += TILE_ROWS) {
        int64_t start = first_vector(pair, j);
        tile_product(pair->lanes - start, head->D, rows + (pair->j0 + j) * head->P, head->P,
                     columns + start, BLOCK, score + j * BLOCK + start, BLOCK, false);
    }
}

/* s->sum (queries, P) = or += weights (keys, queries) transposed, times rows (keys, P). */
static void add_over_keys(Scratch *s, const float *weights, const float *rows, const Head *head,
                          const Pair *pair)
{
    for (int64_t t = 0; t < pair->queries; t += TILE_ROWS)
        tile_product_columns(head->P, keys_seen(pair, t + TILE_ROWS), weights + t, BLOCK,
                             rows + pair->j0 * head->P, head->P, s->sum + t * head->P, head->P,
                             pair->j0 > 0);
}

/* gradient (keys, P) += weights (keys, queries) times rows (queries, P). */
static void add_over_queries(float *gradient, const float *weights, const float *rows,
                             const Head *head, const Pair *pair)
{
    for (int64_t j = 0; j < pair->keys; j += TILE_ROWS) {
        int64_t start = first_vector(pair, j);
        tile_product(head->P, pair->lanes - start, weights + j * BLOCK + start, BLOCK,
                     rows + start * head->P, head->P, gradient + (pair->j0 + j) * head->P, head->P,
                     true);
    }
}

/* s->mask_rows for a block of queries: what dropout multiplies p by. 0 where a query sees no key.
 */
static void load_mask_rows(Scratch *s, const Head *head, const Pair *pair)
{
    int64_t ld = tile_round(head->T, BLOCK);
    memset(s->mask_rows, 0, (size_t)(pair->lanes * ld) * sizeof(float));
    for (int64_t i = 0; i < pair->queries; i++) {
        int64_t query = pair->i0 + i, element = head->first_element + query * head->T;
        cpu_mask(s->mask_rows + i * ld, query + 1, &head->dropout, head->sample, element);
    }
}

static void load_queries(Scratch *s, const Head *head, const Pair *pair)
{
    int64_t ld = 3 * head->C;
    load_rows(s->q, pair->lanes, head->qkv + pair->i0 * ld, ld, pair->queries, head, head->scale);
    tile_transpose(s->q_columns, BLOCK, s->q, head->P, pair->lanes, head->P);
    if (head->dropout.rate > 0)
        load_mask_rows(s, head, pair);
}

/* s->mask (keys, queries) of a pair, from the rows. */
static void load_mask(Scratch *s, const Head *head, const Pair *pair)
{
    tile_transpose(s->mask, BLOCK, s->mask_rows + pair->j0, tile_round(head->T, BLOCK), pair->lanes,
                   tile_round(pair->keys, VEC_LANES));
}

/* ---- forward ----------------------------------------------------------------------------- */

/* Per query of a block: the largest score so far, the sum of exp(score - largest), and by how much
 * the new maximum shrinks what was summed before. */
typedef struct {
    float largest[BLOCK], total[BLOCK], shrink[BLOCK];
} Running;

static void running_start(Running *run)
{
    for (int32_t i = 0; i < BLOCK; i++) {
        run->largest[i] = -INFINITY;
        run->total[i] = 0;
    }
}

/* The loops below go over the keys of one vector of queries at a time, which stays in registers. */

static void take_maximum(Running *run, const Scratch *s, const Pair *pair)
{
    for (int64_t v = 0; v < pair->lanes; v += VEC_LANES) {
        float *largest = run->largest + v, *total = run->total + v, *shrink = run->shrink + v;
        float highest[VEC_LANES];
        memcpy(highest, largest, sizeof(highest));
        for (int64_t j = 0; j < keys_seen(pair, v + VEC_LANES); j++) {
            const float *score = s->score + j * BLOCK + v;
            int32_t first = first_query(pair, j, v);
#pragma omp simd
            for (int32_t i = 0; i < VEC_LANES; i++) {
                float x = i >= first ? score[i] : -INFINITY;
                highest[i] = highest[i] > x ? highest[i] : x;
            }
        }
#pragma omp simd
        for (int32_t i = 0; i < VEC_LANES; i++) {
            shrink[i] = vexp(largest[i] - highest[i]);
            total[i] *= shrink[i];
            largest[i] = highest[i];
        }
    }
}

/* Scores become p = exp(score - largest), not yet divided by the total. */
static void take_exp(Running *run, Scratch *s, const Pair *pair)
{
    for (int64_t v = 0; v < pair->lanes; v += VEC_LANES) {
        const float *largest = run->largest + v;
        float total[VEC_LANES] = {0};
        for (int64_t j = 0; j < keys_seen(pair, v + VEC_LANES); j++) {
            float *score = s->score + j * BLOCK + v;
            int32_t first = first_query(pair, j, v);
#pragma omp simd
            for (int32_t i = 0; i < VEC_LANES; i++) {
                float p = vexp(score[i] - largest[i]);
                score[i] = i >= first ? p : 0;
                total[i] += score[i];
            }
        }
        for (int32_t i = 0; i < VEC_LANES; i++)
            run->total[v + i] += total[i];
    }
}

/* values (keys, queries) *= the mask; what no query sees is left as it is. */
static void apply_mask(float *values, const Scratch *s, const Pair *pair)
{
    for (int64_t j = 0; j < pair->keys; j++) {
        int64_t start = first_vector(pair, j);
#pragma omp simd
        for (int64_t i = start; i < pair->lanes; i++)
            values[j * BLOCK + i] *= s->mask[j * BLOCK + i];
    }
}

static void shrink_sum(Scratch *s, const Running *run, const Head *head, const Pair *pair)
{
    for (int64_t i = 0; i < pair->queries; i++)
        for (int64_t c = 0; c < head->P; c++)
            s->sum[i * head->P + c] *= run->shrink[i];
}

static void forward_keys(Running *run, Scratch *s, const Head *head, const Pair *pair)
{
    multiply_keys(s->score, s->k, s->q_columns, head, pair);
    take_maximum(run, s, pair);
    take_exp(run, s, pair);
    if (head->dropout.rate > 0) {
        load_mask(s, head, pair);
        apply_mask(s->score, s, pair);
    }
    if (pair->j0 > 0)
        shrink_sum(s, run, head, pair);
    add_over_keys(s, s->score, s->v, head, pair);
}

/* out: the head's row of token 0, rows C apart; lse (T). */
static void forward_head(float *out, float *lse, Scratch *s, const Head *head)
{
    load_keys(s, head);
    for (int64_t i0 = 0; i0 < head->T; i0 += BLOCK) {
        Pair pair = pair_of_queries(head, i0);
        Running run;
        running_start(&run);
        load_queries(s, head, &pair);
        for (int64_t j0 = 0; j0 < i0 + pair.queries; j0 += BLOCK) {
            pair_set_keys(&pair, j0);
            forward_keys(&run, s, head, &pair);
        }
        for (int64_t i = 0; i < pair.queries; i++) {
            lse[i0 + i] = run.largest[i] + logf(run.total[i]);
            store_rows(out + (i0 + i) * head->C, head->C, s->sum + i * head->P, 1, head,
                       1.0f / run.total[i]);
        }
    }
}

/* ---- backward ---------------------------------------------------------------------------- */

/* Pointers to the head's part of each tensor, at token 0. */
typedef struct {
    float *dqkv;             /* rows of 3C: dq, dk, dv */
    const float *out, *dout; /* rows of C */
    const float *lse;        /* (T) */
    float *delta;            /* (T) */
} BackwardHead;

/* Of one block of queries; the padding is 0. */
typedef struct {
    float lse[BLOCK], delta[BLOCK];
} QueryStats;

/* delta = the sum over channels of dout * out, which is the sum over keys of p * dp. */
static void load_stats(QueryStats *stats, const BackwardHead *b, const Head *head, const Pair *pair)
{
    memset(stats, 0, sizeof(*stats));
    for (int64_t i = 0; i < pair->queries; i++) {
        int64_t t = pair->i0 + i;
        const float *out = b->out + t * head->C, *dout = b->dout + t * head->C;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < head->D; c++)
            sum += out[c] * dout[c];
        b->delta[t] = sum;
        stats->delta[i] = sum;
        stats->lse[i] = b->lse[t];
    }
}

/* score becomes p, dscore (dp until then) becomes ds. */
static void take_gradient(Scratch *s, const QueryStats *stats, const Pair *pair)
{
    for (int64_t v = 0; v < pair->lanes; v += VEC_LANES) {
        const float *lse = stats->lse + v, *delta = stats->delta + v;
        for (int64_t j = 0; j < keys_seen(pair, v + VEC_LANES); j++) {
            float *score = s->score + j * BLOCK + v, *dscore = s->dscore + j * BLOCK + v;
            int32_t first = first_query(pair, j, v);
#pragma omp simd
            for (int32_t i = 0; i < VEC_LANES; i++) {
                float p = vexp(score[i] - lse[i]);
                score[i] = i >= first ? p : 0;
                dscore[i] = score[i] * (dscore[i] - delta[i]);
            }
        }
    }
}

static void backward_keys(Scratch *s, const QueryStats *stats, const Head *head, const Pair *pair)
{
    bool dropout = head->dropout.rate > 0;
    multiply_keys(s->score, s->k, s->q_columns, head, pair);
    multiply_keys(s->dscore, s->v, s->dout_columns, head, pair);
    if (dropout) {
        load_mask(s, head, pair);
        apply_mask(s->dscore, s, pair);
    }
    take_gradient(s, stats, pair);
    add_over_keys(s, s->dscore, s->k, head, pair);
    add_over_queries(s->dk, s->dscore, s->q, head, pair);
    if (dropout)
        apply_mask(s->score, s, pair);
    add_over_queries(s->dv, s->score, s->dout, head, pair);
}

static void backward_head(const BackwardHead *b, Scratch *s, const Head *head)
{
    int64_t T = head->T, ld = 3 * head->C;
    size_t bytes = (size_t)(tile_round(T, TILE_ROWS) * head->P) * sizeof(float);
    load_keys(s, head);
    memset(s->dk, 0, bytes);
    memset(s->dv, 0, bytes);
    for (int64_t i0 = 0; i0 < T; i0 += BLOCK) {
        Pair pair = pair_of_queries(head, i0);
        QueryStats stats;
        load_stats(&stats, b, head, &pair);
        load_queries(s, head, &pair);
        load_rows(s->dout, pair.lanes, b->dout + i0 * head->C, head->C, pair.queries, head, 1);
        tile_transpose(s->dout_columns, BLOCK, s->dout, head->P, pair.lanes, head->P);
        for (int64_t j0 = 0; j0 < i0 + pair.queries; j0 += BLOCK) {
            pair_set_keys(&pair, j0);
            backward_keys(s, &stats, head, &pair);
        }
        store_rows(b->dqkv + i0 * ld, ld, s->sum, pair.queries, head, head->scale);
    }
    store_rows(b->dqkv + head->C, ld, s->dk, T, head, 1); /* q was scaled already */
    store_rows(b->dqkv + 2 * head->C, ld, s->dv, T, head, 1);
}

/* ---- the ops ----------------------------------------------------------------------------- */

/* Head h of sequence b, both from the task's number b * H + h. */
static Head head_of(Tensor lse, Tensor qkv, const Dropout *dropout, int64_t task)
{
    int64_t H = lse.dim[1], T = lse.dim[2], C = qkv.dim[1] / 3, b = task / H, h = task % H;
    return (Head){
        .T = T,
        .D = C / H,
        .P = tile_round(C / H, VEC_LANES),
        .C = C,
        .qkv = (const float *)qkv.data + b * T * 3 * C + h * (C / H),
        .scale = 1.0f / sqrtf((float)(C / H)),
        .dropout = *dropout,
        .sample = dropout->first_sample + b,
        .first_element = h * T * T,
    };
}

/* The calling thread's part of the workspace. */
static Scratch thread_scratch(const Device *dev, int64_t T, int64_t D)
{
    int64_t floats = scratch_floats(T, D);
    return scratch_carve((float *)dev->workspace.data + omp_get_thread_num() * floats, T, D);
}

static void check_workspace(const Device *dev, int64_t T, int64_t D)
{
    size_t wanted = (size_t)dev->n_threads * (size_t)scratch_floats(T, D) * sizeof(float);
    ASSERT(tensor_bytes(dev->workspace) >= wanted,
           "attention wants %zu bytes of workspace, has %zu", wanted, tensor_bytes(dev->workspace));
}

void cpu_attention_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    int64_t B = lse.dim[0], H = lse.dim[1], T = lse.dim[2], C = out.dim[1], D = C / H;
    check_workspace(dev, T, D);
#pragma omp parallel num_threads(dev->n_threads)
    {
        Scratch scratch = thread_scratch(dev, T, D);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < B * H; task++) {
            Head head = head_of(lse, qkv, &dropout, task);
            float *head_out = (float *)out.data + task / H * T * C + task % H * D;
            forward_head(head_out, (float *)lse.data + task * T, &scratch, &head);
        }
    }
}

void cpu_attention_backward(Device *dev, const AttentionBackward *a)
{
    int64_t B = a->lse.dim[0], H = a->lse.dim[1], T = a->lse.dim[2], C = a->out.dim[1], D = C / H;
    check_workspace(dev, T, D);
#pragma omp parallel num_threads(dev->n_threads)
    {
        Scratch scratch = thread_scratch(dev, T, D);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < B * H; task++) {
            Head head = head_of(a->lse, a->qkv, &a->dropout, task);
            int64_t row = task / H * T, column = task % H * D;
            BackwardHead b = {
                .dqkv = (float *)a->dqkv.data + row * 3 * C + column,
                .out = (const float *)a->out.data + row * C + column,
                .dout = (const float *)a->dout.data + row * C + column,
                .lse = (const float *)a->lse.data + task * T,
                .delta = (float *)a->delta.data + task * T,
            };
            backward_head(&b, &scratch, &head);
        }
    }
}
