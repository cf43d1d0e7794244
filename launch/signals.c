#include "launch/signals.h"

#include <stddef.h>
#include <unistd.h>

/* The one mutable global: a signal handler has no other way to tell anybody anything. */
static volatile sig_atomic_t received;

static void on_signal(int number)
{
    if (received && number != SIGUSR1 && received != SIGUSR1)
        _exit(128 + number);
    received = number;
}

const volatile sig_atomic_t *signals_install(void)
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    return &received;
}
