#include "kernels/cuda/probe.h"

#include <primitives.cuh>

static __global__ void probe_kernel(int)
{
}

cudaError_t cuda_probe(cudaStream_t stream)
{
    LAUNCH(probe_kernel, 1, 32, 0, stream, 0);
    cudaError_t status = cudaGetLastError();
    return status == cudaSuccess ? cudaStreamSynchronize(stream) : status;
}
