/* Causal attention on tensor cores, backward (Dao et al. 2022, appendix B.4). Three kernels, each
 * writing what is its own alone, so that sums have a fixed order without atomics or scratch:
 *   delta     row sums of dout * out, which are the sums over keys of p dp
 *   keys      dk and dv of a block of keys, over the queries
 *   queries   dq of a block of queries, over the keys
 * The last two both recompute p = exp(score - lse) and ds = p (dp - delta). Dropout's mask m acts
 * on p in dv += (p m)^T dout and on dp = (dout v^T) m; delta holds it already, in out. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_tiles.cuh"

/* ---- delta ---------------------------------------------------------------------------------- */

/* Lanes that share a row: a power of two, 16 bytes for each or none. */
template <int D> static constexpr int32_t DELTA_LANES = D <= 32 ? 4 : D <= 64 ? 8 : 16;

/* delta (B,H,T) from dout and out (B*T, H*D), whose n rows of D values are taken as (B*T*H, D). */
template <class Half, int D>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_delta_kernel(float *delta, const Half *dout, const Half *out, int64_t n, int32_t T,
                           int32_t H)
{
    constexpr int32_t LANES = DELTA_LANES<D>;
    const int64_t row = ((int64_t)blockIdx.x * ATTENTION_THREADS + threadIdx.x) / LANES;
    const int32_t chunk = (int32_t)threadIdx.x % LANES;
    float sum = 0;
    if (row < n && chunk < D / 8) {
        float x[8], y[8];
        load_lanes<Half, 8>(x, dout + row * D + 8 * chunk);
        load_lanes<Half, 8>(y, out + row * D + 8 * chunk);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum += x[i] * y[i];
    }
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (row < n && chunk == 0) {
        int64_t token = row / H, h = row % H;
        delta[(token / T * H + h) * T + token % T] = sum;
    }
}

/* ---- pieces --------------------------------------------------------------------------------- */

/* p from a score, with lse in powers of 2. Rounding may put it above 1 when scores are very large;
 * never to infinity, whose product with 0 would not be a number. A NaN stays one. */
__device__ __forceinline__ float probability(float score, float scale_log2, float lse_log2)
{
    float exponent = score * scale_log2 - lse_log2;
    return fast_exp2(exponent > 0 ? 0 : exponent);
}

/* Tensors of one head, at its token 0. */
template <class Half> struct BackwardHead {
    const Half *q, *k, *v, *dout; /* q, k, v: rows 3 C apart; dout: C */
    const float *lse, *delta;
    Half *dq, *dk, *dv; /* rows 3 C apart */
    int32_t C;
};

template <class Half> struct BackwardPointers {
    Half *dqkv;
    const Half *qkv, *dout;
    const float *lse, *delta;
};

template <int D, class Half>
__device__ __forceinline__ BackwardHead<Half>
head_of(const BackwardPointers<Half> &all, const AttentionShape &shape, const BlockPlace &place)
{
    const int32_t C = shape.H * D;
    const int64_t begin = head_begin<D>(shape, place, 3);
    const Half *q = all.qkv + begin, *dout = all.dout + head_begin<D>(shape, place, 1);
    const int64_t rows = head_rows(shape, place);
    Half *dq = all.dqkv + begin;
    return {q, q + C, q + 2 * C, dout, all.lse + rows, all.delta + rows, dq, dq + C, dq + 2 * C, C};
}

/* ---- dk and dv ------------------------------------------------------------------------------ */

template <int D> using KeysSizes = TileSizes<D, 1, (D <= 64 ? 64 : 32), 2, (D <= 80), 2>;

/* After the tiles: two stages of lse and delta, STEP of each. In the launch's shared memory too, as
 * what exceeds 48 KiB together must be asked for. */
template <int D>
static constexpr size_t KEYS_SHARED_BYTES = KeysSizes<D>::SHARED_BYTES +
                                            2 * 2 * KeysSizes<D>::STEP * sizeof(float);

/* One block computes dk and dv of ROWS keys of one head. Products have keys as rows, so that p and
 * ds become left operands as they are:
 *   1. bring the keys and values, and the first queries that see them
 *   2. for each step over queries and their dout: bring the next one; scores = k q^T and dp =
 *      v dout^T; p and ds; dv += p dout, dk += ds q
 *   3. scale and store */
