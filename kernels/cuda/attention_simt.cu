/* Attention with plain float32 arithmetic, for any dtype, head size up to 256 and card: what the
 * tensor cores' kernels (attention_*_sm80.cu) do not take. Tiles of TILE queries times TILE keys as
 * in Dao et al. 2022; scores never leave the block.
 *
 * A block's threads form a 16 x 16 square, and each holds a 4 x 4 patch of every product: rows
 * patch_row() + 0..3, columns patch_column() + 0..3. There are two kinds of product:
 *
 *   multiply_rows    patch = A B^T, both rows of global memory: scores
 *   add_weighted     patch += W^T X, W (reduced, row) from shared memory, X from global: outputs
 *
 * Backward has a block per tile of keys for dk and dv, and another per tile of queries for dq, so
 * that every sum has one owner and one order. Both compute the scores again. A thread's patches
 * need up to 255 registers, so an SM holds one block of 8 warps. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/dropout.cuh"

enum {
    THREADS = 256,
    TILE = 64,     /* queries and keys of a block's square; columns of an output patch */
    CHUNK = 32,    /* channels of a score that are in shared memory at a time */
    LD = TILE + 4, /* distance of rows in shared memory: 16-byte aligned, other banks */
    PATCH = 4,
};

#define LOG2_E 1.44269504088896341f
#define LN_2   0.693147180559945309f

/* ---- what a block works on ------------------------------------------------------------------ */

/* One head of a sequence in a tensor: row t at data + t * stride, D values. */
template <class T> struct Rows {
    T *data;
    int stride;
};

/* The same for every block of a launch. */
struct Shape {
    int n_tokens, C, H, D;
    bool aligned; /* rows can be read 16 bytes at a time */
    float scale;  /* 1 / sqrt(D) */
};

/* A block's head and tile. */
struct Place {
    int sequence; /* sample of the micro-batch */
    int h;
    int first;     /* row of its tile */
    int64_t stats; /* where lse and delta of the head begin */
};

/* heavy_last: tiles of queries, where the last one sees the most keys; they begin first. */
static __device__ Place find_place(const Shape &shape, bool heavy_last)
{
    int n_tiles = (shape.n_tokens + TILE - 1) / TILE;
    int head = (int)blockIdx.x / n_tiles, tile = (int)blockIdx.x % n_tiles;
    Place place;
    place.sequence = head / shape.H;
    place.h = head % shape.H;
    place.first = (heavy_last ? n_tiles - 1 - tile : tile) * TILE;
    place.stats = (int64_t)head * shape.n_tokens;
    return place;
}

/* The head's rows in an (N, C) tensor, or in third `part` of an (N, 3C) one (n_parts 3). */
template <class T>
static __device__ Rows<T> head_rows(T *tensor, const Shape &shape, const Place &place, int part,
                                    int n_parts)
{
    int stride = n_parts * shape.C;
    int64_t row = (int64_t)place.sequence * shape.n_tokens;
    Rows<T> rows = {tensor + row * stride + part * shape.C + place.h * shape.D, stride};
    return rows;
}

static __device__ __forceinline__ int patch_row()
{
    return (int)threadIdx.x / 16 * PATCH;
}

static __device__ __forceinline__ int patch_column()
{
    return (int)threadIdx.x % 16 * PATCH;
}

/* ---- from global to shared memory ----------------------------------------------------------- */

/* x = N channels from d on of a row; 0 outside of the tensor. */
template <class T, int N>
static __device__ __forceinline__ void load_channels(float *x, const Rows<const T> &from,
                                                     const Shape &shape, int row, int d)
{
    bool inside = row < shape.n_tokens;
    const T *p = from.data + (int64_t)row * from.stride + d;
    if (shape.aligned && inside && d < shape.D) {
        load_lanes<T, N>(x, p);
        return;
    }
#pragma unroll
    for (int k = 0; k < N; k++)
        x[k] = inside && d + k < shape.D ? to_float(p[k]) : 0.0f;
}

/* to[d * LD + r] = channel d0 + d of row first + r; (CHUNK, TILE). Neighbouring threads take
 * neighbouring rows: their stores then meet no bank twice, and what they load shares cache lines
 * with the loads of the next channels. */
