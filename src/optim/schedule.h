/* The learning rate of each update: a pure function of the step. */
#ifndef GPT_OPTIM_SCHEDULE_H
#define GPT_OPTIM_SCHEDULE_H

#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Learning rate of the update that follows `step` finished ones (0-based, nanoGPT's it). Warm-up is
 * lr * (step + 1) / (warmup_iters + 1); then by lr_schedule to min_lr at lr_decay_iters, constant
 * after. decay_lr false: learning_rate throughout, no warm-up. wsd: constant, then 1 - sqrt over
 * the last 20 % (Haegele et al. 2024). Source of cosine: nanoGPT train.py get_lr. */
double schedule_lr(const OptimConfig *optim, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
