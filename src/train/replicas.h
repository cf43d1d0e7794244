/* Replicas: do all ranks hold the same bits?
 *
 * Every rank has all parameters, and under zero_stage 0 all of AdamW's state. Ranks that compute
 * the same update from the same sums keep them equal for ever; a flipped bit, a failing device or a
 * faulty transfer does not, and nobody would see it in the loss. A checksum of each tensor
 * (op_checksum) is compared at an interval and before each checkpoint, so that none is written of
 * parameters that ranks do not agree on. From zero_stage 1 on each update sends parameters from
 * their owners to all ranks: a difference is then at most one update old, and what an owner itself
 * got wrong is the same everywhere and not found.
 *
 * Not looked at: AdamW's state where it has no second copy, or is offloaded to host memory. */
#ifndef GPT_TRAIN_REPLICAS_H
#define GPT_TRAIN_REPLICAS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct Trainer;

/* Is a comparison due after the present step? */
bool replicas_due(const struct Trainer *t);
/* Compare; nothing when the setting is 0 or there is one rank. Between steps: where gradients were
 * is overwritten. Waits. ERR_REPLICA, the same on all ranks, names rank, host and tensor.
 * Collective. */
Err replicas_check(struct Trainer *t);

/* The vote on one tensor. sum[r * stride]: what rank r has, r < world. *most = how many ranks agree
 * with most others; outvoted[r] = rank r does not. False: no value has more than half of the ranks,
 * so nobody can tell who is wrong. */
bool replicas_vote(const uint64_t *sum, int64_t stride, int32_t world, int32_t *most,
                   bool *outvoted);

#ifdef __cplusplus
}
#endif
#endif