template <class Half, int D, bool MAY_DROP>
__global__ void __launch_bounds__(ATTENTION_THREADS, KeysSizes<D>::BLOCKS)
    attention_backward_keys_kernel(BackwardPointers<Half> all, AttentionShape shape)
{
    using Sizes = KeysSizes<D>;
    constexpr int M = Sizes::M, STEP = Sizes::STEP;
    DYN_SHARED(uint4, shared);
    float *statistics = (float *)(shared + Sizes::SHARED_BYTES / sizeof(uint4));
    const int32_t T = shape.T, warp = (int32_t)threadIdx.x / 32;
    const BlockPlace place = block_place(shape); /* the first keys are seen by most queries */
    const BackwardHead<Half> head = head_of<D>(all, shape, place);
    const int32_t block0 = place.block * Sizes::ROWS, key0 = block0 + warp * Sizes::WARP_ROWS;
    const int32_t first = block0 / STEP, n_steps = (T + STEP - 1) / STEP;

    auto fetch = [&](int32_t step) {
        const int32_t parity = (step - first) % 2, query0 = step * STEP;
        uint4 *stage = shared + parity * Sizes::STAGE;
        fetch_tile<D, STEP>(stage, head.q, 3 * head.C, query0, T);
        fetch_tile<D, STEP>(stage + Sizes::TILE, head.dout, head.C, query0, T);
        cp_async_commit();
        float *lse = statistics + parity * 2 * STEP, *delta = lse + STEP;
        for (int32_t i = (int32_t)threadIdx.x; i < STEP; i += ATTENTION_THREADS) {
            const bool inside = query0 + i < T; /* else p = 0 */
            lse[i] = inside ? head.lse[query0 + i] * LOG2_E : INFINITY;
            delta[i] = inside ? head.delta[query0 + i] : 0;
        }
    };
    uint4 *held = shared + Sizes::HELD_AT;
    fetch_tile<D, Sizes::ROWS>(held, head.k, 3 * head.C, block0, T);
    fetch_tile<D, Sizes::ROWS>(held + Sizes::HELD_TILE, head.v, 3 * head.C, block0, T);
    cp_async_commit();
    fetch(first);
    cp_async_wait<1>();
    __syncthreads();
    LeftRows<D, M, Sizes::IN_REGISTERS> keys, values;
    keys.take(held, (uint32_t)(warp * Sizes::WARP_ROWS));
    values.take(held + Sizes::HELD_TILE, (uint32_t)(warp * Sizes::WARP_ROWS));

    const float kept_scale = MAY_DROP ? shape.dropout.scale : 1;
    float dk[M][D / 8][4] = {}, dv[M][D / 8][4] = {};
    for (int32_t step = first; step < n_steps; step++) {
        const int32_t parity = (step - first) % 2, query0 = step * STEP;
        const uint4 *queries = shared + parity * Sizes::STAGE, *douts = queries + Sizes::TILE;
        const float *lse = statistics + parity * 2 * STEP, *delta = lse + STEP;
        cp_async_wait<0>();
        __syncthreads(); /* this step's tiles are there, and the other stage is free */
        if (step + 1 < n_steps)
            fetch(step + 1);
        if (query0 + STEP <= key0)
            continue; /* before all of the warp's keys */
        float p[M][STEP / 8][4] = {}, ds[M][STEP / 8][4] = {};
        add_product_transposed<Half, D, M, STEP>(p, keys, queries);
        add_product_transposed<Half, D, M, STEP>(ds, values, douts);
        const bool diagonal = query0 < key0 + Sizes::WARP_ROWS - 1;
#pragma unroll
        for (int m = 0; m < M; m++) {
            const int32_t key = key0 + 16 * m + lane_row() - query0; /* relative to the queries */
            uint32_t kept = ~0u;
            if (MAY_DROP && shape.dropout.rate > 0)
                kept = kept_keys_by_queries<STEP>(shape, place, key0 + 16 * m, query0);
#pragma unroll
            for (int n = 0; n < STEP / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int32_t query = 8 * n + lane_column() + e % 2;
                    const bool keep = !MAY_DROP || (kept >> (4 * n + e) & 1);
                    float x = probability(p[m][n][e], shape.scale * LOG2_E, lse[query]);
                    if (diagonal && key + e / 2 * 8 > query)
                        x = 0;
                    ds[m][n][e] = x * ((keep ? ds[m][n][e] * kept_scale : 0) - delta[query]);
                    p[m][n][e] = keep ? x : 0;
                }
        }
        add_product<Half, D, M, STEP>(dv, p, douts);
        add_product<Half, D, M, STEP>(dk, ds, queries);
    }
    const float scale[2] = {shape.scale, shape.scale}, kept[2] = {kept_scale, kept_scale};
#pragma unroll
    for (int m = 0; m < M; m++) {
        const int32_t row0 = key0 + 16 * m + lane_row();
        store_rows<Half, D>(head.dk, 3 * head.C, dk[m], scale, row0, T);
        store_rows<Half, D>(head.dv, 3 * head.C, dv[m], kept, row0, T);
    }
}

