/* Compiled for any x86-64: looks before the instructions of amx.c may be used. */
#include "kernels/cpu/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    ARCH_REQ_XCOMP_PERM = 0x1023, /* arch_prctl: allow a part of the processor's state */
    XFEATURE_TILE_DATA = 18,
    AMX_BF16 = 1 << 22, /* bits of EDX of leaf 7 */
    AMX_TILE = 1 << 24,
};

static bool has_amx(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return false;
    return (edx & AMX_BF16) && (edx & AMX_TILE);
}

bool amx_open(void)
{
    return __builtin_cpu_supports("avx512f") && has_amx() &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA) == 0;
}
