/* A row of logits (200 KB at GPT-2's vocabulary) stays in the second-level cache between the passes
 * over it, so memory sees one read and one write. */
#include "kernels/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/vexp.h"

enum { BLOCK = 1024 }; /* summed in float, then added in double: the error does not grow with V */

static float row_max(const float *x, int64_t n)
{
    float max = -INFINITY;
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static double sum_exp(const float *x, int64_t n, float max)
{
    double total = 0;
    for (int64_t k = 0; k < n; k += BLOCK) {
        int64_t end = n - k < BLOCK ? n : k + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = k; i < end; i++)
            sum += vexp(x[i] - max);
        total += sum;
    }
    return total;
}

/* x = exp(x - max); returns the sum. */
static double replace_exp(float *x, int64_t n, float max)
{
    double total = 0;
    for (int64_t k = 0; k < n; k += BLOCK) {
        int64_t end = n - k < BLOCK ? n : k + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = k; i < end; i++) {
            x[i] = vexp(x[i] - max);
            sum += x[i];
        }
        total += sum;
    }
    return total;
}

static float loss_of(double sum, float max, float logit)
{
    return (float)(log(sum) - ((double)logit - (double)max));
}

void cpu_cross_entropy_forward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                               int64_t vocab_size)
{
    int64_t n = logits.dim[0], padded = logits.dim[1];
    float *loss = losses.data;
    const int32_t *target = targets.data;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t r = 0; r < n; r++) {
        const float *row = (const float *)logits.data + r * padded;
        ASSERT(target[r] < vocab_size, "target %d of %lld", target[r], (long long)vocab_size);
        loss[r] = 0;
        if (target[r] < 0)
            continue;
        float max = row_max(row, vocab_size);
        loss[r] = loss_of(sum_exp(row, vocab_size, max), max, row[target[r]]);
    }
}

/* One row with a target: returns its loss; row = dloss * (softmax - onehot). */
static float backward_row(float *row, int64_t n, int32_t target, float dloss)
{
    float max = row_max(row, n), logit = row[target];
    double sum = replace_exp(row, n, max);
    float scale = (float)((double)dloss / sum);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        row[i] *= scale;
    row[target] -= dloss;
    return loss_of(sum, max, logit);
}

void cpu_cross_entropy_forward_backward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                        int64_t vocab_size, float dloss)
{
    int64_t n = logits.dim[0], padded = logits.dim[1];
    float *loss = losses.data;
    const int32_t *target = targets.data;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t r = 0; r < n; r++) {
        float *row = (float *)logits.data + r * padded;
        ASSERT(target[r] < vocab_size, "target %d of %lld", target[r], (long long)vocab_size);
        int64_t used = target[r] < 0 ? 0 : vocab_size;
        loss[r] = used ? backward_row(row, used, target[r], dloss) : 0;
        memset(row + used, 0, (size_t)(padded - used) * sizeof *row);
    }
}
