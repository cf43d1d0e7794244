/* Causal attention on tensor cores, forward: blocks of queries against blocks of keys with a
 * running softmax (Dao 2023, FlashAttention-2). */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_tiles.cuh"

/* ---- softmax over the keys, a step at a time ------------------------------------------------ */

/* Of the queries a lane has a part of, rows 16 m + 8 i of its product. A query's four lanes agree
 * on `largest`; each has its own part of `total`. */
template <int M> struct Running {
    float largest[M][2]; /* of the scores so far, not scaled */
    float total[M][2];   /* of exp(scale (score - largest)) */

    __device__ __forceinline__ void start()
    {
#pragma unroll
        for (int i = 0; i < 2 * M; i++)
            largest[i / 2][i % 2] = -INFINITY, total[i / 2][i % 2] = 0;
    }
};

__device__ __forceinline__ float maximum_of_row(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float sum_of_row(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Scores of keys that come after their query become -infinity. `ahead`: by how much the query of
 * score[0][0][0] is after its key. */
template <int M, int N>
__device__ __forceinline__ void hide_later_keys(float (&score)[M][N / 8][4], int32_t query0,
                                                int32_t key0)
{
    const int32_t ahead = query0 + lane_row() - (key0 + lane_column());
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (8 * n + e % 2 - 16 * m - e / 2 * 8 > ahead)
                    score[m][n][e] = -INFINITY;
}

/* Scores of one query, rows i of its product, become p = exp(scale (score - largest)); what was
 * summed before shrinks to the new largest score. The difference comes before the scaling: it is at
 * most 0, and 0 for the largest, however large scores are. */
template <int N, int D>
__device__ __forceinline__ void softmax_row(float (&score)[N / 8][4], float (&out)[D / 8][4],
                                            float &largest, float &total, int i, float scale_log2)
{
    float highest = largest;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
        highest = fmaxf(highest, fmaxf(score[n][2 * i], score[n][2 * i + 1]));
    highest = maximum_of_row(highest);
    /* a query that has seen no key yet */
    float base = highest == -INFINITY ? 0 : highest;
    float shrink = fast_exp2((largest - base) * scale_log2), sum = 0;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int k = 0; k < 2; k++) {
            float &p = score[n][2 * i + k];
            p = fast_exp2((p - base) * scale_log2);
            sum += p;
        }
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        out[n][2 * i] *= shrink, out[n][2 * i + 1] *= shrink;
    largest = highest;
    total = total * shrink + sum;
}

template <int N> __device__ __forceinline__ void drop(float (&p)[N / 8][4], uint32_t kept)
{
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            p[n][e] = kept >> (4 * n + e) & 1 ? p[n][e] : 0;
}

/* ---- the kernel ----------------------------------------------------------------------------- */

/* With M = 1 a product of a warp, 16 x 64 x 64 say, reads 8 KiB of shared memory in 64 cycles, as
 * many as the SM of an A100 takes to multiply; with M = 2 half of that. */
template <int D>
using ForwardSizes = TileSizes<D, (D <= 64 ? 2 : 1), (D <= 96 ? 64 : 32), 1, true, 2>;

/* One block computes ROWS queries of one head, a warp 16 M of them:
 *   1. bring the queries, and the last block of keys and values that they see
 *   2. queries stay in registers as left operands
 *   3. for each step, from the last keys to the first: bring the next one; scores = q k^T, causal;
 *      running softmax; dropout; out += p v
 *   4. divide by the sums and store */
template <class Half, int D, bool MAY_DROP>
__global__ void __launch_bounds__(ATTENTION_THREADS, ForwardSizes<D>::BLOCKS)
    attention_forward_kernel(Half *out, float *lse, const Half *qkv, AttentionShape shape)
{
    using Sizes = ForwardSizes<D>;
    constexpr int M = Sizes::M, STEP = Sizes::STEP;
    DYN_SHARED(uint4, shared);
    const int32_t T = shape.T, warp = (int32_t)threadIdx.x / 32;
    BlockPlace place = block_place(shape);
    place.block = shape.blocks_per_head - 1 - place.block; /* the longest first */

    const int32_t C = shape.H * D, stride = 3 * C;
    const Half *q = qkv + head_begin<D>(shape, place, 3), *k = q + C, *v = k + C;
    const int32_t block0 = place.block * Sizes::ROWS, query0 = block0 + warp * Sizes::WARP_ROWS;
    const int32_t n_steps = (min(block0 + Sizes::ROWS, T) + STEP - 1) / STEP;

    auto fetch = [&](int32_t step) {
        uint4 *stage = shared + step % 2 * Sizes::STAGE;
        int32_t key0 = (n_steps - 1 - step) * STEP;
        fetch_tile<D, STEP>(stage, k, stride, key0, T);
        fetch_tile<D, STEP>(stage + Sizes::TILE, v, stride, key0, T);
        cp_async_commit();
    };
    fetch_tile<D, Sizes::ROWS>(shared + Sizes::HELD_AT, q, stride, block0, T);
    cp_async_commit();
    fetch(0);
    cp_async_wait<1>();
    __syncthreads();
    LeftRows<D, M, Sizes::IN_REGISTERS> queries;
    queries.take(shared + Sizes::HELD_AT, (uint32_t)(warp * Sizes::WARP_ROWS));

    float sum[M][D / 8][4] = {};
    Running<M> running;
    running.start();
    for (int32_t step = 0; step < n_steps; step++) {
        const uint4 *keys = shared + step % 2 * Sizes::STAGE, *values = keys + Sizes::TILE;
        const int32_t key0 = (n_steps - 1 - step) * STEP;
        cp_async_wait<0>();
        __syncthreads(); /* this step's tiles are there, and the other stage is free */
        if (step + 1 < n_steps)
            fetch(step + 1);
        if (key0 >= query0 + Sizes::WARP_ROWS)
            continue; /* after all of the warp's queries */
        float p[M][STEP / 8][4] = {};
        add_product_transposed<Half, D, M, STEP>(p, queries, keys);
        if (key0 + STEP - 1 > query0)
            hide_later_keys<M, STEP>(p, query0, key0);
#pragma unroll
        for (int i = 0; i < 2 * M; i++)
            softmax_row<STEP, D>(p[i / 2], sum[i / 2], running.largest[i / 2][i % 2],
                                 running.total[i / 2][i % 2], i % 2, shape.scale * LOG2_E);
        if (MAY_DROP && shape.dropout.rate > 0)
#pragma unroll
            for (int m = 0; m < M; m++)
                drop<STEP>(p[m], kept_queries_by_keys<STEP>(shape, place, query0 + 16 * m, key0));
        add_product<Half, D, M, STEP>(sum, p, values);
    }
    const float kept_scale = MAY_DROP ? shape.dropout.scale : 1;
    Half *out_head = out + head_begin<D>(shape, place, 1);
    float *lse_head = lse + head_rows(shape, place);
#pragma unroll
    for (int m = 0; m < M; m++) {
        const int32_t row0 = query0 + 16 * m + lane_row();
        float factor[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float total = sum_of_row(running.total[m][i]);
            factor[i] = kept_scale / total;
            if (lane_column() == 0 && row0 + 8 * i < T)
                lse_head[row0 + 8 * i] = shape.scale * running.largest[m][i] + logf(total);
        }
        store_rows<Half, D>(out_head, C, sum[m], factor, row0, T);
    }
}

/* ---- the op --------------------------------------------------------------------------------- */

bool cuda_attention_mma_supports(DType dtype, int64_t head_size)
{
    bool size = head_size == 32 || head_size == 64 || head_size == 80 || head_size == 96 ||
                head_size == 128;
    return size && (dtype == DTYPE_BF16 || dtype == DTYPE_F16);
}

template <class Half, int D, bool MAY_DROP>
static void launch(Device *dev, Tensor out, Tensor lse, Tensor qkv, const AttentionShape &shape)
{
    unsigned blocks = (unsigned)(shape.blocks_per_head * lse.dim[0] * lse.dim[1]);
    LAUNCH((attention_forward_kernel<Half, D, MAY_DROP>), blocks, ATTENTION_THREADS,
           ForwardSizes<D>::SHARED_BYTES, cuda_device(dev)->stream, (Half *)out.data,
           (float *)lse.data, (const Half *)qkv.data, shape);
}

template <class Half, int D>
static void forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    AttentionShape shape = attention_shape(lse, qkv, dropout, ForwardSizes<D>::ROWS);
    if (dropout.rate > 0)
        launch<Half, D, true>(dev, out, lse, qkv, shape);
    else
        launch<Half, D, ALWAYS_MAY_DROP<D>>(dev, out, lse, qkv, shape);
}

void cuda_attention_forward_mma(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    const int64_t head_size = out.dim[1] / lse.dim[1];
    if (qkv.dtype == DTYPE_BF16)
        BY_HEAD_SIZE(head_size, forward<bf16, D>(dev, out, lse, qkv, dropout));
    else
        BY_HEAD_SIZE(head_size, forward<f16, D>(dev, out, lse, qkv, dropout));
    cuda_launched(dev, "attention forward");
}
