#include "base/status_line.h"

#include <stdarg.h>

#include "base/activity.h"
#include "base/human.h"

enum { EVERY_NS = 200000000 };

#define CLEAR_TO_END "\x1b[K" /* of the line: what a longer message left */

StatusLine status_line_begin(FILE *out, double part)
{
    return (StatusLine){.out = out, .begin_ns = activity_now_ns(), .begin = part};
}

static void print_part(const StatusLine *line, double part, int64_t now)
{
    double seconds = 1e-9 * (double)(now - line->begin_ns);
    if (part <= line->begin)
        return;
    fprintf(line->out, ", %.0f%%, %s left", 100 * part,
            human_duration(seconds * (1 - part) / (part - line->begin)).text);
}

void status_line_show(StatusLine *line, double part, const char *format, ...)
{
    va_list arguments;
    int64_t now = activity_now_ns();
    if (!line || !line->out || (line->shown_ns && now - line->shown_ns < EVERY_NS))
        return;
    line->shown_ns = now;
    fputc('\r', line->out);
    va_start(arguments, format);
    vfprintf(line->out, format, arguments);
    va_end(arguments);
    print_part(line, part, now);
    fputs(CLEAR_TO_END, line->out);
    fflush(line->out);
}

void status_line_clear(const StatusLine *line)
{
    if (line->out && line->shown_ns)
        fputs("\r" CLEAR_TO_END, line->out);
}
