/* Guard: a watchdog around a whole run, and how it ends one that hangs: a line of each rank on
 * stderr, NCCL given up, MPI_Abort, and _exit at the latest, all with exit code 86. */
#ifndef GPT_LAUNCH_GUARD_H
#define GPT_LAUNCH_GUARD_H

#include <semaphore.h>

#include "comm/comm.h"
#include "config/config.h"
#include "launch/bind.h"
#include "train/watchdog.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    Activity activity; /* of the main thread */
    Watchdog watchdog;
    WatchPlace place;
    Comm *comm;         /* borrowed */
    double limit_s;     /* of each stage of the start and the end */
    pthread_t aborter;  /* waits for the order to call MPI_Abort, which may never return */
    sem_t order;        /* to the aborter */
    bool running;       /* the aborter is to be joined */
    int32_t can_abort;  /* atomic; MPI is up */
    int32_t may_return; /* atomic; the order is to end, not to abort */
} Guard;

/* Before comm_open, which is the first thing watched. launcher names this rank until comm_open has.
 * fault may be unset where the settings could not be read. What it returns is for an agreement
 * after comm_open. ERR_SYSTEM. Not collective. */
Err guard_open(Guard *g, Comm *comm, const Launcher *launcher, const FaultConfig *fault);
/* After comm_open: the ranks of this host see each other. Collective. */
Err guard_join(Guard *g);
void guard_name_device(Guard *g, Device *dev);
/* The run is over: what is left is to leave together, which has a limit, too. */
void guard_leave(Guard *g);
/* Let the shared memory go, before comm_close. When the program is being ended this does not
 * return. */
void guard_part(Guard *g);
/* After comm_close. Accepts one whose guard_open failed. */
void guard_close(Guard *g);

#ifdef __cplusplus
}
#endif
#endif
