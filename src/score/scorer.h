/* Scorer: runs a model over the rows of a task, or over the windows of a token file, in batches of
 * like lengths that are shared by the ranks. Every rank holds the whole model. */
#ifndef GPT_SCORE_SCORER_H
#define GPT_SCORE_SCORER_H

#include "comm/comm.h"
#include "data/shards.h"
#include "model/gpt2.h"
#include "score/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All borrowed. tokens and targets (B * T) i32 of the model's shape, on the device. */
typedef struct {
    GPT2 *model;
    Device *dev;
    Comm *comm;
    Tensor tokens, targets;
} Scorer;

/* Of one row. */
typedef struct {
    double nll;       /* sum of the continuation's losses, nats */
    int64_t n_tokens; /* of the continuation, at least 1 */
    int64_t greedy; /* 1: each of them is the likeliest, by the logits; looked at when the task has
                     * one row an item */
} RowScore;

/* score [n_items * n_choices], item by item; the same on all ranks. Rows beyond the model's T lose
 * their beginning. ERR_DATA: a token outside the vocabulary, or a continuation that leaves no room
 * for a context; ERR_SYSTEM. Collective. */
Err score_task_run(const Scorer *s, const ScoreTask *task, RowScore *score);

/* What is made of the scores. */
typedef struct {
    int64_t n_items;
    double acc;        /* the answer has the least sum of losses; LAMBADA: every token is greedy */
    double acc_norm;   /* the least mean loss of a token; as acc where there is one choice */
    double perplexity; /* exp of the mean sum of losses of the right rows: LAMBADA's */
} ScoreSummary;

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
