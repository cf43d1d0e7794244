/* AdamW's state in every form: on the device or visiting it in chunks, masters whole or in halves.
 * The form changes no bit. On the emulated GPU in every order of its streams, so that a missing
 * order between copies and updates is seen. */
#include <math.h>
#include <stdlib.h>

#include "optim/adamw.h"
#include "tests/optim/toy_layout.h"
#include "tests/support/check_err.h"
#include "tests/support/close.h"

enum { N_STEPS = 3 };

static const OptimConfig HYPER = {
    .learning_rate = 1e-2, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};

/* How the emulated GPU runs its streams; nothing to a real one. */
static const char *const STREAM_ORDERS[] = {"late", "early", "alternate", "eager"};
enum { N_ORDERS = 4 };

/* ---- one optimizer ----------------------------------------------------------------------- */

typedef struct {
    Device *dev; /* borrowed */
    Shard shard;
    AdamW opt;
    Tensor params, grads[N_STEPS];
    Tensor activations; /* f32, under the chunks, or small */
    Tensor seen, noise; /* as long as activations */
    void *memory, *host_memory;
} Owner;

static void carve(Owner *o, Arena *arena, DType dtype)
{
    int64_t count = o->shard.layout->count;
    size_t begin = arena_mark(arena);
    adamw_layout_chunks(&o->opt, arena);
    size_t end = arena_mark(arena);
    int64_t n = (int64_t)(end - begin) / 4;
    arena_rewind(arena, begin);
    o->activations = arena_1d(arena, REGION_ACTIVATIONS, "acts", DTYPE_F32, n > 0 ? n : 64);
    arena_forward(arena, end);
    n = tensor_count(o->activations);
    o->seen = arena_1d(arena, REGION_SCRATCH, "seen", DTYPE_F32, n);
    o->noise = arena_1d(arena, REGION_SCRATCH, "noise", DTYPE_F32, n);
    o->params = arena_1d(arena, REGION_PARAMETERS, "params", dtype, count);
    for (int32_t i = 0; i < N_STEPS; i++)
        o->grads[i] = arena_1d(arena, REGION_GRADIENTS, "grads", DTYPE_F32, count);
    adamw_layout(&o->opt, arena);
}

/* `bytes` of device or host memory, all ones: NaN in every dtype. */
static void *allocate(Device *dev, size_t n_bytes, bool on_host)
{
    void *memory = NULL, *ones = malloc(n_bytes + 1);
    assert_non_null(ones);
    memset(ones, 0xff, n_bytes);
    if (on_host) {
        check_no_err(device_alloc_host(dev, n_bytes, &memory));
        memcpy(memory, ones, n_bytes);
    } else {
        check_no_err(device_alloc(dev, n_bytes, &memory));
        device_upload(dev, tensor_1d(memory, DTYPE_U8, (int64_t)n_bytes), ones);
        check_no_err(device_sync(dev));
    }
    free(ones);
    return memory;
}

static void upload(Device *dev, Tensor t, const void *host)
{
    device_upload(dev, t, host);
    check_no_err(device_sync(dev));
}

/* Parameters of values (flat), and masters; moments zero. */
static void set_values(Owner *o, const float *values)
{
    const Layout *layout = o->shard.layout;
    size_t n_bytes = (size_t)layout->count * sizeof *values;
    float *rounded = malloc(n_bytes);
    assert_non_null(rounded);
    memcpy(rounded, values, n_bytes);
    f32_to_parameters(o->params.dtype, rounded, layout->count);
    upload(o->dev, o->params, rounded);
    free(rounded);
    check_no_err(adamw_reset(&o->opt, o->dev));
    for (int32_t i = 0; i < layout->n_params; i++)
        check_no_err(adamw_set_master(&o->opt, o->dev, i, values + layout->param[i].offset));
}

static void owner_open(Owner *o, Device *dev, const Layout *layout, int32_t rank, int32_t world,
                       DType dtype, AdamwForm form)
{
    Arena arena;
    *o = (Owner){.dev = dev};
    check_no_err(shard_make(&o->shard, layout, rank, world));
    adamw_init(&o->opt, &o->shard, &HYPER, form);
    arena_init(&arena, NULL, 0);
    adamw_layout_host(&o->opt, &arena);
    size_t host_bytes = arena.peak_bytes;
    assert_int_equal(host_bytes > 0, form.offload);
    o->host_memory = allocate(dev, host_bytes, true);
    arena_init(&arena, o->host_memory, host_bytes);
    adamw_layout_host(&o->opt, &arena);
    arena_init(&arena, NULL, 0);
    carve(o, &arena, dtype);
    size_t n_bytes = arena.peak_bytes;
    o->memory = allocate(dev, n_bytes, false);
    arena_init(&arena, o->memory, n_bytes);
    carve(o, &arena, dtype);
}

static void owner_close(Owner *o)
{
    shard_free(&o->shard);
    device_free(o->dev, o->memory);
    device_free_host(o->dev, o->host_memory);
    check_no_err(device_sync(o->dev));
}

