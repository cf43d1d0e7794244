/* Activity: what a thread is doing and until when, published for another thread to look at: a few
 * relaxed atomic stores at each change, no lock, nothing allocated.
 *
 * A phase (a step, a save) has a limit. In it one operation follows another ("reduce bucket" 3),
 * and in an operation the thread may be inside one call that waits for other ranks. The deadline is
 * one value, so a reader never pairs the limit of one phase with the beginning of another; the rest
 * is for people to read. Every function accepts NULL: nobody looks. */
#ifndef GPT_BASE_ACTIVITY_H
#define GPT_BASE_ACTIVITY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    PHASE_START,
    PHASE_LOAD,
    PHASE_STEP,
    PHASE_EVAL,
    PHASE_SAVE,
    PHASE_END,
} Phase;

enum { ACTIVITY_NO_INDEX = -1 };

typedef struct {
    int64_t deadline_ns;   /* of activity_now_ns's clock; 0: none */
    int64_t begin_ns;      /* of the phase */
    int64_t step;          /* -1: none yet */
    int32_t phase;         /* Phase */
    const char *operation; /* a constant string, or NULL */
    int64_t index;         /* of what it works on; ACTIVITY_NO_INDEX: it has none */
    const char *call;      /* a constant string; NULL: no call waits for other ranks */
} Activity;

/* A phase begins, or begins again, and is to be over in limit_s seconds; 0: whenever. Its first
 * operation comes with it. */
void activity_begin(Activity *a, Phase phase, int64_t step, double limit_s, const char *operation);
/* The next operation of the phase; the limit stays. index: of a bucket, say. */
void activity_do(Activity *a, const char *operation, int64_t index);

/* Around a call that waits for other ranks. Of nested ones the outermost shows: what enter returns
 * is for leave. */
const char *activity_enter(Activity *a, const char *call);
void activity_leave(Activity *a, const char *outer);

/* ---- for who looks ------------------------------------------------------------------------- */

/* A monotonic clock. */
int64_t activity_now_ns(void);
/* A copy, each field as it is by now. */
Activity activity_look(const Activity *a);
/* "step 17: reduce bucket 3, in reduce-scatter", cut to n_bytes with the '\0'. Calls nothing that
 * may lock or allocate. */
void activity_describe(const Activity *seen, char *out, size_t n_bytes);

/* out = as much of "texts, number" as fits behind what is there; always ends in '\0'. They call
 * nothing either. */
void text_append(char *out, size_t n_bytes, const char *text);
void text_append_integer(char *out, size_t n_bytes, int64_t value);

#ifdef __cplusplus
}
#endif
#endif
