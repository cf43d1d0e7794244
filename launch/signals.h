/* Signals: SIGUSR1, SIGTERM, SIGINT and SIGHUP (unless it is ignored, as under nohup) ask the run
 * to save and leave; a second one, but for SIGUSR1, ends it at once.
 *
 * They are blocked in every thread and taken by one that waits for them. A handler would run on the
 * stack of whatever thread the signal finds, and the matrix products of oneDNN use the stack
 * pointer as a plain register: a handler writes its frame into the heap there (seen as "corrupted
 * size vs. prev_size"; 45 % of random instants). SIGXFSZ is ignored: past the limit on
 * file sizes a write fails, as on a full disk. SIGPIPE is: a run outlives the reader of its log. */
#ifndef GPT_LAUNCH_SIGNALS_H
#define GPT_LAUNCH_SIGNALS_H

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* To be called first in main, before there are other threads: a signal that comes earlier ends the
 * process, and mpirun then waits for ever. *stop_signal becomes the number of the signal, stored
 * atomically; it must live as long as the process. ERR_SYSTEM. */
Err signals_install(int *stop_signal);

#ifdef __cplusplus
}
#endif
#endif