/* Updates behind one another, with forwards and backwards around them: what writes activations and
 * looks at them before and after. The host waits at the end only. */
static void run_steps(Owner *o)
{
    for (int32_t i = 0; i < N_STEPS; i++) {
        device_copy(o->dev, o->activations, o->noise);
        device_copy(o->dev, o->seen, o->activations);
        adamw_update(&o->opt, o->dev, o->params, o->grads[i], 1e-2, 0.5, i + 1);
    }
    device_copy(o->dev, o->activations, o->noise);
    check_no_err(device_sync(o->dev));
}

/* What backward saw was not yet overwritten. */
static void check_seen(const Owner *o, const float *noise)
{
    int64_t n = tensor_count(o->seen);
    float *seen = malloc((size_t)n * sizeof *seen);
    assert_non_null(seen);
    device_download(o->dev, seen, o->seen);
    check_no_err(device_sync(o->dev));
    CHECK_SAME_BITS(seen, noise, n, sizeof *seen);
    free(seen);
}

static void train(Owner *o)
{
    const Layout *layout = o->shard.layout;
    int64_t n = tensor_count(o->activations);
    float *noise = malloc((size_t)n * sizeof *noise), *start = toy_random_values(layout, 7, 0.0f);
    assert_non_null(noise);
    rng_fill_normal(noise, n, 1.0f, 43, RNG_INIT, 0);
    set_values(o, start);
    upload(o->dev, o->noise, noise);
    for (int32_t i = 0; i < N_STEPS; i++) {
        float *grads = toy_random_values(layout, 100 + (uint64_t)i, NAN);
        upload(o->dev, o->grads[i], grads);
        free(grads);
    }
    run_steps(o);
    check_seen(o, noise);
    free(noise);
    free(start);
}

/* ---- comparing --------------------------------------------------------------------------- */

static void check_same_params(const Owner *a, const Owner *b)
{
    int64_t n = tensor_count(a->params);
    size_t width = dtype_bytes(a->params.dtype);
    void *x = malloc((size_t)n * width), *y = malloc((size_t)n * width);
    assert_true(x && y);
    device_download(a->dev, x, a->params);
    check_no_err(device_sync(a->dev));
    device_download(b->dev, y, b->params);
    check_no_err(device_sync(b->dev));
    CHECK_SAME_BITS(x, y, n, width);
    free(x);
    free(y);
}

/* The same values to whoever reads them. */
static void check_same_role(const Owner *a, const Owner *b, AdamwRole role)
{
    for (int32_t i = 0; i < a->shard.n_segments; i++) {
        const Segment *s = &a->shard.segment[i];
        float *x = malloc((size_t)s->count * sizeof *x), *y = malloc((size_t)s->count * sizeof *y);
        assert_true(x && y);
        check_no_err(adamw_read(&a->opt, a->dev, role, a->params, s->local, s->count, x));
        check_no_err(adamw_read(&b->opt, b->dev, role, b->params, s->local, s->count, y));
        CHECK_SAME_BITS(x, y, s->count, sizeof *x);
        free(x);
        free(y);
    }
}

static void check_same(const Owner *a, const Owner *b)
{
    check_same_params(a, b);
    check_same_role(a, b, ADAMW_M);
    check_same_role(a, b, ADAMW_V);
    if (a->opt.form.master != MASTER_NONE)
        check_same_role(a, b, ADAMW_MASTER);
}

typedef struct {
    DType dtype;
    AdamwMaster master, other; /* other: of the optimizer compared with */
} Kind;

static const Kind KINDS[] = {{DTYPE_F32, MASTER_NONE, MASTER_NONE},
                             {DTYPE_F16, MASTER_F32, MASTER_F32},
                             {DTYPE_BF16, MASTER_F32, MASTER_F32},
                             {DTYPE_BF16, MASTER_REMAINDER16, MASTER_F32}};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

/* A rank's training with its state on the device, and again in chunks of each size. */
static void compare_forms(Device *dev, const Layout *layout, int32_t rank, int32_t world, Kind kind)
{
    static const int64_t CHUNKS[] = {64, 448, 4096, 0}; /* 0: as usual, more than the shard */
    Owner whole, part;
    owner_open(&whole, dev, layout, rank, world, kind.dtype, (AdamwForm){.master = kind.other});
    train(&whole);
    for (size_t i = 0; i < sizeof CHUNKS / sizeof *CHUNKS; i++) {
        AdamwForm form = {kind.master, true, CHUNKS[i]};
        owner_open(&part, dev, layout, rank, world, kind.dtype, form);
        train(&part);
        check_same(&part, &whole);
        owner_close(&part);
    }
    owner_open(&part, dev, layout, rank, world, kind.dtype, (AdamwForm){.master = kind.master});
    train(&part);
    check_same(&part, &whole);
    owner_close(&part);
    owner_close(&whole);
}

static void open_kind(Device *dev, void **state)
{
    check_no_err(device_open(dev, &(DeviceArgs){.kind = *(const DeviceKind *)*state}));
}

