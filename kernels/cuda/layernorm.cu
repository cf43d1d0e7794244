/* A warp owns a row. Up to 2048 channels of an aligned row stay in its registers, so that memory
 * sees every array once; other rows are read again, out of the first two levels of cache.
 *
 * The weights' gradients are sums over rows: a block takes a run of rows (scratch.h), its warps add
 * up in their registers, and the block's sum goes to the workspace; a second kernel adds the runs
 * in order. How the sum is divided depends on the shape only. */
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/scratch.h"

namespace
{

constexpr float EPSILON = 1e-5f;

enum { WARPS = 8, THREADS = 32 * WARPS }; /* of a block */

/* N, C as everywhere; absent arguments are NULL. */
template <class T> struct Forward {
    T *y;
    float *mean, *rstd;
    T *sum;             /* = x + delta */
    const T *x, *delta; /* delta NULL: y = LayerNorm(x) */
    const T *w, *b;
    int64_t N, C;
};

template <class T> struct Backward {
    T *dx, *y;
    const T *dy, *x, *w, *b;
    const float *mean, *rstd;
    float *partial; /* (runs, 2C): dw and db of each run of rows */
    int64_t N, C;
};

/* ---- the mathematics of one element, and of a row ------------------------------------------- */

__device__ __forceinline__ float norm_of(float x, float mean, float rstd)
{
    return (x - mean) * rstd;
}

/* The one place where it is written, with its roundings, so that backward's y has forward's bits.
 */
__device__ __forceinline__ float output_of(float norm, float w, float b)
{
    return fmaf(norm, w, b);
}

/* What backward adds to dx. grad = dy * w; the means over the row are of grad and grad * norm. */
__device__ __forceinline__ float input_gradient(float grad, float norm, float rstd, float mean_grad,
                                                float mean_dot)
{
    return rstd * (grad - mean_grad - norm * mean_dot);
}

/* From the sum of squared differences from the mean. */
__device__ __forceinline__ float rstd_of(float squares, int64_t C)
{
    return 1.0f / sqrtf(squares / (float)C + EPSILON);
}

template <class T, int L> __device__ __forceinline__ void load_or_zero(float *x, const T *p)
{
    if (p) {
        load_lanes<T, L>(x, p);
    } else {
#pragma unroll
        for (int k = 0; k < L; k++)
            x[k] = 0;
    }
}

/* L elements of x + delta, rounded to what sum holds, which is also stored. */
template <class T, int L>
__device__ __forceinline__ void load_sum(float *x, const Forward<T> &a, int64_t at)
{
    load_lanes<T, L>(x, a.x + at);
    if (!a.delta)
        return;
    float delta[L];
    load_lanes<T, L>(delta, a.delta + at);
#pragma unroll
    for (int k = 0; k < L; k++)
        x[k] = to_float(from_float<T>(x[k] + delta[k]));
    store_lanes<T, L>(a.sum + at, x);
}

template <class T, int L>
__device__ __forceinline__ void store_output(T *y, const float *x, float mean, float rstd,
                                             const T *w, const T *b)
{
    float weight[L], bias[L], out[L];
    load_lanes<T, L>(weight, w);
    load_or_zero<T, L>(bias, b);
#pragma unroll
    for (int k = 0; k < L; k++)
        out[k] = output_of(norm_of(x[k], mean, rstd), weight[k], bias[k]);
    store_lanes<T, L>(y, out);
}

/* ---- forward -------------------------------------------------------------------------------- */

/* Rows in registers: CHANNELS of them in every lane, 16 bytes at a time. */
template <class T, int CHANNELS>
__global__ void __launch_bounds__(THREADS) layernorm_forward_held(Forward<T> a)
{
    constexpr int L = lanes_of<T>(), VECTORS = CHANNELS / L;
    const int first = (int)threadIdx.x % 32 * L, C = (int)a.C;
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, start = row * C;
    if (row >= a.N)
        return;
    float x[VECTORS][L], total = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        int c = first + 32 * L * i;
        if (c >= C)
            break;
        load_sum<T, L>(x[i], a, start + c);
#pragma unroll
        for (int k = 0; k < L; k++)
            total += x[i][k];
    }
    const float mean = warp_sum(total) / (float)C;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (first + 32 * L * i >= C)
            break;
#pragma unroll
        for (int k = 0; k < L; k++)
            squares += (x[i][k] - mean) * (x[i][k] - mean);
    }
    const float rstd = rstd_of(warp_sum(squares), C);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        int c = first + 32 * L * i;
        if (c >= C)
            break;
        store_output<T, L>(a.y + start + c, x[i], mean, rstd, a.w + c, a.b ? a.b + c : NULL);
    }
    if (first == 0)
        a.mean[row] = mean, a.rstd[row] = rstd;
}

