#include "tests/support/op_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"

enum { GUARD_BYTES = 256, GUARD_BYTE = 0xff }; /* all ones: NaN in every float dtype, -1 in i32 */
enum { FILL_BYTES = 1 << 20 };

static void must(Err err, const char *file, int line)
{
    if (!err)
        return;
    print_error("%s\n", err_message(err));
    err_free(err);
    _fail(file, line);
}

#define MUST(call) must((call), __FILE__, __LINE__)

/* ---- memory ------------------------------------------------------------------------------ */

static void *host_bytes(size_t n)
{
    void *bytes = calloc(n ? n : 1, 1);
    ASSERT(bytes, "no memory for %zu bytes", n);
    return bytes;
}

static Tensor byte_range(void *memory, size_t begin, size_t n)
{
    return tensor_range(tensor_1d(memory, DTYPE_U8, (int64_t)(begin + n)), (int64_t)begin,
                        (int64_t)n);
}

/* All ones, in pieces: the workspace of a GPU is large. */
static void fill_with_ones(OpFixture *fx, void *memory, size_t n_bytes)
{
    size_t piece = n_bytes < FILL_BYTES ? n_bytes : FILL_BYTES;
    void *ones = host_bytes(piece);
    memset(ones, GUARD_BYTE, piece);
    for (size_t done = 0; done < n_bytes; done += piece) {
        size_t n = n_bytes - done < piece ? n_bytes - done : piece;
        device_upload(&fx->dev, byte_range(memory, done, n), ones);
    }
    MUST(device_sync(&fx->dev));
    free(ones);
}

/* n_bytes on the device, guards around them, all ones everywhere. */
static void *guarded_alloc(OpFixture *fx, size_t n_bytes)
{
    ASSERT(fx->n_memories < OP_MAX_MEMORIES, "a test with more than %d tensors", OP_MAX_MEMORIES);
    GuardedMemory *g = &fx->memory[fx->n_memories];
    size_t total = n_bytes + 2 * (size_t)GUARD_BYTES;
    MUST(device_alloc(&fx->dev, total, &g->memory));
    fx->n_memories++;
    g->n_bytes = n_bytes;
    fill_with_ones(fx, g->memory, total);
    return (char *)g->memory + GUARD_BYTES;
}

static bool guards_are_whole(OpFixture *fx, const GuardedMemory *g)
{
    unsigned char before[GUARD_BYTES], after[GUARD_BYTES];
    device_download(&fx->dev, before, byte_range(g->memory, 0, GUARD_BYTES));
    device_download(&fx->dev, after, byte_range(g->memory, GUARD_BYTES + g->n_bytes, GUARD_BYTES));
    MUST(device_sync(&fx->dev));
    for (int i = 0; i < GUARD_BYTES; i++)
        if (before[i] != GUARD_BYTE || after[i] != GUARD_BYTE)
            return false;
    return true;
}

double *op_array(OpFixture *fx, int64_t n)
{
    ASSERT(fx->n_arrays < OP_MAX_MEMORIES, "a test with more than %d arrays", OP_MAX_MEMORIES);
    double *array = host_bytes((size_t)n * sizeof *array);
    fx->array[fx->n_arrays++] = array;
    return array;
}

/* Scratch for n_threads within the limits, all ones; the last one's memory if it is as long. */
static Tensor scratch_for(OpFixture *fx, int32_t n_threads)
{
    bool wanted = fx->limits.n_embd > 0;
    size_t n_bytes = wanted ? ops_workspace_bytes(fx->dev.kind, n_threads, &fx->limits) : 0;
    if (tensor_present(fx->scratch) && tensor_bytes(fx->scratch) == n_bytes)
        fill_with_ones(fx, fx->scratch.data, n_bytes);
    else
        fx->scratch = tensor_1d(guarded_alloc(fx, n_bytes), DTYPE_U8, (int64_t)n_bytes);
    return fx->scratch;
}

void op_workspace(OpFixture *fx, OpLimits limits)
{
    fx->limits = limits;
    device_set_workspace(&fx->dev, scratch_for(fx, fx->dev.n_threads));
}

/* ---- values ------------------------------------------------------------------------------ */

