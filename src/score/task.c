#include "score/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

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

/* ---- fitting ----------------------------------------------------------------------------- */

/* Longest first; of equals the earlier. */
static int compare_places(const void *a, const void *b)
{
    const ScorePlace *x = a, *y = b;
    if (x->n_tokens != y->n_tokens)
        return x->n_tokens > y->n_tokens ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static Err order_items(ScoreTask *task)
{
    ASSERT(task->n_items >= 1 && task->n_items <= INT32_MAX, "%lld items",
           (long long)task->n_items);
    task->order = calloc((size_t)task->n_items, sizeof *task->order);
    if (!task->order)
        FAIL(ERR_SYSTEM, "out of memory for the order of %lld items", (long long)task->n_items);
    for (int64_t i = 0; i < task->n_items; i++) {
        ScorePlace *place = &task->order[i];
        place->item = (int32_t)i;
        for (int32_t c = 0; c < task->n_choices; c++)
            if (task->item[i].row[c].n_tokens - 1 > place->n_tokens)
                place->n_tokens = task->item[i].row[c].n_tokens - 1;
    }
    qsort(task->order, (size_t)task->n_items, sizeof *task->order, compare_places);
    return OK;
}

/* The last token is predicted, not read. */
static Err cut_row(ScoreRow *row, int64_t item, int64_t block_size)
{
    int64_t over = row->n_tokens - (block_size + 1);
    if (over <= 0)
        return OK;
    if (over >= row->n_context)
        FAIL(ERR_DATA,
             "item %lld: a continuation of %d tokens, and the model sees %lld (block_size): score "
             "only the items before it",
             (long long)item, row->n_tokens - row->n_context, (long long)block_size);
    row->begin += over;
    row->n_tokens -= (int32_t)over;
    row->n_context -= (int32_t)over;
    return OK;
}

Err score_task_fit(ScoreTask *task, int64_t block_size, int64_t vocab_size)
{
    for (int64_t t = 0; t < task->n_tokens; t++)
        if (task->token[t] >= vocab_size)
            FAIL(ERR_DATA, "token %d, but the model's vocabulary has %lld: another tokenizer?",
                 task->token[t], (long long)vocab_size);
    for (int64_t i = 0; i < task->n_items; i++)
        for (int32_t c = 0; c < task->n_choices; c++)
            TRY(cut_row(&task->item[i].row[c], i, block_size));
    return order_items(task);
}

void score_task_close(ScoreTask *task)
{
    free(task->item);
    free(task->token);
    free(task->order);
    *task = (ScoreTask){0};
}