/* Rows of any length; a lane reads again only what it wrote or read before. */
template <class T, int L>
__global__ void __launch_bounds__(THREADS) layernorm_forward_any(Forward<T> a)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, start = row * a.C;
    const int64_t first = (int64_t)(threadIdx.x % 32) * L, step = 32 * L;
    if (row >= a.N)
        return;
    const T *from = a.delta ? a.sum + start : a.x + start;
    float x[L], total = 0, squares = 0;
    for (int64_t c = first; c < a.C; c += step) {
        load_sum<T, L>(x, a, start + c);
#pragma unroll
        for (int k = 0; k < L; k++)
            total += x[k];
    }
    const float mean = warp_sum(total) / (float)a.C;
    for (int64_t c = first; c < a.C; c += step) {
        load_lanes<T, L>(x, from + c);
#pragma unroll
        for (int k = 0; k < L; k++)
            squares += (x[k] - mean) * (x[k] - mean);
    }
    const float rstd = rstd_of(warp_sum(squares), a.C);
    for (int64_t c = first; c < a.C; c += step) {
        load_lanes<T, L>(x, from + c);
        store_output<T, L>(a.y + start + c, x, mean, rstd, a.w + c, a.b ? a.b + c : NULL);
    }
    if (first == 0)
        a.mean[row] = mean, a.rstd[row] = rstd;
}

template <class T> void launch_forward(Device *dev, const Forward<T> &a)
{
    constexpr int L = lanes_of<T>();
    const cudaStream_t stream = cuda_device(dev)->stream;
    const unsigned blocks = blocks_for(a.N, WARPS);
    const int64_t channels = (a.C + 31) / 32;
    if (!fits_lanes<T>(a.C, a.y, a.sum, a.x, a.delta, a.w, a.b))
        LAUNCH((layernorm_forward_any<T, 1>), blocks, THREADS, 0, stream, a);
    else if (channels <= 24)
        LAUNCH((layernorm_forward_held<T, 24>), blocks, THREADS, 0, stream, a);
    else if (channels <= 40)
        LAUNCH((layernorm_forward_held<T, 40>), blocks, THREADS, 0, stream, a);
    else if (channels <= 64)
        LAUNCH((layernorm_forward_held<T, 64>), blocks, THREADS, 0, stream, a);
    else
        LAUNCH((layernorm_forward_any<T, L>), blocks, THREADS, 0, stream, a);
    cuda_launched(dev, "layernorm forward");
}

/* ---- backward ------------------------------------------------------------------------------- */

/* The rows of a block. */
struct Run {
    int64_t begin, end;
};

__device__ __forceinline__ Run run_of_block(int64_t N)
{
    Run run = {N * blockIdx.x / gridDim.x, N * (blockIdx.x + 1) / gridDim.x};
    return run;
}

