/* Doc: a small JSON file of a checkpoint directory, read strictly.
 *
 * The file is an object without duplicate keys. Every getter checks type and bounds; each fault is
 * one ERR_DATA that names file and key. */
#ifndef GPT_CHECKPOINT_DOC_H
#define GPT_CHECKPOINT_DOC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *path; /* borrowed: for messages */
    json_t *root;     /* owned */
} Doc;

/* ERR_MISSING, ERR_DATA. `path` must outlive the doc. */
Err doc_open(Doc *doc, const char *path);
/* The same of a text already read from `path`. */
Err doc_parse(Doc *doc, const char *path, const char *text, size_t n_bytes);
void doc_close(Doc *doc); /* accepts a zero-initialised one */

bool doc_has(const Doc *doc, const char *key); /* present and not null */
Err doc_i64(const Doc *doc, const char *key, int64_t min, int64_t max, int64_t *value);
Err doc_f64(const Doc *doc, const char *key, double *value); /* integer or real */
/* values (at most `most`) = a list of numbers, *n of them. */
Err doc_f64_list(const Doc *doc, const char *key, int64_t most, double *values, int64_t *n);
Err doc_bool(const Doc *doc, const char *key, bool *value);
Err doc_text(const Doc *doc, const char *key, const char **value); /* borrowed from the doc */

/* Did a parser of jansson stop for want of memory? It does not always set the code: an error in the
 * text has a line. */
bool json_ran_out(const json_error_t *error);

/* The text of a JSON value, with jansson's flags, malloc'd; NULL when memory is short, also for
 * root NULL. */
char *doc_print(const json_t *root, size_t flags);

/* Create `path` (must not exist) with this text and sync it. ERR_WRITE. digest may be NULL. */
Err doc_write_text(const char *path, const char *text, size_t n_bytes, FileDigest *digest);
/* The same with a JSON value, which is consumed; NULL (memory was short while it was made) is
 * ERR_SYSTEM. Reals are printed with `precision` digits: 17 gives every double back. */
Err doc_write(const char *path, json_t *root, int precision, FileDigest *digest);

#ifdef __cplusplus
}
#endif
#endif
