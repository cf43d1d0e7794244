/* The lines of --check. Private to launch/check*.c. */
#ifndef GPT_LAUNCH_CHECK_LINE_H
#define GPT_LAUNCH_CHECK_LINE_H

#include <stdarg.h>

#include "comm/comm.h"
#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const Config *cfg;
    Comm *comm;
    int32_t n_checks, n_warnings, n_failed;
    ErrCode first; /* of what failed */
} Check;

/* Counted on every rank, said by rank 0. What ranks differ in is to be agreed upon before. */
void check_ok(Check *c, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void check_warn(Check *c, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* err is the same on all ranks, and consumed; OK: nothing is said, and true comes back. */
bool check_passed(Check *c, const char *what, Err err);

/* ---- the checks; each is Collective ------------------------------------------------------ */

/* *vocab_size: of the data; CONFIG_AUTO when it cannot be opened. */
void check_data(Check *c, int64_t *vocab_size);
/* What eval_hellaswag names, in the tokens of the data. Nothing where it is not wanted. */
void check_hellaswag(Check *c);
/* The tokenizer of the data, where samples are to be drawn. */
void check_samples(Check *c);
/* Where the run begins, and what is in out_dir already. */
void check_start(Check *c);
/* Room in out_dir for a checkpoint of this vocabulary, and a file written, synced and renamed. */
void check_out_dir(Check *c, int64_t vocab_size);
/* Which rank computes where, whether all run the same program with the same libraries, clocks,
 * limits. has_device: dev is open. */
void check_ranks(Check *c, Device *dev, bool has_device);
void check_limits(Check *c, const Device *dev, int64_t vocab_size);
/* Sums and gathers of tensors on the device, looked at and timed; the data plane is open. */
void check_collectives(Check *c, Device *dev);

#ifdef __cplusplus
}
#endif
#endif