/* dx += and y = of L elements of a row; grad and dot are the row's means. */
template <class T, int L>
__device__ __forceinline__ void store_gradient(const Backward<T> &a, int64_t at, int64_t c,
                                               const float *x, const float *dy, const float *old,
                                               float mean, float rstd, float grad, float dot)
{
    float w[L], dx[L];
    load_lanes<T, L>(w, a.w + c);
#pragma unroll
    for (int k = 0; k < L; k++)
        dx[k] = old[k] + input_gradient(dy[k] * w[k], norm_of(x[k], mean, rstd), rstd, grad, dot);
    store_lanes<T, L>(a.dx + at, dx);
    if (a.y)
        store_output<T, L>(a.y + at, x, mean, rstd, a.w + c, a.b ? a.b + c : NULL);
}

/* dx can wait in registers too, so that its way from memory is not added to that of x and dy:
 * where there is room beside the sums. */
template <class T, int VECTORS> __device__ constexpr bool holds_dx()
{
    return sizeof(T) == 2 && VECTORS <= 5;
}

/* One row, held in packets; its terms of dw and db are added to the lane's sums. */
template <class T, int VECTORS>
__device__ __forceinline__ void backward_row(const Backward<T> &a, int64_t row,
                                             float (*dw)[lanes_of<T>()], float (*db)[lanes_of<T>()])
{
    constexpr int L = lanes_of<T>();
    const int first = (int)threadIdx.x % 32 * L, C = (int)a.C;
    const int64_t start = row * C;
    const float mean = a.mean[row], rstd = a.rstd[row];
    Packet<T> held_x[VECTORS], held_dy[VECTORS], held_dx[VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        int c = first + 32 * L * i;
        if (c >= C)
            break;
        held_x[i] = load_packet(a.x + start + c);
        held_dy[i] = load_packet(a.dy + start + c);
        if (holds_dx<T, VECTORS>())
            held_dx[i] = load_packet(a.dx + start + c);
    }
    float grad = 0, dot = 0;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        int c = first + 32 * L * i;
        if (c >= C)
            break;
        float x[L], dy[L], w[L];
        unpack(x, held_x[i]);
        unpack(dy, held_dy[i]);
        load_lanes<T, L>(w, a.w + c);
#pragma unroll
        for (int k = 0; k < L; k++) {
            float norm = norm_of(x[k], mean, rstd);
            float g = dy[k] * w[k];
            grad += g;
            dot += g * norm;
            dw[i][k] += dy[k] * norm;
            db[i][k] += dy[k];
        }
    }
    grad = warp_sum(grad) / (float)C;
    dot = warp_sum(dot) / (float)C;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        int c = first + 32 * L * i;
        if (c >= C)
            break;
        float x[L], dy[L], old[L];
        unpack(x, held_x[i]);
        unpack(dy, held_dy[i]);
        unpack(old, holds_dx<T, VECTORS>() ? held_dx[i] : load_packet(a.dx + start + c));
        store_gradient<T, L>(a, start + c, c, x, dy, old, mean, rstd, grad, dot);
    }
}

/* Rows in registers, and the sums for dw and db of the channels a lane has: the warps of a block
 * take the rows of its run in turn. */
template <class T, int CHANNELS>
__global__ void __launch_bounds__(THREADS, CHANNELS <= 24 && sizeof(T) == 2 ? 2 : 1)
    layernorm_backward_held(Backward<T> a)
{
    constexpr int L = lanes_of<T>(), VECTORS = CHANNELS / L;
    /* Of each warp: dw and db of 32 vectors, element k of lane l at k * PITCH + l: neither writing
     * (by lanes) nor reading (by channels) meets a bank twice. */
    constexpr int PITCH = 32 + 32 / L, TABLE = L * PITCH;
    SHARED_ARRAY(float, sums, WARPS * 2 * TABLE);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, C = (int)a.C;
    const Run run = run_of_block(a.N);
    float dw[VECTORS][L] = {}, db[VECTORS][L] = {};
    const int end = (int)run.end;
    for (int row = (int)run.begin + warp; row < end; row += WARPS)
        backward_row<T, VECTORS>(a, row, dw, db);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int first = 32 * L * i;
        if (first >= C)
            break;
#pragma unroll
        for (int k = 0; k < L; k++) {
            sums[2 * warp * TABLE + k * PITCH + lane] = dw[i][k];
            sums[(2 * warp + 1) * TABLE + k * PITCH + lane] = db[i][k];
        }
        __syncthreads();
        for (int j = (int)threadIdx.x; j < 2 * 32 * L; j += THREADS) {
            int which = j / (32 * L), c = j % (32 * L), at = c % L * PITCH + c / L;
            if (first + c >= C)
                continue;
            float total = 0;
            for (int k = 0; k < WARPS; k++)
                total += sums[(2 * k + which) * TABLE + at];
            a.partial[(2 * (int64_t)blockIdx.x + which) * C + first + c] = total;
        }
        __syncthreads();
    }
}

