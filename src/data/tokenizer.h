/* Tokenizer: text <-> token ids, as meta.json beside the token files describes it.
 *
 * Kinds: "char" (one id per Unicode code point found in the text, in code point order: nanoGPT's
 * shakespeare_char), "byte" (id = byte, 256 of them), "gpt2" (BPE: vocab.json and merges.txt lie
 * beside; text/bpe.h). */
#ifndef GPT_DATA_TOKENIZER_H
#define GPT_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { TOKENIZER_CHAR, TOKENIZER_BYTE, TOKENIZER_BPE } TokenizerKind;

/* Ids are stored as uint16 in token files. */
enum { TOKENIZER_MAX_VOCAB = 65536, TOKENIZER_BYTES_PER_ID = 4 };

/* Zero-initialised is empty. */
typedef struct {
    TokenizerKind kind;
    int32_t vocab_size;
    uint32_t *code_point; /* char: [vocab_size], ascending; owned */
    uint16_t *id_of;      /* char: [last code point + 1]; owned. c is known when
                             code_point[id_of[c]] == c */
    Bpe *bpe;             /* gpt2; owned */
} Tokenizer;

/* From the code points present in text (UTF-8). ERR_DATA for no text, invalid UTF-8 (byte offset)
 * or more than TOKENIZER_MAX_VOCAB kinds. Release with tokenizer_free. */
Err tokenizer_from_text(Tokenizer *t, const char *text, size_t n_bytes);
void tokenizer_bytes(Tokenizer *t);
/* "gpt2" from the files in a folder; errors as bpe_open. */
Err tokenizer_open_bpe(Tokenizer *t, const char *dir);
/* Read or write meta.json: {"format":"gpt_ddp.tokenizer","version":1,"kind":"char","vocab_size":65,
 * "itos":["\n"," ",...]}; no itos for "byte" and "gpt2". For the latter the reader reads the files
 * beside it, too; the writer leaves them alone. A name that ends in .pkl is read as nanoGPT's
 * meta.pkl of characters (meta_pickle.h). The reader trusts nothing. ERR_MISSING, ERR_DATA,
 * ERR_WRITE. */
Err tokenizer_load(Tokenizer *t, const char *path);
/* The one whose files are in a folder: meta.json, else meta.pkl, else those of a BPE vocabulary as
 * other programs leave them. ERR_MISSING: none of these; else as tokenizer_load and bpe_open. */
Err tokenizer_open_dir(Tokenizer *t, const char *dir);
Err tokenizer_save(const Tokenizer *t, const char *path);
void tokenizer_free(Tokenizer *t);

/* *ids malloc'd. gpt2: BPE_END_OF_TEXT is its token. ERR_DATA names the first character that is not
 * in the vocabulary, and where. */
Err tokenizer_encode(const Tokenizer *t, const char *text, size_t n_bytes, int32_t **ids,
                     int64_t *n_ids);

/* How many ids a text becomes, char or byte, when it is valid; never fewer than can be encoded of
 * it. */
int64_t tokenizer_count(const Tokenizer *t, const char *text, size_t n_bytes);

/* Encode a long text piece by piece, char or byte: from byte *at on, until `capacity` ids are
 * written or the text ends. Moves *at behind what was encoded; *n_ids says how many. Errors as
 * tokenizer_encode. */
Err tokenizer_encode_part(const Tokenizer *t, const char *text, size_t n_bytes, size_t *at,
                          int32_t *ids, int64_t capacity, int64_t *n_ids);

/* The bytes of one id, which must be in the vocabulary: *n_bytes of them, in `spare`
 * (TOKENIZER_BYTES_PER_ID) or in the tokenizer. */
const char *tokenizer_text(const Tokenizer *t, int32_t id, char *spare, size_t *n_bytes);

/* The same, char or byte, into out (TOKENIZER_BYTES_PER_ID); returns how many. */
int32_t tokenizer_decode(const Tokenizer *t, int32_t id, char *out);

#ifdef __cplusplus
}
#endif
#endif
