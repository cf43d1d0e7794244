/* Reducer: gradients in, parameters out, bucket by bucket, over ranks.
 *
 * zero_stage 0: all-reduce every bucket. zero_stage 1: reduce-scatter (or all-reduce), AdamW on own
 * slices, then all-gather. Driven by backward on the last micro-step only: reducer_bucket_ready is
 * its GradReadyFn. The all-gather goes on behind whatever follows the update until parameters are
 * used again.
 *
 * zero_stage 2: the same in every micro-step, of what this micro-step alone added up; own slices of
 * the sums are added to the shard, and the buckets begin again from zero (GptShape.bucket_grads). A
 * bucket is on its way while backward forms the next one; it is collected when the one after that
 * is to take its place: the device waits for that, by events, never the host. What was reduced last
 * is on its way during the next forward pass. So the sum over ranks comes before the sum over
 * micro-steps: other rounding than zero_stage 1, in the last bits.
 *
 * comm_dtype bfloat16: a bucket is rounded, its slices go to their owners, and these add them to
 * their own in float32, in a fixed order. The next bucket is sent when this one's sums are queued,
 * so one bucket's staging is enough. With all_reduce the sums go back in float32. */
#ifndef GPT_OPTIM_REDUCER_H
#define GPT_OPTIM_REDUCER_H

#include "base/arena.h"
#include "comm/comm.h"
#include "config/config.h"
#include "model/gpt2.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What gradients are staged in when they travel in bfloat16: each as long as the largest bucket.
 * tensor_none() otherwise. */
typedef struct {
    Tensor out, in;
} ReducerWire;

/* Is there such staging? Not for one rank, whose gradients do not travel. */
bool reducer_needs_wire(const SystemConfig *system, int32_t world);
void reducer_wire_layout(ReducerWire *wire, Arena *arena, const Layout *layout);
/* shard (layout->count / world) f32: own slices of the step's gradients, one after another as in a
 * Shard. For zero_stage 2. */
void reducer_shard_layout(Tensor *shard, Arena *arena, const Layout *layout, int32_t world);

typedef struct {
    Comm *comm;
    Device *dev;
    const Layout *layout;
    const Tensor *grads, *params; /* [n_buckets]: where they lie; borrowed */
    ReducerWire wire;
    Tensor shard;        /* tensor_none() unless zero_stage 2 */
    Tensor arriving;     /* the bucket whose slices arrive in wire.in; none: tensor_none() */
    bool scatter;        /* reduce-scatter rather than all-reduce */
    bool gather;         /* all-gather after the update: zero_stage 1 and 2 */
    int32_t n_reduced;   /* buckets reduced since reducer_begin */
    int32_t uncollected; /* zero_stage 2: so many of these, the newest, are not in the shard yet */
    bool publishing;     /* parameters are on their way: reducer_await is due */
    Err err;             /* sticky, owned */
} Reducer;

/* What a Reducer works on; Tensors as in it. */
typedef struct {
    const Layout *layout;
    const Tensor *grads, *params;
    ReducerWire wire;
    Tensor shard;
} ReducerMemory;

/* zero_stage 2 has a shard, the others none. grad_reduce is looked at from zero_stage 1 on. */
void reducer_init(Reducer *r, Comm *comm, Device *dev, const ReducerMemory *memory,
                  int32_t zero_stage, ConfigGradReduce grad_reduce);
/* Before the backward of a micro-step: the GradReadyFn it needs, NULL when nothing is to be reduced
 * yet. Collective. */
GradReadyFn *reducer_begin(Reducer *r, bool last_micro_step);
/* GradReadyFn with a Reducer * as arg: start reducing one bucket. Collective. */
void reducer_bucket_ready(void *reducer, int32_t bucket);
/* After the last backward: every bucket was reduced (an ASSERT), later device work sees the sums.
 * Collective. */
Err reducer_finish(Reducer *r);
/* After the update: parameters start on their way to every rank, behind the update. Nothing may
 * touch them before reducer_await, which returns what goes wrong here. Collective. */
void reducer_publish(Reducer *r);
/* Before anything looks at parameters: later device work sees the published ones. Nothing to do
 * when none are on their way. Collective. */
Err reducer_await(Reducer *r);

#ifdef __cplusplus
}
#endif
#endif
