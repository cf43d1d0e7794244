#include "base/err.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIL_MAX = 16, MESSAGE_BYTES = 1024 };

typedef struct {
    const char *file;
    int line;
} Place;

struct ErrInfo {
    ErrCode code;
    int n_trail;
    Place trail[TRAIL_MAX];
    char message[MESSAGE_BYTES];
};

/* What err_new returns when malloc fails. Never written: every function below checks for it. */
static const struct ErrInfo NO_MEMORY = {ERR_SYSTEM, 0, {{0}}, "out of memory"};

static int is_constant(Err err)
{
    return err == &NO_MEMORY;
}

/* Messages quote files and arguments, which may hold what a terminal obeys: control characters, and
 * the second 32 of them in UTF-8. */
static void make_plain(char *text)
{
    for (char *c = text; *c; c++) {
        unsigned char first = (unsigned char)c[0], second = (unsigned char)c[1];
        if (first < ' ' || first == 0x7F)
            c[0] = '?';
        else if (first == 0xC2 && second >= 0x80 && second < 0xA0)
            c[0] = c[1] = '?';
    }
}

Err err_new(ErrCode code, const char *file, int line, const char *fmt, ...)
{
    struct ErrInfo *err = calloc(1, sizeof *err);
    if (!err)
        return (Err)&NO_MEMORY;
    err->code = code;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    make_plain(err->message);
    return err_trace(err, file, line);
}

Err err_trace(Err err, const char *file, int line)
{
    if (is_constant(err))
        return err;
    if (err->n_trail < TRAIL_MAX)
        err->trail[err->n_trail] = (Place){file, line};
    err->n_trail++;
    return err;
}

Err err_prefix(Err err, const char *fmt, ...)
{
    if (!err || is_constant(err))
        return err;
    char prefix[MESSAGE_BYTES - 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, args);
    va_end(args);
    make_plain(prefix);
    size_t used = strlen(prefix), room = MESSAGE_BYTES - 1 - 2 - used, kept = strlen(err->message);
    kept = kept < room ? kept : room;
    memmove(err->message + used + 2, err->message, kept);
    err->message[used + 2 + kept] = '\0';
    memcpy(err->message, prefix, used);
    memcpy(err->message + used, ": ", 2);
    return err;
}

Err err_first(Err first, Err second)
{
    if (!first)
        return second;
    err_free(second);
    return first;
}

ErrCode err_code(Err err)
{
    return err ? err->code : ERR_NONE;
}

const char *err_message(Err err)
{
    return err ? err->message : "";
}

void err_print_trail(Err err, FILE *out)
{
    if (!err)
        return;
    int kept = err->n_trail < TRAIL_MAX ? err->n_trail : TRAIL_MAX;
    for (int i = 0; i < kept; i++)
        fprintf(out, "  at %s:%d\n", err->trail[i].file, err->trail[i].line);
    if (kept < err->n_trail)
        fprintf(out, "  and %d more\n", err->n_trail - kept);
}

void err_free(Err err)
{
    if (!is_constant(err))
        free(err);
}
