/* See shim.h. Every wrapper does three things: is it watched; does a fault strike; note it. */
#include "tests/fault/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FD = 1024, PATH_BYTES = 4096 };

static struct {
    char dir[PATH_BYTES];
    size_t n_dir; /* 0: nothing is watched */
    FaultKind kind;
    int64_t at, n_ops;
    bool armed;
    int64_t n_free; /* -1: as it is */
    FaultLog *log;
    char *fd_path[MAX_FD]; /* relative; NULL: not watched */
} shim = {.n_free = -1};

static const char *const NAMES[N_FAULTS + 1] = {"none",  "kill", "enospc", "eio", "eintr",
                                                "short", "full", "dead",   "hold"};

const char *fault_name(FaultKind kind)
{
    return NAMES[kind];
}

void fault_watch(const char *dir)
{
    snprintf(shim.dir, sizeof shim.dir, "%s", dir ? dir : "");
    shim.n_dir = strlen(shim.dir);
}

void fault_arm(FaultKind kind, int64_t at)
{
    shim.kind = kind;
    shim.at = at;
    shim.n_ops = 0;
    __atomic_store_n(&shim.armed, true, __ATOMIC_SEQ_CST);
}

void fault_set_free(int64_t n_bytes)
{
    shim.n_free = n_bytes;
}

int64_t fault_disarm(void)
{
    __atomic_store_n(&shim.armed, false, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&shim.n_ops, __ATOMIC_SEQ_CST);
}

/* ---- the record -------------------------------------------------------------------------- */

void fault_record(FaultLog *log)
{
    shim.log = log;
}

void fault_log_free(FaultLog *log)
{
    for (int32_t i = 0; i < log->n; i++) {
        free(log->op[i].path);
        free(log->op[i].to);
        free(log->op[i].data);
    }
    free(log->op);
    *log = (FaultLog){0};
}

static void note(OpKind kind, const char *path, const char *to, const void *data, size_t n_bytes)
{
    FaultLog *log = shim.log;
    if (!log)
        return;
    if (log->n == log->capacity) {
        log->capacity = log->capacity ? 2 * log->capacity : 64;
        log->op = realloc(log->op, (size_t)log->capacity * sizeof *log->op);
    }
    FaultOp op = {kind, strdup(path), to ? strdup(to) : NULL, NULL, n_bytes};
    if (data) {
        op.data = malloc(n_bytes);
        memcpy(op.data, data, n_bytes);
    }
    log->op[log->n++] = op;
}

/* ---- what is watched, what fails --------------------------------------------------------- */

/* The path below the watched directory; NULL: outside. */
static const char *watched(const char *path)
{
    if (!shim.n_dir || strncmp(path, shim.dir, shim.n_dir) != 0)
        return NULL;
    const char *rest = path + shim.n_dir;
    return *rest == '\0' ? rest : *rest == '/' ? rest + 1 : NULL;
}

static const char *watched_fd(int fd)
{
    return fd >= 0 && fd < MAX_FD ? shim.fd_path[fd] : NULL;
}

/* Count one operation; 0, or the errno it is to fail with. *half: put half of the bytes. */
static int strike(bool needs_room, bool *half)
{
    if (!__atomic_load_n(&shim.armed, __ATOMIC_SEQ_CST))
        return 0;
    int64_t n = __atomic_add_fetch(&shim.n_ops, 1, __ATOMIC_SEQ_CST);
    bool here = n == shim.at, since = n >= shim.at;
    if (here && shim.kind == FAULT_KILL)
        kill(getpid(), SIGKILL);
    while (here && shim.kind == FAULT_HOLD && __atomic_load_n(&shim.armed, __ATOMIC_SEQ_CST))
        usleep(1000);
    if (here && shim.kind == FAULT_SHORT && half)
        *half = true;
    if (here && shim.kind == FAULT_ENOSPC)
        return ENOSPC;
    if ((here && shim.kind == FAULT_EIO) || (since && shim.kind == FAULT_DEAD))
        return EIO;
    if (here && shim.kind == FAULT_EINTR)
        return EINTR;
    return since && shim.kind == FAULT_FULL && needs_room ? ENOSPC : 0;
}

static int refused(int error)
{
    errno = error;
    return -1;
}

