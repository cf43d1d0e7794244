/* Corpus: many documents in many files, read in batches of bounded length for threads to encode.
 *
 * A text file is one document, cut into batches where BPE may be cut (text/split.h); a file of JSON
 * lines has one in each line and is cut between lines. Which of the two sequences, train or val, a
 * text belongs to is decided by its beginning, so that it need not be read before it is written. */
#ifndef GPT_DATA_CORPUS_H
#define GPT_DATA_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CORPUS_BATCH_BYTES = 4 << 20,
    CORPUS_MAX_BATCH_BYTES = 64 << 20, /* where one line, or one run of letters, is so long */
    CORPUS_HASHED_BYTES = 64 << 10,
};

typedef enum { SPLIT_TRAIN, SPLIT_VAL, N_SPLITS } CorpusSplit;

typedef struct {
    char *path;
    bool is_lines;
    bool is_stream;     /* standard input, a pipe: it can be read once, its length is not known */
    size_t n_bytes;     /* as it is stored */
    int64_t written_ns; /* when */
} CorpusFile;

/* Zero-initialised is empty. */
typedef struct {
    CorpusFile *file;
    int32_t n_files;
    size_t n_bytes;        /* of all files; 0: not known */
    int32_t n_passed_over; /* files in folders that are neither text nor JSON lines */
    char first_passed_over[FILE_PATH_BYTES]; /* "" when there is none */
} Corpus;

/* `input`: files, pipes, "-" (standard input), and folders, of which the files that end in .txt or
 * .jsonl, or in these and .gz or .zst, count, sorted, those of folders in them too; not the
 * merges.txt of a tokenizer, beside its vocab.json. A file given by name is JSON lines when it ends
 * so, else a text; standard input is what stdin_is_lines says. ERR_MISSING: not there, no such file
 * in all of it, or a link from a folder back to one around it. ERR_DATA: a damaged archive, or a
 * file that source_check_text refuses. */
Err corpus_list(Corpus *c, const char *const *input, int32_t n_inputs, bool stdin_is_lines);
void corpus_free(Corpus *c);
/* Does it end in .jsonl, or in this and .gz or .zst? */
bool corpus_is_lines_name(const char *name);

/* The split of a document: by a hash of its first CORPUS_HASHED_BYTES, the same in every run and
 * corpus; val_fraction of all fall to SPLIT_VAL. */
CorpusSplit corpus_split(const char *text, size_t n_bytes, double val_fraction);

/* A place between two batches. Zero-initialised is the beginning. */
typedef struct {
    int32_t file;
    size_t at; /* byte of it, unpacked */
    int64_t line, n_chars;
    bool in_document;
    CorpusSplit split;
} CorpusPlace;

/* A part of one file. Zero-initialised is empty; free `data`. */
typedef struct {
    char *data;
    size_t n_bytes, capacity;
    const CorpusFile *file;
    int64_t first_line; /* lines: the number of the first, from 1 */
    int64_t long_line;  /* lines: the number of one that was passed over, too long; 0: none */
    bool begins, ends;  /* text: the document's beginning or end is here */
    bool is_cut;        /* text: within a run that is too long for a batch */
    CorpusSplit split;  /* text */
    CorpusPlace end;    /* where the next batch begins */
} CorpusBatch;

typedef struct CorpusReader CorpusReader;

/* tail: nanoGPT's split of one text instead: the last val_fraction of its characters is a document
 * of its own, for SPLIT_VAL; the text is read twice, the first time here. ERR_USAGE when the corpus
 * is not one text in a file, ERR_MISSING, ERR_DATA, ERR_SYSTEM. */
Err corpus_reader_open(CorpusReader **out, const Corpus *c, double val_fraction, bool tail);
/* Go on from a place in the same corpus, before the first batch is taken. ERR_DATA when the file
 * ends before it. */
Err corpus_seek(CorpusReader *r, const CorpusPlace *place);
/* *more: there was a next batch, and it is in `batch`. ERR_DATA (damaged; a stream that
 * source_check_text refuses), ERR_MISSING, ERR_SYSTEM. */
Err corpus_next(CorpusReader *r, CorpusBatch *batch, bool *more);
/* How far in the files as they are stored. */
size_t corpus_stored(const CorpusReader *r);
void corpus_reader_close(CorpusReader *r); /* accepts NULL */

#ifdef __cplusplus
}
#endif
#endif
