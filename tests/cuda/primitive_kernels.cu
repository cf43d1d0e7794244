#include "tests/cuda/primitive_kernels.h"

#include <primitives.cuh>

#include "kernels/cuda/cuda_device.h"

enum { THREADS = 64 };

static unsigned blocks_of(int64_t n)
{
    return (unsigned)((n + THREADS - 1) / THREADS);
}

static cudaStream_t stream_of(Device *dev)
{
    return cuda_device(dev)->stream;
}

/* ---- conversions --------------------------------------------------------------------------- */

template <class T> __device__ __forceinline__ uint16_t bits_of(T x)
{
    union {
        T value;
        uint16_t bits;
    } both = {x};
    return both.bits;
}

template <class T> __device__ __forceinline__ T value_of(uint16_t bits)
{
    return *(T *)&bits;
}

template <class T>
static __global__ void narrow_kernel(uint16_t *single, uint32_t *packed, const float *x, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    single[i] = bits_of(from_float<T>(x[i]));
    packed[i] = pack2<T>(x[i], x[n - 1 - i]);
}

void primitive_narrow(Device *dev, DType dtype, uint16_t *single, uint32_t *packed, const float *x,
                      int64_t n)
{
    if (dtype == DTYPE_BF16)
        LAUNCH((narrow_kernel<bf16>), blocks_of(n), THREADS, 0, stream_of(dev), single, packed, x,
               n);
    else
        LAUNCH((narrow_kernel<f16>), blocks_of(n), THREADS, 0, stream_of(dev), single, packed, x,
               n);
    cuda_launched(dev, "narrow");
}

template <class T>
static __global__ void widen_kernel(float *single, float *pairs, const uint16_t *bits, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    single[i] = to_float(value_of<T>(bits[i]));
    float2 pair = unpack2<T>(bits[i] | (uint32_t)bits[n - 1 - i] << 16);
    pairs[2 * i] = pair.x;
    pairs[2 * i + 1] = pair.y;
}

void primitive_widen(Device *dev, DType dtype, float *single, float *pairs, const uint16_t *bits,
                     int64_t n)
{
    if (dtype == DTYPE_BF16)
        LAUNCH((widen_kernel<bf16>), blocks_of(n), THREADS, 0, stream_of(dev), single, pairs, bits,
               n);
    else
        LAUNCH((widen_kernel<f16>), blocks_of(n), THREADS, 0, stream_of(dev), single, pairs, bits,
               n);
    cuda_launched(dev, "widen");
}

static __global__ void exp2_kernel(float *y, const float *x, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = fast_exp2(x[i]);
}

void primitive_exp2(Device *dev, float *y, const float *x, int64_t n)
{
    LAUNCH(exp2_kernel, blocks_of(n), THREADS, 0, stream_of(dev), y, x, n);
    cuda_launched(dev, "exp2");
}

/* ---- warps ----------------------------------------------------------------------------------- */

static __global__ void shuffle_kernel(double *y, const double *x, int step, int width)
{
    const unsigned all = 0xffffffffu, l = threadIdx.x;
    double mine = x[l];
    y[l] = __shfl_sync(all, mine, step, width);
    y[LANES + l] = __shfl_xor_sync(all, mine, step, width);
    y[2 * LANES + l] = __shfl_down_sync(all, mine, (unsigned)step, width);
    y[3 * LANES + l] = __shfl_up_sync(all, mine, (unsigned)step, width);
}

void primitive_shuffle(Device *dev, double *y, const double *x, int step, int width)
{
    LAUNCH(shuffle_kernel, 1, LANES, 0, stream_of(dev), y, x, step, width);
    cuda_launched(dev, "shuffle");
}

static __global__ void ldmatrix_kernel(uint32_t *plain, uint32_t *transposed,
                                       const uint16_t *memory, const int32_t *order)
{
    DYN_SHARED(uint16_t, rows);
    int l = (int)threadIdx.x;
    for (int i = 0; i < LDMATRIX_STRIDE; i++)
        rows[l * LDMATRIX_STRIDE + i] = memory[l * LDMATRIX_STRIDE + i];
    __syncwarp();
    const uint16_t *row = rows + order[l] * LDMATRIX_STRIDE;
    ldmatrix_x4(plain + 4 * l, row);
    ldmatrix_x4_transposed(transposed + 4 * l, row);
}

void primitive_ldmatrix(Device *dev, uint32_t *plain, uint32_t *transposed, const uint16_t *memory,
                        const int32_t *order)
{
    LAUNCH(ldmatrix_kernel, 1, LANES, LANES * LDMATRIX_STRIDE * sizeof(uint16_t), stream_of(dev),
           plain, transposed, memory, order);
    cuda_launched(dev, "ldmatrix");
}

template <class T> static __global__ void mma_kernel(float *d, const uint32_t *a, const uint32_t *b)
{
    float sums[4];
    for (int i = 0; i < 4; i++)
        sums[i] = d[4 * threadIdx.x + i];
    mma_16x8x16<T>(sums, a + 4 * threadIdx.x, b + 2 * threadIdx.x);
    for (int i = 0; i < 4; i++)
        d[4 * threadIdx.x + i] = sums[i];
}

void primitive_mma(Device *dev, DType dtype, float *d, const uint32_t *a, const uint32_t *b)
{
    if (dtype == DTYPE_BF16)
        LAUNCH((mma_kernel<bf16>), 1, LANES, 0, stream_of(dev), d, a, b);
    else
        LAUNCH((mma_kernel<f16>), 1, LANES, 0, stream_of(dev), d, a, b);
    cuda_launched(dev, "mma");
}

/* ---- asynchronous copies ------------------------------------------------------------------------
 */

static __device__ __forceinline__ void save_place(uint32_t *seen, const uint4 *place)
{
    uint4 words = *place;
    seen[0] = words.x, seen[1] = words.y, seen[2] = words.z, seen[3] = words.w;
}

static __global__ void cp_async_kernel(uint32_t *seen, const uint4 *src, const int32_t *valid)
{
    SHARED_ARRAY(uint4, place, N_GROUPS * LANES);
    int l = (int)threadIdx.x;
    for (int g = 0; g < N_GROUPS; g++)
        place[g * LANES + l] = make_uint4(7, 7, 7, 7);
    __syncwarp();
    for (int g = 0; g < N_GROUPS; g++) {
        cp_async16(&place[g * LANES + l], src + g * LANES + l, valid[g * LANES + l] != 0);
        cp_async_commit();
    }
    cp_async_wait<2>();
    save_place(seen + GROUP_WORDS * l, &place[l]);
    cp_async_wait<1>();
    save_place(seen + GROUP_WORDS * (LANES + l), &place[LANES + l]);
    cp_async_wait<0>();
    save_place(seen + GROUP_WORDS * (2 * LANES + l), &place[2 * LANES + l]);
}

void primitive_cp_async(Device *dev, uint32_t *seen, const uint32_t *src, const int32_t *valid)
{
    LAUNCH(cp_async_kernel, 1, LANES, 0, stream_of(dev), seen, (const uint4 *)src, valid);
    cuda_launched(dev, "cp.async");
}
