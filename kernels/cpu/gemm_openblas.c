#include "kernels/cpu/gemm.h"

#include "base/check.h"

#include <cblas.h>
#include <limits.h>
#include <stdio.h>

Err cpu_gemm_open(int32_t n_threads)
{
    openblas_set_num_threads(n_threads);
    return OK;
}

/* Its default interface counts in int. */
static blasint narrow(int64_t n)
{
    ASSERT(n <= INT_MAX, "a matrix dimension of %lld is too large for OpenBLAS", (long long)n);
    return (blasint)n;
}

Err cpu_gemm(int64_t m, int64_t n, int64_t k, GemmIn a, GemmIn b, float beta, float *c, int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                b.transposed ? CblasTrans : CblasNoTrans, narrow(m), narrow(n), narrow(k), 1.0f,
                a.data, narrow(a.ld), b.data, narrow(b.ld), beta, c, narrow(ldc));
    return OK;
}

void cpu_gemm_version(char *out, size_t n_bytes)
{
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACK ..." */
    snprintf(out, n_bytes, "%s", config);
}
