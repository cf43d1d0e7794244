/* OpenBLAS divides a product over its threads in a way that changes the bits. So each of its calls
 * is for one thread and one tile of c, and our threads take the tiles, whose size is fixed. */
#include "kernels/cpu/gemm.h"

#include "base/check.h"

#include <cblas.h>
#include <limits.h>
#include <stdio.h>

enum { TILE_M = 128, TILE_N = 512 };

Err cpu_gemm_open(int32_t n_threads)
{
    (void)n_threads; /* ours: omp_set_num_threads */
    openblas_set_num_threads(1);
    return OK;
}

bool cpu_gemm_allows_amx(void)
{
    return true;
}

/* Its default interface counts in int. */
static blasint narrow(int64_t n)
{
    ASSERT(n <= INT_MAX, "a matrix dimension of %lld is too large for OpenBLAS", (long long)n);
    return (blasint)n;
}

/* a from its row i on, b from its column j on, as they are after their transposition. */
static const float *rows_from(GemmIn a, int64_t i)
{
    return a.data + (a.transposed ? i : i * a.ld);
}

static const float *columns_from(GemmIn b, int64_t j)
{
    return b.data + (b.transposed ? j * b.ld : j);
}

Err cpu_gemm(int64_t m, int64_t n, int64_t k, GemmIn a, GemmIn b, float beta, float *c, int64_t ldc)
{
#pragma omp parallel for collapse(2) schedule(dynamic, 1)
    for (int64_t i = 0; i < m; i += TILE_M)
        for (int64_t j = 0; j < n; j += TILE_N) {
            int64_t rows = m - i < TILE_M ? m - i : TILE_M, cols = n - j < TILE_N ? n - j : TILE_N;
            cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                        b.transposed ? CblasTrans : CblasNoTrans, narrow(rows), narrow(cols),
                        narrow(k), 1.0f, rows_from(a, i), narrow(a.ld), columns_from(b, j),
                        narrow(b.ld), beta, c + i * ldc + j, narrow(ldc));
        }
    return OK;
}

void cpu_gemm_version(char *out, size_t n_bytes)
{
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACK ..." */
    snprintf(out, n_bytes, "%s", config);
}