static void put(void *host, DType dtype, int64_t i, double value)
{
    switch (dtype) {
    case DTYPE_F64:
        ((double *)host)[i] = value;
        break;
    case DTYPE_F32:
        ((float *)host)[i] = (float)value;
        break;
    case DTYPE_F16:
        ((uint16_t *)host)[i] = f16_from_f32((float)value);
        break;
    case DTYPE_BF16:
        ((uint16_t *)host)[i] = bf16_from_f32((float)value);
        break;
    case DTYPE_I32:
        ((int32_t *)host)[i] = (int32_t)value;
        break;
    default:
        ASSERT(false, "a twin of %s", dtype_name(dtype));
    }
}

static double get(const void *host, DType dtype, int64_t i)
{
    switch (dtype) {
    case DTYPE_F64:
        return ((const double *)host)[i];
    case DTYPE_F32:
        return (double)((const float *)host)[i];
    case DTYPE_F16:
        return (double)f16_to_f32(((const uint16_t *)host)[i]);
    case DTYPE_BF16:
        return (double)bf16_to_f32(((const uint16_t *)host)[i]);
    case DTYPE_I32:
        return ((const int32_t *)host)[i];
    default:
        ASSERT(false, "a twin of %s", dtype_name(dtype));
        return 0;
    }
}

void twin_push(OpFixture *fx, Twin twin)
{
    void *host = host_bytes(tensor_bytes(twin.t));
    for (int64_t i = 0; i < tensor_count(twin.t); i++) {
        put(host, twin.t.dtype, i, twin.ref[i]);
        twin.ref[i] = get(host, twin.t.dtype, i);
    }
    device_upload(&fx->dev, twin.t, host);
    MUST(device_sync(&fx->dev));
    free(host);
}

/* The tensor's bytes; the caller frees them. */
static void *pull_bytes(Device *dev, Tensor t)
{
    void *host = host_bytes(tensor_bytes(t));
    device_download(dev, host, t);
    MUST(device_sync(dev));
    return host;
}

double *twin_pull(OpFixture *fx, Twin twin)
{
    void *host = pull_bytes(&fx->dev, twin.t);
    double *out = op_array(fx, tensor_count(twin.t));
    for (int64_t i = 0; i < tensor_count(twin.t); i++)
        out[i] = get(host, twin.t.dtype, i);
    free(host);
    return out;
}

double *twin_abs(OpFixture *fx, Twin twin)
{
    if (!twin.ref)
        return NULL;
    double *out = op_array(fx, tensor_count(twin.t));
    for (int64_t i = 0; i < tensor_count(twin.t); i++)
        out[i] = fabs(twin.ref[i]);
    return out;
}

/* ---- twins ------------------------------------------------------------------------------- */

static Twin twin_make(OpFixture *fx, DType dtype, int64_t rows, int64_t cols)
{
    Tensor t = tensor_2d(NULL, dtype, rows, cols);
    t.data = guarded_alloc(fx, tensor_bytes(t));
    return (Twin){t, op_array(fx, rows * cols)};
}

