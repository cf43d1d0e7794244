/* A GPU as a device: one stream for all ops and their copies, two more for copies beside them,
 * memory from the CUDA runtime, and the table of ops. Faults that ops and copies meet are the
 * device's sticky error; functions that return an Err return theirs. */
#include "kernels/cuda/cuda_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/host.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/nvml.h"
#include "kernels/cuda/peak.h"
#include "kernels/cuda/probe.h"
#include "kernels/ops_table.h"

enum { OLDEST_CAPABILITY = 75, BFLOAT16_CAPABILITY = 80 };

/* ---- faults ------------------------------------------------------------------------------ */

/* After these the process has lost all it had on the GPU, and nothing works there any more. */
static bool is_fatal(cudaError_t status)
{
    switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
        return true;
    default:
        return false;
    }
}

Err cuda_err(cudaError_t status, const char *what)
{
    if (status == cudaSuccess)
        return OK;
    (void)cudaGetLastError(); /* or the next launch would report it again */
    FAIL(ERR_SYSTEM, "%s: %s (%s)%s", what, cudaGetErrorName(status), cudaGetErrorString(status),
         is_fatal(status) ? "; this process has lost the GPU and all that was on it" : "");
}

bool cuda_ok(Device *dev, cudaError_t status, const char *what)
{
    if (status == cudaSuccess)
        return true;
    dev->err = err_first(dev->err, cuda_err(status, what));
    return false;
}

void cuda_launched(Device *dev, const char *kernel)
{
    cuda_ok(dev, cudaGetLastError(), kernel);
}

void cuda_refuse_dtype(Device *dev, DType dtype)
{
    dev->err = err_first(dev->err, ERR_NEW(ERR_SYSTEM, "the GPU has no kernel for tensors of %s",
                                           dtype_name(dtype)));
}

/* ---- is there one? ----------------------------------------------------------------------- */

/* Why there are no devices; static. Without a driver and with one that is too old CUDA gives the
 * same status. */
static const char *reason_of(cudaError_t status)
{
    int driver = 0;
    switch (status) {
    case cudaErrorInsufficientDriver:
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
            return "no NVIDIA driver is installed";
        return "the NVIDIA driver is older than the CUDA this program was built with (--version)";
    case cudaErrorNoDevice:
        return "no NVIDIA GPU is visible to this process (nvidia-smi, CUDA_VISIBLE_DEVICES)";
    case cudaErrorSystemDriverMismatch:
        return "the NVIDIA driver and its libraries differ in version (restart after an upgrade)";
    case cudaErrorSystemNotReady:
        return "the NVIDIA GPUs are not ready (is nvidia-fabricmanager running?)";
    default:
        return cudaGetErrorString(status);
    }
}

static bool cuda_available(const char **reason)
{
    int n_devices = 0;
    cudaError_t status = cudaGetDeviceCount(&n_devices);
    if (status == cudaSuccess && n_devices == 0)
        status = cudaErrorNoDevice;
    *reason = status == cudaSuccess ? "" : reason_of(status);
    (void)cudaGetLastError();
    return status == cudaSuccess;
}

static void print_cuda_version(FILE *out, const char *what, int version)
{
    fprintf(out, "%s %d.%d", what, version / 1000, version % 1000 / 10);
}

static void cuda_print_versions(FILE *out)
{
    int runtime = 0, driver = 0;
    (void)cudaRuntimeGetVersion(&runtime); /* 0 after a failure, and then no version */
    (void)cudaDriverGetVersion(&driver);
    (void)cudaGetLastError();
    print_cuda_version(out, "CUDA: runtime", runtime);
    if (driver > 0)
        print_cuda_version(out, ", driver for", driver);
    else
        fprintf(out, ", no driver");
    size_t cublas = cublasLtGetVersion();
    fprintf(out, "\ncuBLASLt: %zu.%zu.%zu\n", cublas / 10000, cublas / 100 % 100, cublas % 100);
}

/* ---- life -------------------------------------------------------------------------------- */

static Err describe(CudaDevice *cuda)
{
    struct cudaDeviceProp prop;
    TRY(cuda_err(cudaGetDeviceProperties(&prop, cuda->index), "cudaGetDeviceProperties"));
    snprintf(cuda->name, sizeof(cuda->name), "%.*s", (int)sizeof(cuda->name) - 1, prop.name);
    cuda->compute_capability = 10 * prop.major + prop.minor;
    cuda->n_sms = prop.multiProcessorCount;
    if (cuda->compute_capability < OLDEST_CAPABILITY)
        FAIL(ERR_SYSTEM,
             "GPU %d is a %s of compute capability %d.%d, this program needs 7.5 or newer",
             (int)cuda->index, cuda->name, prop.major, prop.minor);
    return OK;
}

