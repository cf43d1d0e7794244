#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/check.h"

/* ---- system calls that may be interrupted ------------------------------------------------ */

static int open_retry(const char *path, int flags)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* On Linux an interrupted close has closed: trying again could close somebody else's descriptor. */
static int close_once(int fd)
{
    int rc = close(fd);
    return rc < 0 && errno == EINTR ? 0 : rc;
}

static int sync_retry(int fd)
{
    int rc;
    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc;
}

/* Up to n_bytes, fewer only at the end of the file; -1 with errno. */
static ssize_t read_full(int fd, void *buffer, size_t n_bytes)
{
    size_t done = 0;
    while (done < n_bytes) {
        ssize_t got = read(fd, (char *)buffer + done, n_bytes - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* 0, or -1 with errno. A write of nothing that was not asked to write nothing is a full disk. */
static int write_full(int fd, const void *data, size_t n_bytes)
{
    size_t done = 0;
    while (done < n_bytes) {
        ssize_t put = write(fd, (const char *)data + done, n_bytes - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC;
        if (put <= 0)
            return -1;
        done += (size_t)put;
    }
    return 0;
}

/* ---- paths ------------------------------------------------------------------------------- */

Err path_join(char *out, const char *dir, const char *name)
{
    size_t n = strlen(dir);
    const char *slash = n > 0 && dir[n - 1] != '/' ? "/" : "";
    int used = snprintf(out, FILE_PATH_BYTES, "%s%s%s", dir, slash, name);
    if (used < 0 || used >= FILE_PATH_BYTES)
        FAIL(ERR_USAGE, "the path %.200s.../%.200s is longer than %d bytes", dir, name,
             FILE_PATH_BYTES - 1);
    return OK;
}

/* The directory that holds the last name of `path`: "." for a bare name, "/" for one in the
 * root. */
static Err path_parent(char *out, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n >= FILE_PATH_BYTES)
        FAIL(ERR_USAGE, "the path %.200s... is longer than %d bytes", path, FILE_PATH_BYTES - 1);
    if (n == 0)
        path = ".", n = 1;
    memcpy(out, path, n);
    out[n] = '\0';
    return OK;
}

Err path_temporary(char *out, const char *path)
{
    char parent[FILE_PATH_BYTES], name[40];
    uint64_t unique;
    TRY(path_parent(parent, path));
    if (getrandom(&unique, sizeof unique, 0) != sizeof unique)
        FAIL(ERR_SYSTEM, "no random bits for a temporary name: %s", strerror(errno));
    snprintf(name, sizeof name, ".%016llx.tmp", (unsigned long long)unique);
    return path_join(out, parent, name);
}

bool path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool path_is_taken(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

bool path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool path_is_stream(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

bool path_identity(const char *path, uint64_t *device, uint64_t *inode)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return false;
    *device = (uint64_t)info.st_dev;
    *inode = (uint64_t)info.st_ino;
    return true;
}

Err path_rename(const char *from, const char *to)
{
    char parent[FILE_PATH_BYTES];
    TRY(path_parent(parent, to));
    if (rename(from, to) < 0)
        FAIL(ERR_WRITE, "cannot rename %s to %s: %s", from, to, strerror(errno));
    return dir_sync(parent);
}

/* ---- directories ------------------------------------------------------------------------- */

/* A directory whose name is not safe takes all that is synced in it along. */
static Err sync_parent(const char *path)
{
    char parent[FILE_PATH_BYTES];
    TRY(path_parent(parent, path));
    return dir_sync(parent);
}

Err dir_make_new(const char *path)
{
    if (mkdir(path, 0777) == 0)
        return sync_parent(path);
    FAIL(ERR_WRITE, "cannot make the directory %s: %s", path, strerror(errno));
}

static Err make_one(const char *path)
{
    if (mkdir(path, 0777) == 0)
        return sync_parent(path);
    int error = errno;
    if (error == EEXIST && path_is_dir(path))
        return OK;
    FAIL(ERR_WRITE, "cannot make the directory %s: %s", path,
         strerror(error == EEXIST ? ENOTDIR : error));
}

Err dir_make(const char *path)
{
    char partial[FILE_PATH_BYTES];
    TRY(path_join(partial, "", path));
    for (char *at = partial; *at; at++) {
        if (*at != '/' || at == partial)
            continue;
        *at = '\0';
        TRY(make_one(partial));
        *at = '/';
    }
    return make_one(path);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct {
    char **name;
    int32_t n, capacity;
} NameList;

static Err add_name(NameList *list, const char *name)
{
    if (list->n == list->capacity) {
        int32_t capacity = list->capacity ? 2 * list->capacity : 16;
        char **grown = realloc(list->name, (size_t)capacity * sizeof *grown);
        if (!grown)
            FAIL(ERR_SYSTEM, "out of memory for %d file names", (int)capacity);
        list->name = grown;
        list->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy)
        FAIL(ERR_SYSTEM, "out of memory for a file name");
    list->name[list->n++] = copy;
    return OK;
}

static Err read_names(NameList *list, DIR *dir, const char *path)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno)
            FAIL(ERR_MISSING, "cannot read the directory %s: %s", path, strerror(errno));
        if (!entry)
            return OK;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            TRY(add_name(list, entry->d_name));
    }
}

Err dir_list(const char *path, char ***names, int32_t *n_names)
{
    *names = NULL;
    *n_names = 0;
    DIR *dir = opendir(path);
    if (!dir)
        FAIL(ERR_MISSING, "cannot read the directory %s: %s", path, strerror(errno));
    NameList list = {0};
    Err err = read_names(&list, dir, path);
    if (closedir(dir) < 0 && !err)
        err = ERR_NEW(ERR_MISSING, "cannot close the directory %s: %s", path, strerror(errno));
    if (err) {
        dir_list_free(list.name, list.n);
        return err;
    }
    if (list.n > 0)
        qsort(list.name, (size_t)list.n, sizeof *list.name, compare_names);
    *names = list.name;
    *n_names = list.n;
    return OK;
}

void dir_list_free(char **names, int32_t n_names)
{
    for (int32_t i = 0; i < n_names; i++)
        free(names[i]);
    free(names);
}

Err dir_sync(const char *path)
{
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        FAIL(ERR_WRITE, "cannot open the directory %s: %s", path, strerror(errno));
    /* Some network file systems keep names safe by themselves and refuse with EINVAL. */
    int error = sync_retry(fd) < 0 && errno != EINVAL ? errno : 0;
    if (close_once(fd) < 0 && !error)
        error = errno;
    if (error)
        FAIL(ERR_WRITE, "cannot sync the directory %s: %s", path, strerror(error));
    return OK;
}

bool dir_free_bytes(const char *path, size_t *n_bytes)
{
    struct statvfs info;
    if (statvfs(path, &info) < 0 || info.f_blocks == 0)
        return false;
    return !__builtin_mul_overflow((size_t)info.f_bavail, (size_t)info.f_frsize, n_bytes);
}

Err dir_check_writable(const char *path)
{
    char at[FILE_PATH_BYTES], parent[FILE_PATH_BYTES];
    TRY(path_join(at, "", path));
    while (!path_exists(at) && (errno == ENOENT || errno == ENOTDIR)) { /* to what is there */
        TRY(path_parent(parent, at));
        if (strcmp(parent, at) == 0)
            break;
        memcpy(at, parent, sizeof at);
    }
    bool is_dir = path_is_dir(at);
    int error = !is_dir ? ENOTDIR : access(at, W_OK | X_OK) < 0 ? errno : 0;
    if (error)
        FAIL(ERR_WRITE, "cannot write in %s: %s; change that, or choose another directory", at,
             strerror(error));
    return OK;
}

Err dir_lock(DirLock *lock, const char *path)
{
    *lock = (DirLock){.fd = open_retry(path, O_RDONLY | O_DIRECTORY)};
    if (lock->fd < 0)
        return OK;
    lock->held = flock(lock->fd, LOCK_EX | LOCK_NB) == 0;
    int error = lock->held ? 0 : errno;
    if (!lock->held)
        (void)close_once(lock->fd);
    if (error == EWOULDBLOCK)
        FAIL(ERR_SYSTEM, "another process is at work in %s", path);
    return OK;
}

void dir_unlock(DirLock *lock)
{
    if (lock->held)
        (void)close_once(lock->fd);
    *lock = (DirLock){0};
}

size_t dir_bytes(const char *path)
{
    size_t sum = 0;
    char **names = NULL;
    int32_t n_names = 0;
    Err err = dir_list(path, &names, &n_names);
    for (int32_t i = 0; i < n_names && !err; i++) {
        char file[FILE_PATH_BYTES];
        struct stat info;
        err = path_join(file, path, names[i]);
        if (!err && stat(file, &info) == 0 && S_ISREG(info.st_mode))
            sum += (size_t)info.st_size;
    }
    dir_list_free(names, n_names);
    err_free(err);
    return sum;
}

static Err remove_files(const char *path, char *const *names, int32_t n_names)
{
    for (int32_t i = 0; i < n_names; i++) {
        char file[FILE_PATH_BYTES];
        TRY(path_join(file, path, names[i]));
        if (unlink(file) < 0 && errno != ENOENT)
            FAIL(ERR_WRITE, "cannot remove %s: %s", file, strerror(errno));
    }
    return OK;
}

static Err remove_contents(const char *path)
{
    char **names = NULL;
    int32_t n_names = 0;
    TRY(dir_list(path, &names, &n_names));
    Err err = remove_files(path, names, n_names);
    dir_list_free(names, n_names);
    return err;
}

Err dir_remove(const char *path)
{
    struct stat info;
    if (lstat(path, &info) < 0) {
        if (errno == ENOENT)
            return OK;
        FAIL(ERR_WRITE, "cannot look at %s: %s", path, strerror(errno));
    }
    if (S_ISDIR(info.st_mode)) {
        TRY(remove_contents(path));
    } else if (!S_ISLNK(info.st_mode)) {
        FAIL(ERR_WRITE, "cannot remove %s: not a directory", path);
    }
    int failed = S_ISDIR(info.st_mode) ? rmdir(path) : unlink(path);
    if (failed && errno != ENOENT)
        FAIL(ERR_WRITE, "cannot remove %s: %s", path, strerror(errno));
    return OK;
}

static bool is_temporary(const char *name)
{
    const size_t n_digits = 16;
    return name[0] == '.' && strspn(name + 1, "0123456789abcdef") == n_digits &&
           strcmp(name + 1 + n_digits, ".tmp") == 0;
}

static Err remove_temporary(const char *dir, const char *name)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, name));
    return unlink(path) == 0 ? OK : dir_remove(path);
}

