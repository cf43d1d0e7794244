/* Reducer: gradients in, parameters out, bucket by bucket, over ranks.
 *
 * zero_stage 0: all-reduce every bucket. zero_stage 1: reduce-scatter (or all-reduce), AdamW on own
 * slices, then all-gather. Driven by backward on the last micro-step only: reducer_bucket_ready is
 * its GradReadyFn. The all-gather goes on behind whatever follows the update until parameters are
 * used again. */
#ifndef GPT_OPTIM_REDUCER_H
#define GPT_OPTIM_REDUCER_H

#include "comm/comm.h"
#include "config/config.h"
#include "model/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    Comm *comm;
    Device *dev;
    const Layout *layout;
    Tensor grads, params; /* flat */
    bool scatter;         /* reduce-scatter rather than all-reduce */
    bool gather;          /* all-gather after the update: zero_stage 1 */
    int32_t n_reduced;    /* buckets reduced since reducer_begin */
    bool publishing;      /* parameters are on their way: reducer_await is due */
    Err err;              /* sticky, owned */
} Reducer;

void reducer_init(Reducer *r, Comm *comm, Device *dev, const Layout *layout, Tensor grads,
                  Tensor params, const SystemConfig *system);
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
