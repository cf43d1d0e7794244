/* ScoreTask: an evaluation that asks how likely a model finds one text after another.
 *
 * A row is a context and a continuation; its score is the sum of the continuation's losses. An item
 * has one row (LAMBADA) or one for each ending (HellaSwag: the ending with the least loss is the
 * model's answer). A text longer than the model's context loses its beginning. */
#ifndef GPT_SCORE_TASK_H
#define GPT_SCORE_TASK_H

#include <stdint.h>

#include "base/err.h"
#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SCORE_MAX_CHOICES = 4 };

typedef struct {
    int64_t begin;     /* of its tokens in the task's */
    int32_t n_tokens;  /* of both parts */
    int32_t n_context; /* of the first; at least 1, less than n_tokens */
} ScoreRow;

typedef struct {
    ScoreRow row[SCORE_MAX_CHOICES]; /* n_choices of the task; the others are zero */
    int32_t label;                   /* the row that is right */
} ScoreItem;

/* An item's place in the order of lengths. */
typedef struct {
    int32_t item;     /* its index */
    int32_t n_tokens; /* its longest row reads so many: all but the last */
} ScorePlace;

/* Zero-initialised but for n_choices is empty. */
typedef struct {
    int32_t n_choices; /* rows of an item */
    int64_t n_items, n_tokens;
    ScoreItem *item; /* owned, as the tokens */
    uint16_t *token;
    ScorePlace *order; /* [n_items], the longest first; NULL before score_task_fit. Owned */
    int64_t item_room, token_room; /* allocated */
} ScoreTask;

/* HellaSwag (Zellers et al. 2019): the original's lines of JSON ("ctx", "endings", "label"), or
 * plain text, six lines an item: context, label, four endings. As in llm.c, an ending is encoded
 * with a blank before it. max_items 0: all. ERR_MISSING, ERR_DATA with the line, ERR_SYSTEM.
 * Release with score_task_close whatever comes back. */
Err hellaswag_open(ScoreTask *task, const char *path, BpeEncoder *encoder, int64_t max_items);
/* LAMBADA (Paperno et al. 2016), lines of JSON: "text", whose last word is to be found, or
 * "context" and "continuation". The word is encoded with a blank before it. */
Err lambada_open(ScoreTask *task, const char *path, BpeEncoder *encoder, int64_t max_items);
void score_task_close(ScoreTask *task);

/* Add an item of task->n_choices rows. The texts are not empty. ERR_SYSTEM. */
Err score_task_add(ScoreTask *task, BpeEncoder *encoder, const char *context,
                   const char *const *continuation, int32_t label);

/* Make it fit a model: rows of more than block_size + 1 tokens lose their beginning; and order it.
 * Once. ERR_DATA: a token outside the vocabulary, or a continuation that leaves no room for a
 * context; ERR_SYSTEM. */
Err score_task_fit(ScoreTask *task, int64_t block_size, int64_t vocab_size);

#ifdef __cplusplus
}
#endif
#endif