template <class T>
static __device__ void load_transposed(float *to, const Rows<const T> &from, const Shape &shape,
                                       int first, int d0)
{
    constexpr int N = lanes_of<T>();
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < TILE * CHUNK / N; i += THREADS) {
        int r = i % TILE, d = i / TILE * N;
        float x[N];
        load_channels<T, N>(x, from, shape, first + r, d0 + d);
#pragma unroll
        for (int k = 0; k < N; k++)
            to[(d + k) * LD + r] = x[k];
    }
}

/* to[r * LD + d] = channel d0 + d of row first + r; (TILE, TILE). */
template <class T>
static __device__ void load_straight(float *to, const Rows<const T> &from, const Shape &shape,
                                     int first, int d0)
{
    constexpr int N = lanes_of<T>();
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < TILE * TILE / N; i += THREADS) {
        int r = i / (TILE / N), d = i % (TILE / N) * N;
        float x[N];
        load_channels<T, N>(x, from, shape, first + r, d0 + d);
#pragma unroll
        for (int k = 0; k < N; k += 4)
            store_lanes<float, 4>(to + r * LD + d + k, x + k);
    }
}

/* ---- products ------------------------------------------------------------------------------- */

/* patch += the outer product of four values at a and four at b. */
static __device__ __forceinline__ void add_outer(float patch[PATCH][PATCH], const float *a,
                                                 const float *b)
{
    float x[PATCH], y[PATCH];
    load_lanes<float, 4>(x, a);
    load_lanes<float, 4>(y, b);
#pragma unroll
    for (int i = 0; i < PATCH; i++)
#pragma unroll
        for (int j = 0; j < PATCH; j++)
            patch[i][j] = fmaf(x[i], y[j], patch[i][j]);
}

/* The same summed over n rows of shared memory at a and at b. Rows are zero up to a whole number of
 * steps. */
static __device__ __forceinline__ void add_outers(float patch[PATCH][PATCH], const float *a,
                                                  const float *b, int n)
{
    enum { STEP = 4 };
#pragma unroll 1
    for (int k0 = 0; k0 < n; k0 += STEP)
#pragma unroll
        for (int k = k0; k < k0 + STEP; k++)
            add_outer(patch, a + k * LD, b + k * LD);
}

/* patch = rows a_first.. of a times rows b_first.. of b, over all channels. `buffer` is free at the
 * call and afterwards, after a barrier. */
template <class T>
static __device__ void multiply_rows(float patch[PATCH][PATCH], float *buffer,
                                     const Rows<const T> &a, int a_first, const Rows<const T> &b,
                                     int b_first, const Shape &shape)
{
    float *a_shared = buffer, *b_shared = buffer + CHUNK * LD;
#pragma unroll
    for (int i = 0; i < PATCH * PATCH; i++)
        patch[i / PATCH][i % PATCH] = 0;
    for (int d0 = 0; d0 < shape.D; d0 += CHUNK) {
        __syncthreads();
        load_transposed<T>(a_shared, a, shape, a_first, d0);
        load_transposed<T>(b_shared, b, shape, b_first, d0);
        __syncthreads();
        add_outers(patch, a_shared + patch_row(), b_shared + patch_column(),
                   min((int)CHUNK, shape.D - d0));
    }
}

/* weights (column, row) = the block's patches. */
static __device__ void share_weights(float *weights, const float patch[PATCH][PATCH])
{
    __syncthreads(); /* nobody reads the last ones any more */
#pragma unroll
    for (int j = 0; j < PATCH; j++) {
        const float column[PATCH] = {patch[0][j], patch[1][j], patch[2][j], patch[3][j]};
        store_lanes<float, 4>(weights + (patch_column() + j) * LD + patch_row(), column);
    }
}

