#include "kernels/cpu/cpu_ops.h"

#include "base/check.h"
#include "kernels/cpu/parallel.h"

void cpu_embedding_forward(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe)
{
    int64_t n = x.dim[0], c = x.dim[1], t = tokens.dim[1];
    const int32_t *token = tokens.data;
    const float *word = wte.data, *position = wpe.data;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t r = 0; r < n; r++) {
        ASSERT(token[r] >= 0 && token[r] < wte.dim[0], "token %d of %lld", token[r],
               (long long)wte.dim[0]);
        float *out = (float *)x.data + r * c;
        const float *a = word + token[r] * c, *b = position + r % t * c;
#pragma omp simd
        for (int64_t i = 0; i < c; i++)
            out[i] = a[i] + b[i];
    }
}

/* Columns [columns.begin, columns.end) of both gradients, rows in order. */
static void add_rows(float *dwte, float *dwpe, Tensor dx, Tensor tokens, Span columns)
{
    int64_t n = dx.dim[0], c = dx.dim[1], t = tokens.dim[1];
    const int32_t *token = tokens.data;
    for (int64_t r = 0; r < n; r++) {
        const float *d = (const float *)dx.data + r * c;
        float *word = dwte + token[r] * c, *position = dwpe + r % t * c;
#pragma omp simd
        for (int64_t i = columns.begin; i < columns.end; i++) {
            word[i] += d[i];
            position[i] += d[i];
        }
    }
}

/* Each thread owns some columns of both gradients, so tokens may repeat and no sum is shared. */
void cpu_embedding_backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens)
{
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int32_t i = 0; i < dev->n_threads; i++)
        add_rows(dwte.data, dwpe.data, dx, tokens, cpu_span(dx.dim[1], dev->n_threads, i, 16));
}
