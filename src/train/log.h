/* Log: what rank 0 tells people (console, nanoGPT's lines), programs (out_dir/metrics.jsonl) and
 * TensorBoard (events.h).
 *
 * metrics.jsonl has a JSON object a line. Keys keep their names and meanings; others may be added.
 *
 *     of a step    iter          steps made before this one
 *                  tokens        consumed so far, those of this step included
 *                  loss          mean over the step's tokens, in nats; null: not finite
 *                  lr            learning rate of the step
 *                  grad_norm     before clipping; null: not finite
 *                  time_ms       of the step, evaluations and saves not included
 *                  tokens_per_s  of all ranks together
 *                  mfu           percent of the peak; -100: the peak is not known
 *                  skipped       true: no update was made, for loss or gradient was not finite, or
 *                                an outlier (skip_outlier_z)
 *     of an        iter          steps made before
 *     evaluation   tokens        consumed so far
 *                  train_loss, val_loss    mean of the evaluated tokens, nats; null: not finite
 *
 *     of HellaSwag iter, tokens  as of an evaluation
 *                  hellaswag_acc      share of right answers by the sum of an ending's losses
 *                  hellaswag_acc_norm by their mean, which is the figure others publish
 *                  hellaswag_items    how many were scored
 *
 * A run that goes on from a checkpoint drops what comes again, the steps from there on and what it
 * evaluates anew: iter rises from step to step, and from evaluation to evaluation.
 *
 * Other ranks hold a Log too, with nothing open: their calls do nothing, so callers need not ask
 * who they are. A metrics file that can no longer be written (disk full) is reported once and given
 * up; training goes on. */
#ifndef GPT_TRAIN_LOG_H
#define GPT_TRAIN_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "train/events.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    FILE *console;         /* stdout, borrowed; NULL on ranks other than 0 */
    FILE *metrics;         /* owned; NULL when not open */
    Events events;         /* open when wanted */
    bool is_terminal;      /* the console shows a progress line between the log lines */
    bool progress_shown;   /* that line is on the screen now */
    double peak_flops;     /* of the whole world; 0 unknown: mfu is printed as -100 */
    double flop_per_token; /* of one training step */
    int64_t max_iters;
    size_t memory_bytes; /* planned, of a rank */
    double ema_step_ms;  /* for eta; 0 before the first step */
} Log;

typedef struct {
    int64_t iter;   /* updates finished before this one */
    int64_t tokens; /* consumed so far, this step included */
    double loss, lr, grad_norm, step_ms;
    int64_t step_tokens;
    bool skipped;  /* no update was made */
    char why[512]; /* what was wrong, or odd, with the numbers; "": nothing, or float16's loss scale
                    */
} StepRecord;

typedef struct {
    int64_t iter, tokens; /* updates finished, tokens consumed before */
    int64_t n_items;
    double acc, acc_norm;
} HellaswagRecord;

/* Where a run goes on. What older records say of later steps will come again; of evaluations at
 * this very step only what is evaluated again. */
typedef struct {
    int64_t iter;   /* updates finished */
    bool evaluates; /* begins with an evaluation (for samples.jsonl: with a text) */
    bool scores;    /* begins with a HellaSwag score */
} LogResume;

/* The console of rank 0; nothing on the others. */
void log_init(Log *log, bool is_rank0);
/* Open out_dir/metrics.jsonl for appending, out_dir made when missing, without the lines that will
 * come again. Nothing on ranks other than 0. ERR_WRITE. */
Err log_open(Log *log, const char *out_dir, const LogResume *from);
/* Numbers for TensorBoard, too: those of the steps that are printed and of evaluations, in a file
 * of out_dir, which is there. Nothing on ranks other than 0. ERR_WRITE. */
Err log_open_events(Log *log, const char *out_dir, const LogResume *from);
/* *file = dir/name for appending, records a line each, that begin with {"iter":N. Only those are
 * kept that will not come again, as far as they are whole and ours. ERR_WRITE, ERR_MISSING,
 * ERR_DATA: too long. */
Err log_open_lines(FILE **file, const char *dir, const char *name, const LogResume *from);
void log_close(Log *log); /* accepts a zero-initialised one */

/* A line for people, flushed. */
void log_say(Log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One line of metrics; when `print`, also for people, nanoGPT's line with more behind it:
 * "iter 2010: loss 3.9051, time 312.44ms, mfu 53.90% | lr 6.00e-04, norm 0.42, 1,573,210 tok/s, eta
 * 3d04h" */
void log_step(Log *log, const StepRecord *record, bool print);
/* "step 2000: train loss 3.9123, val loss 3.9345", and a line of metrics. */
void log_eval(Log *log, int64_t step, int64_t tokens, double train_loss, double val_loss);
/* "step 2000: HellaSwag acc 0.2859, acc_norm 0.2955, 10,042 items", and a line of metrics. */
void log_hellaswag(Log *log, const HellaswagRecord *record);

#ifdef __cplusplus
}
#endif
#endif