/* ---- the operations ---------------------------------------------------------------------- */

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    const char *name = watched(path);
    bool writes = (flags & O_ACCMODE) != O_RDONLY, directory = flags & O_DIRECTORY;
    int error = name && (writes || directory) ? strike(writes, NULL) : 0;
    if (error)
        return refused(error);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd < 0 || fd >= MAX_FD || !name || !(writes || directory))
        return fd;
    if (flags & O_CREAT)
        note(OP_CREATE, name, NULL, NULL, 0);
    free(shim.fd_path[fd]);
    shim.fd_path[fd] = strdup(name);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open(path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t n_bytes)
{
    const char *name = watched_fd(fd);
    bool half = false;
    int error = name ? strike(true, &half) : 0;
    if (error)
        return refused(error);
    ssize_t put = syscall(SYS_write, fd, data, half ? (n_bytes + 1) / 2 : n_bytes);
    if (name && put > 0)
        note(OP_WRITE, name, NULL, data, (size_t)put);
    return put;
}

int fsync(int fd)
{
    const char *name = watched_fd(fd);
    if (!name)
        return (int)syscall(SYS_fsync, fd);
    int error = strike(true, NULL);
    if (error)
        return refused(error);
    note(OP_SYNC, name, NULL, NULL, 0);
    return 0;
}

/* As on Linux, the descriptor is gone whatever close returns. */
int close(int fd)
{
    int error = watched_fd(fd) ? strike(false, NULL) : 0;
    if (watched_fd(fd)) {
        free(shim.fd_path[fd]);
        shim.fd_path[fd] = NULL;
    }
    int rc = (int)syscall(SYS_close, fd);
    return error ? refused(error) : rc;
}

int rename(const char *from, const char *to)
{
    const char *name = watched(from), *new_name = watched(to);
    int error = name ? strike(true, NULL) : 0;
    if (error)
        return refused(error);
    int rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (rc == 0 && name && new_name)
        note(OP_RENAME, name, new_name, NULL, 0);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    const char *name = watched(path);
    int error = name ? strike(true, NULL) : 0;
    if (error)
        return refused(error);
    int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (rc == 0 && name)
        note(OP_MKDIR, name, NULL, NULL, 0);
    return rc;
}

static int remove_name(const char *path, int flags)
{
    const char *name = watched(path);
    int error = name ? strike(false, NULL) : 0;
    if (error)
        return refused(error);
    int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
    if (rc == 0 && name)
        note(OP_REMOVE, name, NULL, NULL, 0);
    return rc;
}

int unlink(const char *path)
{
    return remove_name(path, 0);
}

int rmdir(const char *path)
{
    return remove_name(path, AT_REMOVEDIR);
}

int ftruncate(int fd, off_t length)
{
    int error = watched_fd(fd) ? strike(true, NULL) : 0;
    return error ? refused(error) : (int)syscall(SYS_ftruncate, fd, length);
}

int statvfs(const char *path, struct statvfs *info)
{
    struct statfs found;
    if (syscall(SYS_statfs, path, &found) < 0)
        return -1;
    *info = (struct statvfs){.f_bsize = (unsigned long)found.f_bsize,
                             .f_frsize = (unsigned long)found.f_frsize,
                             .f_blocks = found.f_blocks,
                             .f_bfree = found.f_bfree,
                             .f_bavail = found.f_bavail};
    if (watched(path) && shim.n_free >= 0) {
        info->f_frsize = 1;
        info->f_bavail = (fsblkcnt_t)shim.n_free;
    }
    return 0;
}

/* ---- loaded into a program --------------------------------------------------------------- */

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("GPT_FAULT_DIR"), *kind = getenv("GPT_FAULT_KIND"),
               *at = getenv("GPT_FAULT_AT");
    if (!dir)
        return;
    fault_watch(dir);
    int found = FAULT_NONE;
    for (int i = 0; kind && i <= FAULT_HOLD; i++)
        found = strcmp(kind, NAMES[i]) == 0 ? i : found;
    fault_arm((FaultKind)found, at ? strtoll(at, NULL, 10) : 0);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("GPT_FAULT_COUNT");
    int64_t n = fault_disarm();
    FILE *file = path && n > 0 ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%lld\n", (long long)n);
        fclose(file);
    }
}
