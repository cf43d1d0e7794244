/* Split: GPT-2's cut of a text into the pieces that BPE then encodes one by one,
 *
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * (encoder.py of OpenAI's GPT-2; tiktoken's "gpt2"). Any bytes are a text: one that does not belong
 * to valid UTF-8 is a character of its own that is no letter, no number and no space. */
#ifndef GPT_TEXT_SPLIT_H
#define GPT_TEXT_SPLIT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the first piece of text[0..n_bytes), n_bytes >= 1. */
size_t split_piece(const char *text, size_t n_bytes);

/* A place inside a text, as late as can be told, where a piece ends whatever follows text[n_bytes)
 * and whatever stands before text[0]; 0 when there is none. Texts cut there give the pieces of the
 * whole. It stands behind a letter, digit or sign and before a character of another kind. */
size_t split_cut(const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
