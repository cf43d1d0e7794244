/* One head of one query per task: its scores over all keys it sees, then their softmax, then the
 * sum of the values. Keys and values are read once, from memory. */
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/vexp.h"

#include "base/check.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { LINE_FLOATS = 64 }; /* threads do not share cache lines */

/* One head of one query. Keys and values lie in rows of C. */
typedef struct {
    int64_t n_keys, D, C;
    float scale;
    const float *q, *k, *v; /* the head's part of the query, of key 0 and of value 0 */
    float *out;
} Query;

/* One thread's scores of n_keys. */
static int64_t scratch_floats(int64_t n_keys)
{
    return (n_keys + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
}

size_t cpu_attention_cached_scratch_bytes(int32_t n_threads, const OpLimits *limits)
{
    return (size_t)n_threads * (size_t)scratch_floats(limits->block_size) * sizeof(float);
}

void cpu_cache_append(Device *dev, KvCache cache, Tensor qkv, int64_t first)
{
    int64_t n = qkv.dim[0], C = qkv.dim[1] / 3;
    float *k = (float *)cache.k.data + first * C, *v = (float *)cache.v.data + first * C;
    const float *from = qkv.data;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        memcpy(k + i * C, from + (3 * i + 1) * C, (size_t)C * sizeof(float));
        memcpy(v + i * C, from + (3 * i + 2) * C, (size_t)C * sizeof(float));
    }
}

/* Returns the largest; a NaN is none, and is found again by its exp. */
static float find_scores(float *score, const Query *query)
{
    float largest = -INFINITY;
    const float *q = query->q, *k = query->k;
    for (int64_t j = 0; j < query->n_keys; j++, k += query->C) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < query->D; c++)
            sum += q[c] * k[c];
        score[j] = query->scale * sum;
        largest = score[j] > largest ? score[j] : largest;
    }
    return largest;
}

/* score = exp(score - largest); returns the sum. */
static float take_exp(float *score, int64_t n, float largest)
{
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        score[j] = vexp(score[j] - largest);
        total += score[j];
    }
    return total;
}

static void add_values(const Query *query, const float *weight, float factor)
{
    float *restrict out = query->out;
    const float *v = query->v;
    memset(out, 0, (size_t)query->D * sizeof *out);
    for (int64_t j = 0; j < query->n_keys; j++, v += query->C) {
#pragma omp simd
        for (int64_t c = 0; c < query->D; c++)
            out[c] += weight[j] * v[c];
    }
    for (int64_t c = 0; c < query->D; c++)
        out[c] *= factor;
}

static void attend(float *score, const Query *query)
{
    float largest = find_scores(score, query);
    float total = take_exp(score, query->n_keys, largest);
    add_values(query, score, 1.0f / total);
}

void cpu_attention_cached(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                          int32_t n_head)
{
    int64_t n = out.dim[0], C = out.dim[1], D = C / n_head, floats = scratch_floats(first + n);
    size_t wanted = (size_t)(dev->n_threads * floats) * sizeof(float);
    ASSERT(tensor_bytes(dev->workspace) >= wanted,
           "cached attention wants %zu bytes of workspace, has %zu", wanted,
           tensor_bytes(dev->workspace));
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t task = 0; task < n * n_head; task++) {
        int64_t row = task / n_head, column = task % n_head * D;
        attend((float *)dev->workspace.data + omp_get_thread_num() * floats,
               &(Query){
                   .n_keys = first + row + 1,
                   .D = D,
                   .C = C,
                   .scale = 1.0f / sqrtf((float)D),
                   .q = (const float *)qkv.data + row * 3 * C + column,
                   .k = (const float *)cache.k.data + column,
                   .v = (const float *)cache.v.data + column,
                   .out = (float *)out.data + row * C + column,
               });
    }
}
