/* Trainer: the run. Owns the memory of a rank and drives the step (DESIGN: one step).
 *
 *     zero the gradients
 *     for each of my micro-batches: forward, backward (adds to the flat gradient);
 *         on the last one, buckets are reduced as backward finishes them
 *     one small all-reduce of {loss, sum of squares, flags}: all ranks update, skip, save or stop together
 *     clip, AdamW on my shard, publish parameters
 *     log; at intervals evaluate and save */
#ifndef GPT_TRAIN_TRAINER_H
#define GPT_TRAIN_TRAINER_H

#include <signal.h>

#include "checkpoint/checkpoint.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/loader.h"
#include "model/gpt2.h"
#include "optim/adamw.h"
#include "optim/reducer.h"
#include "plan/plan.h"
#include "train/log.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const Config *cfg; /* borrowed */
    Comm *comm;        /* borrowed */
    Device *dev;       /* borrowed */
    Dataset data;
    Loader train_loader, val_loader;
    Plan *plan;
    Layout layout;
    Shard owned;    /* what AdamW updates here */
    Shard disjoint; /* what this rank counts in the gradient norm */
    GPT2 model;
    AdamW optim;
    Reducer reducer;
    void *memory; /* the one allocation */
    PlanMemory mem;
    Progress progress;
    Log log;
    double last_val_loss;
    const volatile sig_atomic_t *stop_signal; /* set by launch/'s handlers; NULL: none */
} Trainer;

/* Data, plan, memory, model, parameters (scratch, resume or a directory): everything before step 0. Ends in an
 * agreement of all ranks. Collective. */
Err trainer_open(Trainer *t, const Config *cfg, Comm *comm, Device *dev,
                 const volatile sig_atomic_t *stop_signal);
void trainer_close(Trainer *t); /* accepts a zero-initialised one */

/* max_iters updates from where progress stands, with evaluations and checkpoints. ERR_REQUEUE after a signal (saved),
 * ERR_DIVERGED, ERR_WRITE, ERR_SYSTEM. Collective. */
Err trainer_run(Trainer *t);

/* One update. Collective. For tests and benchmarks; trainer_run calls it. */
Err trainer_step(Trainer *t, StepRecord *record);

#ifdef __cplusplus
}
#endif
#endif