static Err choose_gpu(CudaDevice *cuda, int32_t local_rank)
{
    int n_devices = 0;
    ASSERT(local_rank >= 0, "local rank %d", (int)local_rank);
    TRY(cuda_err(cudaGetDeviceCount(&n_devices), "cudaGetDeviceCount"));
    cuda->index = local_rank % n_devices;
    TRY(describe(cuda));
    return cuda_err(cudaSetDevice(cuda->index), "cudaSetDevice");
}

/* A clear word now is better than a fault of the first op. */
static Err probe(const CudaDevice *cuda)
{
    cudaError_t status = cuda_probe(cuda->stream);
    if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction ||
        status == cudaErrorUnsupportedPtxVersion) {
        (void)cudaGetLastError();
        FAIL(ERR_SYSTEM,
             "this program was not built for GPU %d, a %s of compute capability %d.%d (%s)",
             (int)cuda->index, cuda->name, cuda->compute_capability / 10,
             cuda->compute_capability % 10, cudaGetErrorString(status));
    }
    return cuda_err(status, "first kernel on the GPU");
}

static Err open_stream(cudaStream_t *stream)
{
    return cuda_err(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                    "cudaStreamCreateWithFlags");
}

static Err open_queues(CudaDevice *cuda)
{
    TRY(open_stream(&cuda->stream));
    TRY(open_stream(&cuda->copy_stream[QUEUE_IN]));
    TRY(open_stream(&cuda->copy_stream[QUEUE_OUT]));
    for (int32_t i = 0; i < N_DEVICE_QUEUES; i++)
        TRY(cuda_err(cudaEventCreateWithFlags(&cuda->passed[i], cudaEventDisableTiming),
                     "cudaEventCreateWithFlags"));
    for (int32_t i = 0; i < N_DEVICE_STAMPS; i++)
        TRY(cuda_err(cudaEventCreate(&cuda->stamp[i]), "cudaEventCreate"));
    return OK;
}

static void close_stream(cudaStream_t stream)
{
    if (!stream)
        return;
    (void)cudaStreamSynchronize(stream);
    (void)cudaStreamDestroy(stream);
}

static void close_queues(CudaDevice *cuda)
{
    close_stream(cuda->stream);
    for (int32_t i = 0; i < N_DEVICE_QUEUES; i++) {
        close_stream(cuda->copy_stream[i]);
        if (cuda->passed[i])
            (void)cudaEventDestroy(cuda->passed[i]);
    }
    for (int32_t i = 0; i < N_DEVICE_STAMPS; i++)
        if (cuda->stamp[i])
            (void)cudaEventDestroy(cuda->stamp[i]);
}

static Err open_libraries(CudaDevice *cuda)
{
    TRY(open_queues(cuda));
    TRY(probe(cuda));
    cublasStatus_t status = cublasLtCreate(&cuda->cublas);
    if (status != CUBLAS_STATUS_SUCCESS)
        FAIL(ERR_SYSTEM, "cublasLtCreate: %s", cublasLtGetStatusString(status));
    cuda->tuner = gemm_tuner_new();
    if (!cuda->tuner)
        FAIL(ERR_SYSTEM, "out of memory for the choices of matrix products");
    return OK;
}

static Err cuda_open(Device *dev, const DeviceArgs *args)
{
    CudaDevice *cuda = calloc(1, sizeof(*cuda));
    if (!cuda)
        FAIL(ERR_SYSTEM, "out of memory for the CUDA device");
    dev->impl = cuda;
    dev->n_threads = args->n_threads > 0 ? args->n_threads : 1;
    cuda->tf32 = args->tf32;
    TRY(choose_gpu(cuda, args->local_rank));
    return open_libraries(cuda);
}

/* Nothing can be done about what fails here. */
static void cuda_close(Device *dev)
{
    CudaDevice *cuda = cuda_device(dev);
    if (!cuda)
        return;
    if (cuda->tuner)
        gemm_tuner_free(cuda->tuner);
    if (cuda->cublas)
        (void)cublasLtDestroy(cuda->cublas);
    close_queues(cuda);
    (void)cudaGetLastError();
    free(cuda);
    dev->impl = NULL;
}

/* The form of nvidia-smi -L: GPU-8-4-4-4-12 hexadecimal digits. */
static void write_uuid(char *text, size_t n_bytes, const cudaUUID_t *uuid)
{
    size_t used = (size_t)snprintf(text, n_bytes, "GPU");
    for (int32_t i = 0; i < 16; i++) {
        bool starts_group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        used += (size_t)snprintf(text + used, n_bytes - used, "%s%02x", starts_group ? "-" : "",
                                 (unsigned char)uuid->bytes[i]);
    }
}