/* sum[c] (rows, channels c * TILE..) += weights^T times rows first.. of x. */
template <class T, int N_CHUNKS>
static __device__ void add_weighted(float sum[N_CHUNKS][PATCH][PATCH], const float *weights,
                                    float *buffer, const Rows<const T> &x, int first,
                                    const Shape &shape)
{
    int n_rows = min((int)TILE, shape.n_tokens - first);
#pragma unroll
    for (int c = 0; c < N_CHUNKS; c++) {
        if (c * TILE >= shape.D)
            break;
        __syncthreads();
        load_straight<T>(buffer, x, shape, first, c * TILE);
        __syncthreads();
        if (c * TILE + patch_column() < shape.D)
            add_outers(sum[c], weights + patch_row(), buffer + patch_column(), n_rows);
    }
}

template <int N_CHUNKS> static __device__ void clear(float sum[N_CHUNKS][PATCH][PATCH])
{
#pragma unroll
    for (int i = 0; i < N_CHUNKS * PATCH * PATCH; i++)
        sum[i / 16][i / PATCH % PATCH][i % PATCH] = 0;
}

/* Rows first.. of `to` = sum, row i times factor[i]. */
template <class T, int N_CHUNKS>
static __device__ void store_rows(const Rows<T> &to, const float sum[N_CHUNKS][PATCH][PATCH],
                                  const float factor[PATCH], int first, const Shape &shape)
{
#pragma unroll
    for (int c = 0; c < N_CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < PATCH; i++)
#pragma unroll
            for (int j = 0; j < PATCH; j++) {
                int row = first + patch_row() + i;
                int d = c * TILE + patch_column() + j;
                if (row < shape.n_tokens && d < shape.D)
                    to.data[(int64_t)row * to.stride + d] = from_float<T>(factor[i] * sum[c][i][j]);
            }
}

/* ---- scores --------------------------------------------------------------------------------- */

