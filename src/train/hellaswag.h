/* HellaSwag: the share of right answers (score/task.h) at intervals in training, by the model as it
 * is then, on all ranks together. */
#ifndef GPT_TRAIN_HELLASWAG_H
#define GPT_TRAIN_HELLASWAG_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* task = cfg's eval_hellaswag in the tokens of the data, fitted to the model; empty when there is
 * none. ERR_USAGE: the data's tokens are not GPT-2's; ERR_MISSING: the file, or the data's
 * tokenizer; ERR_DATA, ERR_SYSTEM. The caller calls score_task_close whatever comes back. Not
 * collective. */
Err hellaswag_read(ScoreTask *task, const Config *cfg, const Dataset *data);

/* Is it to be scored before the next step? The same on all ranks. */
bool hellaswag_due(const Trainer *t);
/* Scores t->hellaswag and logs it. Only activations change. A signal ends it early: t->stop is set
 * and nothing is logged. Collective. */
Err hellaswag_run(Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
