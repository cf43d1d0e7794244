/* ModelDir: which directory is meant when a user names a model. */
#ifndef GPT_LAUNCH_MODEL_DIR_H
#define GPT_LAUNCH_MODEL_DIR_H

#include "base/file.h"
#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dir (FILE_PATH_BYTES) = path, when that is a model directory (a checkpoint, which is verified, or
 * a Hugging Face folder); of an out_dir the newest checkpoint that verifies. ERR_MISSING, ERR_DATA.
 * The same on all ranks. Collective. */
Err model_dir_find(Comm *comm, const char *path, char *dir);

#ifdef __cplusplus
}
#endif
#endif