void dir_remove_temporaries(const char *path)
{
    char **names = NULL;
    int32_t n_names = 0;
    err_free(dir_list(path, &names, &n_names)); /* a directory that is not there has none */
    for (int32_t i = 0; i < n_names; i++)
        if (is_temporary(names[i]))
            err_free(remove_temporary(path, names[i]));
    dir_list_free(names, n_names);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* A pipe without a writer must not hang us, nor a device without an end. */
static Err open_regular(const char *path, int *fd, size_t *n_bytes)
{
    struct stat info;
    Err err = OK;
    *fd = open_retry(path, O_RDONLY | O_NONBLOCK);
    if (*fd < 0)
        FAIL(ERR_MISSING, "cannot open %s: %s", path, strerror(errno));
    if (fstat(*fd, &info) < 0)
        err = ERR_NEW(ERR_MISSING, "cannot look at %s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        err = ERR_NEW(ERR_MISSING, "%s is not a regular file", path);
    else
        *n_bytes = (size_t)info.st_size;
    if (err)
        (void)close_once(*fd); /* it was only looked at */
    return err;
}

Err file_map(FileMap *map, const char *path)
{
    *map = (FileMap){0};
    Err err = OK;
    int fd;
    size_t n_bytes = 0;
    TRY(open_regular(path, &fd, &n_bytes));
    if (n_bytes > 0) {
        void *data = mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            err = ERR_NEW(ERR_MISSING, "cannot map %s: %s", path, strerror(errno));
        else
            *map = (FileMap){data, n_bytes};
    }
    if (close_once(fd) < 0 && !err) {
        err = ERR_NEW(ERR_MISSING, "cannot close %s: %s", path, strerror(errno));
        file_unmap(map);
    }
    return err;
}

void file_unmap(FileMap *map)
{
    if (map->data) {
        int rc = munmap((void *)map->data, map->n_bytes);
        ASSERT(rc == 0, "munmap: %s", strerror(errno));
    }
    *map = (FileMap){0};
}

/* Read to the end, not to the size: files under /proc and pipes say 0. */
static Err read_text(int fd, const char *path, size_t max_bytes, char **text, size_t *n_bytes)
{
    size_t capacity = 4096, used = 0;
    for (;;) {
        char *grown = realloc(*text, capacity);
        if (!grown)
            FAIL(ERR_SYSTEM, "%s: out of memory for %zu bytes", path, capacity);
        *text = grown;
        ssize_t got = read_full(fd, *text + used, capacity - 1 - used);
        if (got < 0)
            FAIL(ERR_MISSING, "cannot read %s: %s", path, strerror(errno));
        used += (size_t)got;
        if (used > max_bytes)
            FAIL(ERR_DATA, "%s is larger than %zu bytes", path, max_bytes);
        if (used < capacity - 1)
            break;
        capacity *= 2;
    }
    (*text)[used] = '\0';
    *n_bytes = used;
    return OK;
}

Err file_read_text(const char *path, size_t max_bytes, char **text, size_t *n_bytes)
{
    size_t used = 0;
    *text = NULL;
    int fd = open_retry(path, O_RDONLY);
    if (fd < 0)
        FAIL(ERR_MISSING, "cannot open %s: %s", path, strerror(errno));
    Err err = read_text(fd, path, max_bytes, text, &used);
    if (close_once(fd) < 0 && !err)
        err = ERR_NEW(ERR_MISSING, "cannot close %s: %s", path, strerror(errno));
    if (err) {
        free(*text);
        *text = NULL;
        return err;
    }
    if (n_bytes)
        *n_bytes = used;
    return OK;
}

struct FileReader {
    int fd;
    size_t n_bytes;
    int64_t written_ns;
    char path[FILE_PATH_BYTES];
};

static Err open_reader(FileReader *r, const char *path)
{
    struct stat st;
    bool is_stdin = strcmp(path, "-") == 0;
    TRY(path_join(r->path, "", is_stdin ? "standard input" : path));
    r->fd = is_stdin ? STDIN_FILENO : open_retry(path, O_RDONLY);
    if (r->fd < 0)
        FAIL(ERR_MISSING, "cannot open %s: %s", path, strerror(errno));
    if (fstat(r->fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        (void)close_once(r->fd); /* nothing was read from it */
        FAIL(ERR_MISSING, "%s is a directory", r->path);
    }
    if (fstat(r->fd, &st) != 0)
        return OK;
    r->n_bytes = S_ISREG(st.st_mode) ? (size_t)st.st_size : 0;
    r->written_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return OK;
}

Err file_open(FileReader **out, const char *path)
{
    FileReader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        FAIL(ERR_SYSTEM, "%s: out of memory", path);
    Err err = open_reader(r, path);
    if (err)
        free(r);
    else
        *out = r;
    return err;
}

Err file_read(FileReader *r, void *data, size_t capacity, size_t *n_bytes)
{
    ssize_t got = read_full(r->fd, data, capacity);
    *n_bytes = got > 0 ? (size_t)got : 0;
    if (got < 0)
        FAIL(ERR_MISSING, "cannot read %s: %s", r->path, strerror(errno));
    return OK;
}

size_t file_reader_bytes(const FileReader *r)
{
    return r->n_bytes;
}

int64_t file_reader_written_ns(const FileReader *r)
{
    return r->written_ns;
}

void file_reader_close(FileReader *r)
{
    if (!r)
        return;
    if (r->fd != STDIN_FILENO)
        (void)close_once(r->fd); /* all that was wanted of it has been read */
    free(r);
}

/* ---- writing ----------------------------------------------------------------------------- */

/* The buffer is exactly one block, so a full buffer is hashed and written and that is all. */
struct FileWriter {
    int fd, error; /* error: errno of the first failure; nothing is written after it */
    size_t n_buffered;
    int64_t block_capacity;
    FileDigest digest;
    uint8_t *buffer; /* FILE_BLOCK_BYTES */
    char path[FILE_PATH_BYTES];
};

static int add_hash(FileDigest *digest, int64_t *capacity, const void *block, size_t n_bytes)
{
    if (digest->n_blocks == *capacity) {
        int64_t grown = *capacity ? 2 * *capacity : 16;
        uint64_t *hash = realloc(digest->block_hash, (size_t)grown * sizeof *hash);
        if (!hash)
            return -1;
        digest->block_hash = hash;
        *capacity = grown;
    }
    digest->block_hash[digest->n_blocks++] = XXH3_64bits(block, n_bytes);
    digest->n_bytes += n_bytes;
    return 0;
}

static void writer_flush(FileWriter *w)
{
    if (w->error || w->n_buffered == 0)
        return;
    if (add_hash(&w->digest, &w->block_capacity, w->buffer, w->n_buffered) < 0 ||
        write_full(w->fd, w->buffer, w->n_buffered) < 0)
        w->error = errno;
    w->n_buffered = 0;
}

static Err writer_result(const FileWriter *w)
{
    if (w->error)
        FAIL(ERR_WRITE, "cannot write %s: %s", w->path, strerror(w->error));
    return OK;
}

static void writer_free(FileWriter *w)
{
    file_digest_free(&w->digest);
    free(w->buffer);
    free(w);
}

static Err open_writer(FileWriter **out, const char *path, int flags)
{
    *out = NULL;
    FileWriter *w = calloc(1, sizeof *w);
    if (!w || !(w->buffer = malloc(FILE_BLOCK_BYTES))) {
        free(w);
        FAIL(ERR_SYSTEM, "%s: out of memory for a write buffer", path);
    }
    Err err = path_join(w->path, "", path);
    if (!err) {
        w->fd = open_retry(path, O_WRONLY | O_NOFOLLOW | flags);
        if (w->fd < 0)
            err = ERR_NEW(ERR_WRITE, "cannot create %s: %s", path, strerror(errno));
    }
    if (err)
        writer_free(w);
    else
        *out = w;
    return err;
}

Err file_create(FileWriter **out, const char *path)
{
    return open_writer(out, path, O_CREAT | O_EXCL);
}

Err file_lock(FileWriter *w)
{
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0)
        FAIL(ERR_WRITE, "cannot lock %s: %s", w->path, strerror(errno));
    return OK;
}

Err file_resume(FileWriter **out, const char *path, size_t n_bytes)
{
    FileWriter *w;
    struct stat st;
    TRY(open_writer(&w, path, 0));
    Err err = file_lock(w);
    if (err) {
        (void)close_once(w->fd); /* somebody else's file stays */
        writer_free(w);
        *out = NULL;
        return err;
    }
    if (fstat(w->fd, &st) != 0 || (size_t)st.st_size < n_bytes)
        err = ERR_NEW(ERR_WRITE, "%s is shorter than it was", path);
    else if (ftruncate(w->fd, (off_t)n_bytes) != 0 || lseek(w->fd, 0, SEEK_END) < 0)
        err = ERR_NEW(ERR_WRITE, "cannot go on with %s: %s", path, strerror(errno));
    if (err)
        file_abandon(w);
    *out = err ? NULL : w;
    return err;
}

Err file_sync(FileWriter *w)
{
    writer_flush(w);
    if (!w->error && sync_retry(w->fd) < 0)
        w->error = errno;
    return writer_result(w);
}

Err file_write(FileWriter *w, const void *data, size_t n_bytes)
{
    const uint8_t *from = data;
    while (n_bytes > 0 && !w->error) {
        size_t room = FILE_BLOCK_BYTES - w->n_buffered, part = n_bytes < room ? n_bytes : room;
        memcpy(w->buffer + w->n_buffered, from, part);
        w->n_buffered += part;
        from += part;
        n_bytes -= part;
        if (w->n_buffered == FILE_BLOCK_BYTES)
            writer_flush(w);
    }
    return writer_result(w);
}

Err file_close(FileWriter *w, FileDigest *digest)
{
    if (digest)
        *digest = (FileDigest){0};
    writer_flush(w);
    if (!w->error && sync_retry(w->fd) < 0)
        w->error = errno;
    if (close_once(w->fd) < 0 && !w->error)
        w->error = errno;
    Err err = writer_result(w);
    if (err) {
        (void)unlink(w->path); /* nobody wants half a file; the first error is the one to tell */
    } else if (digest) {
        *digest = w->digest;
        w->digest = (FileDigest){0};
    }
    writer_free(w);
    return err;
}

void file_abandon(FileWriter *w)
{
    if (!w)
        return;
    (void)close_once(w->fd); /* the contents are unwanted, so is the fate of their last bytes */
    (void)unlink(w->path);
    writer_free(w);
}

void file_digest_free(FileDigest *digest)
{
    free(digest->block_hash);
    *digest = (FileDigest){0};
}

static Err digest_read(int fd, const char *path, uint8_t *buffer, FileDigest *digest)
{
    int64_t capacity = 0;
    ssize_t got;
    while ((got = read_full(fd, buffer, FILE_BLOCK_BYTES)) > 0)
        if (add_hash(digest, &capacity, buffer, (size_t)got) < 0)
            FAIL(ERR_SYSTEM, "%s: out of memory for checksums", path);
    if (got < 0)
        FAIL(ERR_MISSING, "cannot read %s: %s", path, strerror(errno));
    return OK;
}

/* digest->n_bytes is that of the file. */
static Err sample_read(int fd, const char *path, int64_t stride, uint8_t *buffer,
                       FileDigest *digest, size_t *n_read)
{
    digest->n_blocks = (int64_t)((digest->n_bytes + FILE_BLOCK_BYTES - 1) / FILE_BLOCK_BYTES);
    digest->block_hash = calloc((size_t)digest->n_blocks + 1, sizeof *digest->block_hash);
    if (!digest->block_hash)
        FAIL(ERR_SYSTEM, "%s: out of memory for checksums", path);
    for (int64_t i = 0; i < digest->n_blocks; i += stride) {
        ssize_t got = -1;
        if (lseek(fd, (off_t)(i * FILE_BLOCK_BYTES), SEEK_SET) >= 0)
            got = read_full(fd, buffer, FILE_BLOCK_BYTES);
        if (got < 0)
            FAIL(ERR_MISSING, "cannot read %s: %s", path, strerror(errno));
        digest->block_hash[i] = XXH3_64bits(buffer, (size_t)got);
        *n_read += (size_t)got;
    }
    return OK;
}

/* By read, not by mapping: on a failing disk read returns EIO, a mapping raises SIGBUS. */
Err file_digest_sample(const char *path, int64_t stride, FileDigest *digest, size_t *n_read)
{
    *digest = (FileDigest){0};
    *n_read = 0;
    int fd;
    size_t n_bytes;
    TRY(open_regular(path, &fd, &n_bytes));
    uint8_t *buffer = malloc(FILE_BLOCK_BYTES);
    Err err = OK;
    if (!buffer) {
        err = ERR_NEW(ERR_SYSTEM, "%s: out of memory for a read buffer", path);
    } else if (stride == 1) {
        err = digest_read(fd, path, buffer, digest);
        *n_read = digest->n_bytes;
    } else {
        digest->n_bytes = n_bytes;
        err = sample_read(fd, path, stride, buffer, digest, n_read);
    }
    free(buffer);
    if (close_once(fd) < 0 && !err)
        err = ERR_NEW(ERR_MISSING, "cannot close %s: %s", path, strerror(errno));
    if (err)
        file_digest_free(digest);
    return err;
}

Err file_digest(const char *path, FileDigest *digest)
{
    size_t n_read;
    return file_digest_sample(path, 1, digest, &n_read);
}

static Err write_new(const char *path, const void *data, size_t n_bytes)
{
    FileWriter *w = NULL;
    TRY(file_create(&w, path));
    Err err = file_write(w, data, n_bytes);
    if (err) {
        file_abandon(w);
        return err;
    }
    return file_close(w, NULL);
}

Err file_publish(const char *path, const void *data, size_t n_bytes)
{
    char temporary[FILE_PATH_BYTES];
    if (path_is_stream(path))
        FAIL(ERR_WRITE, "%s is no file: it is not replaced by one", path);
    TRY(path_temporary(temporary, path));
    Err err = write_new(temporary, data, n_bytes);
    if (err)
        return err_prefix(err, "%s", path);
    err = path_rename(temporary, path);
    if (err)
        (void)unlink(temporary); /* gone already when only the sync of the directory failed */
    return err;
}
