#include "train/deadline.h"

#include <math.h>

static const double NS = 1e9, LEAST_MARGIN_S = 60, MOST_OF_JOB = 0.25, SAVE_SPEED = 100e6;

void deadline_init(Deadline *d, const JobTimes *times, double stop_after_s, size_t n_save_bytes)
{
    *d = (Deadline){.times = *times, .longest_save_s = (double)n_save_bytes / SAVE_SPEED};
    if (stop_after_s > 0)
        d->stop_ns = times->start_ns + (int64_t)(stop_after_s * NS);
}

void deadline_add_save(Deadline *d, double seconds)
{
    d->longest_save_s = fmax(d->longest_save_s, seconds);
}

double deadline_margin(const Deadline *d, double step_s)
{
    double wanted = LEAST_MARGIN_S + 2 * d->longest_save_s + 2 * step_s;
    double most = (double)(d->times.job_end_ns - d->times.start_ns) / NS * MOST_OF_JOB;
    return fmin(wanted, fmax(most, 0));
}

StopReason deadline_reached(const Deadline *d, int64_t now_ns, double step_s)
{
    int64_t margin_ns = (int64_t)(deadline_margin(d, step_s) * NS);
    if (d->times.job_end_ns != 0 && now_ns >= d->times.job_end_ns - margin_ns)
        return STOP_JOB_ENDS;
    return d->stop_ns != 0 && now_ns >= d->stop_ns ? STOP_AFTER : STOP_NOT;
}
