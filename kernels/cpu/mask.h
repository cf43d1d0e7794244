/* Dropout masks by the rule of ops.h, many elements at a time. */
#ifndef GPT_KERNELS_CPU_MASK_H
#define GPT_KERNELS_CPU_MASK_H

#include "kernels/ops.h"

/* scale[0..n) for elements [first, first + n) of a sample: 0 where dropped, 1 / (1 - rate) where
 * kept. */
void cpu_mask(float *scale, int64_t n, const Dropout *dropout, int64_t sample, int64_t first);

#endif
