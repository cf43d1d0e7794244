/* A folder of a test's own, and small files in it. */
#ifndef GPT_TESTS_TEMP_H
#define GPT_TESTS_TEMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
/* The same as a cmocka set-up and tear-down: *state is a Temp. */
int temp_setup(void **state);
int temp_teardown(void **state);

/* dir/name, valid until the next call. */
const char *temp_path(Temp *t, const char *name);

/* Write the file dir/name (plainly, over an older one) and return its path, valid until the next
 * call. */
const char *temp_write(Temp *t, const char *name, const void *data, size_t n_bytes);
const char *temp_write_text(Temp *t, const char *name, const char *text);

/* A folder in the folder. */
void temp_make_dir(Temp *t, const char *name);
/* A file of n_bytes, zero but for `data` at its end: it takes no room on the disk. */
void temp_write_sparse(Temp *t, const char *name, size_t n_bytes, const void *data,
                       size_t data_bytes);
/* Does dir/name hold exactly these bytes? */
bool temp_equals(Temp *t, const char *name, const void *data, size_t n_bytes);
/* How many names there are in dir/name. */
int32_t temp_count(Temp *t, const char *name);

#ifdef __cplusplus
}
#endif
#endif
