/* Bpe: GPT-2's byte-pair encoding of text, exactly as its authors' encoder.py and tiktoken do it.
 *
 * A text is cut into pieces (split.h); in each, beginning with its bytes, the pair of neighbours
 * whose merge comes first in the list is merged, the leftmost of equals first, until no pair has a
 * merge. Any bytes are a text, and decoding the ids gives exactly those bytes again.
 *
 * A Bpe is read-only once open and may be shared by threads; each thread has a BpeEncoder. */
#ifndef GPT_TEXT_BPE_H
#define GPT_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BPE_END_OF_TEXT "<|endoftext|>"

enum { BPE_MAX_VOCAB = 65536, BPE_MAX_FILE_BYTES = 16 << 20 };

typedef struct Bpe Bpe;
typedef struct BpeEncoder BpeEncoder;

/* From dir/vocab.json and dir/merges.txt (Hugging Face), else dir/encoder.json and dir/vocab.bpe
 * (OpenAI). Hostile files are refused with one line: ERR_MISSING (neither pair), ERR_DATA: not the
 * format; ids that are not 0 .. n-1, each once; fewer than 256 single bytes; a merge of, or into,
 * a token that the vocabulary lacks, or given twice; tokens that no merge makes, but for specials
 * ("<...>", "[...]"): then the two files do not belong together. Release with bpe_close. */
Err bpe_open(Bpe **bpe, const char *dir);
/* The same from these two files. */
Err bpe_open_files(Bpe **bpe, const char *vocab_path, const char *merges_path);
void bpe_close(Bpe *bpe); /* accepts NULL */

/* The pair of files bpe_open reads in dir: names, constant. ERR_MISSING when it is not whole; a
 * tokenizer.json, which is not read, is then spoken of. */
Err bpe_find_files(const char *dir, const char **vocab_name, const char **merges_name);

int32_t bpe_vocab_size(const Bpe *bpe);
/* The id of BPE_END_OF_TEXT, or -1 when the vocabulary has none. */
int32_t bpe_end_of_text(const Bpe *bpe);
/* The bytes of a token, 0 <= id < vocab_size; borrowed. */
const char *bpe_text(const Bpe *bpe, int32_t id, size_t *n_bytes);

/* Memory for one thread that encodes: about 2 MiB. ERR_SYSTEM. The Bpe must outlive it. */
Err bpe_encoder_open(BpeEncoder **e, const Bpe *bpe);
void bpe_encoder_close(BpeEncoder *e); /* accepts NULL */

/* ids (room for n_bytes) = the tokens of a text. BPE_END_OF_TEXT in it is text like any other, as
 * in tiktoken's encode_ordinary. Time is n log n at worst, whatever the text. ERR_SYSTEM: memory
 * for a single piece that no smaller window settles (see bpe_long.h). */
Err bpe_encode(BpeEncoder *e, const char *text, size_t n_bytes, uint16_t *ids, int64_t *n_ids);
/* The same, but BPE_END_OF_TEXT becomes its token where the vocabulary has it. */
Err bpe_encode_special(BpeEncoder *e, const char *text, size_t n_bytes, uint16_t *ids,
                       int64_t *n_ids);

#ifdef __cplusplus
}
#endif
#endif
