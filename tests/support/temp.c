#include "tests/support/temp.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

int temp_setup(void **state)
{
    Temp *t = malloc(sizeof *t);
    assert_non_null(t);
    temp_make(t);
    *state = t;
    return 0;
}

int temp_teardown(void **state)
{
    temp_remove(*state);
    free(*state);
    return 0;
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

void temp_make_dir(Temp *t, const char *name)
{
    assert_int_equal(mkdir(temp_path(t, name), 0777), 0);
}

void temp_write_sparse(Temp *t, const char *name, size_t n_bytes, const void *data,
                       size_t data_bytes)
{
    int fd = open(temp_path(t, name), O_RDWR | O_CREAT, 0666);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)n_bytes), 0);
    assert_int_equal(pwrite(fd, data, data_bytes, (off_t)(n_bytes - data_bytes)), data_bytes);
    assert_int_equal(close(fd), 0);
}

bool temp_equals(Temp *t, const char *name, const void *data, size_t n_bytes)
{
    FILE *f = fopen(temp_path(t, name), "rb");
    char *found = malloc(n_bytes + 1);
    assert_true(f && found);
    size_t n = fread(found, 1, n_bytes + 1, f);
    bool equal = n == n_bytes && memcmp(found, data, n_bytes) == 0;
    free(found);
    assert_int_equal(fclose(f), 0);
    return equal;
}

int32_t temp_count(Temp *t, const char *name)
{
    int32_t n = 0;
    DIR *dir = opendir(temp_path(t, name));
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    assert_int_equal(closedir(dir), 0);
    return n;
}
