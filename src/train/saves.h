/* Saves: when a run saves, how, and what becomes of a save that fails.
 *
 * At intervals of steps and of time. Rank 0's clock decides, and it alone knows when the thread
 * that writes a checkpoint (checkpoint/writer.h) is done: both travel with the sums of the step, so
 * all ranks begin and end a save at the same step. One checkpoint is written at a time; the next
 * save, and the end of the run, wait for it. The last one, and the one after a signal, are written
 * while all wait. */
#ifndef GPT_TRAIN_SAVES_H
#define GPT_TRAIN_SAVES_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/writer.h"

#ifdef __cplusplus
extern "C" {
#endif

struct Trainer;

typedef struct {
    Writer writer;
    int64_t saved_step;   /* of the newest checkpoint of this run, read or written; -1: none */
    int64_t pending_step; /* of the one that the writer has; -1: none */
    int64_t n_failed;     /* in a row */
    bool asked, beside;   /* beside: the writer has room; asked: whether it has is known */
    /* what rank 0 told in the newest step */
    bool time_is_up; /* the last save is checkpoint_time ago */
    bool is_written; /* the writer is done with what is pending */
    /* of rank 0 */
    int64_t begin_ns; /* of the newest save, or the run */
    double copy_ms;   /* what the pending one held the run up */
    bool warned;      /* that it takes too long */
} Saves;

/* When the parameters are there. */
void saves_init(struct Trainer *t);
/* Waits for a checkpoint that is being written, and publishes it: rank 0 alone, for this may come
 * after an error that others do not have. The phase is then PHASE_SAVE, on all ranks. Accepts a
 * zero-initialised trainer. */
void saves_close(struct Trainer *t);

/* For the sums of a step; only rank 0 ever says true. saves_is_written says in the log when the
 * writing takes longer than save_timeout. Not collective. */
bool saves_time_is_up(const struct Trainer *t);
bool saves_is_written(struct Trainer *t);

/* Is a checkpoint due at the present step? When checkpoint_time has passed; and by nanoGPT's rule,
 * on its own interval: always, or only what evaluated better than all before. Not among bad steps,
 * but at the end. Not collective. */
bool saves_due(const struct Trainer *t, bool improved);
/* Begin a save, and end it when it is not one to be written beside training. A failed save keeps
 * training, for the next may work (a full disk is cleared); not for ever, and not when there is no
 * next. ERR_REPLICA, ERR_DIVERGED: ranks hold different parameters, or some that are not finite,
 * and none are saved. ERR_WRITE, ERR_SYSTEM. Collective. */
Err saves_save(struct Trainer *t);
/* Between two steps: publish what is written, remove older checkpoints. Errors as of saves_save.
 * Collective. */
Err saves_settle(struct Trainer *t);
/* At the end: wait for what is being written. Errors as of saves_save. Collective. */
Err saves_finish(struct Trainer *t);
/* After a signal, or at a limit of time: ERR_REQUEUE, everything saved; or the error of the save.
 * Collective. */
Err saves_stop(struct Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