/* One row of any length: dx and y. A lane reads again what it has read. */
template <class T, int L>
__device__ __forceinline__ void backward_long_row(const Backward<T> &a, int64_t row)
{
    const int64_t first = (int64_t)(threadIdx.x % 32) * L, step = 32 * L, start = row * a.C;
    const float mean = a.mean[row], rstd = a.rstd[row];
    float x[L], dy[L], w[L], old[L], grad = 0, dot = 0;
    for (int64_t c = first; c < a.C; c += step) {
        load_lanes<T, L>(x, a.x + start + c);
        load_lanes<T, L>(dy, a.dy + start + c);
        load_lanes<T, L>(w, a.w + c);
#pragma unroll
        for (int k = 0; k < L; k++) {
            grad += dy[k] * w[k];
            dot += dy[k] * w[k] * norm_of(x[k], mean, rstd);
        }
    }
    grad = warp_sum(grad) / (float)a.C;
    dot = warp_sum(dot) / (float)a.C;
    for (int64_t c = first; c < a.C; c += step) {
        load_lanes<T, L>(x, a.x + start + c);
        load_lanes<T, L>(dy, a.dy + start + c);
        load_lanes<T, L>(old, a.dx + start + c);
        store_gradient<T, L>(a, start + c, c, x, dy, old, mean, rstd, grad, dot);
    }
}

/* partial[c ..] (=, or += after the first rows) sums over `rows` of dy * norm and dy. */
template <class T, int L>
__device__ __forceinline__ void add_columns(const Backward<T> &a, Run rows, int64_t c, bool more)
{
    float *partial = a.partial + 2 * (int64_t)blockIdx.x * a.C + c, dw[L] = {}, db[L] = {};
    for (int64_t row = rows.begin; row < rows.end; row++) {
        float x[L], dy[L];
        load_lanes<T, L>(x, a.x + row * a.C + c);
        load_lanes<T, L>(dy, a.dy + row * a.C + c);
#pragma unroll
        for (int k = 0; k < L; k++) {
            dw[k] += dy[k] * norm_of(x[k], a.mean[row], a.rstd[row]);
            db[k] += dy[k];
        }
    }
#pragma unroll
    for (int k = 0; k < L; k++) {
        partial[k] = more ? partial[k] + dw[k] : dw[k];
        partial[a.C + k] = more ? partial[a.C + k] + db[k] : db[k];
    }
}

/* Rows of any length: a row per warp, then, while those rows are in cache, the columns they share;
 * each thread has columns of its own. */
template <class T, int L>
__global__ void __launch_bounds__(THREADS) layernorm_backward_any(Backward<T> a)
{
    const Run run = run_of_block(a.N);
    for (int64_t first = run.begin; first < run.end; first += WARPS) {
        const Run rows = {first, first + WARPS < run.end ? first + WARPS : run.end};
        const int64_t row = first + threadIdx.x / 32;
        if (row < rows.end)
            backward_long_row<T, L>(a, row);
        for (int64_t c = (int64_t)threadIdx.x * L; c < a.C; c += THREADS * L)
            add_columns<T, L>(a, rows, c, first > run.begin);
    }
}

