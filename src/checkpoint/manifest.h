/* Manifest: every file of a checkpoint with its size and one XXH3-64 for each MiB, in
 * MANIFEST.json.
 *
 * It is written last. Its own last member is the checksum of all the text before it, and what
 * follows the checksum is fixed, so that any changed byte of the manifest itself is found too. */
#ifndef GPT_CHECKPOINT_MANIFEST_H
#define GPT_CHECKPOINT_MANIFEST_H

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MANIFEST_MAX_FILES = 16 };
#define MANIFEST_NAME "MANIFEST.json"

typedef struct {
    char name[64];     /* a plain name in the directory */
    FileDigest digest; /* owned */
} ManifestFile;

typedef struct {
    int32_t n_files;
    ManifestFile file[MANIFEST_MAX_FILES];
} Manifest;

/* The next entry, with this name and an empty digest to be filled in. Full is an ASSERT. */
FileDigest *manifest_add(Manifest *manifest, const char *name);
void manifest_free(Manifest *manifest);

/* dir/MANIFEST.json, which must not exist yet. ERR_WRITE. */
Err manifest_write(const Manifest *manifest, const char *dir);

/* ERR_MISSING without a readable manifest or file; ERR_DATA for a manifest that is not what was
 * written. */
Err manifest_read(Manifest *manifest, const char *dir);

/* Compare every file with its entry. ERR_DATA names the file and the first byte range that differs.
 */
Err manifest_check(const Manifest *manifest, const char *dir);

/* Bytes of all its files. */
size_t manifest_bytes(const Manifest *manifest);
/* manifest_check of every file's size and of about most_bytes of all blocks: the first of each file
 * and others evenly spread. *n_read bytes were read. */
Err manifest_check_sample(const Manifest *manifest, const char *dir, size_t most_bytes,
                          size_t *n_read);

#ifdef __cplusplus
}
#endif
#endif
