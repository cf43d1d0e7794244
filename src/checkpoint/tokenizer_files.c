#include "checkpoint/tokenizer_files.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "checkpoint/doc.h"
#include "checkpoint/names.h"

/* The second where the first is not; the first four tell what an id means. */
enum {
    FILE_META,
    FILE_PICKLE,
    FILE_VOCAB,
    FILE_MERGES,
    N_TELLING,
    FILE_CONFIG = N_TELLING,
    FILE_FAST
};

/* In a checkpoint, and as OpenAI's files are named; NULL: no other name. */
static const struct {
    const char *name, *other;
} NAMES[N_TOKENIZER_FILES] = {
    [FILE_META] = {META_NAME, NULL},
    [FILE_PICKLE] = {PICKLE_NAME, NULL},
    [FILE_VOCAB] = {VOCAB_NAME, "encoder.json"},
    [FILE_MERGES] = {MERGES_NAME, "vocab.bpe"},
    [FILE_CONFIG] = {TOKENIZER_CONFIG_NAME, NULL},
    [FILE_FAST] = {TOKENIZER_NAME, NULL},
};

/* Nothing where there is no such file. */
static Err read_one(TokenizerFiles *files, int i, const char *dir, const char *name)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, name));
    if (!path_exists(path))
        return OK;
    return file_read_text(path, TOKENIZER_FILE_BYTES, &files->text[i], &files->n_bytes[i]);
}

static Err read_all(TokenizerFiles *files, const char *dir)
{
    for (int i = 0; i < N_TOKENIZER_FILES; i++) {
        if (i == FILE_PICKLE && files->text[FILE_META])
            continue;
        TRY(read_one(files, i, dir, NAMES[i].name));
        if (!files->text[i] && NAMES[i].other)
            TRY(read_one(files, i, dir, NAMES[i].other));
    }
    return OK;
}

Err tokenizer_files_read(TokenizerFiles *files, const char *dir)
{
    *files = (TokenizerFiles){0};
    Err err = read_all(files, dir);
    if (err)
        tokenizer_files_free(files);
    return err;
}

bool tokenizer_files_any(const TokenizerFiles *files)
{
    for (int i = 0; i < N_TOKENIZER_FILES; i++)
        if (files->text[i])
            return true;
    return false;
}

bool tokenizer_files_differ(const TokenizerFiles *a, const TokenizerFiles *b)
{
    for (int i = 0; i < N_TELLING; i++) {
        if (!a->text[i] || !b->text[i])
            continue;
        if (a->n_bytes[i] != b->n_bytes[i] || memcmp(a->text[i], b->text[i], a->n_bytes[i]) != 0)
            return true;
    }
    return false;
}

Err tokenizer_files_write(const TokenizerFiles *files, const char *dir, Manifest *manifest)
{
    char path[FILE_PATH_BYTES];
    for (int i = 0; i < N_TOKENIZER_FILES; i++) {
        if (!files->text[i])
            continue;
        TRY(path_join(path, dir, NAMES[i].name));
        TRY(doc_write_text(path, files->text[i], files->n_bytes[i],
                           manifest_add(manifest, NAMES[i].name)));
    }
    return OK;
}

void tokenizer_files_free(TokenizerFiles *files)
{
    for (int i = 0; i < N_TOKENIZER_FILES; i++)
        free(files->text[i]);
    *files = (TokenizerFiles){0};
}