/* Over the 16 threads that share the rows of a patch. */
static __device__ __forceinline__ float row_max(float x)
{
    for (int step = 8; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

static __device__ __forceinline__ float row_sum(float x)
{
    for (int step = 8; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* What dropout multiplies the probabilities of a query by, four keys from `key` on. Random numbers
 * come in fours as well, but elsewhere when T is not a multiple of four. */
static __device__ __forceinline__ void dropout_keys(float factor[PATCH], const DropoutMask &mask,
                                                    const Shape &shape, const Place &place,
                                                    int query, int key)
{
    int64_t e = ((int64_t)place.h * shape.n_tokens + query) * shape.n_tokens + key;
    int skipped = (int)(e % 4);
    float4 a = dropout_factors(mask, place.sequence, e / 4), b = a;
    if (skipped > 0)
        b = dropout_factors(mask, place.sequence, e / 4 + 1);
    factor[0] = skipped == 0 ? a.x : skipped == 1 ? a.y : skipped == 2 ? a.z : a.w;
    factor[1] = skipped == 0 ? a.y : skipped == 1 ? a.z : skipped == 2 ? a.w : b.x;
    factor[2] = skipped == 0 ? a.z : skipped == 1 ? a.w : skipped == 2 ? b.x : b.y;
    factor[3] = skipped == 0 ? a.w : skipped == 1 ? b.x : skipped == 2 ? b.y : b.z;
}

/* ---- forward -------------------------------------------------------------------------------- */

/* Queries patch_row().. of a tile: the largest score so far (times log2 e), and the sum of 2^(score
 * - largest), the same in the 16 threads of a row. */
struct Running {
    float largest[PATCH], total[PATCH];
};

/* Scores of queries (rows) and keys (columns) become weights; what was summed before shrinks. */
template <int N_CHUNKS>
static __device__ void take_softmax(float score[PATCH][PATCH], Running *run,
                                    float sum[N_CHUNKS][PATCH][PATCH], const Shape &shape,
                                    int query, int key)
{
#pragma unroll
    for (int i = 0; i < PATCH; i++) {
        float high = -INFINITY, total = 0;
#pragma unroll
        for (int j = 0; j < PATCH; j++) {
            bool seen = key + j <= query + i;
            score[i][j] = seen ? score[i][j] * shape.scale * LOG2_E : -INFINITY;
            high = fmaxf(high, score[i][j]);
        }
        high = fmaxf(run->largest[i], row_max(high));
        float shrink = fast_exp2(run->largest[i] - high);
#pragma unroll
        for (int j = 0; j < PATCH; j++) {
            score[i][j] = fast_exp2(score[i][j] - high);
            total += score[i][j];
        }
        run->largest[i] = high;
        run->total[i] = run->total[i] * shrink + row_sum(total);
#pragma unroll
        for (int k = 0; k < N_CHUNKS * PATCH; k++)
            sum[k / PATCH][i][k % PATCH] *= shrink;
    }
}

/* A block per tile of queries: out, lse. */
template <class T, int N_CHUNKS>
__global__ void __launch_bounds__(THREADS, 1)
    forward_kernel(T *out, float *lse, const T *qkv, Shape shape, DropoutMask mask)
{
    SHARED_ARRAY(float, weights, TILE *LD);
    SHARED_ARRAY(float, buffer, TILE *LD);
    Place place = find_place(shape, true);
    Rows<const T> q = head_rows(qkv, shape, place, 0, 3), k = head_rows(qkv, shape, place, 1, 3);
    Rows<const T> v = head_rows(qkv, shape, place, 2, 3);
    int query = place.first + patch_row(), last = place.first + TILE - 1;

    float sum[N_CHUNKS][PATCH][PATCH], score[PATCH][PATCH];
    Running run = {{-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {0, 0, 0, 0}};
    clear<N_CHUNKS>(sum);
    for (int first = 0; first <= last && first < shape.n_tokens; first += TILE) {
        int key = first + patch_column();
        multiply_rows<T>(score, buffer, q, place.first, k, first, shape);
        take_softmax<N_CHUNKS>(score, &run, sum, shape, query, key);
        if (mask.rate > 0)
#pragma unroll
            for (int i = 0; i < PATCH; i++) {
                float factor[PATCH];
                dropout_keys(factor, mask, shape, place, query + i, key);
#pragma unroll
                for (int j = 0; j < PATCH; j++)
                    score[i][j] *= factor[j];
            }
        share_weights(weights, score);
        add_weighted<T, N_CHUNKS>(sum, weights, buffer, v, first, shape);
    }

    float factor[PATCH];
#pragma unroll
    for (int i = 0; i < PATCH; i++) {
        factor[i] = 1.0f / run.total[i];
        if (patch_column() == 0 && query + i < shape.n_tokens)
            lse[place.stats + query + i] = run.largest[i] * LN_2 + logf(run.total[i]);
    }
    store_rows<T, N_CHUNKS>(head_rows(out, shape, place, 0, 1), sum, factor, place.first, shape);
}

/* ---- backward ------------------------------------------------------------------------------- */

/* delta (B,H,T) = the sum over channels of dout * out, which is the sum over keys of p * dp. A warp
 * per query and head. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    delta_kernel(float *delta, const T *dout, const T *out, Shape shape, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (i >= n)
        return;
    int head = (int)(i / shape.n_tokens), t = (int)(i % shape.n_tokens);
    int64_t row = (int64_t)(head / shape.H) * shape.n_tokens + t;
    int64_t at = row * shape.C + head % shape.H * shape.D;
    float sum = 0;
    for (int d = (int)threadIdx.x % 32; d < shape.D; d += 32)
        sum = fmaf(to_float(dout[at + d]), to_float(out[at + d]), sum);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        delta[i] = sum;
}

/* The probability of a key for a query, before dropout. */
static __device__ __forceinline__ float probability(float product, float lse, const Shape &shape,
                                                    int query, int key)
{
    bool seen = key <= query && query < shape.n_tokens;
    return seen ? fast_exp2((product * shape.scale - lse) * LOG2_E) : 0.0f;
}

/* A block per tile of keys: dk, dv. Rows of a patch are keys, columns queries. */
template <class T, int N_CHUNKS>
__global__ void __launch_bounds__(THREADS, 1)
    key_gradients_kernel(T *dqkv, const T *dout, const float *lse, const float *delta, const T *qkv,
                         Shape shape, DropoutMask mask)
{
    SHARED_ARRAY(float, weights, TILE *LD);
    SHARED_ARRAY(float, buffer, TILE *LD);
    Place place = find_place(shape, false);
    Rows<const T> q = head_rows(qkv, shape, place, 0, 3), k = head_rows(qkv, shape, place, 1, 3);
    Rows<const T> v = head_rows(qkv, shape, place, 2, 3), o = head_rows(dout, shape, place, 0, 1);
    int key = place.first + patch_row();

    float dk[N_CHUNKS][PATCH][PATCH], dv[N_CHUNKS][PATCH][PATCH];
    float p[PATCH][PATCH], dp[PATCH][PATCH];
    clear<N_CHUNKS>(dk);
    clear<N_CHUNKS>(dv);
    for (int first = place.first; first < shape.n_tokens; first += TILE) {
        multiply_rows<T>(p, buffer, k, place.first, q, first, shape);
        multiply_rows<T>(dp, buffer, v, place.first, o, first, shape);
#pragma unroll
        for (int j = 0; j < PATCH; j++) { /* p = what weighs v, dp = the score's gradient */
            int query = first + patch_column() + j;
            bool inside = query < shape.n_tokens;
            float query_lse = inside ? lse[place.stats + query] : 0.0f;
            float query_delta = inside ? delta[place.stats + query] : 0.0f;
            float factor[PATCH] = {1, 1, 1, 1};
            if (mask.rate > 0)
                dropout_keys(factor, mask, shape, place, query, key);
#pragma unroll
            for (int i = 0; i < PATCH; i++) {
                float kept = probability(p[i][j], query_lse, shape, query, key + i);
                dp[i][j] = kept * (factor[i] * dp[i][j] - query_delta);
                p[i][j] = kept * factor[i];
            }
        }
        share_weights(weights, p);
        add_weighted<T, N_CHUNKS>(dv, weights, buffer, o, first, shape);
        share_weights(weights, dp);
        add_weighted<T, N_CHUNKS>(dk, weights, buffer, q, first, shape);
    }

    const float scale[PATCH] = {shape.scale, shape.scale, shape.scale, shape.scale};
    const float one[PATCH] = {1, 1, 1, 1};
    store_rows<T, N_CHUNKS>(head_rows(dqkv, shape, place, 1, 3), dk, scale, place.first, shape);
    store_rows<T, N_CHUNKS>(head_rows(dqkv, shape, place, 2, 3), dv, one, place.first, shape);
}

/* A block per tile of queries: dq. Rows of a patch are queries, columns keys. */
template <class T, int N_CHUNKS>
__global__ void __launch_bounds__(THREADS, 1)
    query_gradients_kernel(T *dqkv, const T *dout, const float *lse, const float *delta,
                           const T *qkv, Shape shape, DropoutMask mask)
{
    SHARED_ARRAY(float, weights, TILE *LD);
    SHARED_ARRAY(float, buffer, TILE *LD);
    Place place = find_place(shape, true);
    Rows<const T> q = head_rows(qkv, shape, place, 0, 3), k = head_rows(qkv, shape, place, 1, 3);
    Rows<const T> v = head_rows(qkv, shape, place, 2, 3), o = head_rows(dout, shape, place, 0, 1);
    int query = place.first + patch_row(), last = place.first + TILE - 1;

    float dq[N_CHUNKS][PATCH][PATCH], p[PATCH][PATCH], dp[PATCH][PATCH];
    float query_lse[PATCH], query_delta[PATCH];
#pragma unroll
    for (int i = 0; i < PATCH; i++) {
        bool inside = query + i < shape.n_tokens;
        query_lse[i] = inside ? lse[place.stats + query + i] : 0.0f;
        query_delta[i] = inside ? delta[place.stats + query + i] : 0.0f;
    }
    clear<N_CHUNKS>(dq);
    for (int first = 0; first <= last && first < shape.n_tokens; first += TILE) {
        int key = first + patch_column();
        multiply_rows<T>(p, buffer, q, place.first, k, first, shape);
        multiply_rows<T>(dp, buffer, o, place.first, v, first, shape);
#pragma unroll
        for (int i = 0; i < PATCH; i++) {
            float factor[PATCH] = {1, 1, 1, 1};
            if (mask.rate > 0)
                dropout_keys(factor, mask, shape, place, query + i, key);
#pragma unroll
            for (int j = 0; j < PATCH; j++) {
                float kept = probability(p[i][j], query_lse[i], shape, query + i, key + j);
                dp[i][j] = kept * (factor[j] * dp[i][j] - query_delta[i]);
            }
        }
        share_weights(weights, dp);
        add_weighted<T, N_CHUNKS>(dq, weights, buffer, k, first, shape);
    }

    const float scale[PATCH] = {shape.scale, shape.scale, shape.scale, shape.scale};
    store_rows<T, N_CHUNKS>(head_rows(dqkv, shape, place, 0, 3), dq, scale, place.first, shape);
}

/* ---- the ops -------------------------------------------------------------------------------- */

template <class T> static Shape shape_of(Tensor lse, Tensor out, bool aligned)
{
    Shape shape;
    shape.n_tokens = (int)lse.dim[2];
    shape.C = (int)out.dim[1];
    shape.H = (int)lse.dim[1];
    shape.D = shape.C / shape.H;
    shape.aligned = aligned && shape.D % lanes_of<T>() == 0;
    shape.scale = 1.0f / sqrtf((float)shape.D);
    return shape;
}

static unsigned n_blocks(const Shape &shape, Tensor lse)
{
    return (unsigned)(lse.dim[0] * shape.H) * blocks_for(shape.n_tokens, TILE);
}

template <class T, int N_CHUNKS>
static void launch_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, const Shape &shape,
                           Dropout dropout)
{
    LAUNCH((forward_kernel<T, N_CHUNKS>), n_blocks(shape, lse), THREADS, 0,
           cuda_device(dev)->stream, (T *)out.data, (float *)lse.data, (const T *)qkv.data, shape,
           dropout_mask(dropout));
}

template <class T>
static void forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    Shape shape = shape_of<T>(lse, out, fits_lanes<T>(out.dim[1], qkv.data));
    if (shape.D <= 2 * TILE)
        launch_forward<T, 2>(dev, out, lse, qkv, shape, dropout);
    else
        launch_forward<T, 4>(dev, out, lse, qkv, shape, dropout);
}

void cuda_attention_forward_simt(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    BY_DTYPE(qkv.dtype, forward<T>(dev, out, lse, qkv, dropout));
    cuda_launched(dev, "attention_forward_simt");
}

template <class T, int N_CHUNKS>
static void launch_backward(Device *dev, const AttentionBackward *a, const Shape &shape)
{
    T *dqkv = (T *)a->dqkv.data;
    const T *dout = (const T *)a->dout.data, *qkv = (const T *)a->qkv.data;
    const float *lse = (const float *)a->lse.data, *delta = (const float *)a->delta.data;
    DropoutMask mask = dropout_mask(a->dropout);
    unsigned grid = n_blocks(shape, a->lse);
    LAUNCH((key_gradients_kernel<T, N_CHUNKS>), grid, THREADS, 0, cuda_device(dev)->stream, dqkv,
           dout, lse, delta, qkv, shape, mask);
    LAUNCH((query_gradients_kernel<T, N_CHUNKS>), grid, THREADS, 0, cuda_device(dev)->stream, dqkv,
           dout, lse, delta, qkv, shape, mask);
}

template <class T> static void backward(Device *dev, const AttentionBackward *a)
{
    bool aligned = fits_lanes<T>(a->out.dim[1], a->qkv.data, a->dout.data);
    Shape shape = shape_of<T>(a->lse, a->out, aligned);
    int64_t n = tensor_count(a->lse);
    LAUNCH((delta_kernel<T>), blocks_for(n, THREADS / 32), THREADS, 0, cuda_device(dev)->stream,
           (float *)a->delta.data, (const T *)a->dout.data, (const T *)a->out.data, shape, n);
    if (shape.D <= 2 * TILE)
        launch_backward<T, 2>(dev, a, shape);
    else
        launch_backward<T, 4>(dev, a, shape);
}

void cuda_attention_backward_simt(Device *dev, const AttentionBackward *args)
{
    BY_DTYPE(args->qkv.dtype, backward<T>(dev, args));
    cuda_launched(dev, "attention_backward_simt");
}
