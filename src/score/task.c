#include "score/task.h"

#include <stdlib.h>
#include <string.h>

/* *memory has room for `wanted` elements, and more when it must grow. */
static Err make_room(void **memory, int64_t *room, int64_t wanted, size_t element_bytes)
{
    if (wanted <= *room)
        return OK;
    int64_t more = wanted + *room / 2 + 256;
    void *grown = realloc(*memory, (size_t)more * element_bytes);
    if (!grown)
        FAIL(ERR_SYSTEM, "out of memory for the texts of an evaluation");
    *memory = grown;
    *room = more;
    return OK;
}

/* The tokens of a text, behind those that are there. */
static Err add_tokens(ScoreTask *task, BpeEncoder *encoder, const char *text, int32_t *n_added)
{
    size_t n_bytes = strlen(text);
    int64_t n = 0;
    void *token = task->token;
    Err err = make_room(&token, &task->token_room, task->n_tokens + (int64_t)n_bytes,
                        sizeof *task->token);
    task->token = token;
    if (!err)
        err = bpe_encode(encoder, text, n_bytes, task->token + task->n_tokens, &n);
    task->n_tokens += n;
    *n_added = (int32_t)n;
    return err;
}

static Err add_row(ScoreTask *task, BpeEncoder *encoder, const char *context,
                   const char *continuation, ScoreRow *row)
{
    int32_t n_more = 0;
    row->begin = task->n_tokens;
    TRY(add_tokens(task, encoder, context, &row->n_context));
    TRY(add_tokens(task, encoder, continuation, &n_more));
    row->n_tokens = row->n_context + n_more;
    return OK;
}

Err score_task_add(ScoreTask *task, BpeEncoder *encoder, const char *context,
                   const char *const *continuation, int32_t label)
{
    void *item = task->item;
    Err err = make_room(&item, &task->item_room, task->n_items + 1, sizeof *task->item);
    task->item = item;
    TRY(err);
    ScoreItem *added = &task->item[task->n_items];
    *added = (ScoreItem){.label = label};
    for (int32_t c = 0; c < task->n_choices; c++)
        TRY(add_row(task, encoder, context, continuation[c], &added->row[c]));
    task->n_items++;
    return OK;
}

void score_task_close(ScoreTask *task)
{
    free(task->item);
    free(task->token);
    *task = (ScoreTask){0};
}
