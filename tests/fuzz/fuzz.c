#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"

static char folder[64], path[FILE_PATH_BYTES];

static void remove_folder(void)
{
    err_free(dir_remove(folder));
}

const char *fuzz_dir(void)
{
    if (folder[0])
        return folder;
    snprintf(folder, sizeof folder, "%s/gpt_fuzz_XXXXXX",
             path_is_dir("/dev/shm") ? "/dev/shm" : "/tmp");
    ASSERT(mkdtemp(folder), "no folder %s", folder);
    atexit(remove_folder);
    return folder;
}

const char *fuzz_file(const char *name, const void *data, size_t n_bytes)
{
    snprintf(path, sizeof path, "%s/%s", fuzz_dir(), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0, "cannot open %s", path);
    ssize_t put = write(fd, data, n_bytes);
    ASSERT(put == (ssize_t)n_bytes, "%s: %zd of %zu bytes", path, put, n_bytes);
    close(fd);
    return path;
}
