#include "tests/fault/shim_malloc.h"

#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t n, size_t n_bytes);
void *__libc_realloc(void *old, size_t n_bytes);
void *__libc_memalign(size_t alignment, size_t n_bytes);
void *malloc(size_t n_bytes);
void *calloc(size_t n, size_t n_bytes);
void *realloc(void *old, size_t n_bytes);
int posix_memalign(void **out, size_t alignment, size_t n_bytes);
void *aligned_alloc(size_t alignment, size_t n_bytes);

enum { MAX_RANGES = 16 };

/* Where the callers are whose allocations count: the program, libc, jansson. */
static struct {
    struct {
        uintptr_t begin, end;
    } range[MAX_RANGES];
    int n_ranges;
    int64_t at;
} counted;

static _Thread_local bool armed;
static _Thread_local int64_t n_calls;

static int add_ranges(struct dl_phdr_info *info, size_t n_bytes, void *jansson)
{
    (void)n_bytes;
    const char *name = info->dlpi_name;
    bool wanted = *(bool *)jansson && strstr(name, "libjansson");
    if (*name && !strstr(name, "/libc.so") && !wanted)
        return 0;
    for (int i = 0; i < info->dlpi_phnum && counted.n_ranges < MAX_RANGES; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        uintptr_t begin = info->dlpi_addr + segment->p_vaddr;
        counted.range[counted.n_ranges].begin = begin;
        counted.range[counted.n_ranges++].end = begin + segment->p_memsz;
    }
    return 0;
}

void fault_malloc_arm(int64_t at, bool jansson)
{
    counted.n_ranges = 0;
    dl_iterate_phdr(add_ranges, &jansson);
    counted.at = at;
    n_calls = 0;
    armed = true;
}

int64_t fault_malloc_disarm(void)
{
    armed = false;
    return n_calls;
}

/* Does the call from this address fail? */
static bool strikes(const void *caller)
{
    if (!armed)
        return false;
    uintptr_t at = (uintptr_t)caller;
    bool mine = false;
    for (int i = 0; i < counted.n_ranges; i++)
        mine = mine || (at >= counted.range[i].begin && at < counted.range[i].end);
    if (!mine || ++n_calls != counted.at)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n_bytes)
{
    return strikes(__builtin_return_address(0)) ? NULL : __libc_malloc(n_bytes);
}

void *calloc(size_t n, size_t n_bytes)
{
    return strikes(__builtin_return_address(0)) ? NULL : __libc_calloc(n, n_bytes);
}

void *realloc(void *old, size_t n_bytes)
{
    return strikes(__builtin_return_address(0)) ? NULL : __libc_realloc(old, n_bytes);
}

int posix_memalign(void **out, size_t alignment, size_t n_bytes)
{
    if (strikes(__builtin_return_address(0)))
        return ENOMEM;
    *out = __libc_memalign(alignment, n_bytes);
    return *out ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t n_bytes)
{
    return strikes(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, n_bytes);
}
