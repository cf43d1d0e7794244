/* Prepare: a text becomes train.bin, val.bin and meta.json (nanoGPT's layout).
 *
 * The text is mapped and passed over twice (find the vocabulary, then encode), never held; standard
 * input is spooled to a temporary file first. The output for --kind=char is byte for byte that of
 * nanoGPT's shakespeare_char/prepare.py, except that line ends are kept as they are. */
#ifndef GPT_DATA_PREPARE_H
#define GPT_DATA_PREPARE_H

#include <stdio.h>

#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *input;   /* a text file, or "-" for standard input */
    const char *out_dir; /* made when missing */
    TokenizerKind kind;
    double val_fraction; /* the last part of the text, as nanoGPT splits: above 0, below 1 */
    FILE *progress;      /* a terminal for a line that says how far it is; or NULL */
} PrepareArgs;

typedef struct {
    int64_t n_bytes, n_chars; /* of the text; a "char" is what becomes a token */
    int64_t n_train, n_val;   /* tokens: n_chars, divided */
    Tokenizer tokenizer;      /* owned by whoever called: tokenizer_free */
} PrepareResult;

/* Writes the three files. They appear only when all three are complete on disk, train.bin last;
 * from the moment that older ones are replaced until then there is no train.bin, so that a run that
 * is cut off never leaves tokens beside a vocabulary or a split of another text: the data set is
 * the old one, is refused as incomplete, or is the new one. ERR_USAGE, ERR_MISSING, ERR_DATA (empty
 * or too short; characters: no text, or invalid UTF-8), ERR_WRITE. */
Err prepare_text(const PrepareArgs *args, PrepareResult *result);

#ifdef __cplusplus
}
#endif
#endif
