#include "data/loader.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/rng.h"

/* Enough rounds that the order looks random even for a handful of windows. Part of what makes a run
 * repeatable: never change it. */
enum { FEISTEL_ROUNDS = 8 };

__extension__ typedef __int128 Wide;

/* What rng_below can choose from. */
static const int64_t MAX_TOKENS = (int64_t)1 << 40;

Err loader_init(Loader *loader, const TokenFiles *files, ConfigSampling sampling, uint64_t seed,
                int64_t block_size, int64_t vocab_size)
{
    ASSERT(block_size > 0 && vocab_size > 0, "block_size %" PRId64 ", vocab_size %" PRId64,
           block_size, vocab_size);
    if (files->n_tokens <= block_size)
        FAIL(ERR_DATA,
             "%s%s: %" PRId64 " tokens, but a window takes block_size + 1 = %" PRId64
             ": lower block_size, or prepare more text (gpt_prepare --val_fraction sets the split)",
             files->n_files ? files->file[0].path : "no token files",
             files->n_files > 1 ? " and the files after it" : "", files->n_tokens, block_size + 1);
    if (files->n_tokens > MAX_TOKENS)
        FAIL(ERR_DATA,
             "%s%s: %" PRId64 " tokens, more than the %" PRId64
             " that can be addressed: use fewer files",
             files->file[0].path, files->n_files > 1 ? " and the files after it" : "",
             files->n_tokens, MAX_TOKENS);
    *loader = (Loader){files, sampling, seed, block_size, vocab_size};
    return OK;
}

/* Windows that do not overlap: block_size tokens each, and one target behind the last. */
static int64_t window_count(const Loader *loader)
{
    return (loader->files->n_tokens - 1) / loader->block_size;
}

/* One permutation of [0, 4^half_bits) for each (seed, epoch): a Feistel network, invertible
 * whatever its round function is. Source: Luby and Rackoff, SIAM J. Computing 17 (1988). */
static uint64_t feistel(uint64_t seed, uint64_t epoch, int half_bits, uint64_t value)
{
    uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    uint64_t left = value >> half_bits, right = value & mask;
    for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
        RngBlock block = rng_block(seed, RNG_SHUFFLE, epoch, round << 32 | right);
        uint64_t next = left ^ (block.word[0] & mask);
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

/* A permutation of [0, n): walk the cycle of the larger one until it is back below n. It always is,
 * at the latest where it began; on average after fewer than 4 steps. Source: Black and Rogaway,
 * CT-RSA 2002. */
static int64_t permute(uint64_t seed, uint64_t epoch, int64_t n, int64_t index)
{
    int half_bits = 1;
    while ((int64_t)1 << (2 * half_bits) < n)
        half_bits++;
    uint64_t value = (uint64_t)index;
    do
        value = feistel(seed, epoch, half_bits, value);
    while (value >= (uint64_t)n);
    return (int64_t)value;
}

int64_t loader_offset(const Loader *loader, int64_t sample)
{
    ASSERT(sample >= 0, "sample %" PRId64, sample);
    if (loader->sampling == CONFIG_SAMPLING_RANDOM) {
        uint64_t n = (uint64_t)(loader->files->n_tokens - loader->block_size);
        return (int64_t)rng_below(loader->seed, RNG_DATA, 0, (uint64_t)sample, n);
    }
    int64_t n = window_count(loader);
    return permute(loader->seed, (uint64_t)(sample / n), n, sample % n) * loader->block_size;
}

int64_t loader_eval_windows(const Loader *loader, int64_t wanted)
{
    ASSERT(wanted > 0, "%" PRId64 " windows", wanted);
    int64_t n = window_count(loader);
    return wanted < n ? wanted : n;
}

/* floor(w * (n_tokens - 1) / n_windows). Neighbours are at least block_size apart, because
 * (n_tokens - 1) / n_windows >= block_size. */
int64_t loader_eval_offset(const Loader *loader, int64_t w, int64_t n_windows)
{
    ASSERT(w >= 0 && w < n_windows && n_windows <= window_count(loader),
           "window %" PRId64 " of %" PRId64, w, n_windows);
    return (int64_t)((Wide)w * (loader->files->n_tokens - 1) / n_windows);
}

Err loader_read(const Loader *loader, int64_t offset, int32_t *tokens, int32_t *targets)
{
    int64_t T = loader->block_size;
    TRY(token_files_check(loader->files, offset, T + 1, loader->vocab_size));
    token_files_read(loader->files, offset, T, tokens);
    token_files_read(loader->files, offset + 1, T, targets);
    return OK;
}
