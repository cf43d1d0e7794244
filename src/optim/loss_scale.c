#include "optim/loss_scale.h"

double loss_scale_factor(const LossScale *s)
{
    return s->scale > 0 ? s->scale : 1.0;
}

void loss_scale_good(LossScale *s)
{
    if (s->scale <= 0 || ++s->n_good < LOSS_SCALE_GOOD_STEPS)
        return;
    s->scale *= 2;
    s->n_good = 0;
}

bool loss_scale_overflow(LossScale *s)
{
    s->n_good = 0;
    if (s->scale <= LOSS_SCALE_FLOOR)
        return false;
    s->scale /= 2;
    return true;
}
