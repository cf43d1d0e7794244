/* MANIFEST.json: once as it is, once with the checksum at its end made right, so that what is
 * behind the checksum is reached. No name leads out of the directory, and what is accepted is
 * written again to the same bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/check.h"
#include "checkpoint/manifest.h"
#include "tests/fuzz/fuzz.h"

enum { TAIL_BYTES = 16 + 4, LONG_BYTES = FILE_BLOCK_BYTES + 8 };

static void check_names(const Manifest *manifest)
{
    for (int32_t i = 0; i < manifest->n_files; i++) {
        ASSERT(!strchr(manifest->file[i].name, '/'), "%s", manifest->file[i].name);
        ASSERT(strcmp(manifest->file[i].name, "..") != 0, "..");
    }
}

static void check_written(const Manifest *manifest)
{
    size_t n_bytes, n_again;
    Err err = manifest_write(manifest, "again");
    if (err && !fuzz_has_memory()) {
        err_free(err);
        return;
    }
    ASSERT(!err, "%s", err_message(err));
    const void *text = fuzz_contents("step/" MANIFEST_NAME, &n_bytes);
    const void *again = fuzz_contents("again/" MANIFEST_NAME, &n_again);
    ASSERT(n_bytes == n_again && memcmp(text, again, n_bytes) == 0, "written differently");
    fuzz_remove("again/" MANIFEST_NAME);
}

static void read_and_check(void)
{
    Manifest manifest;
    Err err = manifest_read(&manifest, "step");
    if (!err) {
        check_names(&manifest);
        err_free(manifest_check(&manifest, "step"));
        check_written(&manifest);
        manifest_free(&manifest);
    }
    err_free(err);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    static char text[1 << 20];
    static const uint8_t long_file[LONG_BYTES];
    fuzz_file("step/config.json", "", 0);
    fuzz_file("step/trainer.json", "{}", 2);
    fuzz_file("step/optimizer.safetensors", long_file, sizeof long_file);
    fuzz_file("step/" MANIFEST_NAME, data, n_bytes);
    read_and_check();
    if (n_bytes < TAIL_BYTES || n_bytes >= sizeof text)
        return;
    size_t n_text = n_bytes - TAIL_BYTES;
    memcpy(text, data, n_bytes);
    snprintf(text + n_text, TAIL_BYTES + 1, "%016" PRIx64 "\"\n}\n",
             (uint64_t)XXH3_64bits(text, n_text));
    fuzz_file("step/" MANIFEST_NAME, text, n_bytes);
    read_and_check();
}
