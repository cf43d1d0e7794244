/* TokenFiles: token files seen as one long sequence of tokens, memory-mapped.
 *
 * Formats, told apart by their first bytes: nanoGPT's .bin (headerless little-endian uint16) and
 * llm.c's shards (256 int32 header: 20240520, version 1, token count; then uint16). Files may be
 * larger than 2 GiB. Contents are hostile: sizes are checked when opened, and each token before it
 * is used. */
#ifndef GPT_DATA_SHARDS_H
#define GPT_DATA_SHARDS_H

#include "base/err.h"
#include "base/file.h"
#include "config/config.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char *path;
    FileMap map;
    const uint16_t *tokens;  /* into map */
    int64_t first, n_tokens; /* of this file within the sequence */
} TokenFile;

typedef struct {
    TokenFile *file;
    int32_t n_files;
    int64_t n_tokens;
} TokenFiles;

/* spec: a file, a directory (all *.bin in it), or a glob; sorted by name. ERR_MISSING (nothing
 * matches), ERR_DATA (empty, odd size, bad header, count and size disagree). Release with
 * token_files_close. */
Err token_files_open(TokenFiles *files, const char *spec);
/* The same to measure a model by: of a directory only the files to validate, as dataset_open tells
 * them, when there are any. */
Err token_files_open_val(TokenFiles *files, const char *spec);
void token_files_close(TokenFiles *files);

/* Every token of [begin, begin + n) is below vocab_size, else ERR_DATA names file, position and
 * token. */
Err token_files_check(const TokenFiles *files, int64_t begin, int64_t n, int64_t vocab_size);

/* out[0..n) = tokens [begin, begin + n) of the sequence; crosses file borders. Bounds are the
 * caller's. */
void token_files_read(const TokenFiles *files, int64_t begin, int64_t n, int32_t *out);

/* The two sequences of a data set and its tokenizer file. */
typedef struct {
    TokenFiles train, val;
    char meta_path[FILE_PATH_BYTES]; /* meta.json, else meta.pkl, or "" when there is none */
    int64_t vocab_size;              /* from there; CONFIG_AUTO when unknown */
} Dataset;

/* cfg->data.dataset is a name under data_dir, or a path: a directory with train.bin and val.bin
 * (nanoGPT) or *train*.bin and *val*.bin (llm.c shards), or a glob over such files. A name is
 * looked for under data_dir and then as a path; what contains a '/' the other way round. In file
 * names with both words the later one counts. ERR_MISSING says what was looked for. ERR_USAGE when
 * a given vocab_size is below that of the vocabulary; ERR_DATA when that cannot be read, but for a
 * meta.pkl where vocab_size is given: it is left alone then. */
Err dataset_open(Dataset *set, const Config *cfg);
void dataset_close(Dataset *set);
/* With init_from = DIR, whose shape cfg has: is the vocabulary of the data not the model's, so that
 * a token means another text there? False when it is not known, when vocab_size is given, and where
 * the model has more tokens than GPT-2's data need: nobody reads those. */
bool dataset_is_foreign(const Dataset *set, const Config *cfg);
/* dir (FILE_PATH_BYTES) = the folder with the files of its tokenizer. False: there are none, and
 * nothing is known of it. True with dir "": there is one that is not read (see meta.pkl). */
bool dataset_find_tokenizer(const Dataset *set, char *dir);
/* The tokenizer of its tokens, from the files beside the first training file; errors as
 * tokenizer_open_dir. Release with tokenizer_free. */
Err dataset_tokenizer(const Dataset *set, Tokenizer *t);

#ifdef __cplusplus
}
#endif
#endif
