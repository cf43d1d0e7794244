/* Tune: the algorithms of a device that has a choice (a GPU library's matrix products), fixed
 * before the first step and the same on all ranks. */
#ifndef GPT_TRAIN_TUNE_H
#define GPT_TRAIN_TUNE_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rank 0 takes what checkpoint `dir` was made with, or when dir is "" what the cache file
 * t->tuning_cache holds; times what is still open on one micro-batch of noise; and tells the other
 * ranks. t->tuning is the text of all choices. A cache that cannot be used costs time and a
 * warning. Overwrites parameters, gradients and activations; does nothing on a device without a
 * choice. Collective. */
Err tune_device(Trainer *t, const char *dir);

#ifdef __cplusplus
}
#endif
#endif
