/* Signals: SIGUSR1, SIGTERM and SIGINT ask the run to save and leave; a second SIGTERM or SIGINT
 * ends it at once. */
#ifndef GPT_LAUNCH_SIGNALS_H
#define GPT_LAUNCH_SIGNALS_H

#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Install the handlers and return the flag they set to the signal's number. To be called first in
 * main: a signal that comes before its handler ends the process, and mpirun then waits for ever. */
const volatile sig_atomic_t *signals_install(void);

#ifdef __cplusplus
}
#endif
#endif
