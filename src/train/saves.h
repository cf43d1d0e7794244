/* Saves: when a run saves, and what becomes of a save that fails. */
#ifndef GPT_TRAIN_SAVES_H
#define GPT_TRAIN_SAVES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct Trainer;

typedef struct {
    int64_t saved_step; /* of the newest checkpoint of this run, read or written; -1: none */
    int64_t n_failed;   /* in a row */
} Saves;

/* Is a checkpoint due at the present step? nanoGPT's rule, on its own interval: always, or only
 * what evaluated better than all before. Not collective. */
bool saves_due(const struct Trainer *t, bool improved);
/* Save, and remove older checkpoints. A failed save keeps training, for the next may work (a full
 * disk is cleared); not for ever, and not when there is no next. ERR_WRITE, ERR_SYSTEM. Collective.
 */
Err saves_save(struct Trainer *t);
/* After a signal, or at a limit of time: ERR_REQUEUE, everything saved; or the error of the save.
 * Collective. */
Err saves_stop(struct Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