static void the_form_changes_no_bit(void **state)
{
    enum { TRIALS = 5 };
    Device dev = {0};
    open_kind(&dev, state);
    for (int32_t order = 0; order < N_ORDERS; order++) {
        setenv("GPT_EMU_STREAMS", STREAM_ORDERS[order], 1);
        for (uint64_t trial = 0; trial < TRIALS; trial++) {
            int32_t world = 1 + (int32_t)(trial % 3);
            Layout layout = toy_random_layout(trial, world);
            for (int32_t i = 0; i < N_KINDS; i++)
                compare_forms(&dev, &layout, (int32_t)trial % world, world, KINDS[i]);
            layout_free(&layout);
        }
    }
    unsetenv("GPT_EMU_STREAMS");
    device_close(&dev);
}

/* ---- values in and out ------------------------------------------------------------------- */

/* Longer than the buffers that halves pass through. */
static void what_is_written_is_read(void **state)
{
    const ToyParam toy[2] = {{50, 50, 800, true, true}, {9, 7, 3, false, true}};
    Device dev = {0};
    open_kind(&dev, state);
    Layout layout = toy_layout(toy, 2, 1);
    float *values = toy_random_values(&layout, 5, 0.0f), *got = toy_random_values(&layout, 6, 0.0f);
    for (int32_t i = 0; i < 2 * N_KINDS; i++) {
        Owner o;
        Kind kind = KINDS[i / 2];
        AdamwForm form = {kind.master, i % 2, 1024};
        owner_open(&o, &dev, &layout, 0, 1, kind.dtype, form);
        set_values(&o, values);
        int64_t n = layout.bucket[0].count - 1;
        check_no_err(adamw_write(&o.opt, &dev, ADAMW_M, 1, n, values + 1));
        check_no_err(adamw_read(&o.opt, &dev, ADAMW_M, o.params, 1, n, got));
        CHECK_SAME_BITS(got, values + 1, n, sizeof *got);
        for (int64_t k = 0; k < layout.count; k++)
            got[k] = 1;
        check_no_err(adamw_read(&o.opt, &dev, ADAMW_V, o.params, 1, n, got));
        for (int64_t k = 0; k < n; k++)
            assert_true(got[k] == 0);
        if (kind.master != MASTER_NONE) {
            check_no_err(adamw_read(&o.opt, &dev, ADAMW_MASTER, o.params, 1, n, got));
            CHECK_SAME_BITS(got, values + 1, n, sizeof *got);
        }
        owner_close(&o);
    }
    free(values);
    free(got);
    layout_free(&layout);
    device_close(&dev);
}

/* ---- memory ------------------------------------------------------------------------------ */

static size_t measured(void (*layout_part)(AdamW *, Arena *), AdamW *opt)
{
    Arena arena;
    arena_init(&arena, NULL, 0);
    layout_part(opt, &arena);
    return arena.peak_bytes;
}

static void the_device_holds_two_chunks_and_no_more(void **state)
{
    (void)state;
    const ToyParam toy = {1000, 1000, 64, true, true};
    Layout layout = toy_layout(&toy, 1, 1);
    Shard shard;
    AdamW opt;
    check_no_err(shard_make(&shard, &layout, 0, 1));
    adamw_init(&opt, &shard, &HYPER, (AdamwForm){MASTER_REMAINDER16, true, 6400});
    assert_int_equal(measured(adamw_layout_host, &opt), 64000 * 10);
    assert_int_equal(measured(adamw_layout_chunks, &opt), 2 * 6400 * 10);
    assert_int_equal(measured(adamw_layout, &opt), ARENA_ALIGN_BYTES); /* the sum of squares */
    assert_int_equal(adamw_state_bytes(&opt), 64000 * 10);
    adamw_init(&opt, &shard, &HYPER, (AdamwForm){.master = MASTER_F32, .offload = true});
    assert_int_equal(measured(adamw_layout_chunks, &opt), 2 * 64000 * 12); /* the shard is less */
    adamw_init(&opt, &shard, &HYPER, (AdamwForm){.master = MASTER_F32});
    assert_int_equal(measured(adamw_layout_host, &opt), 0);
    assert_int_equal(measured(adamw_layout_chunks, &opt), 0);
    shard_free(&shard);
    layout_free(&layout);
}

/* ---- main -------------------------------------------------------------------------------- */

static int run_on(DeviceKind kind)
{
    const char *reason = "";
    if (!device_available(kind, &reason)) {
        printf("skipped: offload on %s: %s\n", device_kind_name(kind), reason);
        return 0;
    }
    struct CMUnitTest tests[] = {
        cmocka_unit_test(the_form_changes_no_bit),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_device_holds_two_chunks_and_no_more),
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i].initial_state = &kind;
    return _cmocka_run_group_tests(device_kind_name(kind), tests, sizeof tests / sizeof *tests,
                                   NULL, NULL);
}

int main(void)
{
    return run_on(DEVICE_CPU) + run_on(DEVICE_CUDA);
}
