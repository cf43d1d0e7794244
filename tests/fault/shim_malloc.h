/* Allocations that fail at a chosen call. Stands before libc in the program it is linked into; not
 * for sanitized builds, whose allocator is their own. */
#ifndef GPT_TESTS_FAULT_SHIM_MALLOC_H
#define GPT_TESTS_FAULT_SHIM_MALLOC_H

#include <stdbool.h>
#include <stdint.h>

/* Call number `at` (from 1) of malloc, calloc, realloc, posix_memalign and aligned_alloc by this
 * thread from the program, libc or (if so wanted) jansson returns NULL; calls of other libraries
 * are neither counted nor failed. */
void fault_malloc_arm(int64_t at, bool jansson);
int64_t fault_malloc_disarm(void); /* the calls since then */

#endif
