/* Lines: the next line of a text file that is in memory, and a task made of all of them, for the
 * readers of evaluations. Private to src/score. */
#ifndef GPT_SCORE_LINES_H
#define GPT_SCORE_LINES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "score/task.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LINES_MAX_BYTES = 1 << 30 };

typedef struct {
    const char *path; /* borrowed */
    char *text;       /* owned; its line ends become '\0' one by one */
    char *next;
    int64_t number; /* of the line that was read last, from 1 */
} Lines;

/* ERR_MISSING, ERR_DATA (too long, or with a zero byte). */
Err lines_open(Lines *lines, const char *path);
void lines_close(Lines *lines); /* accepts a zero-initialised one */
/* The next line without its end, or NULL at the end of the file; one that is empty but for blanks
 * at the very end is none. Valid until lines_close. */
char *lines_next(Lines *lines);
/* *object = the next line as a JSON object, NULL at the end; the caller's to json_decref. ERR_DATA
 * with the line. */
Err lines_next_json(Lines *lines, json_t **object);
/* *text = a member of such an object, not empty; borrowed. ERR_DATA with the line. */
Err lines_json_text(const Lines *lines, const json_t *object, const char *key, const char **text);

/* Adds the next item to the task; *found: there was one. ERR_DATA, ERR_SYSTEM. */
typedef Err AddNextItem(ScoreTask *task, Lines *lines, BpeEncoder *encoder, bool *found);
/* A task of the items in `path`, max_items at most (0: all). ERR_DATA when there is none,
 * ERR_MISSING, and what add_next says. */
Err lines_read_task(ScoreTask *task, int32_t n_choices, const char *path, BpeEncoder *encoder,
                    int64_t max_items, AddNextItem *add_next);

#ifdef __cplusplus
}
#endif
#endif
