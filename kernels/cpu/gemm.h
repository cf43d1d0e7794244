/* Matrix products: one narrow seam over the library that computes them (oneDNN, or OpenBLAS where
 * it is missing; CMake picks gemm_onednn.c or gemm_openblas.c). The library may hold packing
 * buffers of its own, a few MiB a thread.
 *
 * The same call with the same number of threads gives the same bits. With another number of threads
 * oneDNN may divide a very long sum (k above about 10,000) otherwise; shorter sums do not change.
 */
#ifndef GPT_KERNELS_CPU_GEMM_H
#define GPT_KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A matrix as it is stored: `ld` elements from row to row. */
typedef struct {
    const float *data;
    int64_t ld;
    bool transposed; /* the product takes its transpose */
} GemmIn;

/* c (m,n) = or += a b, where a is (m,k) and b (k,n) after their transposition; float32, row-major,
 * rows of c ldc apart. */
typedef struct {
    int64_t m, n, k;
    GemmIn a, b;
    const float *bias; /* (n), added to every row; NULL: none, and none with add */
    bool add;          /* +=, not = */
    float *c;
    int64_t ldc;
} Product;

/* Before the first product: the threads it may use. */
Err cpu_gemm_open(int32_t n_threads);

/* May AMX be used, as far as the library's own settings go (oneDNN's ONEDNN_MAX_CPU_ISA)? */
bool cpu_gemm_allows_amx(void);

/* c (m,n) = beta * c + a b, where a is (m,k) and b (k,n) after their transposition; float32,
 * row-major, rows of c ldc apart. With beta 0 c need not be initialised. ERR_SYSTEM when the
 * library fails. */
Err cpu_gemm(int64_t m, int64_t n, int64_t k, GemmIn a, GemmIn b, float beta, float *c,
             int64_t ldc);

void cpu_gemm_version(char *out, size_t n_bytes); /* "oneDNN 2.6.3" */

#endif
