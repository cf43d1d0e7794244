/* What the attention kernels on tensor cores share: tiles in shared memory, products of fragments,
 * dropout masks, tile sizes.
 *
 * A block of 4 warps holds some rows of one head (queries, or keys and values) and steps over the
 * rows they meet (keys and values, or queries and their gradients), two tiles of STEP rows at a
 * time, which cp.async brings while the step before is computed. A warp has 16 M of the block's
 * rows and needs no other warp's results.
 *
 * Fragments. With g = lane / 4 and t = lane % 4, an accumulator d[m][n][e] of a product of a warp's
 * 16 M rows by N columns is
 *     row 16 m + g + 8 (e / 2), column 8 n + 2 t + e % 2
 * which is how mma_16x8x16 wants its left operand: a result becomes the left side of the next
 * product (p times v) without moving between lanes. Right sides are read from tiles by ldmatrix, as
 * they are (columns of the product are rows of the tile) or transposed. */
#ifndef GPT_KERNELS_CUDA_ATTENTION_TILES_CUH
#define GPT_KERNELS_CUDA_ATTENTION_TILES_CUH

#include "base/check.h"
#include "kernels/cuda/dropout.cuh"

#include <math.h>

enum { ATTENTION_WARPS = 4, ATTENTION_THREADS = 32 * ATTENTION_WARPS };

static constexpr float LOG2_E = 1.44269504088896f;

/* ---- sizes ---------------------------------------------------------------------------------- */

/* The tile sizes of one kernel for head size D: the largest whose fragments fit into the 255
 * registers of a thread, on every architecture.
 *   M              16-row tiles per warp: one read of a right side serves M products
 *   STEP           rows of each of the two tiles of a step
 *   HELD           tiles of ROWS rows that a block holds
 *   IN_REGISTERS   held as fragments all the time; the tiles then pass through the memory of the
 *                  second stage. Else they stay in shared memory and are read in each step.
 *   BLOCKS         blocks per SM for which the compiler keeps registers free */
template <int D, int M_, int STEP_, int HELD, bool IN_REGISTERS_, int BLOCKS_> struct TileSizes {
    static_assert(D % 16 == 0 && STEP_ % 16 == 0 && STEP_ <= 64,
                  "whole fragments, and masks of 32 bits");
    static constexpr int M = M_, STEP = STEP_, BLOCKS = BLOCKS_;
    static constexpr bool IN_REGISTERS = IN_REGISTERS_;
    static constexpr int WARP_ROWS = 16 * M, ROWS = WARP_ROWS * ATTENTION_WARPS;
    /* in chunks of 16 bytes */
    static constexpr int TILE = STEP * D / 8, STAGE = 2 * TILE, HELD_TILE = ROWS * D / 8;
    static constexpr int HELD_AT = IN_REGISTERS ? STAGE : 2 * STAGE;
    static constexpr int HELD_END = HELD_AT + HELD * HELD_TILE;
    static constexpr int SHARED_BYTES = 16 * (HELD_END > 2 * STAGE ? HELD_END : 2 * STAGE);
    static_assert(SHARED_BYTES <= 98 * 1024, "sm_86, 89 and 120 have 99 KiB for a block");
};

/* ---- places --------------------------------------------------------------------------------- */

/* What a kernel needs to know of its tensors. */
struct AttentionShape {
    int32_t T, H;
    int32_t blocks_per_head;
    float scale; /* of q k^T: 1 / sqrt(D) */
    DropoutMask dropout;
};

/* The part of a grid of blocks_per_head * H * B blocks that this block is. Blocks of one head are
 * neighbours: they share keys and values in the L2 cache. */
struct BlockPlace {
    int64_t b;     /* the sequence */
    int32_t h;     /* the head */
    int32_t block; /* within the head */
};

__device__ __forceinline__ BlockPlace block_place(const AttentionShape &shape)
{
    int32_t head = (int32_t)blockIdx.x / shape.blocks_per_head;
    return {head / shape.H, head % shape.H, (int32_t)blockIdx.x % shape.blocks_per_head};
}

