/* Forward: one warp per row. Backward: the gradient of a token is the sum of the rows that hold it,
 * and their order must not depend on the machine, so the rows are sorted by token first, stably
 * (radix sort, a byte at a time, three kernels per byte); each run of equal tokens is then added in
 * row order, and dwte is touched once. Long runs are cut at multiples of CUDA_RUN_TILE sorted
 * positions, so that the most frequent token does not keep everybody waiting:
 *
 *     positions   0 . . . | . . . . | . . . . | . .
 *     tokens      A B B B | B B B B | B C C C | C D
 *                   ^body   ^head     ^head ^body ^head ^body
 *
 * add_runs adds a body, which starts its run, to dwte; what continues a run into a tile is that
 * tile's head, kept in scratch, and add_heads adds the heads of a run in order. */
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/scratch.h"

enum { THREADS = 256, WARPS = THREADS / 32, DIGITS = CUDA_SORT_DIGITS };
static_assert(DIGITS == THREADS, "one thread per digit");

/* ---- forward ------------------------------------------------------------------------------- */

template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    embed(T *x, const int32_t *tokens, const T *wte, const T *wpe, int64_t n_rows,
          int64_t per_sequence, int64_t C)
{
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= n_rows)
        return;
    const T *word = wte + tokens[row] * C, *position = wpe + row % per_sequence * C;
    for (int64_t c = threadIdx.x % 32 * N; c < C; c += 32 * N) {
        float a[N], b[N];
        load_lanes<T, N>(a, word + c);
        load_lanes<T, N>(b, position + c);
#pragma unroll
        for (int k = 0; k < N; k++)
            a[k] += b[k];
        store_lanes<T, N>(x + row * C + c, a);
    }
}

template <class T, int N>
static void launch_embed(cudaStream_t stream, Tensor x, Tensor tokens, Tensor wte, Tensor wpe)
{
    LAUNCH((embed<T, N>), blocks_for(x.dim[0], WARPS), THREADS, 0, stream, (T *)x.data,
           (const int32_t *)tokens.data, (const T *)wte.data, (const T *)wpe.data, x.dim[0],
           tokens.dim[1], x.dim[1]);
}

template <class T>
static void forward(cudaStream_t stream, Tensor x, Tensor tokens, Tensor wte, Tensor wpe)
{
    if (fits_lanes<T>(x.dim[1], x.data, wte.data, wpe.data))
        launch_embed<T, lanes_of<T>()>(stream, x, tokens, wte, wpe);
    else
        launch_embed<T, 1>(stream, x, tokens, wte, wpe);
}

void cuda_embedding_forward(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe)
{
    BY_DTYPE(x.dtype, forward<T>(cuda_device(dev)->stream, x, tokens, wte, wpe));
    cuda_launched(dev, "embedding_forward");
}

/* ---- sorting: one pass puts (key, row) in the order of one digit of the key, stably ---------- */

/* The digits of a tile of keys into shared memory; returns how many keys the tile has. */
__device__ __forceinline__ int load_digits(uint8_t *digit, const int32_t *keys, int32_t n,
                                           int shift)
{
    int32_t begin = (int32_t)blockIdx.x * CUDA_SORT_TILE;
    int count = min((int)CUDA_SORT_TILE, n - begin);
    for (int i = (int)threadIdx.x; i < count; i += THREADS)
        digit[i] = (uint8_t)(keys[begin + i] >> shift);
    __syncthreads();
    return count;
}

/* counts (tiles, DIGITS) = how often each digit occurs in each tile. A block per tile. */
__global__ void __launch_bounds__(THREADS)
    count_digits(int32_t *counts, const int32_t *keys, int32_t n, int shift)
{
    SHARED_ARRAY(uint8_t, digit, CUDA_SORT_TILE);
    int count = load_digits(digit, keys, n, shift);
    int32_t mine = 0;
    for (int i = 0; i < count; i++)
        mine += digit[i] == threadIdx.x;
    counts[blockIdx.x * DIGITS + threadIdx.x] = mine;
}

/* counts -> places: where the first key of a tile with a digit goes. One block, a thread per digit:
 * smaller digits go before, then the same digit in earlier tiles. */
__global__ void __launch_bounds__(THREADS) place_digits(int32_t *counts, int32_t n_tiles)
{
    SHARED_ARRAY(int32_t, total, DIGITS);
    int d = (int)threadIdx.x;
    int32_t sum = 0;
    for (int32_t tile = 0; tile < n_tiles; tile++)
        sum += counts[tile * DIGITS + d];
    total[d] = sum;
    __syncthreads();
    int32_t place = 0;
    for (int smaller = 0; smaller < d; smaller++)
        place += total[smaller];
    for (int32_t tile = 0; tile < n_tiles; tile++) {
        int32_t count = counts[tile * DIGITS + d];
        counts[tile * DIGITS + d] = place;
        place += count;
    }
}

