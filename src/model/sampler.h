/* Sampler: logits -> the next token. A pure function of host floats and of (seed, sample,
 * position), so that a text can be had again, and one sample does not depend on how many others are
 * drawn. */
#ifndef GPT_MODEL_SAMPLER_H
#define GPT_MODEL_SAMPLER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    double temperature; /* divides the logits; 0: always the most likely token */
    int64_t top_k;      /* only the k most likely tokens (and ties with the k-th); 0: all */
    double top_p;       /* of these, only the most likely that together have this probability (and
                           ties with the last); 0 or 1: all. Source: Holtzman et al. 2020 */
    uint64_t seed;
} Sampler;

/* nanoGPT's: temperature 0.8, of the 200 most likely tokens. */
Sampler sampler_default(uint64_t seed);

/* A token of [0, n) drawn from softmax(logits / temperature), as nanoGPT draws it; then from the
 * top k of it, then from the top p of that, as transformers does. `scratch` (n) is overwritten. NaN
 * logits are never drawn unless all are. n >= 1. Ties of the greedy choice go to the lower token.
 */
int32_t sampler_pick(const Sampler *sampler, const float *logits, int64_t n, uint64_t sample,
                     uint64_t position, float *scratch);

#ifdef __cplusplus
}
#endif
#endif
