/* Sums of outer products of rows: what a weight gradient is. The rows of both factors lie as the
 * tiles want them, so nothing is transposed, and the sum over rows is far longer than the result is
 * wide, a shape for which libraries are not at their best: 1.1 to 1.6 times as fast as oneDNN 2.6
 * at GPT-2's shapes (`bench_ops`, "qkv weight" and its like). */
#ifndef GPT_KERNELS_CPU_OUTER_SUM_H
#define GPT_KERNELS_CPU_OUTER_SUM_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of scratch for n_threads, whatever the shape. */
size_t cpu_outer_sum_scratch_bytes(int32_t n_threads);

/* c (I,O) += a^T b, with a (N,I) and b (N,O); float32, row-major, contiguous. A sum over rows is
 * made of partial sums of 256 rows, whatever the number of threads. */
void cpu_outer_sum(int32_t n_threads, void *scratch, float *c, const float *a, const float *b,
                   int64_t N, int64_t I, int64_t O);

#endif