Twin twin_filled(OpFixture *fx, DType dtype, int64_t rows, int64_t cols, double value)
{
    Twin twin = twin_make(fx, dtype, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        twin.ref[i] = value;
    twin_push(fx, twin);
    return twin;
}

Twin twin_garbage(OpFixture *fx, DType dtype, int64_t rows, int64_t cols)
{
    return twin_filled(fx, dtype, rows, cols, NAN);
}

static const uint64_t SEED = 20240229;

Twin twin_normal(OpFixture *fx, DType dtype, int64_t rows, int64_t cols, double stddev)
{
    Twin twin = twin_make(fx, dtype, rows, cols);
    int64_t n = rows * cols;
    float *values = host_bytes((size_t)n * sizeof *values);
    rng_fill_normal(values, n, (float)stddev, SEED, RNG_INIT, fx->n_random++);
    for (int64_t i = 0; i < n; i++)
        twin.ref[i] = (double)values[i];
    free(values);
    twin_push(fx, twin);
    return twin;
}

Twin twin_below(OpFixture *fx, int64_t rows, int64_t cols, int64_t n)
{
    Twin twin = twin_make(fx, DTYPE_I32, rows, cols);
    uint64_t stream = fx->n_random++;
    for (int64_t i = 0; i < rows * cols; i++)
        twin.ref[i] = (double)rng_below(SEED, RNG_DATA, stream, (uint64_t)i, (uint64_t)n);
    twin_push(fx, twin);
    return twin;
}

Twin twin_copy(OpFixture *fx, Twin other)
{
    Twin twin =
        twin_make(fx, other.t.dtype, other.t.dim[0], tensor_count(other.t) / other.t.dim[0]);
    memcpy(twin.ref, other.ref, (size_t)tensor_count(other.t) * sizeof *twin.ref);
    twin_push(fx, twin);
    return twin;
}

Twin twin_unaligned(OpFixture *fx, Twin other)
{
    int64_t n = tensor_count(other.t), rows = other.t.dim[0];
    Twin room = twin_make(fx, other.t.dtype, n + 1, 1);
    Twin twin = {tensor_as_2d(tensor_range(room.t, 1, n), rows, n / rows), room.ref};
    memcpy(twin.ref, other.ref, (size_t)n * sizeof *twin.ref);
    twin_push(fx, twin);
    return twin;
}

Twin twin_none(void)
{
    return (Twin){tensor_none(), NULL};
}

/* ---- checks ------------------------------------------------------------------------------ */

void check_twins_same(OpFixture *fx, Twin got, Twin wanted, const char *what, const char *file,
                      int line)
{
    void *a = pull_bytes(&fx->dev, got.t), *b = pull_bytes(&fx->dev, wanted.t);
    check_same_bits(a, b, tensor_count(got.t), dtype_bytes(got.t.dtype), what, file, line);
    free(a);
    free(b);
}

/* One run from the outputs' ref values on a device of its own with n_threads. */
static void run_with_threads(OpFixture *fx, int32_t n_threads, OpCall *call, void *arg,
                             const Twin *output, int32_t n_outputs)
{
    Device dev = {0};
    Tensor scratch = scratch_for(fx, n_threads);
    for (int32_t i = 0; i < n_outputs; i++)
        twin_push(fx, output[i]);
    MUST(device_open(&dev, &(DeviceArgs){.kind = fx->dev.kind, .n_threads = n_threads}));
    device_set_workspace(&dev, scratch);
    call(&dev, arg);
    MUST(device_sync(&dev));
    device_close(&dev);
}

enum { MAX_OUTPUTS = 8 };

/* *first = the tensor's bytes in run 0; the same bits are wanted in the others. */
static void keep_or_compare(OpFixture *fx, Tensor t, int32_t run, void **first, const char *what,
                            const char *file, int line)
{
    void *now = pull_bytes(&fx->dev, t);
    if (run == 0) {
        *first = now;
        return;
    }
    check_same_bits(now, *first, tensor_count(t), dtype_bytes(t.dtype), what, file, line);
    free(now);
}

void check_repeats(OpFixture *fx, OpCall *call, void *arg, const Twin *output, int32_t n_outputs,
                   const char *file, int line)
{
    const int32_t *n_threads = fx->variant->repeats;
    void *first[MAX_OUTPUTS];
    ASSERT(n_outputs <= MAX_OUTPUTS, "%d outputs", (int)n_outputs);
    for (int32_t run = 0; run < OP_MAX_REPEATS && n_threads[run]; run++) {
        run_with_threads(fx, n_threads[run], call, arg, output, n_outputs);
        for (int32_t i = 0; i < n_outputs; i++) {
            char what[64];
            snprintf(what, sizeof what, "output %d, run %d with %d threads", (int)i, (int)run,
                     (int)n_threads[run]);
            keep_or_compare(fx, output[i].t, run, &first[i], what, file, line);
        }
    }
    for (int32_t i = 0; i < n_outputs; i++)
        free(first[i]);
}

static double inner(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* sum(weight * output) at input = base + h * direction. */
static double value_at(OpFixture *fx, const Difference *d, const double *base,
                       const double *direction, double h)
{
    int64_t n = tensor_count(d->input.t);
    for (int64_t i = 0; i < n; i++)
        d->input.ref[i] = base[i] + h * direction[i];
    twin_push(fx, d->input);
    d->forward(&fx->dev, d->arg);
    return inner(d->weight.ref, twin_pull(fx, d->output), tensor_count(d->output.t));
}

void check_difference(OpFixture *fx, const Difference *d, const char *file, int line)
{
    if (fx->dtype != DTYPE_F32)
        skip();
    int64_t n = tensor_count(d->input.t), n_out = tensor_count(d->output.t);
    double h = cbrt(unit_roundoff(d->input.t.dtype)), *base = op_array(fx, n);
    double *direction = twin_normal(fx, DTYPE_F32, n, 1, 1).ref;
    memcpy(base, d->input.ref, (size_t)n * sizeof *base);
    double up = value_at(fx, d, base, direction, h), down = value_at(fx, d, base, direction, -h);
    double slope = (up - down) / (2 * h), wanted = inner(d->gradient, direction, n);
    memcpy(d->input.ref, base, (size_t)n * sizeof *base);
    twin_push(fx, d->input);
    double *out = twin_pull(fx, d->output);
    double size = sqrt(inner(d->gradient, d->gradient, n) * inner(direction, direction, n)) +
                  sqrt(inner(d->weight.ref, d->weight.ref, n_out) * inner(out, out, n_out));
    check_close(&slope, &wanted, 1, tolerance_difference(size), "slope", file, line);
}

/* ---- main -------------------------------------------------------------------------------- */

static const OpVariant VARIANTS[] = {
    {"cpu", DEVICE_CPU, DTYPE_F32, {1, 1, 2, 3}},
    {"cuda-f32", DEVICE_CUDA, DTYPE_F32, {1, 1, 1}},
    {"cuda-bf16", DEVICE_CUDA, DTYPE_BF16, {1, 1, 1}},
    {"cuda-f16", DEVICE_CUDA, DTYPE_F16, {1, 1, 1}},
};
enum { N_VARIANTS = sizeof VARIANTS / sizeof *VARIANTS };

int op_setup(void **state)
{
    OpFixture *fx = host_bytes(sizeof *fx);
    fx->variant = *state;
    fx->dtype = fx->variant->dtype;
    MUST(device_open(&fx->dev, &(DeviceArgs){.kind = fx->variant->kind, .n_threads = 2}));
    *state = fx;
    return 0;
}

int op_teardown(void **state)
{
    OpFixture *fx = *state;
    int32_t n_broken = 0;
    for (int32_t i = 0; i < fx->n_memories; i++) {
        if (!guards_are_whole(fx, &fx->memory[i])) {
            print_error("tensor %d of the test (%zu bytes) was written outside\n", (int)i,
                        fx->memory[i].n_bytes);
            n_broken++;
        }
        device_free(&fx->dev, fx->memory[i].memory);
    }
    for (int32_t i = 0; i < fx->n_arrays; i++)
        free(fx->array[i]);
    device_close(&fx->dev);
    free(fx);
    return n_broken;
}

/* Does this device have the dtype? Old cards lack bfloat16. */
static bool has_dtype(const OpVariant *variant)
{
    Device dev;
    DeviceInfo info;
    if (variant->dtype != DTYPE_BF16)
        return true;
    MUST(device_open(&dev, &(DeviceArgs){.kind = variant->kind}));
    MUST(device_info(&dev, &info));
    device_close(&dev);
    return info.storage_dtype == DTYPE_BF16;
}

static int run_variant(const char *name, const OpVariant *variant, const struct CMUnitTest *tests,
                       size_t n_tests)
{
    const char *reason = "";
    bool here = device_available(variant->kind, &reason);
    if (!here || !has_dtype(variant)) {
        printf("skipped: %s on %s: %s\n", name, variant->name, here ? "not its dtype" : reason);
        return 0;
    }
    char title[64];
    snprintf(title, sizeof title, "%s on %s", name, variant->name);
    struct CMUnitTest *own = host_bytes(n_tests * sizeof *own);
    for (size_t i = 0; i < n_tests; i++) {
        own[i] = tests[i];
        own[i].initial_state = (void *)variant;
    }
    int n_failed = _cmocka_run_group_tests(title, own, n_tests, NULL, NULL);
    free(own);
    return n_failed;
}

int op_suite(const char *name, const struct CMUnitTest *tests, size_t n_tests)
{
    const char *only = getenv("GPT_OP_VARIANT");
    int n_failed = 0, n_chosen = 0;
    for (int32_t i = 0; i < N_VARIANTS; i++) {
        if (only && strncmp(only, VARIANTS[i].name, strlen(only)) != 0)
            continue;
        n_failed += run_variant(name, &VARIANTS[i], tests, n_tests);
        n_chosen++;
    }
    if (n_chosen == 0)
        print_error("GPT_OP_VARIANT=%s: no variant begins so\n", only);
    return n_chosen > 0 ? n_failed : 1;
}
