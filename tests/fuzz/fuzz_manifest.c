/* MANIFEST.json: once as it is, once with the checksum at its end made right, so that what is
 * behind the checksum is reached; no name leads out of the directory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/check.h"
#include "checkpoint/manifest.h"
#include "tests/fuzz/fuzz.h"

enum { TAIL_BYTES = 16 + 4 };

static void read_and_check(void)
{
    Manifest manifest;
    Err err = manifest_read(&manifest, fuzz_dir());
    if (!err) {
        for (int32_t i = 0; i < manifest.n_files; i++) {
            ASSERT(!strchr(manifest.file[i].name, '/'), "%s", manifest.file[i].name);
            ASSERT(strcmp(manifest.file[i].name, "..") != 0, "..");
        }
        err_free(manifest_check(&manifest, fuzz_dir()));
        manifest_free(&manifest);
    }
    err_free(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_file("model.safetensors", "", 0);
    fuzz_file(MANIFEST_NAME, data, n_bytes);
    read_and_check();
    if (n_bytes < TAIL_BYTES)
        return 0;
    char *text = malloc(n_bytes + 1);
    ASSERT(text, "no memory");
    size_t n_text = n_bytes - TAIL_BYTES;
    memcpy(text, data, n_bytes);
    snprintf(text + n_text, TAIL_BYTES + 1, "%016" PRIx64 "\"\n}\n",
             (uint64_t)XXH3_64bits(text, n_text));
    fuzz_file(MANIFEST_NAME, text, n_bytes);
    free(text);
    read_and_check();
    return 0;
}
