/* Folder: the directories in an out_dir, by their names.
 *
 *   - step_N: under this name a directory is whole. It got the name by one rename, after every file
 *     and the directory itself were synced.
 *   - .tmp_step_N: being written or being deleted. Nobody reads it; the next save removes it.
 *   - .old_step_N: step_N set aside while another step_N takes its place. Whole too: after a crash
 *     between the two renames it counts as step_N. Removed once there is a step_N. */
#ifndef GPT_CHECKPOINT_FOLDER_H
#define GPT_CHECKPOINT_FOLDER_H

#include "checkpoint/checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { FOLDER_STEP, FOLDER_TEMPORARY, FOLDER_ASIDE } FolderKind;

/* out (FILE_PATH_BYTES) = out_dir/step_00000012, or the same with another prefix. */
Err folder_path(char *out, const char *out_dir, FolderKind kind, int64_t step);

/* Remove what a crash leaves: half-written directories, and set-aside ones that were replaced. All
 * that can be; the first failure is returned. */
Err folder_remove_leavings(const char *out_dir);

/* checkpoint_prune of this rank. When the newest is of verified_step it is known to be whole. Not
 * collective. */
Err folder_prune(const char *out_dir, const CheckpointKeep *keep, int64_t verified_step);

#ifdef __cplusplus
}
#endif
#endif
