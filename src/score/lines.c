#include "score/lines.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

Err lines_open(Lines *lines, const char *path)
{
    size_t n_bytes = 0;
    *lines = (Lines){.path = path};
    TRY(file_read_text(path, LINES_MAX_BYTES, &lines->text, &n_bytes));
    lines->next = lines->text;
    if (strlen(lines->text) != n_bytes)
        FAIL(ERR_DATA, "%s: not a text: byte %zu is zero", path, strlen(lines->text));
    return OK;
}

void lines_close(Lines *lines)
{
    free(lines->text);
    *lines = (Lines){0};
}

char *lines_next(Lines *lines)
{
    char *line = lines->next;
    if (line[strspn(line, " \t\r\n")] == '\0')
        return NULL;
    size_t n = strcspn(line, "\n");
    lines->next = line + n + (line[n] == '\n');
    line[n] = '\0';
    if (n > 0 && line[n - 1] == '\r')
        line[n - 1] = '\0';
    lines->number++;
    return line;
}

Err lines_next_json(Lines *lines, json_t **object)
{
    json_error_t where;
    const char *line = lines_next(lines);
    *object = line ? json_loads(line, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (!line || json_is_object(*object))
        return OK;
    bool is_json = *object != NULL;
    json_decref(*object);
    *object = NULL;
    FAIL(ERR_DATA, "%s:%lld: not a JSON object%s%.100s", lines->path, (long long)lines->number,
         is_json ? "" : ": ", is_json ? "" : where.text);
}

Err lines_json_text(const Lines *lines, const json_t *object, const char *key, const char **text)
{
    *text = json_string_value(json_object_get(object, key));
    if (!*text || !**text)
        FAIL(ERR_DATA, "%s:%lld: \"%s\" is missing or is not a text", lines->path,
             (long long)lines->number, key);
    return OK;
}

static Err read_all(ScoreTask *task, Lines *lines, BpeEncoder *encoder, int64_t max_items,
                    AddNextItem *add_next)
{
    bool found = true;
    while (found && (max_items == 0 || task->n_items < max_items))
        TRY(add_next(task, lines, encoder, &found));
    if (task->n_items == 0)
        FAIL(ERR_DATA, "%s: no items", lines->path);
    return OK;
}

Err lines_read_task(ScoreTask *task, int32_t n_choices, const char *path, BpeEncoder *encoder,
                    int64_t max_items, AddNextItem *add_next)
{
    Lines lines;
    *task = (ScoreTask){.n_choices = n_choices};
    Err err = lines_open(&lines, path);
    if (!err)
        err = read_all(task, &lines, encoder, max_items, add_next);
    lines_close(&lines);
    return err;
}
