/* NVML, the driver's library behind nvidia-smi: who else has memory on a GPU. Loaded when asked
 * for, so that the program needs it neither to be built nor to run. Private to kernels/cuda/. */
#ifndef GPT_KERNELS_CUDA_NVML_H
#define GPT_KERNELS_CUDA_NVML_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* text = the processes other than this one with memory on the GPU of this UUID ("GPU-..."), as
 * "pid 4242 holds 9.1 GiB, pid 77 holds an unknown amount"; as many as fit n_bytes. "" when there
 * are none, or no NVML that knows. */
void nvml_others(const char *uuid, char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
