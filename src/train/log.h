/* Log: what rank 0 tells people (console, nanoGPT's lines) and programs (out_dir/metrics.jsonl). */
#ifndef GPT_TRAIN_LOG_H
#define GPT_TRAIN_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    FILE *console, *metrics; /* NULL on ranks other than 0 */
    double peak_flops;       /* of the whole world; 0 unknown: mfu is printed as -100 */
    double flop_per_token;
    int64_t max_iters;
    double ema_step_ms; /* for eta */
} Log;

typedef struct {
    int64_t iter;   /* updates finished before this one */
    int64_t tokens; /* consumed so far, this step included */
    double loss, lr, grad_norm, step_ms;
    int64_t step_tokens;
    bool skipped; /* not finite: no update was made */
} StepRecord;

/* metrics.jsonl is appended to; a run that resumes at `from_iter` first drops later lines (they will come
 * again). ERR_WRITE. */
Err log_open(Log *log, bool is_rank0, const char *out_dir, int64_t from_iter);
void log_close(Log *log);
/* A line for people; nothing on other ranks. */
void log_say(Log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "iter 2010: loss 3.9051, time 312.44ms, mfu 53.90% | lr 6.00e-04, norm 0.42, 1,573,210 tok/s, eta 3d04h" */
Err log_step(Log *log, const StepRecord *record, bool print);
/* "step 2000: train loss 3.9123, val loss 3.9345" */
Err log_eval(Log *log, int64_t step, int64_t tokens, double train_loss, double val_loss);

#ifdef __cplusplus
}
#endif
#endif
