/* Staging: files that are written under temporary names in the folder where they belong and appear
 * under their own when all are complete. What a killed run leaves is removed by the next one. */
#ifndef GPT_DATA_STAGING_H
#define GPT_DATA_STAGING_H

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *dir; /* borrowed */
    uint64_t unique; /* in the temporary names: no two runs share one, on any machine */
    int32_t n_made;  /* the last so many names of `dir` were made here */
} Staging;

/* Touches no file. ERR_SYSTEM. */
Err staging_init(Staging *s, const char *dir);
/* Make the folder, and remove what killed runs left. One that still runs fails when it publishes:
 * never mixed. ERR_WRITE, ERR_MISSING. */
Err staging_make_room(Staging *s);
/* After an error: remove the folders that were made for nothing, as far as they are empty. */
void staging_leave(Staging *s);

/* out (FILE_PATH_BYTES) = where `name` is written, and where it belongs. ERR_USAGE: too long. */
Err staging_temporary(const Staging *s, const char *name, char *out);
Err staging_final(const Staging *s, const char *name, char *out);

/* The temporary file gets its name, over an older one. ERR_WRITE. */
Err staging_publish(const Staging *s, const char *name);
/* Remove the temporary file, or the one under its name, where there is one. ERR_WRITE. */
Err staging_discard(const Staging *s, const char *name);
Err staging_remove_final(const Staging *s, const char *name);

#ifdef __cplusplus
}
#endif
#endif
