/* LAMBADA's two forms of lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "score/lines.h"

/* Both parts end up in `text`, context first: a copy with room for a blank, and where the second
 * begins. */
typedef struct {
    char *context, *word; /* " word", in the same allocation */
} Question;

/* "… the last" -> "… the" and " last" */
static Err split_text(const Lines *lines, const char *text, Question *q)
{
    size_t n_bytes = strlen(text) + 1;
    const char *blank = strrchr(text, ' ');
    if (!blank || blank == text || !blank[1])
        FAIL(ERR_DATA, "%s:%lld: \"text\" has no last word", lines->path, (long long)lines->number);
    size_t n_context = (size_t)(blank - text);
    q->context = malloc(n_bytes + 1);
    if (!q->context)
        FAIL(ERR_SYSTEM, "out of memory for a text");
    memcpy(q->context, text, n_context);
    q->context[n_context] = '\0';
    q->word = q->context + n_context + 1;
    memcpy(q->word, blank, n_bytes - n_context);
    return OK;
}

static Err join_parts(const Lines *lines, const json_t *object, Question *q)
{
    const char *context, *word;
    TRY(lines_json_text(lines, object, "context", &context));
    TRY(lines_json_text(lines, object, "continuation", &word));
    size_t n_context = strlen(context) + 1, n_word = strlen(word) + 1;
    word += word[0] == ' ';
    q->context = malloc(n_context + n_word + 1);
    if (!q->context)
        FAIL(ERR_SYSTEM, "out of memory for a text");
    q->word = q->context + n_context;
    memcpy(q->context, context, n_context);
    snprintf(q->word, n_word + 1, " %s", word);
    return OK;
}

static Err read_object(const Lines *lines, const json_t *object, Question *q)
{
    const char *text;
    if (json_object_get(object, "continuation"))
        return join_parts(lines, object, q);
    TRY(lines_json_text(lines, object, "text", &text));
    return split_text(lines, text, q);
}

static Err add_next(ScoreTask *task, Lines *lines, BpeEncoder *encoder, bool *found)
{
    json_t *object;
    Question q = {NULL, NULL};
    TRY(lines_next_json(lines, &object));
    *found = object != NULL;
    if (!*found)
        return OK;
    Err err = read_object(lines, object, &q);
    const char *word = q.word;
    if (!err)
        err = score_task_add(task, encoder, q.context, &word, 0);
    free(q.context);
    json_decref(object);
    return err;
}

Err lambada_open(ScoreTask *task, const char *path, BpeEncoder *encoder, int64_t max_items)
{
    return lines_read_task(task, 1, path, encoder, max_items, add_next);
}
