/* The CPU as a device: memory of the host, OpenMP threads, and the table of ops. Everything is done
 * when a call returns, so sync has nothing to wait for. */
#include "base/activity.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/host.h"
#include "kernels/cpu/outer_sum.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops_table.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGN_BYTES = 256,
    HUGE_PAGE_BYTES = 2 << 20,
    LARGE_BYTES = 8 << 20, /* from here on huge pages are worth their rounding */
};

static bool cpu_available(const char **reason)
{
    *reason = "";
    return true;
}

static Err cpu_open(Device *dev, const DeviceArgs *args)
{
    dev->n_threads = args->n_threads > 0 ? args->n_threads : 1;
    omp_set_num_threads(dev->n_threads);
    TRY(cpu_gemm_open(dev->n_threads));
    dev->amx = cpu_gemm_allows_amx() && amx_open();
    return OK;
}

static void cpu_close(Device *dev)
{
    (void)dev;
}

static Err cpu_info(Device *dev, DeviceInfo *info)
{
    host_name(info->name, sizeof(info->name) - 72);
    size_t used = strlen(info->name);
    snprintf(info->name + used, sizeof(info->name) - used, ", %d thread%s%s", (int)dev->n_threads,
             dev->n_threads == 1 ? "" : "s",
             dev->amx ? ", products as six of bfloat16 on AMX" : "");
    host_memory(&info->memory_total_bytes, &info->memory_free_bytes);
    info->host_free_bytes = info->memory_free_bytes;
    info->peak_flops = host_peak_flops(dev->n_threads);
    if (dev->amx)
        info->peak_flops = fmax(info->peak_flops, amx_peak_flops(dev->n_threads));
    snprintf(info->peak_source, sizeof(info->peak_source), "measured");
    info->storage_dtype = DTYPE_F32;
    return OK;
}

static Err cpu_sync(Device *dev)
{
    (void)dev;
    return OK;
}

/* ---- memory ------------------------------------------------------------------------------ */

static Err cpu_alloc(Device *dev, size_t n_bytes, void **memory)
{
    (void)dev;
    *memory = NULL;
    size_t total = 0, available = 0;
    host_memory(&total, &available);
    bool large = n_bytes >= LARGE_BYTES;
    int failed = n_bytes > available;
    if (!failed)
        failed =
            posix_memalign(memory, large ? HUGE_PAGE_BYTES : ALIGN_BYTES, n_bytes ? n_bytes : 1);
    if (failed) {
        *memory = NULL;
        FAIL(ERR_SYSTEM, "not enough memory: %zu bytes wanted, %zu of %zu free", n_bytes, available,
             total);
    }
    if (large) /* advice: where it is not taken, all works as before */
        (void)madvise(*memory, n_bytes, MADV_HUGEPAGE);
    return OK;
}

static void cpu_free(Device *dev, void *memory)
{
    (void)dev;
    free(memory);
}

static bool cpu_can_tune(const Device *dev)
{
    (void)dev;
    return false;
}

static void cpu_tune(Device *dev, bool tuning)
{
    (void)dev;
    (void)tuning;
}

static Err cpu_tuning_export(Device *dev, char **text)
{
    (void)dev;
    *text = strdup("");
    if (!*text)
        FAIL(ERR_SYSTEM, "out of memory for the choices of algorithms");
    return OK;
}

static Err cpu_tuning_import(Device *dev, const char *text)
{
    (void)dev;
    (void)text;
    return OK;
}

/* The memory of a host is shared by far too many to name. */
static void cpu_other_users(Device *dev, char *text, size_t n_bytes)
{
    (void)dev;
    (void)n_bytes;
    text[0] = '\0';
}

/* All threads share the work: one alone does not reach the memory's bandwidth. */
enum { PART_BYTES = 1 << 16 };

static void cpu_zero(Device *dev, Tensor t)
{
    int64_t n_bytes = (int64_t)tensor_bytes(t);
#pragma omp parallel for schedule(static) num_threads(dev->n_threads)
    for (int32_t part = 0; part < dev->n_threads; part++) {
        Span s = cpu_span(n_bytes, dev->n_threads, part, PART_BYTES);
        memset((char *)t.data + s.begin, 0, (size_t)(s.end - s.begin));
    }
}

