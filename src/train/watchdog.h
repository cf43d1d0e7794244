/* Watchdog: a thread that ends a run which hangs, and says where.
 *
 * It looks at what the main thread publishes (base/activity.h) ten times a second. When a phase is
 * past its deadline, one line says rank, host, device, phase, step, operation and seconds. The
 * ranks of a host share a board of memory: when one is past its deadline the others say their line,
 * too, and who does not answer (a process that was stopped) is named by those who do. Then the
 * program is ended by who started the watchdog.
 *
 * Time in which the watchdog's own thread could not run does not count: a job that Slurm suspends
 * and resumes goes on. The thread calls no MPI, takes no lock of others and allocates nothing. */
#ifndef GPT_TRAIN_WATCHDOG_H
#define GPT_TRAIN_WATCHDOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/activity.h"
#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- how long a step may take ------------------------------------------------------------ */

enum { STEP_TIMES = 64 };

typedef struct {
    double seconds[STEP_TIMES]; /* of the newest steps, round about */
    int64_t n;                  /* steps in all */
} StepTimes;

void step_times_add(StepTimes *times, double seconds);
/* Seconds, of those at hand; 0 before there are any. */
double step_times_longest(const StepTimes *times);
/* Seconds; 0: no limit. step_timeout is the setting: what it says, or when it is negative (auto)
 * the longer of a minute and 20 times the median of the newest steps; half an hour before there are
 * any. */
double step_times_limit(const StepTimes *times, double step_timeout);

/* ---- who is watched ---------------------------------------------------------------------- */

/* What a rank shows to the others of its host; in memory that they share. Zeros at first. */
typedef struct {
    int32_t rank, pid;
    int32_t expired; /* not 0: past its deadline */
    int32_t left;    /* not 0: no longer watched */
    char doing[104]; /* activity_describe's */
} WatchSlot;

typedef struct {
    int32_t rank, world;
    char host[64];
    char device[64];
    WatchSlot *board;     /* [n_slots], shared by the ranks of the host; NULL: none */
    int32_t n_slots, own; /* own: this rank's slot */
} WatchPlace;

/* Both are called by the watchdog's thread. */
typedef struct {
    void (*say)(void *arg, const char *line); /* a line with its '\n' */
    void (*end)(void *arg);                   /* ends the program */
    void *arg;
} WatchHandler;

typedef struct {
    const Activity *activity; /* borrowed, as all that handler and place point to */
    WatchHandler handler;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, and held from the deadline to the end */
    pthread_cond_t wake;
    WatchPlace place;
    bool stopping;
    bool running;      /* the thread is to be joined; of the main thread only */
    int32_t expired;   /* atomic; not 0: the program is being ended */
    int64_t watched;   /* the deadline that lost_ns belongs to */
    int64_t lost_ns;   /* since this deadline was set: time that does not count */
    int64_t ticked_ns; /* when the thread last looked */
} Watchdog;

/* ERR_SYSTEM. */
Err watchdog_start(Watchdog *w, const Activity *activity, WatchHandler handler);
/* Who this is, as soon as it is known. A board must be let go (a place without one) before its
 * memory is; this rank then counts as gone for good reasons. */
void watchdog_place(Watchdog *w, const WatchPlace *place);
/* Is the program being ended? Then nobody else is to end it. */
bool watchdog_has_expired(const Watchdog *w);
/* Accepts a zero-initialised one. */
void watchdog_stop(Watchdog *w);

#ifdef __cplusplus
}
#endif
#endif
