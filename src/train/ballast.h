/* Ballast: makes a large GPU as small as memory_limit says, by holding what is above it. */
#ifndef GPT_TRAIN_BALLAST_H
#define GPT_TRAIN_BALLAST_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Left to the rest of the process and the system, below what is free when memory_limit is auto, and
 * beside memory_limit when there is ballast: on a GPU, kernels of libraries are loaded when they
 * are first used. */
enum { MEMORY_RESERVE_BYTES = 256 << 20 };

/* After all memory of the plan is there: t->ballast = what is free on the GPU beyond the rest of
 * memory_limit and the reserve, so that whatever is not planned runs short as it would on a card of
 * that size. Only when memory_limit is given, and not on a CPU, whose memory belongs to others,
 * too. When another process takes memory meanwhile, it is what can be had, or nothing. ERR_SYSTEM:
 * the device does not answer. Collective. */
Err ballast_take(Trainer *t);
void ballast_drop(Trainer *t); /* accepts none */

#ifdef __cplusplus
}
#endif
#endif
