/* The fault shim: the file operations of a process under one directory, counted, recorded and made
 * to fail on demand.
 *
 * A shared library that stands before libc, linked into a test or loaded with LD_PRELOAD. It sees
 * open (for writing), write, fsync, close, rename, mkdir, unlink, rmdir and ftruncate on paths
 * under the watched directory and on descriptors opened there. fsync is not passed on: what a
 * power loss leaves is worked out from the record, not tried.
 *
 * Loaded into a program: GPT_FAULT_DIR, GPT_FAULT_KIND (a name), GPT_FAULT_AT (1: the first), and
 * GPT_FAULT_COUNT, a file that gets the number of operations at the end. */
#ifndef GPT_TESTS_FAULT_SHIM_H
#define GPT_TESTS_FAULT_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum {
    FAULT_NONE,
    FAULT_KILL,   /* SIGKILL in the place of the operation */
    FAULT_ENOSPC, /* this operation alone fails */
    FAULT_EIO,
    FAULT_EINTR,
    FAULT_SHORT, /* a write puts half of its bytes; other operations work */
    FAULT_FULL,  /* from here on all that needs room fails with ENOSPC; removing works */
    FAULT_DEAD,  /* from here on everything fails with EIO */
    N_FAULTS,
    FAULT_HOLD = N_FAULTS /* this operation waits until fault_disarm, then works */
} FaultKind;

const char *fault_name(FaultKind kind);

/* Watch this directory (absolute, no symbolic links in it); NULL: none. */
void fault_watch(const char *dir);
/* Operation number `at` from here on, counted from 1, fails so. FAULT_NONE: only count. */
void fault_arm(FaultKind kind, int64_t at);
/* What statvfs tells of the watched directory: so many bytes free. -1: the truth. */
void fault_set_free(int64_t n_bytes);
/* Nothing fails any more. Returns the operations since fault_arm. */
int64_t fault_disarm(void);

typedef enum { OP_CREATE, OP_WRITE, OP_SYNC, OP_MKDIR, OP_RENAME, OP_REMOVE } OpKind;

/* One operation that worked. Paths are relative to the watched directory, "" for itself. */
typedef struct {
    OpKind kind;
    char *path, *to; /* to: of a rename */
    void *data;      /* of a write, behind what the file holds */
    size_t n_bytes;
} FaultOp;

typedef struct {
    FaultOp *op;
    int32_t n, capacity;
} FaultLog;

/* Append operations to this log from here on; NULL: no more. */
void fault_record(FaultLog *log);
void fault_log_free(FaultLog *log);

#endif
