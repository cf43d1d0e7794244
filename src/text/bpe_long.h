/* BpeLong: the merges of a piece of any length, in time n log n and, as a rule, constant memory.
 *
 * A piece longer than a window is encoded in windows that overlap. Merging is local: ids t0 t1 ...
 * are the encoding of their text if and only if each two neighbours are the encoding of theirs,
 * since the first merge across a border of the whole would be a merge across it in the pair, too.
 * So where two windows have a token in common, the one's ids up to it and the other's from it on
 * are the encoding of both. When they have none in common, larger windows are tried, at last the
 * piece as a whole. Private to src/text. */
#ifndef GPT_TEXT_BPE_LONG_H
#define GPT_TEXT_BPE_LONG_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BPE_WINDOW_BYTES = 1 << 14 };

/* Arrays for a window, one element per byte. Zero-initialised is empty. */
typedef struct {
    size_t capacity;
    uint16_t *id;    /* of the symbol that begins at a byte */
    uint16_t *token; /* the ids of the newest window */
    uint32_t *next, *previous;
    uint32_t *merge; /* of this symbol and the next one; BPE_NO_MERGE for a byte inside a symbol */
    uint64_t *heap;  /* [2 capacity]: merge << 32 | byte; each join takes one and adds two */
} BpeLong;

Err bpe_long_reserve(BpeLong *l, size_t n_bytes);
void bpe_long_free(BpeLong *l);

/* ids (room for n_bytes) = the tokens of a piece; *n_ids how many. `window_bytes` (at least 2) is
 * that of the first try, BPE_WINDOW_BYTES but in tests. ERR_SYSTEM. */
Err bpe_long_encode(BpeLong *l, const Bpe *bpe, const char *piece, size_t n_bytes,
                    size_t window_bytes, uint16_t *ids, size_t *n_ids);

#ifdef __cplusplus
}
#endif
#endif
