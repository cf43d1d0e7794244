#include "model/sampler.h"

#include <math.h>

#include "base/rng.h"

static int64_t most_likely(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best] || isnan(logits[best]))
            best = i;
    return best;
}

static void swap(float *a, float *b)
{
    float old = *a;
    *a = *b;
    *b = old;
}

/* The k-th largest of value[0..n), which is reordered. Source: Hoare 1961, Find. */
static float kth_largest(float *value, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1, wanted = k - 1;
    while (low < high) {
        float pivot = value[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (value[i] > pivot)
                i++;
            while (value[j] < pivot)
                j--;
            if (i <= j)
                swap(&value[i++], &value[j--]);
        }
        if (wanted <= j)
            high = j;
        else if (wanted >= i)
            low = i;
        else
            break;
    }
    return value[wanted];
}

/* The smallest logit that may be drawn. */
static float threshold(const Sampler *sampler, const float *logits, int64_t n, float *scratch)
{
    if (sampler->top_k == 0 || sampler->top_k >= n)
        return -INFINITY;
    int64_t n_numbers = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(logits[i]))
            scratch[n_numbers++] = logits[i];
    return n_numbers <= sampler->top_k ? -INFINITY
                                       : kth_largest(scratch, n_numbers, sampler->top_k);
}

/* Uniform in [0, 1), 53 bits. */
static double uniform(const Sampler *sampler, uint64_t sample, uint64_t position)
{
    RngBlock block = rng_block(sampler->seed, RNG_SAMPLER, sample, position);
    uint64_t bits = (uint64_t)block.word[1] << 32 | block.word[0];
    return (double)(bits >> 11) * 0x1p-53;
}

/* The first token at which the running sum of weights passes u times their total. */
static int64_t draw(const float *weight, int64_t n, double u)
{
    double total = 0.0, sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        total += weight[i];
    int64_t last = 0;
    for (int64_t i = 0; i < n; i++) {
        if (weight[i] == 0.0f)
            continue;
        last = i;
        sum += weight[i];
        if (sum > u * total)
            break;
    }
    return last;
}

int32_t sampler_pick(const Sampler *sampler, const float *logits, int64_t n, uint64_t sample,
                     uint64_t position, float *scratch)
{
    int64_t best = most_likely(logits, n);
    if (sampler->temperature == 0.0 || !isfinite(logits[best]))
        return (int32_t)best;
    float least = threshold(sampler, logits, n, scratch);
    for (int64_t i = 0; i < n; i++) {
        double above = ((double)logits[i] - (double)logits[best]) / sampler->temperature;
        scratch[i] = logits[i] >= least ? (float)exp(above) : 0.0f; /* NaN is never >= */
    }
    return (int32_t)draw(scratch, n, uniform(sampler, sample, position));
}
