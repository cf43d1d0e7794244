/* Save: the tensors of a run gathered from their owners into safetensors files, in bounded memory.
 *
 * A file holds tensors in flat order and the owners' slices of a bucket are contiguous in it, so
 * walking bucket by bucket, owner by owner, piece by piece writes a file from front to back. A rank
 * that fails keeps taking part until the file ends: there all ranks agree. */
#ifndef GPT_CHECKPOINT_SAVE_H
#define GPT_CHECKPOINT_SAVE_H

#include "checkpoint/checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Create dir/model.safetensors, dir/optimizer.safetensors on rank 0; digest is rank 0's. The same
 * Err on all ranks; half a file may remain then. Collective. */
Err save_model(const CheckpointState *state, const char *dir, FileDigest *digest);
Err save_optimizer(const CheckpointState *state, const char *dir, FileDigest *digest);

/* Bytes of all tensors in both files. */
size_t save_tensor_bytes(const CheckpointState *state);
/* The same tensors to `memory` (save_tensor_bytes) on rank 0, as they lie in the files; NULL on the
 * others. The same Err on all ranks. Collective. */
Err save_copy(const CheckpointState *state, void *memory);
/* Create the files from there. Neither the device nor other ranks are asked: a thread may do it
 * while the run goes on. Not collective. ERR_WRITE, ERR_SYSTEM; nothing remains of half a file. */
Err save_copied_model(const CheckpointState *state, const char *dir, const void *memory,
                      FileDigest *digest);
Err save_copied_optimizer(const CheckpointState *state, const char *dir, const void *memory,
                          FileDigest *digest);

#ifdef __cplusplus
}
#endif
#endif
