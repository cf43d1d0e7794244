/* AdamW over this rank's shard: exp_avg, exp_avg_sq and, when parameters are not float32, master
 * weights.
 *
 * zero_stage 0: the shard is everything. zero_stage 1: 1/world of it. No collective here: reducer.h
 * moves gradients and parameters. */
#ifndef GPT_OPTIM_ADAMW_H
#define GPT_OPTIM_ADAMW_H

#include "base/arena.h"
#include "config/config.h"
#include "optim/shard.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const Shard *shard;       /* owned elements: what is updated; borrowed */
    const OptimConfig *hyper; /* betas, eps, weight_decay; borrowed */
    bool has_master;
    Tensor m, v;        /* (shard->count) f32 */
    Tensor master;      /* (shard->count) f32; tensor_none() when parameters are f32 */
    Tensor sum_squares; /* (1) f64 */
} AdamW;

void adamw_init(AdamW *opt, const Shard *shard, const OptimConfig *hyper, DType param_dtype);
void adamw_layout(AdamW *opt, Arena *arena);
/* Optimizer state bytes on this rank: 8 or 12 per owned element. */
size_t adamw_state_bytes(const AdamW *opt);

/* m = v = 0; a master too: the caller fills it, for params are only its rounded values. */
void adamw_reset(AdamW *opt, Device *dev);
/* master = values (float32, all of tensor `index`) as far as this rank owns them; nothing without a
 * master. Waits. */
Err adamw_set_master(AdamW *opt, Device *dev, int32_t index, const float *values);

/* opt->sum_squares = sum of squares of grads (flat f32) over the segments of `part` (a rank's
 * disjoint share; under zero_stage 0 not the owned shard). Each element is counted by exactly one
 * rank; padding by none. */
void adamw_sum_squares(AdamW *opt, Device *dev, Tensor grads, const Shard *part);

/* Update own elements of params (flat) from grads (flat) * grad_scale. step is 1 for the first
 * update. */
void adamw_update(AdamW *opt, Device *dev, Tensor params, Tensor grads, double lr,
                  double grad_scale, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
