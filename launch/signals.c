#include "launch/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static bool is_ignored(int number)
{
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static sigset_t awaited_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (!is_ignored(SIGHUP)) /* as nohup leaves it */
        sigaddset(&set, SIGHUP);
    return set;
}

static void *wait_for_signals(void *stop_signal)
{
    int *stop = stop_signal, previous = 0;
    sigset_t set = awaited_signals();
    for (;;) {
        int number = 0;
        if (sigwait(&set, &number) != 0)
            continue;
        if (previous && number != SIGUSR1)
            _exit(128 + number);
        if (number != SIGUSR1)
            previous = number;
        __atomic_store_n(stop, number, __ATOMIC_RELAXED);
    }
    return NULL;
}

Err signals_install(int *stop_signal)
{
    /* A signal that was ignored when we started (a shell does that to SIGINT of background jobs)
     * would never arrive. Blocked, it never runs this default action. */
    sigset_t set = awaited_signals();
    pthread_t thread;
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* a file beyond its limit is a write that fails, which is survived */
    signal(SIGPIPE, SIG_IGN); /* so are log lines that nobody reads any more */
    if (!error)
        error = pthread_create(&thread, NULL, wait_for_signals, stop_signal);
    if (error)
        FAIL(ERR_SYSTEM, "cannot wait for signals: %s", strerror(error));
    pthread_detach(thread);
    return OK;
}
