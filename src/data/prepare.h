/* Prepare: a text becomes train.bin, val.bin and meta.json (nanoGPT's layout). */
#ifndef GPT_DATA_PREPARE_H
#define GPT_DATA_PREPARE_H

#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *input;     /* a text file, or "-" for standard input */
    const char *out_dir;   /* made when missing */
    TokenizerKind kind;
    double val_fraction;   /* the last part of the text, as nanoGPT splits: [0, 1) */
    bool quiet;
} PrepareArgs;

typedef struct {
    int64_t n_bytes, n_train, n_val;
    int32_t vocab_size;
} PrepareResult;

/* Writes the three files atomically, meta.json last. ERR_MISSING, ERR_DATA (empty, invalid UTF-8), ERR_WRITE. */
Err prepare_text(const PrepareArgs *args, PrepareResult *result);

#ifdef __cplusplus
}
#endif
#endif