static void cpu_copy(Device *dev, Tensor dst, Tensor src)
{
    int64_t n_bytes = (int64_t)tensor_bytes(src);
#pragma omp parallel for schedule(static) num_threads(dev->n_threads)
    for (int32_t part = 0; part < dev->n_threads; part++) {
        Span s = cpu_span(n_bytes, dev->n_threads, part, PART_BYTES);
        memcpy((char *)dst.data + s.begin, (char *)src.data + s.begin, (size_t)(s.end - s.begin));
    }
}

static void cpu_upload(Device *dev, Tensor dst, const void *host)
{
    (void)dev;
    memcpy(dst.data, host, tensor_bytes(dst));
}

static void cpu_download(Device *dev, void *host, Tensor src)
{
    (void)dev;
    memcpy(host, src.data, tensor_bytes(src));
}

/* Nothing is ever under way. */
static void cpu_order(Device *dev, DeviceQueue later, DeviceQueue earlier)
{
    (void)dev;
    (void)later;
    (void)earlier;
}

static void cpu_stamp(Device *dev, DeviceStamp stamp)
{
    dev->stamp_ns[stamp] = activity_now_ns();
}

static double cpu_stamped_ms(Device *dev)
{
    return (double)(dev->stamp_ns[STAMP_END] - dev->stamp_ns[STAMP_BEGIN]) * 1e-6;
}

/* ---- the table --------------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t cpu_workspace_bytes(int32_t n_threads, const OpLimits *limits)
{
    size_t rows =
        larger(cpu_layernorm_scratch_bytes(limits), cpu_attention_scratch_bytes(n_threads, limits));
    size_t products = larger(cpu_outer_sum_scratch_bytes(n_threads), amx_scratch_bytes(n_threads));
    size_t cached = cpu_attention_cached_scratch_bytes(n_threads, limits);
    return larger(larger(rows, cached), products);
}

static void cpu_print_versions(FILE *out)
{
    char gemm[64];
    cpu_gemm_version(gemm, sizeof(gemm));
    fprintf(out, "CPU matrix products: %s\n", gemm);
}

static const DeviceOps CPU_OPS = {
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .sync = cpu_sync,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .other_users = cpu_other_users,
    .alloc_host = cpu_alloc,
    .free_host = cpu_free,
    .zero = cpu_zero,
    .copy = cpu_copy,
    .upload = cpu_upload,
    .download = cpu_download,
    .copy_in = cpu_upload,
    .copy_out = cpu_download,
    .order = cpu_order,
    .stamp = cpu_stamp,
    .stamped_ms = cpu_stamped_ms,
    .can_tune = cpu_can_tune,
    .tune = cpu_tune,
    .tuning_export = cpu_tuning_export,
    .tuning_import = cpu_tuning_import,
    .dropout = cpu_dropout,
    .embedding_forward = cpu_embedding_forward,
    .embedding_backward = cpu_embedding_backward,
    .layernorm_forward = cpu_layernorm_forward,
    .residual_layernorm_forward = cpu_residual_layernorm_forward,
    .layernorm_backward = cpu_layernorm_backward,
    .linear_forward = cpu_linear_forward,
    .linear_backward_data = cpu_linear_backward_data,
    .linear_backward_weight = cpu_linear_backward_weight,
    .gelu_forward = cpu_gelu_forward,
    .gelu_backward = cpu_gelu_backward,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .cache_append = cpu_cache_append,
    .attention_cached = cpu_attention_cached,
    .head_forward = cpu_head_forward,
    .head_backward = cpu_head_backward,
    .cross_entropy_forward = cpu_cross_entropy_forward,
    .cross_entropy_forward_backward = cpu_cross_entropy_forward_backward,
    .add_sum = cpu_add_sum,
    .add_sum_squares = cpu_add_sum_squares,
    .convert = cpu_convert,
    .add = cpu_add,
    .checksum = cpu_checksum,
    .adamw = cpu_adamw,
};

const Backend cpu_backend = {
    .ops = &CPU_OPS,
    .available = cpu_available,
    .print_versions = cpu_print_versions,
};