/* dw, db (C) += the rows of partial (runs, 2C), `columns` of them: 2C, or C without db. A warp
 * takes every 8th run of 32 columns, then the warps' sums are added in order. */
__global__ void __launch_bounds__(THREADS)
    layernorm_add_runs(float *dw, float *db, const float *partial, int runs, int64_t C,
                       int64_t columns)
{
    SHARED_ARRAY(float, of_warp, THREADS);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int64_t column = (int64_t)blockIdx.x * 32 + lane;
    float total = 0;
    if (column < columns) {
#pragma unroll 8
        for (int run = warp; run < runs; run += WARPS)
            total += partial[2 * run * C + column];
    }
    of_warp[threadIdx.x] = total;
    __syncthreads();
    if (warp > 0 || column >= columns)
        return;
    for (int k = 1; k < WARPS; k++)
        total += of_warp[32 * k + lane];
    if (column < C)
        dw[column] += total;
    else
        db[column - C] += total;
}

template <class T> void launch_backward(Device *dev, const Backward<T> &a)
{
    constexpr int L = lanes_of<T>(), MOST = sizeof(T) == 4 ? 40 : 64; /* what registers hold */
    const cudaStream_t stream = cuda_device(dev)->stream;
    const unsigned runs = (unsigned)cuda_row_partials(a.N);
    const int64_t channels = (a.C + 31) / 32;
    if (!fits_lanes<T>(a.C, a.dx, a.y, a.dy, a.x, a.w, a.b))
        LAUNCH((layernorm_backward_any<T, 1>), runs, THREADS, 0, stream, a);
    else if (channels <= 24)
        LAUNCH((layernorm_backward_held<T, 24>), runs, THREADS, 0, stream, a);
    else if (channels <= 32)
        LAUNCH((layernorm_backward_held<T, 32>), runs, THREADS, 0, stream, a);
    else if (channels <= 40)
        LAUNCH((layernorm_backward_held<T, 40>), runs, THREADS, 0, stream, a);
    else if (channels <= MOST)
        LAUNCH((layernorm_backward_held<T, MOST>), runs, THREADS, 0, stream, a);
    else
        LAUNCH((layernorm_backward_any<T, L>), runs, THREADS, 0, stream, a);
    cuda_launched(dev, "layernorm backward");
}

} /* namespace */

/* ---- the ops -------------------------------------------------------------------------------- */

void cuda_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                            Tensor b)
{
    cuda_residual_layernorm_forward(dev, y, mean, rstd, tensor_none(), x, tensor_none(), w, b);
}

void cuda_residual_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                     Tensor x, Tensor delta, Tensor w, Tensor b)
{
    BY_DTYPE(x.dtype,
             launch_forward<T>(dev, {(T *)y.data, (float *)mean.data, (float *)rstd.data,
                                     (T *)sum.data, (const T *)x.data, (const T *)delta.data,
                                     (const T *)w.data, (const T *)b.data, x.dim[0], x.dim[1]}));
}

void cuda_layernorm_backward(Device *dev, const LayernormBackward *a)
{
    const int64_t N = a->x.dim[0], C = a->x.dim[1], runs = cuda_row_partials(N);
    const cudaStream_t stream = cuda_device(dev)->stream;
    float *partial = (float *)dev->workspace.data;
    BY_DTYPE(a->x.dtype,
             launch_backward<T>(dev, {(T *)a->dx.data, (T *)a->y.data, (const T *)a->dy.data,
                                      (const T *)a->x.data, (const T *)a->w.data,
                                      (const T *)a->b.data, (const float *)a->mean.data,
                                      (const float *)a->rstd.data, partial, N, C}));
    const int64_t columns = tensor_present(a->db) ? 2 * C : C;
    LAUNCH(layernorm_add_runs, blocks_for(columns, 32), THREADS, 0, stream, (float *)a->dw.data,
           (float *)a->db.data, partial, (int)runs, C, columns);
    cuda_launched(dev, "layernorm weight gradients");
}
