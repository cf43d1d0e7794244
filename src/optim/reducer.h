/* Reducer: gradients in, parameters out, bucket by bucket, over ranks.
 *
 * zero_stage 0: all-reduce every bucket. zero_stage 1: reduce-scatter (or all-reduce), AdamW on own
 * slices, then all-gather. Driven by backward on the last micro-step only: reducer_bucket_ready is
 * its GradReadyFn. The all-gather goes on behind whatever follows the update until parameters are
 * used again.
 *
 * comm_dtype bfloat16: a bucket is rounded, its slices go to their owners, and these add them to
 * their own in float32, in a fixed order. The next bucket is sent when this one's sums are queued,
 * so one bucket's staging is enough. With all_reduce the sums go back in float32. */
#ifndef GPT_OPTIM_REDUCER_H
#define GPT_OPTIM_REDUCER_H

#include "base/arena.h"
#include "comm/comm.h"
#include "config/config.h"
#include "model/layout.h"

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

typedef struct {
    Comm *comm;
    Device *dev;
    const Layout *layout;
    Tensor grads, params; /* flat */
    ReducerWire wire;
    Tensor arriving;   /* the bucket whose slices arrive in wire.in; none: tensor_none() */
    bool scatter;      /* reduce-scatter rather than all-reduce */
    bool gather;       /* all-gather after the update: zero_stage 1 */
    int32_t n_reduced; /* buckets reduced since reducer_begin */
    bool publishing;   /* parameters are on their way: reducer_await is due */
    Err err;           /* sticky, owned */
} Reducer;

void reducer_init(Reducer *r, Comm *comm, Device *dev, const Layout *layout, Tensor grads,
                  Tensor params, ReducerWire wire, const SystemConfig *system);
/* Before the last micro-step's backward. */
void reducer_begin(Reducer *r);
/* GradReadyFn with a Reducer * as arg: start reducing one bucket. Collective. */
void reducer_bucket_ready(void *reducer, int32_t bucket);
/* After backward: every bucket was reduced (an ASSERT), later device work sees the sums.
 * Collective. */
Err reducer_finish(Reducer *r);
/* After the update: parameters start on their way to every rank, behind the update. Nothing may
 * touch them before reducer_await. Collective. */
Err reducer_publish(Reducer *r);
/* Before anything looks at parameters: later device work sees the published ones. Nothing to do
 * when none are on their way. Collective. */
Err reducer_await(Reducer *r);

#ifdef __cplusplus
}
#endif
#endif
