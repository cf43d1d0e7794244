/* A block owns a row of logits. Where the row fits into the block's registers, memory sees one read
 * and one write of it; other rows (float32 of a large vocabulary) are read again, out of the second
 * level of cache.
 *
 * Every thread finds the maximum of its own logits and the sum of exp(x - maximum); the block
 * combines these pairs, with one barrier. Columns beyond the vocabulary count as -infinity. A NaN
 * passes through the sum, whatever the maximum made of it. */
#include "kernels/cuda/common.cuh"

namespace
{

constexpr float LOG2_E = 1.44269504f;

enum { MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / 32 };

/* Rows of Vp logits, the first V of them in the vocabulary. */
template <class T> struct Loss {
    float *losses;
    T *logits;
    const int32_t *targets;
    int V, Vp;
    float dloss;
};

/* ---- what a thread has of a row ------------------------------------------------------------- */

/* The first of L columns: piece i of this thread. The pieces of a block's threads lie side by side,
 * then come the next ones. */
template <int L> __device__ __forceinline__ int column_of(int i)
{
    return ((int)threadIdx.x + i * (int)blockDim.x) * L;
}

/* x[k] = value in columns V.. */
template <int L>
__device__ __forceinline__ void fill_padding(float *x, int column, int V, float value)
{
    if (column + L <= V)
        return;
#pragma unroll
    for (int k = 0; k < L; k++)
        x[k] = column + k < V ? x[k] : value;
}

/* Up to PIECES pieces of 16 bytes, in registers. */
template <class T, int PIECES> struct HeldRow {
    static constexpr int L = lanes_of<T>(), MOST = PIECES, UNROLL = PIECES;
    Packet<T> held[PIECES];

    __device__ __forceinline__ HeldRow(const T *row, int V, int Vp)
    {
#pragma unroll
        for (int i = 0; i < PIECES; i++)
            if (column_of<L>(i) < Vp)
                held[i] = load_packet(row + column_of<L>(i));
#pragma unroll
        for (int i = 0; i < PIECES; i++)
            if (column_of<L>(i) < Vp && column_of<L>(i) + L > V)
                mask(held[i], column_of<L>(i), V);
    }
    static __device__ __forceinline__ void mask(Packet<T> &packet, int column, int V)
    {
        float x[L];
        unpack(x, packet);
        fill_padding<L>(x, column, V, -INFINITY);
        store_lanes<T, L>((T *)&packet, x);
    }
    __device__ __forceinline__ void get(float *x, int i) const
    {
        unpack(x, held[i]);
    }
};

/* Any number of pieces of LANES elements, read again on every look. */
template <class T, int LANES> struct RereadRow {
    static constexpr int L = LANES, MOST = 1 << 30, UNROLL = 4;
    const T *row;
    int V;

    __device__ __forceinline__ RereadRow(const T *row_, int V_, int) : row(row_), V(V_)
    {
    }
    __device__ __forceinline__ void get(float *x, int i) const
    {
        load_lanes<T, L>(x, row + column_of<L>(i));
        fill_padding<L>(x, column_of<L>(i), V, -INFINITY);
    }
};

/* ---- softmax -------------------------------------------------------------------------------- */

/* Of some logits: the largest, and the sum of exp(x - max). Of none: -infinity and 0. */
struct Softmax {
    float max, sum;
};

__device__ __forceinline__ float exp_of_difference(float x, float max)
{
    return fast_exp2((x - max) * LOG2_E);
}

/* Of what this thread has. */
template <class Row> __device__ __forceinline__ Softmax thread_softmax(const Row &row, int Vp)
{
    constexpr int L = Row::L;
    Softmax own = {-INFINITY, 0};
    float x[L];
#pragma unroll Row::UNROLL
    for (int i = 0; i < Row::MOST && column_of<L>(i) < Vp; i++) {
        row.get(x, i);
#pragma unroll
        for (int k = 0; k < L; k++)
            own.max = fmaxf(own.max, x[k]);
    }
    const float base = own.max == -INFINITY ? 0.0f : own.max; /* not -infinity - -infinity */
#pragma unroll Row::UNROLL
    for (int i = 0; i < Row::MOST && column_of<L>(i) < Vp; i++) {
        row.get(x, i);
#pragma unroll
        for (int k = 0; k < L; k++)
            own.sum += exp_of_difference(x[k], base);
    }
    return own;
}

/* Of all lanes' logits, the same bits in all of them. */
__device__ __forceinline__ Softmax warp_softmax(Softmax own)
{
    const float max = warp_max(own.max);
    const float factor = own.max == max ? 1.0f : exp_of_difference(own.max, max);
    const Softmax all = {max, warp_sum(own.sum * factor)};
    return all;
}

/* Of the block's logits, the same bits in all threads; what was read before it is written after it.
 */
__device__ __forceinline__ Softmax block_softmax(Softmax own)
{
    SHARED_ARRAY(Softmax, of_warp, MAX_WARPS);
    const int lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
    own = warp_softmax(own);
    if (lane == 0)
        of_warp[threadIdx.x / 32] = own;
    __syncthreads();
    const Softmax none = {-INFINITY, 0};
    return warp_softmax(lane < n_warps ? of_warp[lane] : none);
}

/* ---- kernels -------------------------------------------------------------------------------- */

template <class T, int L> __device__ __forceinline__ void store_zeros(T *row, int Vp)
{
    const float zero[L] = {};
    for (int i = 0; column_of<L>(i) < Vp; i++)
        store_lanes<T, L>(row + column_of<L>(i), zero);
}

/* logits = dloss * (softmax - onehot) of one row. */
template <class T, class Row>
__device__ __forceinline__ void store_gradient(T *logits, const Row &row, const Loss<T> &a,
                                               Softmax all, int target)
{
    constexpr int L = Row::L;
    const float scale = a.dloss / all.sum;
#pragma unroll Row::UNROLL
    for (int i = 0; i < Row::MOST && column_of<L>(i) < a.Vp; i++) {
        const int column = column_of<L>(i);
        float x[L];
        row.get(x, i);
#pragma unroll
        for (int k = 0; k < L; k++)
            x[k] = exp_of_difference(x[k], all.max) * scale;
        if (column <= target && target < column + L) {
#pragma unroll
            for (int k = 0; k < L; k++)
                x[k] -= column + k == target ? a.dloss : 0.0f;
        }
        fill_padding<L>(x, column, a.V, 0);
        store_lanes<T, L>(logits + column, x);
    }
}

/* A row per block. A target outside the vocabulary makes the loss NaN. */
template <class T, class Row, bool backward>
__global__ void __launch_bounds__(MAX_THREADS) cross_entropy_kernel(Loss<T> a)
{
    T *logits = a.logits + (int64_t)blockIdx.x * a.Vp;
    float *loss = a.losses + blockIdx.x;
    const int target = a.targets[blockIdx.x];
    if (target < 0) {
        if (threadIdx.x == 0)
            *loss = 0;
        if (backward)
            store_zeros<T, Row::L>(logits, a.Vp);
        return;
    }
    const Row row(logits, a.V, a.Vp);
    float logit = NAN;
    if (threadIdx.x == 0 && target < a.V)
        logit = to_float(logits[target]);
    const Softmax all = block_softmax(thread_softmax(row, a.Vp));
    if (threadIdx.x == 0)
        *loss = logf(all.sum) - (logit - all.max);
    if (backward)
        store_gradient(logits, row, a, all, target);
}

/* ---- launching ------------------------------------------------------------------------------ */

/* As few warps as have all `pieces` of a row at `most` per thread. */
unsigned threads_for(int64_t pieces, int most)
{
    unsigned threads = 32 * blocks_for(pieces, 32 * (int64_t)most);
    return threads < MAX_THREADS ? threads : (unsigned)MAX_THREADS;
}

template <class T, bool backward>
void launch_cross_entropy(Device *dev, const Loss<T> &a, int64_t n)
{
    constexpr int L = lanes_of<T>();
    const cudaStream_t stream = cuda_device(dev)->stream;
    const unsigned rows = (unsigned)n;
    const int64_t pieces = a.Vp / L;
    if (!fits_lanes<T>(a.Vp, a.logits))
        LAUNCH((cross_entropy_kernel<T, RereadRow<T, 1>, backward>), rows, threads_for(a.Vp, 4), 0,
               stream, a);
    else if (pieces <= 4 * MAX_THREADS)
        LAUNCH((cross_entropy_kernel<T, HeldRow<T, 4>, backward>), rows, threads_for(pieces, 4), 0,
               stream, a);
    else if (pieces <= 7 * MAX_THREADS)
        LAUNCH((cross_entropy_kernel<T, HeldRow<T, 7>, backward>), rows, threads_for(pieces, 7), 0,
               stream, a);
    else
        LAUNCH((cross_entropy_kernel<T, RereadRow<T, L>, backward>), rows, MAX_THREADS, 0, stream,
               a);
    cuda_launched(dev, "cross entropy");
}

} /* namespace */

/* ---- the ops -------------------------------------------------------------------------------- */

void cuda_cross_entropy_forward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                int64_t vocab_size)
{
    const int V = (int)vocab_size, Vp = (int)logits.dim[1];
    BY_DTYPE(logits.dtype, launch_cross_entropy<T, false>(dev,
                                                          {(float *)losses.data, (T *)logits.data,
                                                           (const int32_t *)targets.data, V, Vp, 0},
                                                          logits.dim[0]));
}

void cuda_cross_entropy_forward_backward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                         int64_t vocab_size, float dloss)
{
    const int V = (int)vocab_size, Vp = (int)logits.dim[1];
    BY_DTYPE(logits.dtype,
             launch_cross_entropy<T, true>(dev,
                                           {(float *)losses.data, (T *)logits.data,
                                            (const int32_t *)targets.data, V, Vp, dloss},
                                           logits.dim[0]));
}
