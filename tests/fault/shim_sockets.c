/* Loaded with LD_PRELOAD: on SIGUSR2 the process loses its network. Every socket it has is shut
 * down, as if the other end had gone. */
#include <signal.h>
#include <sys/socket.h>

enum { MAX_FD = 1024 };

static void lose(int number)
{
    (void)number;
    for (int fd = 3; fd < MAX_FD; fd++)
        (void)shutdown(fd, SHUT_RDWR); /* what is no socket stays as it is */
}

__attribute__((constructor)) static void listen_for_the_signal(void)
{
    struct sigaction action = {.sa_handler = lose, .sa_flags = SA_RESTART};
    (void)sigaction(SIGUSR2, &action, NULL);
}
