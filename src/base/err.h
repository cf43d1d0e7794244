/* Errors as values, with the place they began and the calls they passed through.
 *
 * An Err is NULL when all is well, else a small heap object: a code, one message written where
 * the fault was found, and a trail of file:line. It is for the world's faults (a file, a
 * setting, memory, a peer); our own faults are ASSERTs (check.h). Whoever receives an Err owns
 * it: pass it up with TRY, or handle it and call err_free. Only launch/ turns one into an exit
 * code. */
#ifndef GPT_BASE_ERR_H
#define GPT_BASE_ERR_H

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, exit code, meaning). The exit codes are sysexits.h's where one fits. */
#define ERR_CODES(X)                                                                               \
    X(ERR_USAGE, 64, "command line or configuration")                                              \
    X(ERR_DATA, 65, "a file's contents are wrong")                                                 \
    X(ERR_MISSING, 66, "an input file is missing or unreadable")                                   \
    X(ERR_SYSTEM, 71, "CUDA, NCCL, MPI, memory or the operating system")                           \
    X(ERR_WRITE, 74, "a file cannot be written")                                                   \
    X(ERR_REQUEUE, 85, "stopped by a signal or a limit of time, and saved: run again to continue") \
    X(ERR_WATCHDOG, 86, "a phase took longer than its limit")                                      \
    X(ERR_DIVERGED, 87, "too many updates in a row were not finite")                               \
    X(ERR_REPLICA, 88, "ranks hold different parameters")

typedef enum {
    ERR_NONE = 0,
#define X(name, exit_code, text) name = exit_code,
    ERR_CODES(X)
#undef X
} ErrCode;

typedef struct ErrInfo *Err;

#define OK ((Err)0)

/* Return a new error from the calling function: FAIL(ERR_DATA, "%s: odd size %zu", path, n). */
#define FAIL(code, ...) return ERR_NEW(code, __VA_ARGS__)

/* The same as a value, for functions that must release something first. */
#define ERR_NEW(code, ...) err_new((code), __FILE__, __LINE__, __VA_ARGS__)

/* Return the error of `call` upward, adding this line to its trail. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        Err try_err_ = (call);                                                                     \
        if (try_err_)                                                                              \
            return err_trace(try_err_, __FILE__, __LINE__);                                        \
    } while (0)

/* err = call; on failure jump to label, where everything is released and err returned. */
#define TRY_GOTO(err, label, call)                                                                 \
    do {                                                                                           \
        (err) = (call);                                                                            \
        if (err) {                                                                                 \
            (err) = err_trace((err), __FILE__, __LINE__);                                          \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

/* A message is one line: a '?' stands for each control character that the arguments bring along.
 * Never NULL: when memory is short a constant error is returned, which err_free leaves alone. */
Err err_new(ErrCode code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Add a place to the trail of `err` and return it. Places beyond 16 are counted, not kept. */
Err err_trace(Err err, const char *file, int line);

/* Put "prefix: " (formatted) before the message of `err` and return it. */
Err err_prefix(Err err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Keep the first of two errors, free the other; either may be OK. For clean-up that can fail. */
Err err_first(Err first, Err second);

ErrCode err_code(Err err);                /* ERR_NONE for OK */
const char *err_message(Err err);         /* borrowed, valid until err_free; "" for OK */
void err_print_trail(Err err, FILE *out); /* "  at file:line" lines, innermost first */
void err_free(Err err);                   /* accepts OK */

#ifdef __cplusplus
}
#endif
#endif
