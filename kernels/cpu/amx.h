/* Matrix products in float32 accuracy on Intel's AMX, whose tiles multiply bfloat16.
 *
 * A float is the sum of three bfloat16 numbers, high + middle + low, which hold the 24 bits of its
 * significand. Of the nine products of the parts of two floats six are summed (in float32, by the
 * tiles themselves); the other three are below 2^-24 of the product. Source: Henry, Tang,
 * Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
 * Computations", 2019. A tile's sum runs over at most 384 rows of k; these sums are added in
 * float32 instructions, so that errors do not grow with k as they would in one long sum.
 *
 * What differs from float32 arithmetic: denormal parts count as zero (an x below 2^-110 loses low
 * bits), and an x that rounds up to 2^128 in bfloat16 (above 3.39e38) counts as infinite. An
 * infinity or a NaN makes whatever it takes part in infinite or NaN, never finite.
 *
 * Measured against oneDNN 2.6 on one core of a Sapphire Rapids (`bench_ops`, with and without
 * ONEDNN_MAX_CPU_ISA=AVX512_CORE, which also turns this off): 1.4 to 2.3 times as fast at GPT-2's
 * shapes. Root mean square errors relative to the sum of the terms' absolute values, normal
 * numbers: 1.2e-8 at k = 384 and 2.3e-9 at 16384, oneDNN's 2.7e-8 and 4.5e-9 (test_amx.c).
 *
 * The same product gives the same bits with any number of threads. */
#ifndef GPT_KERNELS_CPU_AMX_H
#define GPT_KERNELS_CPU_AMX_H

#include "kernels/cpu/gemm.h"

/* May this process use AMX? True when the processor has AMX and AVX-512, and the system lets this
 * process use tiles (Linux is asked to; asking again is harmless). False in builds without it. */
bool amx_open(void);

/* FLOP per second of n_threads that multiply tiles in their L1 caches, counted as float32 products;
 * 0 in builds without AMX. */
double amx_peak_flops(int32_t n_threads);

/* Bytes of scratch for n_threads, whatever the shape; 0 in builds without AMX. */
size_t amx_scratch_bytes(int32_t n_threads);

/* p, by n_threads. scratch: 64-byte aligned. Only after amx_open() was true. */
void amx_product(int32_t n_threads, void *scratch, const Product *p);

#endif
