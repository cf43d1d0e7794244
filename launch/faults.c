#include "launch/faults.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

/* Only what may be called in a handler; that nobody reads the line is no reason to stay. */
static void say(const char *text)
{
    ssize_t put = write(STDERR_FILENO, text, strlen(text));
    (void)put;
}

static void end_unreadable(int number)
{
    (void)number;
    say(program_invocation_short_name);
    say(": a file became shorter while it was read, or its disk cannot be read\n");
    _exit(ERR_MISSING);
}

void faults_install(void)
{
    struct sigaction action = {.sa_handler = end_unreadable};
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGBUS, &action, NULL); /* cannot fail for a number that exists */
    (void)signal(SIGXFSZ, SIG_IGN);
}
