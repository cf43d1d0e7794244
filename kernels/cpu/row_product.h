/* The product of one row and a matrix: what a model that writes one token at a time is made of. The
 * memory's speed is its limit, each weight being used once. */
#ifndef GPT_KERNELS_CPU_ROW_PRODUCT_H
#define GPT_KERNELS_CPU_ROW_PRODUCT_H

#include "kernels/cpu/gemm.h"

/* p, with m = 1 and neither add nor a transposed. The same bits for any n_threads, which oneDNN
 * does not give for one row: every sum is one thread's, from its first term to its last. */
void cpu_row_product(int32_t n_threads, const Product *p);

#endif
