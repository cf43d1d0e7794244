/* Scorer: runs a model over the rows of a task, or over the windows of a token file, in batches of
 * like lengths that are shared by the ranks. Every rank holds the whole model. */
#ifndef GPT_SCORE_SCORER_H
#define GPT_SCORE_SCORER_H

#include <stdio.h>

#include "comm/comm.h"
#include "data/shards.h"
#include "model/gpt2.h"
#include "score/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All borrowed. Of tokens, targets and losses there are B * T of the model's shape. On the CPU
 * those of the device may be the host's. */
typedef struct {
    GPT2 *model;
    Device *dev;
    Comm *comm;
    Tensor tokens, targets;              /* i32 on the device */
    int32_t *host_tokens, *host_targets; /* in host memory, as are: */
    float *losses;
    float *logits;  /* (vocab_size), for tasks of one row an item */
    FILE *terminal; /* for a line that says how far this rank is; NULL: nobody looks */
} Scorer;

/* Of one row. */
typedef struct {
    double nll;       /* sum of the continuation's losses, nats */
    int64_t n_tokens; /* of the continuation, at least 1 */
    int64_t greedy; /* 1: each of them is the likeliest, by the logits; looked at when the task has
                     * one row an item */
} RowScore;

/* score [n_items * n_choices], item by item in the file's order; the same on all ranks. The task
 * fits the model (score_task_fit). ERR_SYSTEM. Collective. */
Err score_task_run(const Scorer *s, const ScoreTask *task, RowScore *score);

/* What is made of the scores. */
typedef struct {
    int64_t n_items;
    double acc;        /* the answer has the least sum of losses; LAMBADA: every token is greedy */
    double acc_norm;   /* the least mean loss of a token; as acc where there is one choice */
    double perplexity; /* exp of the mean sum of losses of the right rows: LAMBADA's */
} ScoreSummary;

/* The same in parts, for who has to do with other ranks in between: groups of items that follow one
 * another in the order of lengths, each run by one rank. */
enum { SCORE_GROUP_ROWS = 256 };

/* How many items from `first` on are a group, at most SCORE_GROUP_ROWS rows; at least 1. The same
 * on all ranks. Not collective. */
int64_t score_group_items(const Scorer *s, const ScoreTask *task, int64_t first);
/* score [n * n_choices] = of items [first, first + n), a group, in that order. Waits for the
 * device. ERR_SYSTEM. Not collective. */
Err score_group_run(const Scorer *s, const ScoreTask *task, int64_t first, int64_t n,
                    RowScore *score);
/* row [n_choices] of an item: has the right one the least sum, or with by_mean the least mean, of
 * losses? Of one row: is it greedy? */
bool score_item_is_right(const ScoreTask *task, const ScoreItem *item, const RowScore *row,
                         bool by_mean);

ScoreSummary score_summary(const ScoreTask *task, const RowScore *score);

/* Mean loss (nats) over tokens [1, n) of the files, each predicted once, from up to T - 1 tokens
 * before it: windows of T begin every `stride` tokens, and of each but the first only the last
 * stride losses count. 1 <= stride <= T. *n_tokens = how many were predicted. ERR_DATA, ERR_SYSTEM.
 * Collective. */
Err score_file_run(const Scorer *s, const TokenFiles *files, int64_t stride, double *loss,
                   int64_t *n_tokens);

#ifdef __cplusplus
}
#endif
#endif
