#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"

/* ---- allocations ------------------------------------------------------------------------- */

enum { FIRST_FAILURE = 0xE0 };

static int calls; /* until the one that fails; 0 or less: none does */
static bool has_failed;

static bool fails(void)
{
    if (calls <= 0 || --calls > 0)
        return false;
    has_failed = true;
    errno = ENOMEM;
    return true;
}

bool fuzz_has_memory(void)
{
    return !has_failed;
}

void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t n_bytes);
void *__real_realloc(void *old, size_t n_bytes);
void *__real_aligned_alloc(size_t alignment, size_t n_bytes);
char *__real_strdup(const char *text);
FILE *__real_open_memstream(char **text, size_t *n_bytes);

void *__wrap_malloc(size_t n_bytes)
{
    return fails() ? NULL : __real_malloc(n_bytes);
}

void *__wrap_calloc(size_t n, size_t n_bytes)
{
    return fails() ? NULL : __real_calloc(n, n_bytes);
}

void *__wrap_realloc(void *old, size_t n_bytes)
{
    return fails() ? NULL : __real_realloc(old, n_bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n_bytes)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, n_bytes);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

FILE *__wrap_open_memstream(char **text, size_t *n_bytes)
{
    return fails() ? NULL : __real_open_memstream(text, n_bytes);
}

/* ---- files ------------------------------------------------------------------------------- */

/* Outside of executions libFuzzer reads and writes files of its own. */
static bool executes;

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
int __real_fsync(int fd);
ssize_t __real_read(int fd, void *out, size_t n_bytes);
ssize_t __real_write(int fd, const void *data, size_t n_bytes);
int __real_fstat(int fd, struct stat *info);
int __real_stat(const char *path, struct stat *info);
int __real_access(const char *path, int mode);
int __real_unlink(const char *path);
int __real_rename(const char *from, const char *to);
void *__real_mmap(void *at, size_t n_bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *data, size_t n_bytes);
DIR *__real_opendir(const char *path);
struct dirent *__real_readdir(DIR *dir);
int __real_closedir(DIR *dir);

enum { MAX_FILES = 64, MAX_OPEN = 8, FIRST_FD = 1 << 20 };

typedef struct {
    char path[FILE_PATH_BYTES];
    uint8_t *data;
    size_t n_bytes, capacity; /* capacity 0: the bytes are the target's */
} File;

typedef struct {
    File *file; /* NULL: not open */
    size_t at;
} Open;

static File files[MAX_FILES], directory; /* directory: any one, opened to be synced */
static int n_files;
static Open opened[MAX_OPEN];

static void remove_at(int i)
{
    if (files[i].capacity)
        free(files[i].data);
    n_files--;
    if (i != n_files)
        files[i] = files[n_files];
}

static void remove_all(void)
{
    while (n_files > 0)
        remove_at(n_files - 1);
}

static int find(const char *path)
{
    for (int i = 0; i < n_files; i++)
        if (strcmp(files[i].path, path) == 0)
            return i;
    return -1;
}

static File *add(const char *path)
{
    ASSERT(n_files < MAX_FILES && strlen(path) < FILE_PATH_BYTES, "no room for %.80s", path);
    File *file = &files[n_files++];
    strcpy(file->path, path);
    file->data = NULL;
    file->n_bytes = file->capacity = 0;
    return file;
}

void fuzz_remove(const char *path)
{
    int i = find(path);
    if (i >= 0)
        remove_at(i);
}

const char *fuzz_file(const char *path, const void *data, size_t n_bytes)
{
    fuzz_remove(path);
    File *file = add(path);
    file->data = (uint8_t *)data;
    file->n_bytes = n_bytes;
    return path;
}

const void *fuzz_contents(const char *path, size_t *n_bytes)
{
    int i = find(path);
    *n_bytes = i < 0 ? 0 : files[i].n_bytes;
    return i < 0 ? NULL : files[i].data;
}

/* Is some file in this directory, or below it? */
static bool is_dir(const char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    for (int i = 0; i < n_files && n > 0; i++)
        if (strncmp(files[i].path, path, n) == 0 && files[i].path[n] == '/')
            return true;
    return false;
}

static int lacks(int error)
{
    errno = error;
    return -1;
}

static Open *of_fd(int fd)
{
    ASSERT(fd >= FIRST_FD && fd < FIRST_FD + MAX_OPEN && opened[fd - FIRST_FD].file, "fd %d", fd);
    return &opened[fd - FIRST_FD];
}

int __wrap_open(const char *path, int flags, ...)
{
    if (!executes) {
        va_list rest;
        va_start(rest, flags);
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
        va_end(rest);
        return __real_open(path, flags, mode);
    }
    int i = find(path), slot = 0;
    bool makes = (flags & O_CREAT) != 0;
    if ((i < 0) != makes && !(flags & O_DIRECTORY))
        return lacks(makes ? EEXIST : ENOENT);
    while (slot < MAX_OPEN && opened[slot].file)
        slot++;
    ASSERT(slot < MAX_OPEN, "files are not closed");
    opened[slot] = (Open){makes ? add(path) : i < 0 ? &directory : &files[i], 0};
    return FIRST_FD + slot;
}

int __wrap_close(int fd)
{
    if (!executes)
        return __real_close(fd);
    of_fd(fd)->file = NULL;
    return 0;
}

int __wrap_fsync(int fd)
{
    if (!executes)
        return __real_fsync(fd);
    (void)of_fd(fd);
    return 0;
}