/* rows is NULL in the first pass: row i is i. A block per tile; the thread of a digit walks the
 * tile in order and hands out places, then all threads move the pairs. */
__global__ void __launch_bounds__(THREADS)
    scatter_pairs(int32_t *keys_out, int32_t *rows_out, const int32_t *keys, const int32_t *rows,
                  const int32_t *places, int32_t n, int shift)
{
    SHARED_ARRAY(uint8_t, digit, CUDA_SORT_TILE);
    SHARED_ARRAY(int32_t, place_of, CUDA_SORT_TILE);
    int count = load_digits(digit, keys, n, shift);
    int32_t place = places[blockIdx.x * DIGITS + threadIdx.x];
    for (int i = 0; i < count; i++)
        if (digit[i] == threadIdx.x)
            place_of[i] = place++;
    __syncthreads();
    int32_t begin = (int32_t)blockIdx.x * CUDA_SORT_TILE;
    for (int i = (int)threadIdx.x; i < count; i += THREADS) {
        keys_out[place_of[i]] = keys[begin + i];
        rows_out[place_of[i]] = rows ? rows[begin + i] : begin + i;
    }
}

/* Tokens in ascending order and the rows they come from. */
struct SortedTokens {
    const int32_t *token, *row; /* (n) */
    int32_t n;
};

static SortedTokens sort_tokens(Device *dev, Tensor tokens, int64_t vocab_padded,
                                const CudaEmbeddingScratch &scratch)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    char *base = (char *)dev->workspace.data;
    int32_t *counts = (int32_t *)(base + scratch.counts), n = (int32_t)tensor_count(tokens);
    unsigned tiles = blocks_for(n, CUDA_SORT_TILE);
    SortedTokens sorted = {(const int32_t *)tokens.data, NULL, n};
    for (int pass = 0; pass == 0 || (vocab_padded - 1) >> (8 * pass) > 0; pass++) {
        int32_t *keys = (int32_t *)(base + scratch.keys[pass % 2]);
        int32_t *rows = (int32_t *)(base + scratch.rows[pass % 2]);
        LAUNCH(count_digits, tiles, THREADS, 0, stream, counts, sorted.token, n, 8 * pass);
        LAUNCH(place_digits, 1, THREADS, 0, stream, counts, (int32_t)tiles);
        LAUNCH(scatter_pairs, tiles, THREADS, 0, stream, keys, rows, sorted.token, sorted.row,
               counts, n, 8 * pass);
        sorted.token = keys;
        sorted.row = rows;
    }
    return sorted;
}

/* ---- adding the rows of each token ----------------------------------------------------------- */

/* Work for a warp: 32 * N channels from `c` on, this lane's first, at an index that counts
 * positions or tiles. */
struct Slice {
    int64_t index, c;
};

template <int N> __device__ __forceinline__ Slice warp_slice(int64_t C)
{
    int64_t slices = (C + 32 * N - 1) / (32 * N);
    int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    Slice s = {warp / slices, (warp % slices * 32 + threadIdx.x % 32) * N};
    return s;
}

template <int N> static unsigned blocks_for_slices(int64_t n, int64_t C)
{
    return blocks_for(n * ((C + 32 * N - 1) / (32 * N)), WARPS);
}

/* Does position p hold the token of the position before it? */
__device__ __forceinline__ bool continues(const SortedTokens &sorted, int64_t p)
{
    return p > 0 && sorted.token[p - 1] == sorted.token[p];
}

/* The end of the equal tokens from p on, at most `limit`: they are sorted, so by halving. */
__device__ __forceinline__ int64_t run_end(const int32_t *token, int64_t p, int64_t limit)
{
    int32_t wanted = token[p];
    int64_t same = p, beyond = limit; /* token[same] is wanted, token[beyond] is not or not there */
    if (p + 1 < limit && token[p + 1] != wanted)
        return p + 1;
    while (beyond - same > 1) {
        int64_t middle = (same + beyond) / 2;
        if (token[middle] == wanted)
            same = middle;
        else
            beyond = middle;
    }
    return beyond;
}

template <int N> __device__ __forceinline__ void add_to(float *p, const float *x)
{
    float old[N];
    load_lanes<float, N>(old, p);
#pragma unroll
    for (int k = 0; k < N; k++)
        old[k] += x[k];
    store_lanes<float, N>(p, old);
}

