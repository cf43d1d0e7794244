/* HellaSwag's two forms of files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "score/lines.h"

enum { ENDINGS = 4 };

typedef struct {
    const char *context;
    const char *ending[ENDINGS];
    int64_t label;
} Question;

/* With a blank before each ending. */
static Err add(ScoreTask *task, BpeEncoder *encoder, const Question *q)
{
    char *text[ENDINGS] = {NULL};
    bool made = true;
    for (int32_t e = 0; e < ENDINGS; e++) {
        size_t n_bytes = strlen(q->ending[e]) + 2;
        text[e] = malloc(n_bytes);
        made = made && text[e];
        if (text[e])
            snprintf(text[e], n_bytes, " %s", q->ending[e]);
    }
    Err err = made ? score_task_add(task, encoder, q->context, (const char *const *)text,
                                    (int32_t)q->label)
                   : ERR_NEW(ERR_SYSTEM, "out of memory for an ending");
    for (int32_t e = 0; e < ENDINGS; e++)
        free(text[e]);
    return err;
}

static Err check_label(const Lines *lines, int64_t label)
{
    if (label < 0 || label >= ENDINGS)
        FAIL(ERR_DATA, "%s:%lld: the label is not 0, 1, 2 or 3", lines->path,
             (long long)lines->number);
    return OK;
}

/* ---- JSON -------------------------------------------------------------------------------- */

/* Labels are numbers, or texts as in Hugging Face's copy. */
static int64_t label_of(const json_t *value)
{
    const char *text = json_string_value(value);
    if (text)
        return text[0] >= '0' && text[0] <= '9' && !text[1] ? text[0] - '0' : -1;
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static Err read_object(const Lines *lines, const json_t *object, Question *q)
{
    const json_t *endings = json_object_get(object, "endings");
    TRY(lines_json_text(lines, object, "ctx", &q->context));
    for (int32_t e = 0; e < ENDINGS; e++) {
        q->ending[e] = json_string_value(json_array_get(endings, (size_t)e));
        if (!q->ending[e] || json_array_size(endings) != ENDINGS)
            FAIL(ERR_DATA, "%s:%lld: \"endings\" are not four texts", lines->path,
                 (long long)lines->number);
    }
    q->label = label_of(json_object_get(object, "label"));
    return check_label(lines, q->label);
}

static Err next_of_json(Lines *lines, json_t **object, Question *q, bool *found)
{
    TRY(lines_next_json(lines, object));
    *found = *object != NULL;
    return *found ? read_object(lines, *object, q) : OK;
}

/* ---- plain text -------------------------------------------------------------------------- */

static Err next_of_text(Lines *lines, Question *q, bool *found)
{
    q->context = lines_next(lines);
    *found = q->context != NULL;
    if (!*found)
        return OK;
    const char *label = lines_next(lines);
    q->label = label && label[0] >= '0' && label[0] <= '9' && !label[1] ? label[0] - '0' : -1;
    TRY(check_label(lines, q->label));
    for (int32_t e = 0; e < ENDINGS; e++)
        if (!(q->ending[e] = lines_next(lines)))
            FAIL(ERR_DATA, "%s:%lld: the file ends within an item", lines->path,
                 (long long)lines->number);
    if (!q->context[0])
        FAIL(ERR_DATA, "%s:%lld: an empty context", lines->path, (long long)lines->number - 5);
    return OK;
}

/* ---- the file ---------------------------------------------------------------------------- */

static Err add_next(ScoreTask *task, Lines *lines, BpeEncoder *encoder, bool *found)
{
    const bool is_json = lines->text[strspn(lines->text, " \t\r\n")] == '{';
    Question q;
    json_t *object = NULL;
    Err err = is_json ? next_of_json(lines, &object, &q, found) : next_of_text(lines, &q, found);
    if (!err && *found)
        err = add(task, encoder, &q);
    json_decref(object);
    return err;
}

Err hellaswag_open(ScoreTask *task, const char *path, BpeEncoder *encoder, int64_t max_items)
{
    return lines_read_task(task, ENDINGS, path, encoder, max_items, add_next);
}
