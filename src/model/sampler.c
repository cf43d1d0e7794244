#include "model/sampler.h"

#include <math.h>

#include "base/rng.h"

Sampler sampler_default(uint64_t seed)
{
    return (Sampler){.temperature = 0.8, .top_k = 200, .top_p = 1, .seed = seed};
}

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

/* Put what is above the pivot first, then what equals it, then the rest; *n_above and *n_equal say
 * how many. Source: Dijkstra 1976, A Discipline of Programming, chapter 14. */
static void partition(float *value, int64_t n, float pivot, int64_t *n_above, int64_t *n_equal)
{
    int64_t above = 0, below = n, i = 0;
    while (i < below) {
        if (value[i] > pivot)
            swap(&value[i++], &value[above++]);
        else if (value[i] < pivot)
            swap(&value[i], &value[--below]);
        else
            i++;
    }
    *n_above = above;
    *n_equal = below - above;
}

static double sum_of(const float *value, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += value[i];
    return sum;
}

/* The largest value such that it and all above it add up to `share` of all; value[0..n), n >= 1, is
 * reordered. */
static float least_of_share(float *value, int64_t n, double share)
{
    double wanted = share * sum_of(value, n);
    float pivot = value[0];
    while (n > 0) {
        int64_t n_above, n_equal;
        pivot = value[n / 2];
        partition(value, n, pivot, &n_above, &n_equal);
        double above = sum_of(value, n_above), equal = (double)pivot * (double)n_equal;
        if (above >= wanted && n_above > 0) {
            n = n_above;
        } else if (above + equal >= wanted) {
            return pivot;
        } else {
            wanted -= above + equal;
            value += n_above + n_equal;
            n -= n_above + n_equal;
        }
    }
    return pivot; /* the smallest: wanted was lost in rounding */
}

/* The smallest logit of the top k. */
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

/* weight[i] = exp((logit - best) / temperature) of those that are not below `least`, else 0. */
static void weigh(const Sampler *sampler, const float *logits, int64_t n, float best, float least,
                  float *weight)
{
    for (int64_t i = 0; i < n; i++) {
        double above = ((double)logits[i] - (double)best) / sampler->temperature;
        weight[i] = logits[i] >= least ? (float)exp(above) : 0.0f; /* NaN is never >= */
    }
}

/* Weights outside of the top p become 0. */
static void cut_tail(const Sampler *sampler, const float *logits, int64_t n, float best,
                     float least, float *weight)
{
    float lightest = least_of_share(weight, n, sampler->top_p);
    weigh(sampler, logits, n, best, least, weight); /* in the tokens' order again */
    for (int64_t i = 0; i < n; i++)
        weight[i] = weight[i] >= lightest ? weight[i] : 0.0f;
}

int32_t sampler_pick(const Sampler *sampler, const float *logits, int64_t n, uint64_t sample,
                     uint64_t position, float *scratch)
{
    int64_t at = most_likely(logits, n);
    float best = logits[at];
    if (sampler->temperature == 0.0 || !isfinite(best))
        return (int32_t)at;
    float least = threshold(sampler, logits, n, scratch);
    weigh(sampler, logits, n, best, least, scratch);
    if (sampler->top_p > 0.0 && sampler->top_p < 1.0)
        cut_tail(sampler, logits, n, best, least, scratch);
    return (int32_t)draw(scratch, n, uniform(sampler, sample, position));
}
