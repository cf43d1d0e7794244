/* Protocol: the file work of one save, in the order that keeps checkpoints safe (folder.h).
 *
 *     save_begin      the temporary directory, empty
 *     (save.h)        the tensors, in two files
 *     save_seal       the small files, the manifest last; files and directory are synced
 *     save_verify     what was written is read again
 *     save_publish    one rename, and the parent synced
 *
 * Not collective: rank 0 does it, in the main thread or in a thread of its own. */
#ifndef GPT_CHECKPOINT_PROTOCOL_H
#define GPT_CHECKPOINT_PROTOCOL_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const CheckpointState *state; /* borrowed, as progress and out_dir are */
    const Progress *progress;
    const char *out_dir;
    char final[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES], aside[FILE_PATH_BYTES];
    Manifest manifest;             /* filled on rank 0 */
    FileDigest *model, *optimizer; /* in the manifest */
} Save;

/* Names only. save_close whatever comes back. */
Err save_open(Save *save, const CheckpointState *state, const Progress *progress);
void save_close(Save *save);

/* Each is ERR_WRITE, or ERR_SYSTEM when memory is short. save_begin refuses, with both figures,
 * when the file system says that there is no room. */
Err save_begin(const Save *save);
Err save_seal(Save *save);
Err save_verify(const Save *save);
/* After an error the directory of that step is as it was before. */
Err save_publish(const Save *save);
/* After an error of any: remove the temporary directory, as far as that can be done. */
void save_discard(const Save *save);

#ifdef __cplusplus
}
#endif
#endif
