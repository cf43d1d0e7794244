/* What a Bpe holds: the bytes of each token, and the merges in a hash table. Private to src/text.
 *
 * A merge is one word: its rank (its place in the list) in the upper half, the id it makes in the
 * lower, so that comparing words compares ranks. */
#ifndef GPT_TEXT_BPE_TABLE_H
#define GPT_TEXT_BPE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BPE_NO_TOKEN = -1, BPE_MAX_MERGES = 65535 };

#define BPE_NO_MERGE UINT32_MAX
#define BPE_NO_PAIR  UINT32_MAX

typedef struct {
    uint32_t pair;  /* left id << 16 | right id */
    uint32_t merge; /* BPE_NO_MERGE: an empty slot, of pair BPE_NO_PAIR, which is a pair, too */
} BpeMerge;

struct Bpe {
    int32_t vocab_size, end_of_text;
    uint16_t byte_id[256];
    char *text;          /* of all tokens, one after the other */
    uint32_t *text_at;   /* [vocab_size + 1] into it */
    int32_t *token_slot; /* [token_mask + 1] ids by the hash of their text, or BPE_NO_TOKEN */
    bool *is_whole;      /* [vocab_size] a short token that is the encoding of its own text */
    BpeMerge *merge;     /* [merge_mask + 1], by the hash of the pair */
    uint32_t token_mask, merge_mask;
    int32_t merge_shift; /* 64 - log2(merge_mask + 1) */
};

static inline size_t bpe_token_bytes(const Bpe *bpe, int32_t id)
{
    return bpe->text_at[id + 1] - bpe->text_at[id];
}

/* The slot of a pair of ids: where it is, or the empty one where it belongs. */
static inline BpeMerge *bpe_merge_slot(const Bpe *bpe, uint32_t pair)
{
    uint32_t i = (uint32_t)(pair * 0x9E3779B97F4A7C15u >> bpe->merge_shift);
    while (bpe->merge[i].pair != pair && bpe->merge[i].merge != BPE_NO_MERGE)
        i = (i + 1) & bpe->merge_mask;
    return &bpe->merge[i];
}

/* The merge of two neighbours, or BPE_NO_MERGE. */
static inline uint32_t bpe_merge(const Bpe *bpe, uint32_t left, uint32_t right)
{
    return bpe_merge_slot(bpe, left << 16 | right)->merge;
}

/* The id of the token with this text, or BPE_NO_TOKEN. */
int32_t bpe_find(const Bpe *bpe, const char *text, size_t n_bytes);

/* The slot of a text: where its token is, or the empty one where it belongs. */
uint32_t bpe_token_slot(const Bpe *bpe, const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
