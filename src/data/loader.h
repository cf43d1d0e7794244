/* Loader: (seed, global sample index) -> a window of block_size tokens and its targets.
 *
 * No state and no rank: sample j of step s has index s * sequences_per_step + j and is the same
 * text whoever asks, so any number of ranks and any resume see the same data. random: a uniform
 * crop, as nanoGPT draws them. shuffled: windows [w T, w T + T], each once per epoch, in an order
 * that is a function of (seed, epoch). */
#ifndef GPT_DATA_LOADER_H
#define GPT_DATA_LOADER_H

#include "data/shards.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const TokenFiles *files; /* borrowed */
    ConfigSampling sampling;
    uint64_t seed;
    int64_t block_size; /* T */
    int64_t vocab_size; /* tokens at or above it are refused */
} Loader;

/* ERR_DATA when the files hold fewer than block_size + 1 tokens. */
Err loader_init(Loader *loader, const TokenFiles *files, ConfigSampling sampling, uint64_t seed,
                int64_t block_size, int64_t vocab_size);

/* First token of a sample's window. */
int64_t loader_offset(const Loader *loader, int64_t sample);

/* First token of fixed evaluation window w of n_windows: evenly spaced over the files, the same for
 * ever. */
int64_t loader_eval_offset(const Loader *loader, int64_t w, int64_t n_windows);
/* How many fixed windows there can be without overlap, at most `wanted`; at least 1. */
int64_t loader_eval_windows(const Loader *loader, int64_t wanted);

/* tokens[0..T) and targets[0..T), targets being tokens shifted by one, from token `offset`.
 * ERR_DATA for a token outside the vocabulary. */
Err loader_read(const Loader *loader, int64_t offset, int32_t *tokens, int32_t *targets);

#ifdef __cplusplus
}
#endif
#endif
