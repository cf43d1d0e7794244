#include "data/staging.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define TEMPORARY_START "gpt_prepare-"
#define TEMPORARY_END   ".tmp"

enum { NAME_BYTES = 512 };

Err staging_init(Staging *s, const char *dir)
{
    *s = (Staging){.dir = dir};
    if (getrandom(&s->unique, sizeof s->unique, 0) != sizeof s->unique)
        FAIL(ERR_SYSTEM, "no random bits for a temporary name: %s", strerror(errno));
    return OK;
}

static Err remove_file(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        FAIL(ERR_WRITE, "cannot remove %s: %s", path, strerror(errno));
    return OK;
}

static bool is_leftover(const char *name)
{
    size_t n = strlen(name), n_start = strlen(TEMPORARY_START), n_end = strlen(TEMPORARY_END);
    return n > n_start + n_end && strncmp(name, TEMPORARY_START, n_start) == 0 &&
           strcmp(name + n - n_end, TEMPORARY_END) == 0;
}

/* Without the last name of a path; "" when it had one. */
static void drop_name(char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    path[n] = '\0';
}

/* How many names at the end of the path are still to be made. */
static Err count_missing(const char *dir, int32_t *n)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, "", dir));
    for (*n = 0; path[0] && !path_exists(path); drop_name(path))
        (*n)++;
    return OK;
}

Err staging_make_room(Staging *s)
{
    char **name;
    int32_t n_names;
    TRY(count_missing(s->dir, &s->n_made));
    TRY(dir_make(s->dir));
    TRY(dir_list(s->dir, &name, &n_names));
    Err err = OK;
    for (int32_t i = 0; i < n_names && !err; i++) {
        char path[FILE_PATH_BYTES];
        if (!is_leftover(name[i]))
            continue;
        err = path_join(path, s->dir, name[i]);
        if (!err)
            err = remove_file(path);
    }
    dir_list_free(name, n_names);
    return err;
}

void staging_leave(Staging *s)
{
    char path[FILE_PATH_BYTES] = "";
    if (s->n_made > 0)
        snprintf(path, sizeof path, "%s", s->dir); /* whole: it was looked at */
    for (; s->n_made > 0; s->n_made--, drop_name(path))
        (void)rmdir(path); /* what somebody has put a file into stays */
}

Err staging_temporary(const Staging *s, const char *name, char *out)
{
    char temporary[NAME_BYTES];
    int n = snprintf(temporary, sizeof temporary, TEMPORARY_START "%016" PRIx64 "-%s" TEMPORARY_END,
                     s->unique, name);
    if (n < 0 || n >= NAME_BYTES)
        FAIL(ERR_USAGE, "%s: too long a name", name);
    return path_join(out, s->dir, temporary);
}

Err staging_final(const Staging *s, const char *name, char *out)
{
    return path_join(out, s->dir, name);
}

Err staging_publish(const Staging *s, const char *name)
{
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    TRY(staging_temporary(s, name, from));
    TRY(staging_final(s, name, to));
    return path_rename(from, to);
}

Err staging_discard(const Staging *s, const char *name)
{
    char path[FILE_PATH_BYTES];
    TRY(staging_temporary(s, name, path));
    return remove_file(path);
}

Err staging_remove_final(const Staging *s, const char *name)
{
    char path[FILE_PATH_BYTES];
    TRY(staging_final(s, name, path));
    return remove_file(path);
}
