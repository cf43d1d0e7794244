/* Device: where tensors live and ops run. A CPU (OpenMP) or one GPU (CUDA), chosen at run time.
 *
 * Work is queued and happens in order; on the CPU it is done when the call returns. Faults of the
 * device are sticky: the first one is kept in dev->err, later ops do nothing, and device_sync
 * reports it. So forward and backward read like mathematics, and one check per step sees
 * everything. kernels/device.c is the only file here that knows which backends were compiled in. */
#ifndef GPT_KERNELS_DEVICE_H
#define GPT_KERNELS_DEVICE_H

#include "base/err.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { DEVICE_CPU, DEVICE_CUDA } DeviceKind;

/* One function pointer per op, private to kernels/ (ops_table.h). */
typedef struct DeviceOps DeviceOps;

typedef struct {
    DeviceKind kind;
    const DeviceOps *ops;
    Err err;           /* sticky; owned */
    int32_t n_threads; /* CPU: OpenMP threads of every op */
    Tensor workspace;  /* bytes for op-internal scratch; borrowed from the plan's arena */
    void *impl;        /* backend state; NULL on the CPU */
} Device;

typedef struct {
    char name[128];            /* "AMD EPYC 9654, 2 threads", "NVIDIA H200" */
    size_t memory_total_bytes; /* of the device (the host's physical memory for the CPU) */
    size_t memory_free_bytes;  /* available now to this process; cgroup limits honoured */
    double peak_flops;         /* dense, in the storage dtype; 0 when unknown */
    char peak_source[64];      /* where that number comes from: "measured", "data sheet" */
    DType storage_dtype;       /* best dtype for parameters and activations here */
} DeviceInfo;

typedef struct {
    DeviceKind kind;
    int32_t local_rank; /* CUDA: device local_rank modulo the visible ones */
    int32_t n_threads;  /* CPU; 0: one */
} DeviceArgs;

/* Can a device of this kind be opened here? When not, *reason (borrowed, static) says why: no
 * driver, no GPU, built without CUDA. */
bool device_available(DeviceKind kind, const char **reason);

Err device_open(Device *dev, const DeviceArgs *args);
void device_close(Device *dev); /* accepts a zero-initialised one */
Err device_info(Device *dev, DeviceInfo *info);
const char *device_kind_name(DeviceKind kind); /* "cpu", "cuda" */

/* For --version: one line each, "name: version", for the compiler, the engine of CPU matrix
 * products and CUDA ("not built in" when it is not). */
void device_print_versions(FILE *out);

/* Memory of the device, 256-byte aligned. ERR_SYSTEM with the numbers when there is not enough. */
Err device_alloc(Device *dev, size_t n_bytes, void **memory);
void device_free(Device *dev, void *memory);

/* Give ops their scratch: at least ops_workspace_bytes() (kernels/ops.h). */
void device_set_workspace(Device *dev, Tensor bytes);

void device_zero(Device *dev, Tensor t);
/* Same dtype and count, same device; the two do not overlap. */
void device_copy(Device *dev, Tensor dst, Tensor src);
/* Host memory to device, queued; host must stay until device_sync. */
void device_upload(Device *dev, Tensor dst, const void *host);
/* Device to host memory, queued; valid after device_sync. */
void device_download(Device *dev, void *host, Tensor src);

/* Wait for all queued work; the sticky error, if any, moves to the caller. */
Err device_sync(Device *dev);

#ifdef __cplusplus
}
#endif
#endif
