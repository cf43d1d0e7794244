#include "tests/support/temp.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

void temp_make(Temp *t)
{
    const char *parent = getenv("TMPDIR");
    snprintf(t->dir, sizeof t->dir, "%s/gpt_test_XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(t->dir));
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info, (void)type, (void)at;
    return remove(path);
}

void temp_remove(Temp *t)
{
    assert_int_equal(nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *temp_path(Temp *t, const char *name)
{
    int used = snprintf(t->path, sizeof t->path, "%s/%s", t->dir, name);
    assert_in_range(used, 1, sizeof t->path - 1);
    return t->path;
}

const char *temp_write(Temp *t, const char *name, const void *data, size_t n_bytes)
{
    FILE *f = fopen(temp_path(t, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n_bytes, f), n_bytes);
    assert_int_equal(fclose(f), 0);
    return t->path;
}

const char *temp_write_text(Temp *t, const char *name, const char *text)
{
    return temp_write(t, name, text, strlen(text));
}
