#include "kernels/device.h"

#include "base/check.h"
#include "kernels/ops_table.h"

#include <string.h>

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "GCC " __VERSION__
#endif

#ifdef GPT_CUDA
static const Backend *const CUDA_BACKEND = &cuda_backend;
#else
static const Backend *const CUDA_BACKEND = NULL;
#endif

/* The backends compiled in, by kind. NULL: not built. */
static const Backend *backend_of(DeviceKind kind)
{
    ASSERT(kind == DEVICE_CPU || kind == DEVICE_CUDA, "device kind %d", (int)kind);
    return kind == DEVICE_CPU ? &cpu_backend : CUDA_BACKEND;
}

const char *device_kind_name(DeviceKind kind)
{
    return kind == DEVICE_CPU ? "cpu" : "cuda";
}

bool device_available(DeviceKind kind, const char **reason)
{
    const Backend *backend = backend_of(kind);
    if (!backend) {
        *reason = "this program was built without CUDA";
        return false;
    }
    return backend->available(reason);
}

void device_print_versions(FILE *out)
{
    fprintf(out, "compiler: %s\n", COMPILER);
    cpu_backend.print_versions(out);
    const Backend *cuda = backend_of(DEVICE_CUDA);
    if (cuda)
        cuda->print_versions(out);
    else
        fprintf(out, "CUDA: not built in\n");
}

/* A table is nothing but function pointers, so a missing op is a NULL among them. */
static bool table_is_complete(const DeviceOps *ops)
{
    typedef void (*Function)(void);
    const char *entry = (const char *)ops;
    for (size_t i = 0; i < sizeof(*ops) / sizeof(Function); i++) {
        Function function;
        memcpy(&function, entry + i * sizeof(function), sizeof(function));
        if (!function)
            return false;
    }
    return true;
}

Err device_open(Device *dev, const DeviceArgs *args)
{
    memset(dev, 0, sizeof(*dev));
    const char *reason = "";
    if (!device_available(args->kind, &reason))
        FAIL(ERR_SYSTEM, "no %s device: %s", device_kind_name(args->kind), reason);
    const Backend *backend = backend_of(args->kind);
    ASSERT(table_is_complete(backend->ops), "%s: an op is missing", device_kind_name(args->kind));
    dev->kind = args->kind;
    dev->ops = backend->ops;
    dev->n_sharers = 1;
    Err err = dev->ops->open(dev, args);
    if (err) {
        device_close(dev);
        return err_trace(err, __FILE__, __LINE__);
    }
    return OK;
}

void device_close(Device *dev)
{
    if (dev->ops)
        dev->ops->close(dev);
    err_free(dev->err);
    memset(dev, 0, sizeof(*dev));
}

Err device_info(Device *dev, DeviceInfo *info)
{
    memset(info, 0, sizeof(*info));
    return dev->ops->info(dev, info);
}

Err device_alloc(Device *dev, size_t n_bytes, void **memory)
{
    dev->n_allocations++;
    return dev->ops->alloc(dev, n_bytes, memory);
}

void device_free(Device *dev, void *memory)
{
    if (memory)
        dev->ops->free(dev, memory);
}

void device_other_users(Device *dev, char *text, size_t n_bytes)
{
    dev->ops->other_users(dev, text, n_bytes);
}

Err device_alloc_host(Device *dev, size_t n_bytes, void **memory)
{
    dev->n_allocations++;
    return dev->ops->alloc_host(dev, n_bytes, memory);
}

void device_free_host(Device *dev, void *memory)
{
    if (memory)
        dev->ops->free_host(dev, memory);
}

bool device_is_host(const Device *dev)
{
    return dev->kind == DEVICE_CPU;
}

void device_set_workspace(Device *dev, Tensor bytes)
{
    dev->workspace = bytes;
}

void device_zero(Device *dev, Tensor t)
{
    if (!dev->err && tensor_count(t) > 0)
        dev->ops->zero(dev, t);
}

void device_copy(Device *dev, Tensor dst, Tensor src)
{
    ASSERT(dst.dtype == src.dtype && tensor_count(dst) == tensor_count(src),
           "copy: %s x %lld from %s x %lld", dtype_name(dst.dtype), (long long)tensor_count(dst),
           dtype_name(src.dtype), (long long)tensor_count(src));
    if (!dev->err && tensor_count(dst) > 0)
        dev->ops->copy(dev, dst, src);
}

void device_upload(Device *dev, Tensor dst, const void *host)
{
    if (!dev->err && tensor_count(dst) > 0)
        dev->ops->upload(dev, dst, host);
}

void device_download(Device *dev, void *host, Tensor src)
{
    if (!dev->err && tensor_count(src) > 0)
        dev->ops->download(dev, host, src);
}

void device_copy_in(Device *dev, Tensor dst, const void *host)
{
    if (!dev->err && tensor_count(dst) > 0)
        dev->ops->copy_in(dev, dst, host);
}

void device_copy_out(Device *dev, void *host, Tensor src)
{
    if (!dev->err && tensor_count(src) > 0)
        dev->ops->copy_out(dev, host, src);
}

void device_order(Device *dev, DeviceQueue later, DeviceQueue earlier)
{
    ASSERT(later != earlier, "queue %d is in order", (int)later);
    if (!dev->err)
        dev->ops->order(dev, later, earlier);
}

void device_stamp(Device *dev, DeviceStamp stamp)
{
    if (!dev->err)
        dev->ops->stamp(dev, stamp);
}

double device_stamped_ms(Device *dev)
{
    return dev->err ? 0 : dev->ops->stamped_ms(dev);
}

bool device_can_tune(const Device *dev)
{
    return dev->ops->can_tune(dev);
}

void device_tune(Device *dev, bool tuning)
{
    dev->ops->tune(dev, tuning);
}

Err device_tuning_export(Device *dev, char **text)
{
    *text = NULL;
    return dev->ops->tuning_export(dev, text);
}

Err device_tuning_import(Device *dev, const char *text)
{
    return dev->ops->tuning_import(dev, text);
}

Err device_sync(Device *dev)
{
    Err found = dev->ops->sync(dev);
    Err err = err_first(dev->err, found);
    dev->err = OK;
    return err;
}
