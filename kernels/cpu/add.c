#include "kernels/cpu/cpu_ops.h"

static void add_f32(Device *dev, float *y, const float *x, int64_t n)
{
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void add_bf16(Device *dev, float *y, const uint16_t *x, int64_t n)
{
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] += bf16_to_f32(x[i]);
}

static void add_f16(Device *dev, float *y, const uint16_t *x, int64_t n)
{
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] += f16_to_f32(x[i]);
}

void cpu_add(Device *dev, Tensor dst, Tensor src)
{
    int64_t n = tensor_count(src);
    if (src.dtype == DTYPE_F32)
        add_f32(dev, dst.data, src.data, n);
    else if (src.dtype == DTYPE_BF16)
        add_bf16(dev, dst.data, src.data, n);
    else
        add_f16(dev, dst.data, src.data, n);
}