/* The head's first element in a tensor (B*T, thirds * C); its rows are thirds * H * D apart. */
template <int D>
__device__ __forceinline__ int64_t head_begin(const AttentionShape &shape, const BlockPlace &place,
                                              int thirds)
{
    return (place.b * shape.T * thirds * shape.H + place.h) * D;
}

/* The head's first element in a tensor (B,H,T). */
__device__ __forceinline__ int64_t head_rows(const AttentionShape &shape, const BlockPlace &place)
{
    return (place.b * shape.H + place.h) * shape.T;
}

/* Row and column of d[0][0][0] within a warp's product. */
__device__ __forceinline__ int32_t lane_row()
{
    return (int32_t)threadIdx.x % 32 / 4;
}

__device__ __forceinline__ int32_t lane_column()
{
    return (int32_t)threadIdx.x % 4 * 2;
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* Where chunk c (8 values, 16 bytes) of row r of a tile lies. ldmatrix reads the same chunk of 8
 * neighbouring rows at once, without bank conflicts when the 8 places differ modulo 8. Rows are not
 * padded: with PERIOD the power of two in D / 8 (at most 8), r * D / 8 differs modulo 8 for
 * neighbouring 8 / PERIOD rows, and the xor sets the PERIOD groups of such rows apart. */
template <int D> __device__ __forceinline__ uint32_t chunk_place(uint32_t row, uint32_t chunk)
{
    constexpr uint32_t CHUNKS = D / 8;
    constexpr uint32_t PERIOD = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;
    static_assert(CHUNKS % 2 == 0, "head sizes are multiples of 16");
    return row * CHUNKS + (chunk ^ (row / (8 / PERIOD) % PERIOD));
}

/* Start copying rows [row0, row0 + ROWS) of a head into a tile, zeros from row T > row0 on. src:
 * the head's row 0; rows are `stride` values apart. */
template <int D, int ROWS, class Half>
__device__ __forceinline__ void fetch_tile(uint4 *tile, const Half *src, int32_t stride,
                                           int32_t row0, int32_t T)
{
    constexpr int32_t CHUNKS = D / 8, N = ROWS * CHUNKS;
    src += (int64_t)row0 * stride;
#pragma unroll
    for (int32_t first = 0; first < N; first += ATTENTION_THREADS) {
        const int32_t i = first + (int32_t)threadIdx.x, row = i / CHUNKS, chunk = i % CHUNKS;
        if (first + ATTENTION_THREADS > N && i >= N)
            break;
        const bool inside = row0 + row < T;
        const int32_t offset = inside ? row * stride + 8 * chunk : 0; /* small: within a tile */
        cp_async16(tile + chunk_place<D>((uint32_t)row, (uint32_t)chunk), src + offset, inside);
    }
}

/* ---- products ------------------------------------------------------------------------------- */

/* 16 M rows of a tile as left operand: 16 columns of the tile, the k-th ones, at a time. */
template <int D, int M>
__device__ __forceinline__ void load_left(uint32_t (&a)[M][4], const uint4 *tile, uint32_t row0,
                                          uint32_t k)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
        ldmatrix_x4(a[m], tile + chunk_place<D>(row0 + 16 * m + lane % 16, 2 * k + lane / 16));
}

/* A warp's held rows: in registers, or still in their tile. */
template <int D, int M, bool IN_REGISTERS> struct LeftRows {
    uint32_t a[D / 16][M][4];

    __device__ __forceinline__ void take(const uint4 *tile, uint32_t row0)
    {
#pragma unroll
        for (int k = 0; k < D / 16; k++)
            load_left<D, M>(a[k], tile, row0, k);
    }
    __device__ __forceinline__ void columns(uint32_t (&left)[M][4], int k) const
    {
#pragma unroll
        for (int i = 0; i < 4 * M; i++)
            left[i / 4][i % 4] = a[k][i / 4][i % 4];
    }
};

template <int D, int M> struct LeftRows<D, M, false> {
    const uint4 *tile;
    uint32_t row0;

    __device__ __forceinline__ void take(const uint4 *from, uint32_t first)
    {
        tile = from;
        row0 = first;
    }
    __device__ __forceinline__ void columns(uint32_t (&left)[M][4], int k) const
    {
        load_left<D, M>(left, tile, row0, (uint32_t)k);
    }
};