static Err cuda_info(Device *dev, DeviceInfo *info)
{
    const CudaDevice *cuda = cuda_device(dev);
    struct cudaDeviceProp prop;
    int clock_khz = 0;
    TRY(cuda_err(cudaGetDeviceProperties(&prop, cuda->index), "cudaGetDeviceProperties"));
    TRY(cuda_err(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, cuda->index),
                 "cudaDeviceGetAttribute"));
    TRY(cuda_err(cudaMemGetInfo(&info->memory_free_bytes, &info->memory_total_bytes),
                 "cudaMemGetInfo"));
    size_t host_total = 0;
    host_memory(&host_total, &info->host_free_bytes);
    memcpy(info->name, cuda->name, sizeof(info->name));
    write_uuid(info->id, sizeof(info->id), &prop.uuid);
    info->compute_capability = cuda->compute_capability;
    info->storage_dtype = cuda->compute_capability >= BFLOAT16_CAPABILITY ? DTYPE_BF16 : DTYPE_F16;
    GpuSpeed speed = {cuda->name, cuda->compute_capability, cuda->n_sms, clock_khz};
    info->peak_flops = cuda_peak_flops(&speed, info->peak_source, sizeof(info->peak_source));
    return OK;
}

static Err cuda_sync(Device *dev)
{
    return cuda_err(cudaStreamSynchronize(cuda_device(dev)->stream), "waiting for the GPU");
}

/* ---- memory ------------------------------------------------------------------------------ */

static void cuda_other_users(Device *dev, char *text, size_t n_bytes)
{
    struct cudaDeviceProp prop;
    char uuid[sizeof((DeviceInfo *)0)->id];
    text[0] = '\0';
    if (cudaGetDeviceProperties(&prop, cuda_device(dev)->index) != cudaSuccess) {
        (void)cudaGetLastError(); /* it is for a message: nothing is missing without it */
        return;
    }
    write_uuid(uuid, sizeof(uuid), &prop.uuid);
    nvml_others(uuid, text, n_bytes);
}

static Err cuda_alloc(Device *dev, size_t n_bytes, void **memory)
{
    const CudaDevice *cuda = cuda_device(dev);
    *memory = NULL;
    cudaError_t status = cudaMalloc(memory, n_bytes ? n_bytes : 1);
    if (status != cudaErrorMemoryAllocation)
        return cuda_err(status, "cudaMalloc");
    *memory = NULL;
    (void)cudaGetLastError();
    size_t available = 0, total = 0;
    TRY(cuda_err(cudaMemGetInfo(&available, &total), "cudaMemGetInfo"));
    char others[256];
    cuda_other_users(dev, others, sizeof(others));
    FAIL(ERR_SYSTEM, "not enough memory on GPU %d (%s): %zu bytes wanted, %zu of %zu free%s%s",
         (int)cuda->index, cuda->name, n_bytes, available, total, others[0] ? "; " : "", others);
}

static void cuda_free(Device *dev, void *memory)
{
    cuda_ok(dev, cudaFree(memory), "cudaFree");
}

static Err cuda_alloc_host(Device *dev, size_t n_bytes, void **memory)
{
    (void)dev;
    *memory = NULL;
    cudaError_t status = cudaMallocHost(memory, n_bytes ? n_bytes : 1);
    if (status != cudaErrorMemoryAllocation)
        return cuda_err(status, "cudaMallocHost");
    *memory = NULL;
    (void)cudaGetLastError();
    FAIL(ERR_SYSTEM, "not enough host memory that the GPU can reach: %zu bytes wanted", n_bytes);
}

static void cuda_free_host(Device *dev, void *memory)
{
    cuda_ok(dev, cudaFreeHost(memory), "cudaFreeHost");
}

static void cuda_zero(Device *dev, Tensor t)
{
    cuda_ok(dev, cudaMemsetAsync(t.data, 0, tensor_bytes(t), cuda_device(dev)->stream), "zero");
}

static void queue_copy(Device *dev, cudaStream_t stream, void *dst, const void *src, size_t n_bytes,
                       enum cudaMemcpyKind kind, const char *what)
{
    cuda_ok(dev, cudaMemcpyAsync(dst, src, n_bytes, kind, stream), what);
}

static void cuda_copy(Device *dev, Tensor dst, Tensor src)
{
    queue_copy(dev, cuda_device(dev)->stream, dst.data, src.data, tensor_bytes(src),
               cudaMemcpyDeviceToDevice, "copy");
}

