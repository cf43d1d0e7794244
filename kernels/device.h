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
    bool amx;          /* CPU: large products are computed on AMX */
    int32_t n_sharers; /* ranks that share its memory, this one included; 1 unless set after open */
    int64_t n_allocations; /* calls of device_alloc and device_alloc_host since open */
    Tensor workspace;      /* bytes for op-internal scratch; borrowed from the plan's arena */
    int64_t stamp_ns[2];   /* CPU: N_DEVICE_STAMPS */
    void *impl;            /* backend state; NULL on the CPU */
} Device;

typedef struct {
    char name[128];             /* "AMD EPYC 9654, 2 threads", "NVIDIA H200" */
    size_t memory_total_bytes;  /* of the device (the host's physical memory for the CPU) */
    size_t memory_free_bytes;   /* available now to this process; cgroup limits honoured */
    size_t host_free_bytes;     /* the same of the host's memory: what device_alloc_host may give */
    double peak_flops;          /* dense, in the storage dtype; 0 when unknown */
    char peak_source[64];       /* where that number comes from: "measured", "data sheet" */
    DType storage_dtype;        /* best dtype for parameters and activations here */
    char id[64];                /* of a GPU: its UUID, the same in every process; "" for a CPU */
    int32_t compute_capability; /* of a GPU: 75, 80, 86, ...; 0 for a CPU */
} DeviceInfo;

typedef struct {
    DeviceKind kind;
    int32_t local_rank; /* CUDA: device local_rank modulo the visible ones */
    int32_t n_threads;  /* CPU; 0: one */
    bool tf32;          /* CUDA: float32 products may round their inputs to TF32 (10 bits) */
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
/* text = the other processes with memory on this device and how much, as far as they are known:
 * "pid 4242 holds 9.1 GiB"; "" when none is. For a message. */
void device_other_users(Device *dev, char *text, size_t n_bytes);

/* Host memory that copies to and from the device move fastest (pinned on CUDA), 256-byte aligned.
 */
Err device_alloc_host(Device *dev, size_t n_bytes, void **memory);
void device_free_host(Device *dev, void *memory);
/* May the host read and write this device's tensors? Only on the CPU. */
bool device_is_host(const Device *dev);

/* Give ops their scratch: at least ops_workspace_bytes() (kernels/ops.h). */
void device_set_workspace(Device *dev, Tensor bytes);

void device_zero(Device *dev, Tensor t);
/* Same dtype and count, same device; the two do not overlap. */
void device_copy(Device *dev, Tensor dst, Tensor src);
/* Host memory to device, queued; host must stay until device_sync. */
void device_upload(Device *dev, Tensor dst, const void *host);
/* Device to host memory, queued; valid after device_sync. Into memory that is not from
 * device_alloc_host it may wait for all queued work, and would not hear of a fault of the
 * communication: comm_sync (comm/comm.h) comes first where ranks may be waited for. */
void device_download(Device *dev, void *host, Tensor src);

/* ---- copies beside the work ----------------------------------------------------------------
 *
 * Copies that go on while ops run, in both directions at once, have queues of their own. Each queue
 * is in order; between queues nothing is but what device_order says. device_sync waits for
 * QUEUE_WORK only, so work has to be ordered after the last copy before its result counts. */

typedef enum {
    QUEUE_WORK, /* ops, and the copies above */
    QUEUE_IN,   /* device_copy_in */
    QUEUE_OUT,  /* device_copy_out */
    N_DEVICE_QUEUES
} DeviceQueue;

/* On QUEUE_IN: memory of device_alloc_host to the device. An empty tensor is no work. */
void device_copy_in(Device *dev, Tensor dst, const void *host);
/* On QUEUE_OUT: the device to memory of device_alloc_host. */
void device_copy_out(Device *dev, void *host, Tensor src);
/* What is queued on `later` after this call comes after what was queued on `earlier` before it. */
void device_order(Device *dev, DeviceQueue later, DeviceQueue earlier);

/* ---- time ----------------------------------------------------------------------------------
 *
 * A stamp is the time at which the device comes to it in QUEUE_WORK. */

typedef enum { STAMP_BEGIN, STAMP_END, N_DEVICE_STAMPS } DeviceStamp;

void device_stamp(Device *dev, DeviceStamp stamp);
/* Milliseconds from the newest STAMP_BEGIN to the newest STAMP_END, after a device_sync that
 * followed both; 0 when the device does not know. */
double device_stamped_ms(Device *dev);

/* ---- choosing among equivalent algorithms --------------------------------------------------
 *
 * A GPU library knows several ways to compute one product; they differ in speed and in the last
 * bits. While tuning, ops that are called time the candidates on their actual arguments (whose
 * contents are lost) and keep the fastest; afterwards the choice is fixed. Choices travel as lines
 * of text, keyed by card, library version and shape: to other ranks, to a cache file, with a
 * checkpoint. Nothing to choose on the CPU. */

bool device_can_tune(const Device *dev);
void device_tune(Device *dev, bool tuning);
/* Every choice made so far, a new NUL-terminated string (caller frees; "" when there is none). */
Err device_tuning_export(Device *dev, char **text);
/* Take these choices; lines of other cards or versions are ignored, and so is what was chosen
 * already. ERR_DATA: not such a text. */
Err device_tuning_import(Device *dev, const char *text);

/* Wait for all queued work; the sticky error, if any, moves to the caller. */
Err device_sync(Device *dev);

#ifdef __cplusplus
}
#endif
#endif
