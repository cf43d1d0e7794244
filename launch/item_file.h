/* ItemFile: what gpt_eval says of each row, in a file that appears when all of it is there. Until
 * then it is in memory, some hundred bytes a row. */
#ifndef GPT_LAUNCH_ITEM_FILE_H
#define GPT_LAUNCH_ITEM_FILE_H

#include <stdio.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero-initialised: nobody wants one, and `out` is NULL. */
typedef struct {
    const char *path; /* borrowed */
    FILE *out;        /* into `text` */
    char *text;
    size_t n_bytes;
} ItemFile;

/* Where the file is to be can be written, as far as that is known before. ERR_WRITE, ERR_SYSTEM.
 * Release with item_file_close. */
Err item_file_open(ItemFile *f, const char *path);
/* All of it under its name, in place of an older one; into a pipe or a device as it is. ERR_WRITE,
 * ERR_SYSTEM. Nothing happens to one that was not opened. */
Err item_file_publish(ItemFile *f);
void item_file_close(ItemFile *f);

#ifdef __cplusplus
}
#endif
#endif