/* d (16 M, N) += left (16 M, D) times tile (N, D) transposed. */
template <class Half, int D, int M, int N, class Left>
__device__ __forceinline__ void add_product_transposed(float (&d)[M][N / 8][4], const Left &left,
                                                       const uint4 *tile)
{
    const uint32_t lane = threadIdx.x % 32, row = lane % 8 + lane / 16 * 8, chunk = lane / 8 % 2;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[M][4];
        left.columns(a, k);
#pragma unroll
        for (int n = 0; n < N / 16; n++) {
            uint32_t b[4]; /* rows 16 n and 16 n + 8 of the tile, two chunks each */
            ldmatrix_x4(b, tile + chunk_place<D>(16 * n + row, 2 * k + chunk));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16<Half>(d[m][2 * n], a[m], b);
                mma_16x8x16<Half>(d[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
}

/* d (16 M, D) += p (16 M, N), rounded to Half, times tile (N, D). */
template <class Half, int D, int M, int N>
__device__ __forceinline__ void add_product(float (&d)[M][D / 8][4], const float (&p)[M][N / 8][4],
                                            const uint4 *tile)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *pair = p[m][2 * k + i / 2] + i % 2 * 2;
                a[m][i] = pack2<Half>(pair[0], pair[1]);
            }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4]; /* rows 16 k and 16 k + 8 of the tile, two chunks each */
            ldmatrix_x4_transposed(b, tile + chunk_place<D>(16 * k + lane % 16, 2 * n + lane / 16));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16<Half>(d[m][2 * n], a[m], b);
                mma_16x8x16<Half>(d[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
}

/* Rows row0 + {0, 8} (row0 with lane_row) of a head = d times the row's factor, as far as they are
 * before T. */
template <class Half, int D>
__device__ __forceinline__ void store_rows(Half *head, int32_t stride, const float (&d)[D / 8][4],
                                           const float (&factor)[2], int32_t row0, int32_t T)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row0 + 8 * i >= T)
            continue;
        uint32_t *row = (uint32_t *)(head + (int64_t)(row0 + 8 * i) * stride + lane_column());
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            row[4 * n] = pack2<Half>(d[n][2 * i] * factor[i], d[n][2 * i + 1] * factor[i]);
    }
}

/* ---- dropout -------------------------------------------------------------------------------- */

/* Kernels with MAY_DROP look at the rate when they run. Kernels without it exist only for the head
 * size of every GPT-2: an instance costs seconds to compile. */
template <int D> static constexpr bool ALWAYS_MAY_DROP = D != 64;

/* Masks are bits: 4 n + e for accumulator d[n][e], set where dropout keeps it. A draw gives four
 * neighbouring elements (h T + i) T + j, which are four keys of one query when T is a multiple of
 * 4; then lanes share them, else each lane draws its own. Loops are not unrolled: the generator
 * needs its registers and its code once. */

/* Bit i: is element 4 quad + i of sample b kept? */
__device__ __forceinline__ uint32_t kept_four(const AttentionShape &shape, int64_t b, int64_t quad)
{
    float4 factor = dropout_factors(shape.dropout, b, quad);
    return (factor.x != 0) | (factor.y != 0) << 1 | (factor.z != 0) << 2 | (factor.w != 0) << 3;
}

__device__ __forceinline__ uint32_t kept_one(const AttentionShape &shape, int64_t b, int64_t e)
{
    return kept_four(shape, b, e / 4) >> (e % 4) & 1;
}

__device__ __forceinline__ int64_t first_element(const AttentionShape &shape,
                                                 const BlockPlace &place, int32_t query)
{
    return ((int64_t)place.h * shape.T + query) * shape.T;
}

/* Of 16 queries (rows of the product) by N keys, from `query0` and `key0` on. key0 is a multiple of
 * 4. Lanes 2 i and 2 i + 1 share four keys of two queries: each draws for one of them. */
