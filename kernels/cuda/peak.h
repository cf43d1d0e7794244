/* How fast a GPU's tensor cores are said to be: what mfu is measured against. */
#ifndef GPT_KERNELS_CUDA_PEAK_H
#define GPT_KERNELS_CUDA_PEAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name;           /* as CUDA gives it: "NVIDIA H100 80GB HBM3" */
    int32_t compute_capability; /* 75, 80, 86, ... */
    int32_t n_sms;
    int32_t clock_khz; /* the highest */
} GpuSpeed;

/* Dense 16-bit products with float32 sums, FLOP/s: the data sheet's number for cards we know by
 * name, else multiply-adds of an SM and clock (from the architecture) x SMs x clock. 0 when the
 * architecture is unknown too. `source` (n_bytes) says which. */
double cuda_peak_flops(const GpuSpeed *gpu, char *source, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
