/* Trainer: the run. Owns the memory of a rank and drives the step (DESIGN: one step).
 *
 *     zero the gradients
 *     for each of my micro-batches: forward, backward (adds to the flat gradient);
 *         on the last one, buckets are reduced as backward finishes them (zero_stage 2: on each)
 *     one small all-reduce of {loss, sum of squares, flags}: all ranks do what follows, or none
 *     clip, AdamW on my shard, publish parameters; not finite: skip these
 *     log; at intervals evaluate and save
 *
 * Each phase has a limit, after which a watchdog ends the run (watchdog.h).
 *
 * open.c: everything before step 0, tune.c: of that the choice of algorithms. step.c: one update.
 * eval.c, hellaswag.c, samples.c: a look at the model. saves.c: checkpoints. trainer.c: the loop
 * around them. No rank leaves alone: a fault of one is agreed upon where its phase ends, and all
 * return the same error.
 */
#ifndef GPT_TRAIN_TRAINER_H
#define GPT_TRAIN_TRAINER_H

#include "checkpoint/checkpoint.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/loader.h"
#include "model/gpt2.h"
#include "optim/adamw.h"
#include "optim/reducer.h"
#include "plan/plan.h"
#include "score/task.h"
#include "train/deadline.h"
#include "train/log.h"
#include "train/samples.h"
#include "train/saves.h"
#include "train/stragglers.h"
#include "train/watchdog.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Trainer {
    const Config *cfg; /* borrowed */
    Comm *comm;        /* borrowed */
    Device *dev;       /* borrowed */
    Dataset data;
    TokenizerFiles tokenizer; /* what each checkpoint has of it; on rank 0 */
    ScoreTask hellaswag;      /* no items: not wanted */
    Samples samples;
    Loader train_loader, val_loader;
    Plan *plan;
    Layout layout;
    Shard owned;    /* what AdamW updates here */
    Shard disjoint; /* what this rank counts in the gradient norm */
    GPT2 model;
    AdamW optim;
    Reducer reducer;
    void *memory;      /* the one allocation */
    void *host_memory; /* and the one of host memory beside a GPU; NULL on the CPU */
    void *ballast;     /* memory of the GPU that nobody uses (ballast.h); NULL: none */
    PlanMemory mem;
    int64_t n_uploads;        /* slots of host tokens whose upload may be under way (batch.h) */
    const char *tuning_cache; /* borrowed; a file, or "": none (tune.h) */
    char *tuning;             /* choices of the device; NULL: it has none. Owned */
    Progress progress;
    StepTimes step_times; /* for the limit of a step */
    Stragglers stragglers;
    char device_name[128]; /* DeviceInfo.name */
    Log log;
    DirLock out_dir; /* of rank 0: two runs in one out_dir would spoil each other's checkpoints */
    Saves saves;
    Deadline deadline;      /* rank 0's counts */
    StopReason stop;        /* all ranks know it: save and leave */
    const int *stop_signal; /* not 0: this rank got one; written by launch/; NULL: none */
} Trainer;

/* Data, plan, memory, model, parameters (scratch, resume or a directory), log: everything before
 * step 0. Nothing is written before all of it is known to work. The caller calls trainer_close
 * whatever comes back. tuning_cache: a file of algorithms that were fastest before, "" for none.
 * Ends in an agreement of all ranks. Collective. */
Err trainer_open(Trainer *t, const Config *cfg, Comm *comm, Device *dev, const int *stop_signal,
                 const char *tuning_cache);
void trainer_close(Trainer *t); /* accepts a zero-initialised one */
/* Only the plan that trainer_open would make for a run that begins: t->plan. The caller calls
 * trainer_close whatever comes back. Collective. */
Err trainer_plan(Trainer *t, const Config *cfg, Comm *comm, Device *dev, int64_t vocab_size);

/* max_iters updates from where progress stands, with evaluations and checkpoints. Nothing is
 * allocated on the device or pinned meanwhile, which is looked at (an ASSERT). ERR_REQUEUE after
 * a signal (saved), ERR_DIVERGED, ERR_WRITE, ERR_SYSTEM. Collective. */
Err trainer_run(Trainer *t);

/* A phase begins at the present step, with its limit from the settings; activity_do follows. A
 * phase of the start has room for reading n_bytes, at 10 MB/s. Not collective. */
void trainer_enter(Trainer *t, Phase phase, const char *operation, int64_t n_bytes);

/* Are all updates made? */
bool trainer_is_last(const Trainer *t);
int64_t trainer_tokens(const Trainer *t); /* consumed so far */
/* Between open and run: stop at stop_after, or in time before the job ends. Not collective. */
void trainer_keep_to(Trainer *t, const JobTimes *times);

/* Why this rank would stop: a signal; on rank 0, a limit of time. t->stop is what all ranks agreed
 * on. Not collective. */
StopReason trainer_wants_stop(const Trainer *t);

/* One update. record->skipped: loss or gradient was not finite, parameters are as before; whether
 * that is the fault of float16's loss scale shows in t->progress. t->stop: some rank would.
 * New parameters may still be on their way: reducer_await comes before looking at them. Collective.
 * For tests and benchmarks too; trainer_run calls it. */
Err trainer_step(Trainer *t, StepRecord *record);

#ifdef __cplusplus
}
#endif
#endif
