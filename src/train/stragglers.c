#include "train/stragglers.h"

#include <stdlib.h>
#include <string.h>

#include "train/trainer.h"

void stragglers_init(Stragglers *s)
{
    *s = (Stragglers){.n_steps = STRAGGLER_STEPS, .n = -STRAGGLER_WARM_UP, .rank = -1};
}

void stragglers_add(Stragglers *s, double ms)
{
    s->n++;
    if (s->n > 0)
        s->sum_ms += ms;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool stragglers_judge(Stragglers *s, const double *ms, double *scratch, int32_t world,
                      Straggler *found)
{
    *found = (Straggler){0, ms[0], 0};
    for (int32_t r = 1; r < world; r++)
        if (ms[r] > found->ms)
            *found = (Straggler){r, ms[r], 0};
    memcpy(scratch, ms, (size_t)world * sizeof *ms);
    qsort(scratch, (size_t)world, sizeof *scratch, ascending);
    found->median_ms = scratch[(world - 1) / 2];
    bool slow = found->ms > STRAGGLER_RATIO * found->median_ms;
    s->n_windows = !slow ? 0 : found->rank == s->rank ? s->n_windows + 1 : 1;
    s->rank = slow ? found->rank : -1;
    return s->n_windows == STRAGGLER_WINDOWS;
}

/* Who a rank is. */
typedef struct {
    char host[sizeof((Comm *)0)->host];
    char device[sizeof((Trainer *)0)->device_name];
} Place;

static Err warn(Trainer *t, const Straggler *found)
{
    Place place;
    memcpy(place.host, t->comm->host, sizeof place.host);
    memcpy(place.device, t->device_name, sizeof place.device);
    TRY(comm_broadcast_bytes(t->comm, &place, sizeof place, found->rank));
    log_say(&t->log,
            "warning: rank %d on %s (%s) computes %.2f times as long as the median rank, %.2f ms "
            "against %.2f ms a step in the last window of %d: all ranks wait for it",
            found->rank, place.host, place.device, found->ms / found->median_ms, found->ms,
            found->median_ms, STRAGGLER_WINDOWS);
    return OK;
}

static Err gather_and_judge(Trainer *t, double *all, double *scratch)
{
    Stragglers *s = &t->stragglers;
    Straggler found;
    double mean = s->sum_ms / (double)s->n;
    s->n = 0;
    s->sum_ms = 0;
    TRY(comm_gather_bytes(t->comm, &mean, sizeof mean, all));
    return stragglers_judge(s, all, scratch, t->comm->world, &found) ? warn(t, &found) : OK;
}

Err stragglers_watch(Trainer *t)
{
    if (t->comm->world == 1 || t->stragglers.n < t->stragglers.n_steps)
        return OK;
    size_t world = (size_t)t->comm->world;
    double *all = calloc(2 * world, sizeof *all);
    Err err = all ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the times of all ranks");
    err = comm_agree(t->comm, err);
    if (!err)
        err = gather_and_judge(t, all, all + world);
    free(all);
    return err;
}