/* ---- dq ------------------------------------------------------------------------------------- */

template <int D> using QueriesSizes = TileSizes<D, 1, (D <= 64 ? 64 : 32), 2, (D <= 96), 2>;

/* One block computes dq of ROWS queries of one head:
 *   1. bring the queries and their dout, and the first keys and values
 *   2. for each step over keys: bring the next one; scores = q k^T and dp = dout v^T; ds; dq +=
 *      ds k
 *   3. scale and store */
template <class Half, int D, bool MAY_DROP>
__global__ void __launch_bounds__(ATTENTION_THREADS, QueriesSizes<D>::BLOCKS)
    attention_backward_queries_kernel(BackwardPointers<Half> all, AttentionShape shape)
{
    using Sizes = QueriesSizes<D>;
    constexpr int M = Sizes::M, STEP = Sizes::STEP;
    DYN_SHARED(uint4, shared);
    const int32_t T = shape.T, warp = (int32_t)threadIdx.x / 32;
    BlockPlace place = block_place(shape);
    place.block = shape.blocks_per_head - 1 - place.block; /* the longest first */
    const BackwardHead<Half> head = head_of<D>(all, shape, place);
    const int32_t block0 = place.block * Sizes::ROWS, query0 = block0 + warp * Sizes::WARP_ROWS;
    const int32_t n_steps = (min(block0 + Sizes::ROWS, T) + STEP - 1) / STEP;

    auto fetch = [&](int32_t step) {
        uint4 *stage = shared + step % 2 * Sizes::STAGE;
        fetch_tile<D, STEP>(stage, head.k, 3 * head.C, step * STEP, T);
        fetch_tile<D, STEP>(stage + Sizes::TILE, head.v, 3 * head.C, step * STEP, T);
        cp_async_commit();
    };
    uint4 *held = shared + Sizes::HELD_AT;
    fetch_tile<D, Sizes::ROWS>(held, head.q, 3 * head.C, block0, T);
    fetch_tile<D, Sizes::ROWS>(held + Sizes::HELD_TILE, head.dout, head.C, block0, T);
    cp_async_commit();
    fetch(0);
    float lse[M][2], delta[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int32_t query = query0 + 8 * i + lane_row();
        lse[i / 2][i % 2] = query < T ? head.lse[query] * LOG2_E : INFINITY; /* p = 0 */
        delta[i / 2][i % 2] = query < T ? head.delta[query] : 0;
    }
    cp_async_wait<1>();
    __syncthreads();
    LeftRows<D, M, Sizes::IN_REGISTERS> queries, douts;
    queries.take(held, (uint32_t)(warp * Sizes::WARP_ROWS));
    douts.take(held + Sizes::HELD_TILE, (uint32_t)(warp * Sizes::WARP_ROWS));

    const float kept_scale = MAY_DROP ? shape.dropout.scale : 1;
    float dq[M][D / 8][4] = {};
    for (int32_t step = 0; step < n_steps; step++) {
        const uint4 *keys = shared + step % 2 * Sizes::STAGE, *values = keys + Sizes::TILE;
        const int32_t key0 = step * STEP;
        cp_async_wait<0>();
        __syncthreads(); /* this step's tiles are there, and the other stage is free */
        if (step + 1 < n_steps)
            fetch(step + 1);
        if (key0 >= query0 + Sizes::WARP_ROWS)
            continue; /* after all of the warp's queries */
        float p[M][STEP / 8][4] = {}, ds[M][STEP / 8][4] = {};
        add_product_transposed<Half, D, M, STEP>(p, queries, keys);
        add_product_transposed<Half, D, M, STEP>(ds, douts, values);
        const bool diagonal = key0 + STEP - 1 > query0;
#pragma unroll
        for (int m = 0; m < M; m++) {
            const int32_t query = query0 + 16 * m + lane_row() - key0; /* relative to the keys */
            uint32_t kept = ~0u;
            if (MAY_DROP && shape.dropout.rate > 0)
                kept = kept_queries_by_keys<STEP>(shape, place, query0 + 16 * m, key0);
#pragma unroll
            for (int n = 0; n < STEP / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const bool keep = !MAY_DROP || (kept >> (4 * n + e) & 1);
                    float x = probability(p[m][n][e], shape.scale * LOG2_E, lse[m][e / 2]);
                    if (diagonal && 8 * n + lane_column() + e % 2 > query + e / 2 * 8)
                        x = 0;
                    ds[m][n][e] = x * ((keep ? ds[m][n][e] * kept_scale : 0) - delta[m][e / 2]);
                }
        }
        add_product<Half, D, M, STEP>(dq, ds, keys);
    }
    const float scale[2] = {shape.scale, shape.scale};
#pragma unroll
    for (int m = 0; m < M; m++)
        store_rows<Half, D>(head.dq, 3 * head.C, dq[m], scale, query0 + 16 * m + lane_row(), T);
}

