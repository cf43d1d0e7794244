/* What AddressSanitizer and ThreadSanitizer must be told about fibers and fake device memory;
 * nothing where they are off. */
#ifndef GPT_TESTS_SANITIZERS_H
#define GPT_TESTS_SANITIZERS_H

#include <stddef.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

#ifndef EMU_TSAN /* given for a file that is compiled without it */
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define EMU_TSAN 1
#else
#define EMU_TSAN 0
#endif
#endif

/* For functions that run across a switch of stacks. */
#define EMU_ON_TWO_STACKS __attribute__((no_sanitize("address"), noinline))

extern "C" {
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t n_bytes);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **old_bottom, size_t *old_bytes);
void __asan_poison_memory_region(const volatile void *memory, size_t n_bytes);
void __asan_unpoison_memory_region(const volatile void *memory, size_t n_bytes);
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *tag);
void __tsan_release(void *tag);
}

#endif