ssize_t __wrap_read(int fd, void *out, size_t n_bytes)
{
    if (!executes)
        return __real_read(fd, out, n_bytes);
    Open *open = of_fd(fd);
    size_t left = open->file->n_bytes - open->at, n = n_bytes < left ? n_bytes : left;
    if (n > 0)
        memcpy(out, open->file->data + open->at, n);
    open->at += n;
    return (ssize_t)n;
}

ssize_t __wrap_write(int fd, const void *data, size_t n_bytes)
{
    if (!executes)
        return __real_write(fd, data, n_bytes);
    File *file = of_fd(fd)->file;
    uint8_t *grown = __real_realloc(file->data, file->n_bytes + n_bytes + 1);
    ASSERT(grown, "no memory");
    memcpy(grown + file->n_bytes, data, n_bytes);
    file->data = grown;
    file->n_bytes += n_bytes;
    file->capacity = file->n_bytes + 1;
    return (ssize_t)n_bytes;
}

int __wrap_fstat(int fd, struct stat *info)
{
    if (!executes)
        return __real_fstat(fd, info);
    *info = (struct stat){.st_mode = S_IFREG, .st_size = (off_t)of_fd(fd)->file->n_bytes};
    return 0;
}

int __wrap_stat(const char *path, struct stat *info)
{
    if (!executes)
        return __real_stat(path, info);
    *info = (struct stat){.st_mode = is_dir(path) ? S_IFDIR : S_IFREG};
    return is_dir(path) || find(path) >= 0 ? 0 : lacks(ENOENT);
}

int __wrap_access(const char *path, int mode)
{
    if (!executes)
        return __real_access(path, mode);
    (void)mode;
    return is_dir(path) || find(path) >= 0 ? 0 : lacks(ENOENT);
}

int __wrap_unlink(const char *path)
{
    if (!executes)
        return __real_unlink(path);
    int i = find(path);
    if (i < 0)
        return lacks(ENOENT);
    remove_at(i);
    return 0;
}

int __wrap_rename(const char *from, const char *to)
{
    if (!executes)
        return __real_rename(from, to);
    int i = find(to);
    if (i >= 0)
        remove_at(i);
    i = find(from);
    ASSERT(i >= 0 && strlen(to) < FILE_PATH_BYTES, "%.80s to %.80s", from, to);
    strcpy(files[i].path, to);
    return 0;
}

void *__wrap_mmap(void *at, size_t n_bytes, int protection, int flags, int fd, off_t offset)
{
    if (!executes)
        return __real_mmap(at, n_bytes, protection, flags, fd, offset);
    ASSERT(!at && protection == PROT_READ && flags == MAP_SHARED && offset == 0, "mmap");
    void *copy = fails() ? NULL : __real_malloc(n_bytes);
    if (!copy)
        return MAP_FAILED;
    return memcpy(copy, of_fd(fd)->file->data, n_bytes);
}

int __wrap_munmap(void *data, size_t n_bytes)
{
    if (!executes)
        return __real_munmap(data, n_bytes);
    (void)n_bytes;
    free(data);
    return 0;
}

/* ---- directories ------------------------------------------------------------------------- */

/* One directory is read at a time. */
static struct {
    const char *path;
    int at;
    struct dirent entry;
} listing;

DIR *__wrap_opendir(const char *path)
{
    if (!executes)
        return __real_opendir(path);
    if (!is_dir(path)) {
        errno = ENOENT;
        return NULL;
    }
    listing.path = path;
    listing.at = 0;
    return (DIR *)&listing;
}

struct dirent *__wrap_readdir(DIR *dir)
{
    if (!executes)
        return __real_readdir(dir);
    (void)dir;
    size_t n = strlen(listing.path);
    while (n > 0 && listing.path[n - 1] == '/')
        n--;
    for (; listing.at < n_files; listing.at++) {
        const char *path = files[listing.at].path, *name = path + n + 1;
        if (strncmp(path, listing.path, n) != 0 || path[n] != '/' || strchr(name, '/') ||
            strlen(name) >= sizeof listing.entry.d_name)
            continue;
        strcpy(listing.entry.d_name, name);
        listing.at++;
        return &listing.entry;
    }
    return NULL;
}

int __wrap_closedir(DIR *dir)
{
    if (!executes)
        return __real_closedir(dir);
    (void)dir;
    return 0;
}

int __wrap_glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *found)
{
    ASSERT(flags == GLOB_NOSORT && !on_error, "glob");
    *found = (glob_t){0};
    if (fails())
        return GLOB_NOSPACE;
    found->gl_pathv = __real_calloc(MAX_FILES, sizeof *found->gl_pathv);
    for (int i = 0; i < n_files; i++)
        if (fnmatch(pattern, files[i].path, FNM_PATHNAME | FNM_PERIOD) == 0)
            found->gl_pathv[found->gl_pathc++] = files[i].path;
    return found->gl_pathc ? 0 : GLOB_NOMATCH;
}

void __wrap_globfree(glob_t *found)
{
    free(found->gl_pathv);
}

/* ---- executions -------------------------------------------------------------------------- */

bool fuzz_is_turn(void)
{
    static unsigned calls_before;
    return calls_before++ % FUZZ_TURNS == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    uint8_t last = n_bytes ? data[n_bytes - 1] : 0;
    bool marked = last >= FIRST_FAILURE;
    has_failed = false;
    calls = marked ? last - FIRST_FAILURE + 1 : 0;
    executes = true;
    fuzz_execute(data, n_bytes - marked);
    executes = false;
    calls = 0;
    for (int i = 0; i < MAX_OPEN; i++)
        ASSERT(!opened[i].file, "%s is still open", opened[i].file->path);
    remove_all();
    return 0;
}
