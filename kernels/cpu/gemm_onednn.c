#include "kernels/cpu/gemm.h"

#include <dnnl.h>
#include <stdio.h>

Err cpu_gemm_open(int32_t n_threads)
{
    (void)n_threads; /* it follows omp_set_num_threads */
    return OK;
}

bool cpu_gemm_allows_amx(void)
{
    int isa = (int)dnnl_get_effective_cpu_isa(), amx = (int)dnnl_cpu_isa_avx512_core_amx;
    return (isa & amx) == amx;
}

Err cpu_gemm(int64_t m, int64_t n, int64_t k, GemmIn a, GemmIn b, float beta, float *c, int64_t ldc)
{
    dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k,
                                      1.0f, a.data, a.ld, b.data, b.ld, beta, c, ldc);
    if (status != dnnl_success)
        FAIL(ERR_SYSTEM, "oneDNN: product of (%lld, %lld) by (%lld, %lld) failed with status %d",
             (long long)m, (long long)k, (long long)k, (long long)n, (int)status);
    return OK;
}

void cpu_gemm_version(char *out, size_t n_bytes)
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(out, n_bytes, "oneDNN %d.%d.%d", version->major, version->minor, version->patch);
}
