/* StatusLine: one line on a terminal, written over again and again, that says how far a long piece
 * of work is and how long it will take. */
#ifndef GPT_BASE_STATUS_LINE_H
#define GPT_BASE_STATUS_LINE_H

#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    FILE *out;                  /* a terminal, borrowed; NULL: nobody looks */
    int64_t begin_ns, shown_ns; /* of activity_now_ns; 0: not shown yet */
    double begin;               /* the part of the work that was done before */
} StatusLine;

StatusLine status_line_begin(FILE *out, double part);
/* "MESSAGE, 34%, 12s left", some times a second at most, so that it may be called often. `part` of
 * the work is done, 0 to 1; negative: it is not known how much there is. Accepts NULL. */
void status_line_show(StatusLine *line, double part, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The terminal's line is empty again. */
void status_line_clear(const StatusLine *line);

#ifdef __cplusplus
}
#endif
#endif
