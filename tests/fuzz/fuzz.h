/* What the fuzz targets share: the bytes of an execution as a file. */
#ifndef GPT_TESTS_FUZZ_FUZZ_H
#define GPT_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer calls it with each input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* The folder of this process, made at the first call and removed at the end. */
const char *fuzz_dir(void);
/* Write these bytes to the file `name` in it, over older ones; its path, valid until the next
 * call. */
const char *fuzz_file(const char *name, const void *data, size_t n_bytes);

#endif
