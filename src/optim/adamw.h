/* AdamW over this rank's shard: exp_avg, exp_avg_sq and, when parameters are not float32, master
 * weights.
 *
 * zero_stage 0: the shard is everything. zero_stage 1: 1/world of it. No collective here: reducer.h
 * moves gradients and parameters.
 *
 * The form of the state changes its bytes and where they are, never a result: master weights in
 * float32 or as 16 bits beside bfloat16 parameters; all of it on the device, or in host memory.
 * Offloaded state visits the device in chunks: while one is updated, the next comes in and the last
 * goes out, in two sets of buffers that take turns. */
#ifndef GPT_OPTIM_ADAMW_H
#define GPT_OPTIM_ADAMW_H

#include "base/arena.h"
#include "config/config.h"
#include "optim/shard.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The float32 weights that updates are added to. */
typedef enum {
    MASTER_NONE,       /* the parameters themselves */
    MASTER_F32,        /* a vector of their own; parameters are their rounded values */
    MASTER_REMAINDER16 /* bfloat16 parameters are their high halves, the low ones are kept */
} AdamwMaster;

enum { ADAMW_CHUNK_ELEMENTS = 16 << 20 };

typedef struct {
    AdamwMaster master;
    bool offload;           /* m, v and master in host memory (not on the CPU, where they are) */
    int64_t chunk_elements; /* of an offloaded shard on the device at a time; 0: the above */
} AdamwForm;

/* m: exp_avg, v: exp_avg_sq, both f32. master: f32, u16 (low halves), or none. */
typedef struct {
    Tensor m, v, master;
} AdamwVectors;

typedef struct {
    const Shard *shard;       /* owned elements: what is updated; borrowed */
    const OptimConfig *hyper; /* betas, eps, weight_decay; borrowed */
    AdamwForm form;
    AdamwVectors state;    /* (shard->count); in host memory when form.offload */
    AdamwVectors chunk[2]; /* (adamw_chunk_elements) on the device; none unless form.offload */
    Tensor sum_squares;    /* (1) f64 */
} AdamW;

/* ---- life -------------------------------------------------------------------------------- */

void adamw_init(AdamW *opt, const Shard *shard, const OptimConfig *hyper, AdamwForm form);
/* On the device: what stays there. */
void adamw_layout(AdamW *opt, Arena *arena);
/* On the device, offloaded state only: the two sets of chunks. They are in use from adamw_update
 * until work queued after it; their memory may serve others before and after. */
void adamw_layout_chunks(AdamW *opt, Arena *arena);
/* In host memory (device_alloc_host), offloaded state only: all of it. */
void adamw_layout_host(AdamW *opt, Arena *arena);
/* Optimizer state bytes on this rank: 8, 10 or 12 per owned element. */
size_t adamw_state_bytes(const AdamW *opt);
/* Elements of a chunk: as asked for, at most the shard. */
int64_t adamw_chunk_elements(const AdamW *opt);

/* ---- values ------------------------------------------------------------------------------ */

typedef enum { ADAMW_M, ADAMW_V, ADAMW_MASTER } AdamwRole;

/* m = v = 0; a master too: the caller sets it, for params are only its rounded values. Waits when
 * offloaded. */
Err adamw_reset(AdamW *opt, Device *dev);
/* master = values (float32, all of tensor `index`) as far as this rank owns them; nothing without a
 * master. Waits. */
Err adamw_set_master(AdamW *opt, Device *dev, int32_t index, const float *values);
/* Elements [begin, begin + n) of a shard vector = values, float32 in host memory. Of a master in
 * halves this sets the low ones: setting params is the caller's. Waits. */
Err adamw_write(AdamW *opt, Device *dev, AdamwRole role, int64_t begin, int64_t n,
                const float *values);
/* The opposite, within one slice of the shard. params (flat) hold the high halves of a master in
 * halves. There must be a master when it is asked for. Waits. */
Err adamw_read(const AdamW *opt, Device *dev, AdamwRole role, Tensor params, int64_t begin,
               int64_t n, float *values);

/* ---- the step ---------------------------------------------------------------------------- */

/* Gradients are f32: a flat vector, or under zero_stage 2 this rank's shard vector, told apart by
 * their length. */

/* opt->sum_squares = sum of squares of grads over the segments of `part` (a rank's disjoint share;
 * under zero_stage 0 not the owned shard). Each element is counted by exactly one rank; padding by
 * none. */
void adamw_sum_squares(AdamW *opt, Device *dev, Tensor grads, const Shard *part);

/* Update own elements of params (flat) from grads * grad_scale. step is 1 for the first
 * update. Queued: work queued later comes after it, in whatever memory. */
void adamw_update(AdamW *opt, Device *dev, Tensor params, Tensor grads, double lr,
                  double grad_scale, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