/* A warp per sorted position and slice of channels: it does nothing unless a run or a tile starts
 * at its position. heads (tiles, C) = what continues from the tile before; all else is added to
 * dwte. */
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    add_runs(float *dwte, float *heads, const T *dx, SortedTokens sorted, int64_t C)
{
    Slice s = warp_slice<N>(C);
    int64_t p = s.index;
    if (p >= sorted.n || s.c >= C)
        return;
    bool tile_start = p % CUDA_RUN_TILE == 0, continued = continues(sorted, p);
    if (continued && !tile_start)
        return;
    int64_t tile_end = (p / CUDA_RUN_TILE + 1) * CUDA_RUN_TILE;
    int64_t end = run_end(sorted.token, p, min(tile_end, (int64_t)sorted.n));
    float sum[N] = {};
#pragma unroll 4
    for (int64_t q = p; q < end; q++) {
        float v[N];
        load_lanes<T, N>(v, dx + sorted.row[q] * C + s.c);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum[k] += v[k];
    }
    if (continued)
        store_lanes<float, N>(heads + p / CUDA_RUN_TILE * C + s.c, sum);
    else
        add_to<N>(dwte + sorted.token[p] * C + s.c, sum);
}

/* dwte += heads. A warp per tile and slice: the tile that is the first a run continues into takes
 * all heads of that run, in order. */
template <int N>
__global__ void __launch_bounds__(THREADS)
    add_heads(float *dwte, const float *heads, SortedTokens sorted, int64_t C)
{
    Slice s = warp_slice<N>(C);
    int64_t tile = s.index, p = tile * CUDA_RUN_TILE;
    if (p >= sorted.n || s.c >= C || !continues(sorted, p))
        return;
    int32_t token = sorted.token[p];
    if (tile > 1 && sorted.token[p - CUDA_RUN_TILE - 1] == token)
        return;
    float sum[N] = {};
    for (; p < sorted.n && sorted.token[p] == token; p += CUDA_RUN_TILE) {
        float v[N];
        load_lanes<float, N>(v, heads + p / CUDA_RUN_TILE * C + s.c);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum[k] += v[k];
    }
    add_to<N>(dwte + token * C + s.c, sum);
}

/* dwpe (T,C) += dx (B,T,C) summed over B in order. A thread per N elements of dwpe. */
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    add_positions(float *dwpe, const T *dx, int64_t B, int64_t per_sequence)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= per_sequence)
        return;
    float sum[N] = {};
#pragma unroll 4
    for (int64_t b = 0; b < B; b++) {
        float v[N];
        load_lanes<T, N>(v, dx + b * per_sequence + i);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum[k] += v[k];
    }
    add_to<N>(dwpe + i, sum);
}

template <class T, int N>
static void launch_sums(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens)
{
    cudaStream_t stream = cuda_device(dev)->stream;
    int64_t n_rows = dx.dim[0], C = dx.dim[1], per_sequence = tokens.dim[1] * C;
    CudaEmbeddingScratch scratch = cuda_embedding_scratch(n_rows, C);
    float *heads = (float *)((char *)dev->workspace.data + scratch.heads);
    SortedTokens sorted = sort_tokens(dev, tokens, dwte.dim[0], scratch);
    LAUNCH((add_runs<T, N>), blocks_for_slices<N>(n_rows, C), THREADS, 0, stream,
           (float *)dwte.data, heads, (const T *)dx.data, sorted, C);
    if (n_rows > CUDA_RUN_TILE)
        LAUNCH((add_heads<N>), blocks_for_slices<N>(blocks_for(n_rows, CUDA_RUN_TILE), C), THREADS,
               0, stream, (float *)dwte.data, heads, sorted, C);
    LAUNCH((add_positions<T, N>), blocks_for(per_sequence, THREADS * N), THREADS, 0, stream,
           (float *)dwpe.data, (const T *)dx.data, tokens.dim[0], per_sequence);
}

template <class T>
static void backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens)
{
    if (fits_lanes<T>(dx.dim[1], dwte.data, dwpe.data, dx.data))
        launch_sums<T, lanes_of<T>()>(dev, dwte, dwpe, dx, tokens);
    else
        launch_sums<T, 1>(dev, dwte, dwpe, dx, tokens);
}

void cuda_embedding_backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens)
{
    BY_DTYPE(dx.dtype, backward<T>(dev, dwte, dwpe, dx, tokens));
    cuda_launched(dev, "embedding_backward");
}
