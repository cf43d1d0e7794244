/* Kernels that do one primitive each, for test_primitives.c: what they leave in memory is compared
 * with the formulas of the PTX manual. On a GPU that tests <primitives.cuh> of kernels/cuda/ptx, in
 * an emulated build its twin; the tests cannot tell which.
 *
 * All pointers are to device memory; lane l of the one warp owns row l of what is (32, n). */
#ifndef GPT_TESTS_PRIMITIVE_KERNELS_H
#define GPT_TESTS_PRIMITIVE_KERNELS_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LANES = 32 };

/* single[i] = from_float(x[i]); packed[i] = pack2(x[i], x[n - 1 - i]). dtype: BF16 or F16. */
void primitive_narrow(Device *dev, DType dtype, uint16_t *single, uint32_t *packed, const float *x,
                      int64_t n);
/* single[i] = to_float(bits[i]); pairs (n,2) = unpack2(bits[i] | bits[n - 1 - i] << 16). */
void primitive_widen(Device *dev, DType dtype, float *single, float *pairs, const uint16_t *bits,
                     int64_t n);
void primitive_exp2(Device *dev, float *y, const float *x, int64_t n);

/* Every lane's result of a shuffle: rows of y (n,32) are __shfl_sync, __shfl_xor_sync,
 * __shfl_down_sync and __shfl_up_sync of x (32) by `step` among `width` lanes. */
enum { N_SHUFFLES = 4 };
void primitive_shuffle(Device *dev, double *y, const double *x, int step, int width);

/* memory (32,24): 24 elements from row to row, of which 8 are the matrices'; lane l gives the
 * address of row order[l]. plain, transposed (32,4): the registers. */
enum { LDMATRIX_STRIDE = 24 };
void primitive_ldmatrix(Device *dev, uint32_t *plain, uint32_t *transposed, const uint16_t *memory,
                        const int32_t *order);

/* d (32,4) += a (32,4) b (32,2), fragments of dtype BF16 or F16. */
void primitive_mma(Device *dev, DType dtype, float *d, const uint32_t *a, const uint32_t *b);

/* Each lane copies 16 bytes (4 words) three times, a group each, to three places of shared memory
 * that hold 7s; where valid[l] is 0, zeros. seen (3,32,4): place g after waiting until at most
 * 2 - g groups are under way. */
enum { N_GROUPS = 3, GROUP_WORDS = 4 };
void primitive_cp_async(Device *dev, uint32_t *seen, const uint32_t *src, const int32_t *valid);

#ifdef __cplusplus
}
#endif
#endif
