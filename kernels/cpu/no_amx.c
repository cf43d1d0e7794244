/* For compilers and processors without AMX, in place of amx.c and amx_open.c. */
#include "kernels/cpu/amx.h"

#include "base/check.h"

bool amx_open(void)
{
    return false;
}

double amx_peak_flops(int32_t n_threads)
{
    (void)n_threads;
    return 0;
}

size_t amx_scratch_bytes(int32_t n_threads)
{
    (void)n_threads;
    return 0;
}

void amx_product(int32_t n_threads, void *scratch, const Product *p)
{
    (void)n_threads, (void)scratch;
    ASSERT(false, "(%lld, %lld) on AMX, in a build without", (long long)p->m, (long long)p->n);
}
