/* What the fuzz targets share: a file system in memory, and allocations that fail.
 *
 * The programs are linked so that file operations of the readers come here (CMakeLists.txt). All
 * paths name files in memory, so an execution costs no system call, and a mapped file is a block of
 * exactly its size: AddressSanitizer sees the first byte read behind it. */
#ifndef GPT_TESTS_FUZZ_FUZZ_H
#define GPT_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libFuzzer calls it with each input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* The target: one execution. There are no files yet; what it makes is gone afterwards.
 *
 * A last byte from 0xE0 up is no data: with 0xE0 the first allocation of the readers fails, with
 * 0xFF the 32nd. Those of jansson do not: its parser writes behind its buffers when one does. */
void fuzz_execute(const uint8_t *data, size_t n_bytes);
/* Has no allocation failed in this execution? Then what was accepted must be right. */
bool fuzz_has_memory(void);

/* True at the first call of a process and at every eighth from there (at each where lines are
 * counted): for what is slow. One input run alone is checked in full. */
bool fuzz_is_turn(void);

/* A file of these bytes, which must last as long as the execution; over an older one. Directories
 * need not be made. Returns `path`. */
const char *fuzz_file(const char *path, const void *data, size_t n_bytes);
void fuzz_remove(const char *path);
/* Its contents, NULL when there is none. */
const void *fuzz_contents(const char *path, size_t *n_bytes);

#endif
