/* A folder of a test's own, and small files in it. */
#ifndef GPT_TESTS_TEMP_H
#define GPT_TESTS_TEMP_H

#include <stddef.h>

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char dir[FILE_PATH_BYTES];
    char path[FILE_PATH_BYTES]; /* the last one temp_path made */
} Temp;

/* A fresh, empty folder under $TMPDIR or /tmp; temp_remove deletes it with all that is in it. A
 * test stops when either fails. */
void temp_make(Temp *t);
void temp_remove(Temp *t);

/* dir/name, valid until the next call. */
const char *temp_path(Temp *t, const char *name);

/* Write the file dir/name (plainly, over an older one) and return its path, valid until the next
 * call. */
const char *temp_write(Temp *t, const char *name, const void *data, size_t n_bytes);
const char *temp_write_text(Temp *t, const char *name, const char *text);

#ifdef __cplusplus
}
#endif
#endif
