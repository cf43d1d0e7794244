/* Source: the bytes of a file from its beginning to its end, unpacked on the way when its name ends
 * in .gz or .zst. Memory is constant but for what a .zst frame asks for, at most 128 MiB. */
#ifndef GPT_DATA_SOURCE_H
#define GPT_DATA_SOURCE_H

#include <stddef.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SOURCE_HEAD_BYTES = 16 /* as many as source_check_text looks at, at most */ };

typedef struct Source Source;

/* "-" is standard input, as it comes. ERR_MISSING, ERR_SYSTEM. Release with source_close. */
Err source_open(Source **out, const char *path);
/* *n_bytes into data: `capacity` of them, fewer only at the end. ERR_DATA: damaged or cut off. */
Err source_read(Source *s, char *data, size_t capacity, size_t *n_bytes);
/* How far in the file as it is stored; 0 .. its size. */
size_t source_stored(const Source *s);
void source_close(Source *s); /* accepts NULL */

/* ERR_DATA when what begins with head[0 .. n_bytes) is not text in UTF-8 but UTF-16 or UTF-32, an
 * archive or a document of a known kind. The message names `name`, and what to do. */
Err source_check_text(const char *name, const char *head, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