/* ---- the op --------------------------------------------------------------------------------- */

template <class Half, int D> static void launch_delta(Device *dev, const AttentionBackward *a)
{
    constexpr int64_t LANES = DELTA_LANES<D>;
    const int64_t n = tensor_count(a->delta);
    LAUNCH((attention_delta_kernel<Half, D>), blocks_for(n * LANES, ATTENTION_THREADS),
           ATTENTION_THREADS, 0, cuda_device(dev)->stream, (float *)a->delta.data,
           (const Half *)a->dout.data, (const Half *)a->out.data, n, (int32_t)a->lse.dim[2],
           (int32_t)a->lse.dim[1]);
}

template <class Half, int D, bool MAY_DROP>
static void launch(Device *dev, const AttentionBackward *a)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    const int64_t heads = a->lse.dim[0] * a->lse.dim[1];
    const BackwardPointers<Half> all = {(Half *)a->dqkv.data, (const Half *)a->qkv.data,
                                        (const Half *)a->dout.data, (const float *)a->lse.data,
                                        (const float *)a->delta.data};
    AttentionShape shape = attention_shape(a->lse, a->qkv, a->dropout, KeysSizes<D>::ROWS);
    LAUNCH((attention_backward_keys_kernel<Half, D, MAY_DROP>),
           (unsigned)(shape.blocks_per_head * heads), ATTENTION_THREADS, KEYS_SHARED_BYTES<D>,
           stream, all, shape);
    shape = attention_shape(a->lse, a->qkv, a->dropout, QueriesSizes<D>::ROWS);
    LAUNCH((attention_backward_queries_kernel<Half, D, MAY_DROP>),
           (unsigned)(shape.blocks_per_head * heads), ATTENTION_THREADS,
           QueriesSizes<D>::SHARED_BYTES, stream, all, shape);
}

template <class Half, int D> static void backward(Device *dev, const AttentionBackward *a)
{
    launch_delta<Half, D>(dev, a);
    if (a->dropout.rate > 0)
        launch<Half, D, true>(dev, a);
    else
        launch<Half, D, ALWAYS_MAY_DROP<D>>(dev, a);
}

void cuda_attention_backward_mma(Device *dev, const AttentionBackward *a)
{
    const int64_t head_size = a->out.dim[1] / a->lse.dim[1];
    if (a->qkv.dtype == DTYPE_BF16)
        BY_HEAD_SIZE(head_size, backward<bf16, D>(dev, a));
    else
        BY_HEAD_SIZE(head_size, backward<f16, D>(dev, a));
    cuda_launched(dev, "attention backward");
}
