/* The state of an open CUDA device: what a Device's impl points at. Private to kernels/cuda/,
 * comm_nccl.c and their tests. One device is used by one host thread. */
#ifndef GPT_KERNELS_CUDA_DEVICE_H
#define GPT_KERNELS_CUDA_DEVICE_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct GemmTuner GemmTuner; /* gemm.h */

typedef struct {
    int32_t index;              /* CUDA's number of the device in this process */
    int32_t compute_capability; /* 75, 80, 86, ... */
    int32_t n_sms;
    bool tf32;                                 /* float32 products may round their inputs to TF32 */
    cudaStream_t stream;                       /* QUEUE_WORK */
    cudaStream_t copy_stream[N_DEVICE_QUEUES]; /* QUEUE_IN and QUEUE_OUT; none for QUEUE_WORK */
    cudaEvent_t passed[N_DEVICE_QUEUES];       /* recorded on a queue by device_order */
    cudaEvent_t stamp[N_DEVICE_STAMPS];
    cublasLtHandle_t cublas;
    GemmTuner *tuner;
    char name[128];
} CudaDevice;

static inline CudaDevice *cuda_device(const Device *dev)
{
    return (CudaDevice *)dev->impl;
}

/* True when status is cudaSuccess. Else the device's sticky error becomes ERR_SYSTEM "what: name
 * (text)", if it has none yet. */
bool cuda_ok(Device *dev, cudaError_t status, const char *what);

/* The same as a returned error, for functions that have no sticky one to set. */
Err cuda_err(cudaError_t status, const char *what);

/* After a launch: faults of the launch itself become the sticky error. */
void cuda_launched(Device *dev, const char *kernel);

/* The sticky error of a dtype an op has no kernel for. */
void cuda_refuse_dtype(Device *dev, DType dtype);

#ifdef __cplusplus
}
#endif
#endif
