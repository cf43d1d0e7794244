/* Metrics: out_dir/metrics.jsonl, read back. train/log.h says what its lines hold.
 *
 * The file may be anything: being written, cut off, edited, damaged. A line that is not a record is
 * counted and passed over; so is one whose iter does not come after that of the record before, or
 * whose tokens fall. Only a file with lines none of which is a record is refused. */
#ifndef GPT_REPORT_METRICS_H
#define GPT_REPORT_METRICS_H

#include "report/table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Columns of steps. */
enum { STEP_LOSS, STEP_LR, STEP_GRAD_NORM, STEP_TOKENS_PER_S, STEP_MFU, N_STEP_COLUMNS };
/* Columns of evals. */
enum { EVAL_TRAIN_LOSS, EVAL_VAL_LOSS, N_EVAL_COLUMNS };
/* Columns of hellaswag. */
enum { HELLASWAG_ACC_NORM, N_HELLASWAG_COLUMNS };

typedef struct {
    Table steps, evals, hellaswag;
    int64_t *skipped; /* iters of steps that made no update: the first n_skipped_kept. Owned */
    int64_t n_skipped, n_skipped_kept;
    int64_t n_lines;
    int64_t n_bad, first_bad; /* lines that are no records; the first one's number, from 1 */
    int64_t n_unordered;      /* records out of order */
    bool ends_open;           /* the last line has no end: counted in neither of these */
} Metrics;

/* The caller calls metrics_free whatever comes back. ERR_MISSING; ERR_DATA: lines, but no record;
 * ERR_SYSTEM. */
Err metrics_read(Metrics *m, const char *path);
/* The same of text that is in memory; `path` is for messages. */
Err metrics_parse(Metrics *m, const char *path, const char *text, size_t n_bytes);
void metrics_free(Metrics *m); /* accepts a zero-initialised one */

/* The last and the least number of a column; NULL: there is none. Borrowed. */
const Row *table_last(const Table *table, int32_t column);
const Row *table_least(const Table *table, int32_t column);

#ifdef __cplusplus
}
#endif
#endif
