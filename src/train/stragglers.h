/* Stragglers: is one rank slower than the others, who then wait for it in every step?
 *
 * A rank's time is from the first forward of a step to where its first bucket is ready to be
 * reduced, on the device's own clock: nothing in it waits for another rank. (With zero_stage 2 that
 * is the first micro-step only, which is as good for comparing.) The means of a window of steps are
 * gathered; a rank that is the slowest and well above the median in some windows in a row is named
 * once. */
#ifndef GPT_TRAIN_STRAGGLERS_H
#define GPT_TRAIN_STRAGGLERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct Trainer;

enum { STRAGGLER_WARM_UP = 5, STRAGGLER_STEPS = 100, STRAGGLER_WINDOWS = 3 };
#define STRAGGLER_RATIO 1.15

typedef struct {
    int64_t n_steps; /* of a window */
    /* the present one */
    int64_t n; /* steps in it; below 0: steps of the start, which do not count */
    double sum_ms;
    /* the windows so far, the same on all ranks */
    int32_t rank;      /* the slowest of the newest */
    int32_t n_windows; /* that it has been too slow in a row */
} Stragglers;

typedef struct {
    int32_t rank;
    double ms, median_ms; /* a step's, in the newest window */
} Straggler;

void stragglers_init(Stragglers *s);
void stragglers_add(Stragglers *s, double ms);

/* A window of all ranks: ms (world). True: *found has been too slow often enough to be named. The
 * median of an even number is the lower one of two.
 * scratch (world). Not collective. */
bool stragglers_judge(Stragglers *s, const double *ms, double *scratch, int32_t world,
                      Straggler *found);

/* After a step: when the window is full, gather and say who is too slow. ERR_SYSTEM. Collective. */
Err stragglers_watch(struct Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
