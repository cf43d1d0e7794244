#include "launch/guard.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* NCCL's own limit for its start is one init_timeout, and its message says more. */
enum { START_LIMITS = 2 };
static const double USUAL_INIT_TIMEOUT_S = 120;
static const double DATA_GRACE_S = 2, ABORT_GRACE_S = 5;

/* ---- the end of a run that hangs --------------------------------------------------------- */

static void say_line(void *guard, const char *line)
{
    (void)guard;
    size_t n = strlen(line), done = 0;
    while (done < n) {
        ssize_t written = write(STDERR_FILENO, line + done, n - done);
        if (written < 0 && errno != EINTR)
            return;
        done += written > 0 ? (size_t)written : 0;
    }
}

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
}

/* The main thread gives up NCCL when it waits for it; elsewhere NCCL must not be touched. */
static void abandon_data(Guard *g)
{
    bool done = false;
    int64_t end_ns = activity_now_ns() + (int64_t)(DATA_GRACE_S * 1e9);
    while (!done && activity_now_ns() < end_ns) {
        comm_abandon_data(g->comm, &done);
        if (!done)
            nap();
    }
}

/* WatchHandler: runs in the watchdog's thread. Nothing here but the aborter's MPI_Abort can fail to
 * return: sem_post, nanosleep and _exit are safe even in a signal handler. */
static void end_program(void *guard)
{
    Guard *g = guard;
    bool can_abort = __atomic_load_n(&g->can_abort, __ATOMIC_ACQUIRE);
    int64_t end_ns = activity_now_ns() + (int64_t)(ABORT_GRACE_S * 1e9);
    if (can_abort)
        abandon_data(g);
    if (can_abort && sem_post(&g->order) == 0)
        while (activity_now_ns() < end_ns)
            nap();
    _exit(ERR_WATCHDOG);
}

static void *wait_for_order(void *guard)
{
    Guard *g = guard;
    while (sem_wait(&g->order) != 0)
        continue;
    if (!__atomic_load_n(&g->may_return, __ATOMIC_RELAXED))
        comm_abort(g->comm, ERR_WATCHDOG);
    return NULL;
}

/* ---- life -------------------------------------------------------------------------------- */

static Err start_aborter(Guard *g)
{
    if (sem_init(&g->order, 0, 0) != 0)
        FAIL(ERR_SYSTEM, "cannot make a semaphore: %s", strerror(errno));
    int error = pthread_create(&g->aborter, NULL, wait_for_order, g);
    if (error)
        FAIL(ERR_SYSTEM, "cannot start a thread: %s", strerror(error));
    g->running = true;
    return OK;
}

Err guard_open(Guard *g, Comm *comm, const Launcher *launcher, const FaultConfig *fault)
{
    const WatchHandler handler = {.say = say_line, .end = end_program, .arg = g};
    *g = (Guard){.comm = comm,
                 .place = {.rank = launcher->rank,
                           .world = launcher->world > 0 ? launcher->world : 1,
                           .host = "this host",
                           .device = "no device yet"}};
    (void)gethostname(g->place.host, sizeof g->place.host - 1);
    g->limit_s =
        START_LIMITS * (fault->init_timeout > 0 ? fault->init_timeout : USUAL_INIT_TIMEOUT_S);
    activity_begin(&g->activity, PHASE_START, -1, g->limit_s, "start MPI");
    TRY(start_aborter(g));
    TRY(watchdog_start(&g->watchdog, &g->activity, handler));
    watchdog_place(&g->watchdog, &g->place);
    return OK;
}

Err guard_join(Guard *g)
{
    Comm *comm = g->comm;
    void *board = NULL;
    __atomic_store_n(&g->can_abort, 1, __ATOMIC_RELEASE);
    comm->activity = &g->activity;
    activity_begin(&g->activity, PHASE_START, -1, g->limit_s, "meet the other ranks");
    TRY(comm_share_host(comm, sizeof(WatchSlot), &board));
    g->place.rank = comm->rank;
    g->place.world = comm->world;
    g->place.board = board;
    g->place.n_slots = comm->local_world;
    g->place.own = comm->local_rank;
    if (g->watchdog.running)
        watchdog_place(&g->watchdog, &g->place);
    activity_begin(&g->activity, PHASE_START, -1, g->limit_s, "open the device");
    return OK;
}

void guard_name_device(Guard *g, Device *dev)
{
    DeviceInfo info = {.name = ""};
    Err err = device_info(dev, &info);
    snprintf(g->place.device, sizeof g->place.device, "%s%s%.50s", device_kind_name(dev->kind),
             info.id[0] ? " " : "", info.id);
    err_free(err); /* a device that cannot tell is named by its kind */
    watchdog_place(&g->watchdog, &g->place);
}

void guard_leave(Guard *g)
{
    activity_begin(&g->activity, PHASE_END, -1, g->limit_s, "release memory and devices");
}

void guard_part(Guard *g)
{
    activity_do(&g->activity, "leave MPI", ACTIVITY_NO_INDEX);
    g->place.board = NULL;
    if (g->watchdog.running)
        watchdog_place(&g->watchdog, &g->place);
}

void guard_close(Guard *g)
{
    watchdog_stop(&g->watchdog);
    if (!g->running)
        return;
    __atomic_store_n(&g->may_return, 1, __ATOMIC_RELAXED);
    if (sem_post(&g->order) == 0)
        pthread_join(g->aborter, NULL);
    sem_destroy(&g->order);
    g->running = false;
}
