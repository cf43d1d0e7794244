/* Evaluation: the mean loss on fixed windows of a token sequence, shared over ranks. */
#ifndef GPT_TRAIN_EVAL_H
#define GPT_TRAIN_EVAL_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does training stop at this step to evaluate? */
bool eval_due(const Trainer *t);

/* Before the model is used between steps: the parameters are there, nothing is under way, and host
 * memory of batches is free. Collective. */
Err eval_begin(Trainer *t);
/* After each part of an evaluation: does any rank have a fault (its `mine`, which all return), or
 * want to stop? t->stop says so: a signal need not wait for the end of a long evaluation. *done
 * (may be NULL) becomes: is it true on any rank? Collective. */
Err eval_exchange(Trainer *t, Err mine, bool *done);

/* *loss = mean over eval_iters * batch_size windows (fewer when the files are short) of loader's
 * files. The same windows at every evaluation and on any number of ranks; dropout off. A signal
 * ends it early: t->stop is set and *loss means nothing. Collective. */
Err eval_loss(Trainer *t, const Loader *loader, double *loss);

#ifdef __cplusplus
}
#endif
#endif
