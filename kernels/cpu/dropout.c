#include "kernels/cpu/cpu_ops.h"

#include "kernels/cpu/mask.h"
#include "kernels/cpu/parallel.h"

enum { BLOCK = 1024 };

/* Elements [span.begin, span.end) of the flattened tensor; a sample's elements are contiguous. */
static void drop_span(float *y, const float *x, int64_t per_sample, const Dropout *dropout,
                      Span span)
{
    float scale[BLOCK];
    int64_t n;
    for (int64_t begin = span.begin; begin < span.end; begin += n) {
        int64_t sample = begin / per_sample, first = begin % per_sample;
        n = span.end - begin < BLOCK ? span.end - begin : BLOCK;
        n = per_sample - first < n ? per_sample - first : n;
        cpu_mask(scale, n, dropout, dropout->first_sample + sample, first);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[begin + i] = x[begin + i] * scale[i];
    }
}

void cpu_dropout(Device *dev, Tensor y, Tensor x, Dropout dropout)
{
    int64_t n = tensor_count(x), per_sample = dropout.tokens_per_sample * x.dim[1];
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int32_t i = 0; i < dev->n_threads; i++)
        drop_span(y.data, x.data, per_sample, &dropout, cpu_span(n, dev->n_threads, i, BLOCK));
}
