/* LossScale: keeps small gradients above float16's smallest number (Micikevicius et al. 2018). The
 * loss is multiplied by a power of two, and what comes out of backward divided by it again, which
 * is exact in float32. A gradient that overflows costs one update and halves the scale; after many
 * good ones it is doubled. The numbers are torch's GradScaler's. */
#ifndef GPT_OPTIM_LOSS_SCALE_H
#define GPT_OPTIM_LOSS_SCALE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOSS_SCALE_START 65536.0
#define LOSS_SCALE_FLOOR 1.0

enum { LOSS_SCALE_GOOD_STEPS = 2000 }; /* finite gradients in a row, then the scale is doubled */

typedef struct {
    double scale;   /* a power of two, at least LOSS_SCALE_FLOOR; 0: no scaling */
    int64_t n_good; /* finite gradients since it last changed */
} LossScale;

/* What the loss is multiplied by: the scale, or 1. */
double loss_scale_factor(const LossScale *s);
/* A gradient was finite. */
void loss_scale_good(LossScale *s);
/* A gradient was not. False when the scale cannot be the reason: there is none, or it is as low as
 * it gets. */
bool loss_scale_overflow(LossScale *s);

#ifdef __cplusplus
}
#endif
#endif
