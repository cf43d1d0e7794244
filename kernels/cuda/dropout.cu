#include "kernels/cuda/dropout.cuh"

enum { THREADS = 256, QUAD = 4 };

/* A sample's elements are contiguous: per_sample of them, n in all. A thread takes one random block
 * and its QUAD elements; a quad never reaches into the next sample. In the aligned form per_sample
 * is a multiple of QUAD and the quads are one access; else elements are taken one by one. */
template <class T, bool aligned>
__global__ void __launch_bounds__(THREADS)
    drop(T *y, const T *x, int64_t n, int64_t per_sample, DropoutMask mask)
{
    int64_t quads_per_sample = (per_sample + QUAD - 1) / QUAD;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t sample = i / quads_per_sample, quad = i % quads_per_sample;
    int64_t begin = sample * per_sample + quad * QUAD;
    if (begin >= n)
        return;
    float4 factors = dropout_factors(mask, sample, quad);
    const float factor[QUAD] = {factors.x, factors.y, factors.z, factors.w};
    if (aligned) {
        float v[QUAD];
        load_lanes<T, QUAD>(v, x + begin);
#pragma unroll
        for (int k = 0; k < QUAD; k++)
            v[k] *= factor[k];
        store_lanes<T, QUAD>(y + begin, v);
        return;
    }
    int64_t left = min(per_sample - quad * QUAD, n - begin);
#pragma unroll
    for (int k = 0; k < QUAD; k++)
        if (k < left)
            y[begin + k] = from_float<T>(to_float(x[begin + k]) * factor[k]);
}

template <class T> static void launch(cudaStream_t stream, Tensor y, Tensor x, Dropout dropout)
{
    int64_t n = tensor_count(x), per_sample = dropout.tokens_per_sample * x.dim[1];
    int64_t samples = (n + per_sample - 1) / per_sample;
    unsigned blocks = blocks_for(samples * ((per_sample + QUAD - 1) / QUAD), THREADS);
    DropoutMask mask = dropout_mask(dropout);
    if (per_sample % QUAD == 0 && n % QUAD == 0 && fits_lanes<T>(0, y.data, x.data))
        LAUNCH((drop<T, true>), blocks, THREADS, 0, stream, (T *)y.data, (const T *)x.data, n,
               per_sample, mask);
    else
        LAUNCH((drop<T, false>), blocks, THREADS, 0, stream, (T *)y.data, (const T *)x.data, n,
               per_sample, mask);
}

void cuda_dropout(Device *dev, Tensor y, Tensor x, Dropout dropout)
{
    BY_DTYPE(x.dtype, launch<T>(cuda_device(dev)->stream, y, x, dropout));
    cuda_launched(dev, "dropout");
}
