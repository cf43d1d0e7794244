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

#ifdef __cplusplus
}
#endif
#endif
