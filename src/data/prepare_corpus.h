/* Prepare a corpus: many documents become GPT-2 tokens in token files of either format, with the
 * tokenizer's files beside them.
 *
 * One thread reads, unpacks and writes; the others encode batches, handed out and taken back in
 * order, so that the files do not depend on how many there are. Memory is bounded whatever the
 * input: 2 batches per thread and one more, each of 4 MiB (64 MiB where one line or one run of
 * letters is so long) and its tokens, 2 MiB per thread and what unpacking takes. */
#ifndef GPT_DATA_PREPARE_CORPUS_H
#define GPT_DATA_PREPARE_CORPUS_H

#include <stdio.h>

#include "data/encode_batch.h"
#include "data/token_out.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *const *input; /* as corpus_list takes them */
    int32_t n_inputs;
    const char *tokenizer_dir;
    const char *out_dir;  /* made when missing */
    const char *text_key; /* of JSON lines; NULL: "text", and standard input is a text */
    double val_fraction;  /* above 0, below 1 */
    bool tail;            /* split one text by place, as corpus_reader_open does */
    EotPlace eot;
    TokenFormat format;
    int64_t shard_tokens; /* 1 to INT32_MAX */
    bool strict;          /* stop at the first line that holds no document */
    bool force;           /* replace older token files */
    int32_t n_threads;    /* that encode */
    double save_seconds;  /* between the points from which a killed run goes on */
    FILE *progress;       /* a terminal for a line that says how far it is; or NULL */
} CorpusArgs;

/* What was read and written. */
typedef struct {
    int64_t n_documents[N_SPLITS]; /* when split by place: the parts of the one text */
    int64_t n_tokens[N_SPLITS];
    int32_t n_files[N_SPLITS]; /* written */
    int32_t n_read;            /* files */
    int32_t n_passed_over;     /* files in folders: neither .txt nor .jsonl */
    char first_passed_over[FILE_PATH_BYTES];
    int32_t vocab_size;
    size_t n_bytes;         /* of text */
    size_t n_bytes_earlier; /* of these, those that an earlier run had encoded */
    double seconds;
    int64_t n_cuts;                                     /* within runs longer than a batch may be */
    int64_t n_bad;                                      /* lines passed over */
    char first_bad[FILE_PATH_BYTES + ENCODE_WHY_BYTES]; /* "path:line: why"; "" when n_bad is 0 */
} CorpusResult;

/* The files appear only when all are complete on disk; until then, and after any error, the folder
 * is as it was. A run that is killed leaves what it has in it, under temporary names; the next one
 * with the same files and settings goes on from there, any other removes it. Not so with standard
 * input. ERR_USAGE (token files are there and force is false; no split possible),
 * ERR_MISSING, ERR_DATA (vocabulary, archive, a file that is no text, a line when strict; a
 * sequence without tokens), ERR_WRITE, ERR_SYSTEM. */
Err prepare_corpus(const CorpusArgs *args, CorpusResult *result);

#ifdef __cplusplus
}
#endif
#endif
