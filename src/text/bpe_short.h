/* The merges of a piece so short that a scan for the next one beats a heap. Private to src/text. */
#ifndef GPT_TEXT_BPE_SHORT_H
#define GPT_TEXT_BPE_SHORT_H

#include <stdint.h>

#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BPE_SHORT_BYTES = 64 };

/* ids (room for n_bytes) = the tokens of a piece of 1 to BPE_SHORT_BYTES bytes; returns how many.
 */
int32_t bpe_short_encode(const Bpe *bpe, const char *piece, int32_t n_bytes, uint16_t *ids);

#ifdef __cplusplus
}
#endif
#endif
