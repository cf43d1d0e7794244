#include "optim/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;
static const double WSD_DECAY_FRACTION = 0.2;

/* The share of (learning_rate - min_lr) left at `ratio` of the way from warm-up to lr_decay_iters.
 */
static double cosine_left(double ratio)
{
    return 0.5 * (1.0 + cos(PI * ratio));
}

/* The same for wsd, whose decay is the last part of all lr_decay_iters steps. */
static double wsd_left(const OptimConfig *optim, int64_t step)
{
    double end = (double)optim->lr_decay_iters;
    double begin = fmax(end * (1.0 - WSD_DECAY_FRACTION), (double)optim->warmup_iters);
    if ((double)step <= begin)
        return 1.0;
    return 1.0 - sqrt(((double)step - begin) / (end - begin));
}

static double left_at(const OptimConfig *optim, int64_t step)
{
    double ratio = (double)(step - optim->warmup_iters) /
                   (double)(optim->lr_decay_iters - optim->warmup_iters);
    switch ((ConfigSchedule)optim->lr_schedule) {
    case CONFIG_LR_COSINE:
        return cosine_left(ratio);
    case CONFIG_LR_LINEAR:
        return 1.0 - ratio;
    case CONFIG_LR_CONSTANT:
        return 1.0;
    case CONFIG_LR_WSD:
        return wsd_left(optim, step);
    }
    return 1.0;
}

double schedule_lr(const OptimConfig *optim, int64_t step)
{
    if (!optim->decay_lr)
        return optim->learning_rate;
    if (step < optim->warmup_iters)
        return optim->learning_rate * (double)(step + 1) / (double)(optim->warmup_iters + 1);
    if (optim->lr_schedule == CONFIG_LR_CONSTANT)
        return optim->learning_rate;
    if (step >= optim->lr_decay_iters) /* also keeps left_at from dividing by zero */
        return optim->min_lr;
    return optim->min_lr + left_at(optim, step) * (optim->learning_rate - optim->min_lr);
}
