/* TokenizerFiles: the files that tell what the tokens of a model mean, held in memory, so that
 * every checkpoint of a run has them whatever becomes of the folder they came from. */
#ifndef GPT_CHECKPOINT_TOKENIZER_FILES_H
#define GPT_CHECKPOINT_TOKENIZER_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "checkpoint/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { N_TOKENIZER_FILES = 6, TOKENIZER_FILE_BYTES = 16 << 20 /* at most, each */ };

/* Zero-initialised is empty. */
typedef struct {
    char *text[N_TOKENIZER_FILES]; /* NULL: there is none; owned */
    size_t n_bytes[N_TOKENIZER_FILES];
} TokenizerFiles;

/* What is in a folder of meta.json (else nanoGPT's meta.pkl), vocab.json and merges.txt (or
 * OpenAI's encoder.json and vocab.bpe), tokenizer_config.json and tokenizer.json. Their contents
 * are not looked at. ERR_MISSING: one cannot be read; ERR_DATA: too long; ERR_SYSTEM. Nothing is
 * held then. */
Err tokenizer_files_read(TokenizerFiles *files, const char *dir);
bool tokenizer_files_any(const TokenizerFiles *files);
/* Does a vocabulary that both hold differ, so that the same ids may mean other texts? */
bool tokenizer_files_differ(const TokenizerFiles *a, const TokenizerFiles *b);
/* Create them in `dir`, under Hugging Face's names, and enter them in the manifest. ERR_WRITE. */
Err tokenizer_files_write(const TokenizerFiles *files, const char *dir, Manifest *manifest);
void tokenizer_files_free(TokenizerFiles *files);

#ifdef __cplusplus
}
#endif
#endif
