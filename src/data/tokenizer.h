/* Tokenizer: text <-> token ids, as meta.json beside the token files describes it.
 *
 * Kinds: "char" (one id per Unicode code point found in the text, in code point order: nanoGPT's
 * shakespeare_char), "byte" (id = byte, 256 of them), "gpt2" (BPE; named in files, built in a later step). */
#ifndef GPT_DATA_TOKENIZER_H
#define GPT_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { TOKENIZER_CHAR, TOKENIZER_BYTE } TokenizerKind;

typedef struct {
    TokenizerKind kind;
    int32_t vocab_size;
    uint32_t *code_point; /* char: [vocab_size], ascending; owned */
} Tokenizer;

/* From the code points present in text (UTF-8). ERR_DATA for invalid UTF-8 (byte offset) or > 65536 kinds. */
Err tokenizer_from_text(Tokenizer *t, const char *text, size_t n_bytes);
void tokenizer_bytes(Tokenizer *t);
/* Read or write meta.json: {"format":"gpt_ddp.tokenizer","version":1,"kind":"char","vocab_size":65,
 * "itos":["\n"," ",...]}. The reader trusts nothing. ERR_MISSING, ERR_DATA, ERR_WRITE. */
Err tokenizer_load(Tokenizer *t, const char *path);
Err tokenizer_save(const Tokenizer *t, const char *path);
void tokenizer_free(Tokenizer *t);

/* *ids malloc'd. ERR_DATA names the first character that is not in the vocabulary, and where. */
Err tokenizer_encode(const Tokenizer *t, const char *text, size_t n_bytes, int32_t **ids,
                     int64_t *n_ids);
/* UTF-8 bytes of one id into out (at least 4 bytes); returns how many. id must be in the vocabulary. */
int32_t tokenizer_decode(const Tokenizer *t, int32_t id, char *out);

#ifdef __cplusplus
}
#endif
#endif
