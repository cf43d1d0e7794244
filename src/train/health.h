/* Health: what is wrong with the numbers of a step, in words. Private to train/.
 *
 * A reduction leaves nothing of one rank's own gradients, and a NaN of one is in the sums of all.
 * So after a step that was not finite, and only then, each rank computes its own part once more and
 * looks at it before anybody has added to it: the same bits come out (grads.h), so what is wrong
 * with the data, the parameters or a device that always errs is found again, by rank and by tensor.
 * The steps that are finite pay nothing for it; one that is not takes twice as long. What does not
 * come again was a transient fault: then the sums say in which tensor it was, and the rank is known
 * only when its loss was not finite. */
#ifndef GPT_TRAIN_HEALTH_H
#define GPT_TRAIN_HEALTH_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* After the sums of a step that is not finite, before t->progress moves on: why (n_bytes) = for
 * each rank that is to blame (all that fit) whether its loss is finite and the first of its
 * gradients, as backward forms them, that is not:
 *
 *     rank 2: gradient of h.3.mlp.c_fc.weight is not finite (first of 4 tensors), loss finite
 *
 * The same on all ranks. own_loss: this rank's share of the loss. Gradients and losses of the step
 * are lost. Waits. ERR_SYSTEM. Collective. */
Err health_explain(Trainer *t, double loss_scale, double own_loss, char *why, size_t n_bytes);

/* After the sums of a finite step: is its update to be left out (skip_outlier_z, optim/outliers.h)?
 * record->loss and grad_norm are judged by rank 0, for logarithms may differ in their last bits
 * between hosts, and all ranks take over its t->progress.outliers; record->why says what is out of
 * the ordinary. ERR_SYSTEM. Collective. */
Err health_judge(Trainer *t, StepRecord *record, bool *outlier);

/* Before a save, between steps: ERR_DIVERGED when a parameter of any rank is not finite, with rank
 * and tensor; it will not become finite again. Where gradients were is overwritten. Waits.
 * ERR_SYSTEM. Collective. */
Err health_check_params(Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
