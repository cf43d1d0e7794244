/* Does this program hold code that the current GPU can run? All kernels are compiled for the same
 * architectures, so one of them answers for all. */
#ifndef GPT_KERNELS_CUDA_PROBE_H
#define GPT_KERNELS_CUDA_PROBE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Run an empty kernel and wait for it: cudaErrorNoKernelImageForDevice when there is none. */
cudaError_t cuda_probe(cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
