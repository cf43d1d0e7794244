/* Grads: forward and backward of a whole step, over this rank's share of its samples. Private to
 * train/.
 *
 * What becomes of the gradients is the caller's: a step hands them to the reducer, the search for
 * bad numbers (health.h) looks at them where they are. */
#ifndef GPT_TRAIN_GRADS_H
#define GPT_TRAIN_GRADS_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where gradients go. begin: before each backward, the GradReadyFn for it and for `arg`; NULL: no
 * bucket is to be taken in this micro-step. With GptShape.bucket_grads each must be. */
typedef struct {
    GradReadyFn *(*begin)(void *arg, bool last_micro_step);
    void *arg;
} GradSink;

/* t->model.grads = the gradient of this rank's share of the step's loss, and loss_total this share,
 * both times loss_scale: as far as the sink has not moved them. A function of parameters and
 * t->progress: the same bits when called again. Queued; a fault of the data is returned, after all
 * micro-steps, for other ranks wait in the sink's collectives. */
Err grads_form(Trainer *t, double loss_scale, GradSink sink);

#ifdef __cplusplus
}
#endif
#endif
