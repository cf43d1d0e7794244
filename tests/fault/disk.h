/* Disk: what a power loss can leave of a directory tree, worked out from a record of operations
 * (shim.h). Bytes are safe once their file was synced, names once their directory was. */
#ifndef GPT_TESTS_FAULT_DISK_H
#define GPT_TESTS_FAULT_DISK_H

#include "tests/fault/shim.h"

typedef enum {
    DISK_ALL,    /* everything reached the disk */
    DISK_SYNCED, /* nothing did that was not synced */
    DISK_NAMES,  /* all names and lengths did, unsynced bytes are zero */
    DISK_RANDOM, /* each directory as after some operation since its sync; unsynced bytes there,
                  * zero, garbage or cut off */
    N_DISK_MODELS
} DiskModel;

typedef struct Disk Disk;

/* An empty watched directory, safe itself. */
Disk *disk_new(void);
void disk_free(Disk *disk);
void disk_apply(Disk *disk, const FaultOp *op);
/* Write what is left after a power loss now into `dir`, which is there and empty. */
void disk_materialise(const Disk *disk, DiskModel model, uint64_t seed, const char *dir);

#endif
