/* Matrix products on the GPU: one narrow seam over cuBLASLt.
 *
 * Every distinct product (shape, dtypes, transposes, epilogue, alignment) uses one algorithm for
 * the life of the device, so results repeat. Which one: what was imported (device_tuning_import),
 * or the fastest of the heuristic's candidates while the device is tuning (device_tune), or the
 * heuristic's first. Each uses dev->workspace from its start, at most CUDA_GEMM_BYTES. */
#ifndef GPT_KERNELS_CUDA_GEMM_H
#define GPT_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda_device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A matrix as it is stored, row-major. */
typedef struct {
    const void *data;
    DType dtype;     /* F32, BF16, F16; both inputs of a product have the same */
    int64_t ld;      /* elements from row to row */
    bool transposed; /* the product takes its transpose */
} CudaGemmIn;

typedef struct {
    void *data;
    DType dtype; /* the inputs', or F32 */
    int64_t ld;
} CudaGemmOut;

/* c (m,n) = beta c + a b + bias, where a is (m,k) and b (k,n) after their transposition; sums in
 * float32. bias (n) in c's dtype is added to every row, with beta 0 only; NULL: none. Queued;
 * faults are the device's sticky error. */
void cuda_gemm(Device *dev, int64_t m, int64_t n, int64_t k, CudaGemmIn a, CudaGemmIn b, float beta,
               CudaGemmOut c, const void *bias);

/* fill_rows.cu: every row of c (m,n) = row (n) of c's dtype. */
void cuda_fill_rows(Device *dev, int64_t m, int64_t n, CudaGemmOut c, const void *row);

/* ---- the algorithms chosen so far ----------------------------------------------------------- */

GemmTuner *gemm_tuner_new(void); /* NULL: out of memory */
void gemm_tuner_free(GemmTuner *tuner);

/* What device_can_tune, device_tune, device_tuning_export and device_tuning_import do. */
bool cuda_can_tune(const Device *dev);
void cuda_tune(Device *dev, bool tuning);
Err cuda_tuning_export(Device *dev, char **text);
Err cuda_tuning_import(Device *dev, const char *text);

#ifdef __cplusplus
}
#endif
#endif
