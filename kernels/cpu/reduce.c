#include "kernels/cpu/cpu_ops.h"

#include "kernels/cpu/parallel.h"

/* float32 values and their squares are summed in double: neither can overflow, and NaN and infinity
 * pass through. */
static double sum_of(const float *x, Span span)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = span.begin; i < span.end; i++)
        sum += (double)x[i];
    return sum;
}

static double sum_squares_of(const float *x, Span span)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = span.begin; i < span.end; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

/* The chunks' sums, added in chunk order. */
static double sum_chunks(Device *dev, Tensor x, double (*sum_span)(const float *, Span))
{
    int64_t n = tensor_count(x);
    double partial[CPU_CHUNKS], total = 0;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t k = 0; k < CPU_CHUNKS; k++)
        partial[k] = sum_span(x.data, cpu_span(n, CPU_CHUNKS, k, 16));
    for (int64_t k = 0; k < CPU_CHUNKS; k++)
        total += partial[k];
    return total;
}

void cpu_add_sum(Device *dev, Tensor total, Tensor x, double scale)
{
    *(double *)total.data += scale * sum_chunks(dev, x, sum_of);
}

void cpu_add_sum_squares(Device *dev, Tensor total, Tensor x)
{
    *(double *)total.data += sum_chunks(dev, x, sum_squares_of);
}
