/* Files: read by mapping, written so that a reader sees the old contents or the new, never both.
 *
 * Every file operation of the program goes through here (one place to inject faults, one place that
 * looks at every return code, close included). Paths are borrowed; nothing here follows a symbolic
 * link for a temporary name, and nothing is ever written in place. */
#ifndef GPT_BASE_FILE_H
#define GPT_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FILE_PATH_BYTES = 4096, FILE_BLOCK_BYTES = 1 << 20 };

/* ---- paths ------------------------------------------------------------------------------- */

/* out (FILE_PATH_BYTES) = "dir/name". ERR_USAGE when it would not fit. */
Err path_join(char *out, const char *dir, const char *name);
bool path_exists(const char *path);
/* Does anything have this name, be it a symbolic link that points to nothing? */
bool path_is_taken(const char *path);
bool path_is_dir(const char *path);
bool path_is_stream(
    const char *path); /* a pipe, a socket, a terminal, a device: no file, no directory */
/* *device and *inode are the same for two names of one file or directory, and for no others. False:
 * it cannot be looked at. */
bool path_identity(const char *path, uint64_t *device, uint64_t *inode);

/* Make `path` and its missing parents, their names synced. ERR_WRITE names the one that failed. */
Err dir_make(const char *path);
/* Make `path`, which must not exist in any form (a symbolic link is refused, too); its parent must.
 * ERR_WRITE. */
Err dir_make_new(const char *path);
/* Names in `path`, without "." and "..", sorted; *names is malloc'd, free with dir_list_free. */
Err dir_list(const char *path, char ***names, int32_t *n_names);
void dir_list_free(char **names, int32_t n_names);
/* fsync a directory, so that the names in it survive a power loss. */
Err dir_sync(const char *path);
/* *n_bytes = what this process may still write where `path` is, as the file system tells it. False:
 * it does not tell. */
bool dir_free_bytes(const char *path, size_t *n_bytes);
/* Can `path` be made, and files in it? Nothing is written. ERR_WRITE names the directory that does
 * not allow it, with the reason and what to do. */
Err dir_check_writable(const char *path);
/* A directory that one process holds, until it unlocks it or ends. Zero-initialised: not held. */
typedef struct {
    int fd;
    bool held;
} DirLock;
/* ERR_SYSTEM when another process holds it. Where that cannot be known (some network file systems)
 * OK, and it is not held. */
Err dir_lock(DirLock *lock, const char *path);
void dir_unlock(DirLock *lock);
/* Of the plain files in it; what cannot be looked at counts nothing. */
size_t dir_bytes(const char *path);
/* Remove a directory of plain files (the shape of a checkpoint), or a symbolic link, but not what
 * it points to; missing is not an error. */
Err dir_remove(const char *path);
/* Remove what has a name of path_temporary in it, as far as that can be done: a program was killed
 * over it. Only where nobody else writes. */
void dir_remove_temporaries(const char *path);
/* rename(from, to), then fsync the parent of `to`. */
Err path_rename(const char *from, const char *to);
/* out (FILE_PATH_BYTES) = a sibling of `path` named ".<16 random hex digits>.tmp": no two ranks or
 * runs get the same one. Creates nothing. */
Err path_temporary(char *out, const char *path);

/* ---- reading ----------------------------------------------------------------------------- */

/* A read-only mapping of a whole file. Zero-initialised is closed. */
typedef struct {
    const uint8_t *data; /* NULL for an empty file */
    size_t n_bytes;
} FileMap;

/* ERR_MISSING when it cannot be opened or is no regular file, with the reason. The file must not
 * shrink while it is mapped. */
Err file_map(FileMap *map, const char *path);
void file_unmap(FileMap *map);

/* The whole of a small file (or pipe) as a NUL-terminated string; *text is malloc'd; n_bytes may be
 * NULL. ERR_MISSING when it cannot be read, ERR_DATA past max_bytes. */
Err file_read_text(const char *path, size_t max_bytes, char **text, size_t *n_bytes);

/* A file read from its beginning to its end in bounded memory. */
typedef struct FileReader FileReader;

/* A regular file, a pipe, or "-" for standard input. ERR_MISSING. Release with
 * file_reader_close. */
Err file_open(FileReader **out, const char *path);
/* *n_bytes (at most capacity) came into data; 0 is the end. ERR_MISSING. */
Err file_read(FileReader *r, void *data, size_t capacity, size_t *n_bytes);
/* Bytes of a regular file; 0 when that is not known. */
size_t file_reader_bytes(const FileReader *r);
/* When it was last written, in ns of the system's clock. */
int64_t file_reader_written_ns(const FileReader *r);
void file_reader_close(FileReader *r); /* accepts NULL */

/* ---- writing ----------------------------------------------------------------------------- */

/* What a file holds: how much, and an XXH3-64 checksum for each FILE_BLOCK_BYTES of it. */
typedef struct {
    size_t n_bytes;
    int64_t n_blocks;     /* the last one may be short; 0 for an empty file */
    uint64_t *block_hash; /* malloc'd; file_digest_free */
} FileDigest;

/* A buffered writer that remembers its first error and digests what passes through. */
typedef struct FileWriter FileWriter;

/* Create `path` (must not exist: O_EXCL | O_NOFOLLOW). ERR_WRITE. Release with file_close or
 * file_abandon. */
Err file_create(FileWriter **out, const char *path);
Err file_write(FileWriter *w, const void *data, size_t n_bytes);

/* Until it is closed, no other process may lock or resume the file. ERR_WRITE: one has it. */
Err file_lock(FileWriter *w);
/* Go on with a file that another run began, and lock it: its first n_bytes stay, what is behind
 * them goes. Such a file has no digest. ERR_WRITE, also when it is shorter. */
Err file_resume(FileWriter **out, const char *path, size_t n_bytes);
/* What was written is on the disk now. The file has no digest afterwards. ERR_WRITE. */
Err file_sync(FileWriter *w);

/* Flush, fsync, close; each checked. Frees w whatever happens, and deletes the file when any of
 * them (or an earlier file_write) failed. `digest` may be NULL. */
Err file_close(FileWriter *w, FileDigest *digest);
void file_abandon(FileWriter *w); /* close and delete the file; accepts NULL */
void file_digest_free(FileDigest *digest);

/* The digest of an existing file. ERR_MISSING when it cannot be read or is no regular file. */
Err file_digest(const char *path, FileDigest *digest);

/* The same of every stride-th block; the hashes of the others are 0. *n_read bytes were read. */
Err file_digest_sample(const char *path, int64_t stride, FileDigest *digest, size_t *n_read);

/* Replace `path` by these bytes: temporary sibling, fsync, rename, fsync of the directory. An
 * error names `path` and, when it is the sibling that failed, that too. ERR_WRITE, also when `path`
 * is a pipe or a device. */
Err file_publish(const char *path, const void *data, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