template <int N>
__device__ __forceinline__ uint32_t kept_queries_by_keys(const AttentionShape &shape,
                                                         const BlockPlace &place, int32_t query0,
                                                         int32_t key0)
{
    const int32_t odd = (int32_t)threadIdx.x % 2, shift = 2 * odd;
    const int64_t first = first_element(shape, place, query0 + lane_row()) + key0;
    const int64_t eight_rows = 8 * (int64_t)shape.T;
    uint32_t kept = 0;
#pragma unroll 1
    for (int n = 0; n < N / 8; n++) {
        uint32_t upper = 0, lower = 0; /* of each query: this lane's two keys */
        if (shape.T % 4 == 0) {
            int64_t e = first + 8 * n + lane_column() / 4 * 4 + (odd ? eight_rows : 0);
            uint32_t mine = kept_four(shape, place.b, e / 4);
            uint32_t other = __shfl_xor_sync(0xffffffffu, mine, 1);
            upper = (odd ? other : mine) >> shift & 3;
            lower = (odd ? mine : other) >> shift & 3;
        } else {
#pragma unroll 1
            for (int i = 0; i < 2; i++) {
                int64_t e = first + 8 * n + lane_column() + i;
                upper |= kept_one(shape, place.b, e) << i;
                lower |= kept_one(shape, place.b, e + eight_rows) << i;
            }
        }
        kept |= (upper | lower << 2) << 4 * n;
    }
    return kept;
}

/* Of 16 keys (rows of the product) by N queries. key0 is a multiple of 4. The four lanes with the
 * same columns and neighbouring rows share four keys, and four more 8 keys on, of two queries: lane
 * i of them draws what d[n][i] needs, for all four. */
template <int N>
__device__ __forceinline__ uint32_t kept_keys_by_queries(const AttentionShape &shape,
                                                         const BlockPlace &place, int32_t key0,
                                                         int32_t query0)
{
    const int32_t lane = (int32_t)threadIdx.x % 32, row = lane_row(), i = row % 4;
    const int64_t first = first_element(shape, place, query0 + lane_column()) + key0;
    uint32_t kept = 0;
#pragma unroll 1
    for (int n = 0; n < N / 8; n++) {
        uint32_t four = 0;
        if (shape.T % 4 == 0) {
            int64_t e = first + (8 * n + i % 2) * (int64_t)shape.T + row / 4 * 4 + i / 2 * 8;
            uint32_t mine = kept_four(shape, place.b, e / 4);
            for (int source = 0; source < 4; source++) {
                uint32_t its = __shfl_sync(0xffffffffu, mine, (lane & ~12) | source << 2);
                four |= (its >> i & 1) << source;
            }
        } else {
#pragma unroll 1
            for (int k = 0; k < 4; k++) {
                int64_t e = first + (8 * n + k % 2) * (int64_t)shape.T + row + k / 2 * 8;
                four |= kept_one(shape, place.b, e) << k;
            }
        }
        kept |= four << 4 * n;
    }
    return kept;
}

/* ---- launching ------------------------------------------------------------------------------- */

static inline AttentionShape attention_shape(Tensor lse, Tensor qkv, Dropout dropout, int32_t rows)
{
    int64_t T = lse.dim[2], H = lse.dim[1], D = qkv.dim[1] / 3 / H;
    return {(int32_t)T, (int32_t)H, (int32_t)((T + rows - 1) / rows), 1.0f / sqrtf((float)D),
            dropout_mask(dropout)};
}

/* Run a statement with D a head size that cuda_attention_mma_supports as a constant. */
#define HEAD_SIZE_CASE_(size, ...)                                                                 \
    case size: {                                                                                   \
        constexpr int D = size;                                                                    \
        __VA_ARGS__;                                                                               \
        break;                                                                                     \
    }
#define BY_HEAD_SIZE(size, ...)                                                                    \
    do {                                                                                           \
        switch (size) {                                                                            \
            HEAD_SIZE_CASE_(32, __VA_ARGS__)                                                       \
            HEAD_SIZE_CASE_(64, __VA_ARGS__)                                                       \
            HEAD_SIZE_CASE_(80, __VA_ARGS__)                                                       \
            HEAD_SIZE_CASE_(96, __VA_ARGS__)                                                       \
            HEAD_SIZE_CASE_(128, __VA_ARGS__)                                                      \
        default:                                                                                   \
            ASSERT(false, "no tensor core kernel for heads of %lld", (long long)(size));           \
        }                                                                                          \
    } while (0)

#endif
