/* The lines of --check. Private to launch/check*.c. */
#ifndef GPT_LAUNCH_CHECK_LINE_H
#define GPT_LAUNCH_CHECK_LINE_H

#include <stdarg.h>

#include "comm/comm.h"
#include "config/config.h"
#include "data/shards.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const Config *cfg;
    Comm *comm;
    Dataset data;  /* open from check_data on; its owner closes it */
    bool has_data; /* and sound */
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

/* The first: others look at the data, too. */
void check_data(Check *c);
/* Of the model: of the settings or the data; a guess when neither tells. Not collective. */
int64_t check_vocab_size(const Check *c);
/* What eval_hellaswag names, in the tokens of the data. Nothing where it is not wanted. */
void check_hellaswag(Check *c);
/* The tokenizer of the data, where samples are to be drawn. */
void check_samples(Check *c);
/* Where the run begins, and what is in out_dir already. */
void check_start(Check *c);
/* Room in out_dir for a checkpoint, and a file written, synced and renamed. */
void check_out_dir(Check *c);
/* Which rank computes where, whether all run the same program with the same libraries, clocks,
 * limits. has_device: dev is open. */
void check_ranks(Check *c, Device *dev, bool has_device);
void check_limits(Check *c, const Device *dev);
/* Sums and gathers of tensors on the device, looked at and timed; the data plane is open. */
void check_collectives(Check *c, Device *dev);

#ifdef __cplusplus
}
#endif
#endif
