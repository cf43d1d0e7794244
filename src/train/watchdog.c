#include "train/watchdog.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static const double LEAST_AUTO_S = 60, MEDIANS = 20, FIRST_STEP_S = 1800;
static const int64_t TICK_NS = 100000000;    /* between two looks */
static const int64_t LATE_NS = 1000000000;   /* a look that comes later was kept from coming */
static const int64_t ANSWER_NS = 1000000000; /* for the others of the host to say their line */

/* ---- limits ------------------------------------------------------------------------------ */

void step_times_add(StepTimes *times, double seconds)
{
    times->seconds[times->n % STEP_TIMES] = seconds;
    times->n++;
}

double step_times_longest(const StepTimes *times)
{
    int64_t n = times->n < STEP_TIMES ? times->n : STEP_TIMES;
    double longest = 0;
    for (int64_t i = 0; i < n; i++)
        longest = longest > times->seconds[i] ? longest : times->seconds[i];
    return longest;
}

static double median(const StepTimes *times)
{
    double sorted[STEP_TIMES];
    int64_t n = times->n < STEP_TIMES ? times->n : STEP_TIMES;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        for (; at > 0 && sorted[at - 1] > times->seconds[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = times->seconds[i];
    }
    return sorted[n / 2];
}

double step_times_limit(const StepTimes *times, double step_timeout)
{
    if (step_timeout >= 0)
        return step_timeout;
    if (times->n == 0)
        return FIRST_STEP_S;
    double limit = MEDIANS * median(times);
    return limit > LEAST_AUTO_S ? limit : LEAST_AUTO_S;
}

/* ---- the board --------------------------------------------------------------------------- */

static WatchSlot *own_slot(const WatchPlace *place)
{
    return place->board ? &place->board[place->own] : NULL;
}

static void show(const WatchPlace *place, const Activity *seen)
{
    WatchSlot *slot = own_slot(place);
    char doing[sizeof slot->doing];
    if (!slot)
        return;
    activity_describe(seen, doing, sizeof doing);
    memcpy(slot->doing, doing, sizeof doing);
}

/* Is some rank of this host past its deadline? */
static bool hears_of_expiry(const WatchPlace *place)
{
    for (int32_t i = 0; place->board && i < place->n_slots; i++)
        if (__atomic_load_n(&place->board[i].expired, __ATOMIC_ACQUIRE))
            return true;
    return false;
}

/* ---- what is said ------------------------------------------------------------------------ */

enum { LINE_BYTES = 512 };

static void begin_line(char *line, const WatchPlace *place, int32_t rank)
{
    line[0] = '\0';
    text_append(line, LINE_BYTES, "gpt_ddp: watchdog: rank ");
    text_append_integer(line, LINE_BYTES, rank);
    text_append(line, LINE_BYTES, " of ");
    text_append_integer(line, LINE_BYTES, place->world);
    text_append(line, LINE_BYTES, " on ");
    text_append(line, LINE_BYTES, place->host);
}

static void append_seconds(char *line, int64_t ns)
{
    text_append_integer(line, LINE_BYTES, ns / 1000000000);
    text_append(line, LINE_BYTES, ".");
    text_append_integer(line, LINE_BYTES, ns / 100000000 % 10);
    text_append(line, LINE_BYTES, " s");
}

/* "rank 1 of 3 on node7 (cuda 1) has been 64.2 s in step 17: reduce bucket 3, in all-reduce; ..."
 */
static void say_own_state(const Watchdog *w, const Activity *seen)
{
    char line[LINE_BYTES], doing[LINE_BYTES / 2];
    begin_line(line, &w->place, w->place.rank);
    text_append(line, LINE_BYTES, " (");
    text_append(line, LINE_BYTES, w->place.device);
    text_append(line, LINE_BYTES, ") has been ");
    append_seconds(line, activity_now_ns() - seen->begin_ns);
    text_append(line, LINE_BYTES, " in ");
    activity_describe(seen, doing, sizeof doing);
    text_append(line, LINE_BYTES, doing);
    if (seen->deadline_ns) {
        text_append(line, LINE_BYTES, "; limit ");
        append_seconds(line, seen->deadline_ns - seen->begin_ns);
    }
    text_append(line, LINE_BYTES, "\n");
    w->handler.say(w->handler.arg, line);
}

static void say_missing(const Watchdog *w, const WatchSlot *slot)
{
    char line[LINE_BYTES];
    begin_line(line, &w->place, slot->rank);
    text_append(line, LINE_BYTES, " (process ");
    text_append_integer(line, LINE_BYTES, slot->pid);
    text_append(line, LINE_BYTES, ") does not answer: stopped or dead; last seen in ");
    text_append(line, LINE_BYTES, slot->doing);
    text_append(line, LINE_BYTES, "\n");
    w->handler.say(w->handler.arg, line);
}

static bool answers(const WatchSlot *slot)
{
    return __atomic_load_n(&slot->expired, __ATOMIC_ACQUIRE) ||
           __atomic_load_n(&slot->left, __ATOMIC_RELAXED);
}

/* Is this the first rank of the host that answers? */
static bool is_first(const WatchPlace *place)
{
    int32_t first = 0;
    while (first < place->own && !__atomic_load_n(&place->board[first].expired, __ATOMIC_ACQUIRE))
        first++;
    return first == place->own;
}

static void say_who_is_missing(const Watchdog *w)
{
    for (int32_t i = 0; i < w->place.n_slots; i++)
        if (!answers(&w->place.board[i]))
            say_missing(w, &w->place.board[i]);
}

static void wait_for_answers(void)
{
    const struct timespec pause = {ANSWER_NS / 1000000000, ANSWER_NS % 1000000000};
    nanosleep(&pause, NULL);
}

static void expire(Watchdog *w, const Activity *seen)
{
    WatchSlot *slot = own_slot(&w->place);
    __atomic_store_n(&w->expired, 1, __ATOMIC_RELEASE);
    say_own_state(w, seen);
    if (slot)
        __atomic_store_n(&slot->expired, 1, __ATOMIC_RELEASE);
    if (w->place.world > 1)
        wait_for_answers();
    if (slot && is_first(&w->place))
        say_who_is_missing(w);
    else if (slot)
        wait_for_answers(); /* for the first to have said it: who ends the program ends all ranks */
    w->handler.end(w->handler.arg);
}

/* ---- the thread -------------------------------------------------------------------------- */

/* Is the phase past its deadline, not counting the time in which nobody could look? */
static bool is_late(Watchdog *w, const Activity *seen)
{
    int64_t now_ns = activity_now_ns(), gap_ns = now_ns - w->ticked_ns;
    w->ticked_ns = now_ns;
    if (seen->deadline_ns != w->watched)
        w->lost_ns = 0;
    w->watched = seen->deadline_ns;
    w->lost_ns += gap_ns > LATE_NS ? gap_ns : 0;
    return seen->deadline_ns && now_ns > seen->deadline_ns + w->lost_ns;
}

static void wait_for_tick(Watchdog *w)
{
    int64_t at_ns = activity_now_ns() + TICK_NS;
    const struct timespec at = {at_ns / 1000000000, at_ns % 1000000000};
    (void)pthread_cond_timedwait(&w->wake, &w->lock, &at); /* a spurious end is one more look */
}

static void *watch(void *watchdog)
{
    Watchdog *w = watchdog;
    pthread_mutex_lock(&w->lock);
    w->ticked_ns = activity_now_ns();
    while (!w->stopping) {
        Activity seen = activity_look(w->activity);
        show(&w->place, &seen);
        bool late = is_late(w, &seen);
        if (late || hears_of_expiry(&w->place)) {
            expire(w, &seen);
            break;
        }
        wait_for_tick(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- life -------------------------------------------------------------------------------- */

static int make_wake(pthread_cond_t *wake)
{
    pthread_condattr_t attr;
    int error = pthread_condattr_init(&attr);
    if (error)
        return error;
    error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (!error)
        error = pthread_cond_init(wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    return error;
}

Err watchdog_start(Watchdog *w, const Activity *activity, WatchHandler handler)
{
    *w = (Watchdog){.activity = activity,
                    .handler = handler,
                    .place = {.world = 1, .host = "this host", .device = "no device yet"}};
    int error = make_wake(&w->wake);
    if (!error)
        error = pthread_mutex_init(&w->lock, NULL);
    if (!error)
        error = pthread_create(&w->thread, NULL, watch, w);
    if (error)
        FAIL(ERR_SYSTEM, "cannot start the watchdog's thread: %s", strerror(error));
    w->running = true;
    return OK;
}

void watchdog_place(Watchdog *w, const WatchPlace *place)
{
    pthread_mutex_lock(&w->lock);
    WatchSlot *old = own_slot(&w->place);
    if (old && !place->board)
        __atomic_store_n(&old->left, 1, __ATOMIC_RELAXED);
    w->place = *place;
    WatchSlot *slot = own_slot(&w->place);
    if (slot) {
        Activity seen = activity_look(w->activity);
        slot->rank = place->rank;
        slot->pid = (int32_t)getpid();
        show(&w->place, &seen); /* a rank may stop before its thread has looked once */
    }
    pthread_mutex_unlock(&w->lock);
}

bool watchdog_has_expired(const Watchdog *w)
{
    return __atomic_load_n(&w->expired, __ATOMIC_ACQUIRE) != 0;
}

void watchdog_stop(Watchdog *w)
{
    if (!w->running)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->wake);
    w->running = false;
}