static void cuda_upload(Device *dev, Tensor dst, const void *host)
{
    queue_copy(dev, cuda_device(dev)->stream, dst.data, host, tensor_bytes(dst),
               cudaMemcpyHostToDevice, "upload");
}

static void cuda_download(Device *dev, void *host, Tensor src)
{
    queue_copy(dev, cuda_device(dev)->stream, host, src.data, tensor_bytes(src),
               cudaMemcpyDeviceToHost, "download");
}

/* ---- copies beside the work ---------------------------------------------------------------- */

static cudaStream_t stream_of(const Device *dev, DeviceQueue queue)
{
    const CudaDevice *cuda = cuda_device(dev);
    return queue == QUEUE_WORK ? cuda->stream : cuda->copy_stream[queue];
}

static void cuda_copy_in(Device *dev, Tensor dst, const void *host)
{
    queue_copy(dev, stream_of(dev, QUEUE_IN), dst.data, host, tensor_bytes(dst),
               cudaMemcpyHostToDevice, "copy in");
}

static void cuda_copy_out(Device *dev, void *host, Tensor src)
{
    queue_copy(dev, stream_of(dev, QUEUE_OUT), host, src.data, tensor_bytes(src),
               cudaMemcpyDeviceToHost, "copy out");
}

/* A wait is for the record before it, so one event per queue can be recorded again and again. */
static void cuda_order(Device *dev, DeviceQueue later, DeviceQueue earlier)
{
    cudaEvent_t passed = cuda_device(dev)->passed[earlier];
    if (cuda_ok(dev, cudaEventRecord(passed, stream_of(dev, earlier)), "cudaEventRecord"))
        cuda_ok(dev, cudaStreamWaitEvent(stream_of(dev, later), passed, cudaEventWaitDefault),
                "cudaStreamWaitEvent");
}

static void cuda_stamp(Device *dev, DeviceStamp stamp)
{
    CudaDevice *cuda = cuda_device(dev);
    cuda_ok(dev, cudaEventRecord(cuda->stamp[stamp], cuda->stream), "cudaEventRecord");
}

static double cuda_stamped_ms(Device *dev)
{
    float ms = 0;
    const CudaDevice *cuda = cuda_device(dev);
    cuda_ok(dev, cudaEventElapsedTime(&ms, cuda->stamp[STAMP_BEGIN], cuda->stamp[STAMP_END]),
            "cudaEventElapsedTime");
    return (double)ms;
}

/* ---- the table --------------------------------------------------------------------------- */

static const DeviceOps CUDA_OPS = {
    .open = cuda_open,
    .close = cuda_close,
    .info = cuda_info,
    .sync = cuda_sync,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .other_users = cuda_other_users,
    .alloc_host = cuda_alloc_host,
    .free_host = cuda_free_host,
    .zero = cuda_zero,
    .copy = cuda_copy,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy_in = cuda_copy_in,
    .copy_out = cuda_copy_out,
    .order = cuda_order,
    .stamp = cuda_stamp,
    .stamped_ms = cuda_stamped_ms,
    .can_tune = cuda_can_tune,
    .tune = cuda_tune,
    .tuning_export = cuda_tuning_export,
    .tuning_import = cuda_tuning_import,
    .dropout = cuda_dropout,
    .embedding_forward = cuda_embedding_forward,
    .embedding_backward = cuda_embedding_backward,
    .layernorm_forward = cuda_layernorm_forward,
    .residual_layernorm_forward = cuda_residual_layernorm_forward,
    .layernorm_backward = cuda_layernorm_backward,
    .linear_forward = cuda_linear_forward,
    .linear_backward_data = cuda_linear_backward_data,
    .linear_backward_weight = cuda_linear_backward_weight,
    .gelu_forward = cuda_gelu_forward,
    .gelu_backward = cuda_gelu_backward,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .cache_append = cuda_cache_append,
    .attention_cached = cuda_attention_cached,
    .head_forward = cuda_head_forward,
    .head_backward = cuda_head_backward,
    .cross_entropy_forward = cuda_cross_entropy_forward,
    .cross_entropy_forward_backward = cuda_cross_entropy_forward_backward,
    .add_sum = cuda_add_sum,
    .add_sum_squares = cuda_add_sum_squares,
    .convert = cuda_convert,
    .add = cuda_add,
    .checksum = cuda_checksum,
    .adamw = cuda_adamw,
};

const Backend cuda_backend = {
    .ops = &CUDA_OPS,
    .available = cuda_available,
    .print_versions = cuda_print_versions,
};
