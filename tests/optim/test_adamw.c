/* AdamW over shards: cut over any number of ranks it is the update of the whole, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "optim/adamw.h"
#include "tests/optim/toy_layout.h"
#include "tests/support/check_err.h"

enum { N_TRIALS = 60, N_STEPS = 3, MAX_WORLD = 5 };

static const OptimConfig HYPER = {
    .learning_rate = 1e-2, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};

static Device open_cpu(void)
{
    Device dev = {0};
    check_no_err(device_open(&dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = 1}));
    return dev;
}

/* ---- vectors and owners ------------------------------------------------------------------ */

/* toy_random_values as a flat vector. Free .data. */
static Tensor random_vector(const Layout *layout, uint64_t stream, float padding)
{
    return tensor_1d(toy_random_values(layout, stream, padding), DTYPE_F32, layout->count);
}

/* The same values as bfloat16, rounded. Free .data. */
static Tensor as_bf16(Tensor x)
{
    int64_t n = tensor_count(x);
    uint16_t *bits = malloc((size_t)n * sizeof *bits);
    assert_non_null(bits);
    for (int64_t i = 0; i < n; i++)
        bits[i] = bf16_from_f32(((const float *)x.data)[i]);
    return tensor_1d(bits, DTYPE_BF16, n);
}

static Tensor copy_of(Tensor x)
{
    Tensor copy = x;
    copy.data = malloc(tensor_bytes(x));
    assert_non_null(copy.data);
    memcpy(copy.data, x.data, tensor_bytes(x));
    return copy;
}

/* One rank's optimizer and its whole copy of the parameters. */
typedef struct {
    Shard shard;
    AdamW opt;
    Tensor params;
    void *memory;
} Owner;

/* The master weights start as the parameters do. */
static void start_master(Owner *o, Device *dev)
{
    const Layout *layout = o->shard.layout;
    float *values = malloc((size_t)layout->count * sizeof *values);
    assert_non_null(values);
    op_convert(dev, tensor_1d(values, DTYPE_F32, layout->count), o->params);
    for (int32_t i = 0; i < layout->n_params; i++)
        check_no_err(adamw_set_master(&o->opt, dev, i, values + layout->param[i].offset));
    free(values);
}

static void owner_open_as(Owner *o, Device *dev, const Layout *layout, int32_t rank, int32_t world,
                          Tensor params, AdamwMaster master)
{
    Arena arena;
    check_no_err(shard_make(&o->shard, layout, rank, world));
    adamw_init(&o->opt, &o->shard, &HYPER, (AdamwForm){.master = master});
    arena_init(&arena, NULL, 0);
    adamw_layout(&o->opt, &arena);
    size_t n_bytes = arena.peak_bytes;
    check_no_err(device_alloc(dev, n_bytes, &o->memory));
    memset(o->memory, 0xFF, n_bytes); /* NaN everywhere: adamw_reset has to see to it */
    arena_init(&arena, o->memory, n_bytes);
    adamw_layout(&o->opt, &arena);
    o->params = copy_of(params);
    check_no_err(adamw_reset(&o->opt, dev));
    if (master != MASTER_NONE)
        start_master(o, dev);
}

static void owner_open(Owner *o, Device *dev, const Layout *layout, int32_t rank, int32_t world,
                       Tensor params)
{
    owner_open_as(o, dev, layout, rank, world, params,
                  params.dtype == DTYPE_F32 ? MASTER_NONE : MASTER_F32);
}

static void owner_close(Owner *o, Device *dev)
{
    shard_free(&o->shard);
    device_free(dev, o->memory);
    free(o->params.data);
}

/* What an all-gather does: `from`'s own slices reach `to`. */
static void copy_slices(Device *dev, const Owner *from, Owner *to)
{
    for (int32_t b = 0; b < from->shard.layout->n_buckets; b++) {
        int64_t flat = shard_slice_flat(&from->shard, b), n = shard_slice_count(&from->shard, b);
        device_copy(dev, tensor_range(to->params, flat, n), tensor_range(from->params, flat, n));
    }
}

static void publish(Device *dev, Owner *owner, int32_t world)
{
    for (int32_t from = 0; from < world; from++)
        for (int32_t to = 0; to < world; to++)
            if (from != to)
                copy_slices(dev, &owner[from], &owner[to]);
}

/* ---- sharded and whole ------------------------------------------------------------------- */

static void check_same(Tensor a, Tensor b)
{
    const uint8_t *x = a.data, *y = b.data;
    for (size_t i = 0; i < tensor_bytes(a); i++)
        if (x[i] != y[i])
            fail_msg("byte %zu of %zu differs", i, tensor_bytes(a));
}

/* N_STEPS of one optimizer over everything and of `world` over their shards, from the same
 * gradients. */
static void compare_with_whole(const Layout *layout, int32_t world, Tensor start)
{
    Device dev = open_cpu();
    Owner whole, part[MAX_WORLD];
    owner_open(&whole, &dev, layout, 0, 1, start);
    for (int32_t r = 0; r < world; r++)
        owner_open(&part[r], &dev, layout, r, world, start);
    for (int64_t step = 1; step <= N_STEPS; step++) {
        Tensor grads = random_vector(layout, 100 + (uint64_t)step, NAN);
        adamw_update(&whole.opt, &dev, whole.params, grads, 1e-2, 0.5, step);
        for (int32_t r = 0; r < world; r++)
            adamw_update(&part[r].opt, &dev, part[r].params, grads, 1e-2, 0.5, step);
        publish(&dev, part, world);
        free(grads.data);
    }
    check_no_err(device_sync(&dev));
    for (int32_t r = 0; r < world; r++) {
        check_same(part[r].params, whole.params);
        owner_close(&part[r], &dev);
    }
    owner_close(&whole, &dev);
    device_close(&dev);
}

static void test_sharded_is_unsharded_bit_for_bit(void **state)
{
    (void)state;
    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        int32_t world = 1 + (int32_t)(trial % MAX_WORLD);
        Layout layout = toy_random_layout(trial, world);
        Tensor start = random_vector(&layout, trial, 0.0f);
        compare_with_whole(&layout, world, start);
        free(start.data);
        layout_free(&layout);
    }
}

static void test_sharded_master_weights_too(void **state)
{
    (void)state;
    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        int32_t world = 1 + (int32_t)(trial % MAX_WORLD);
        Layout layout = toy_random_layout(trial, world);
        Tensor wide = random_vector(&layout, trial, 0.0f), start = as_bf16(wide);
        compare_with_whole(&layout, world, start);
        free(wide.data);
        free(start.data);
        layout_free(&layout);
    }
}

/* The shard vectors m and v of a rank are what the whole has at its slices. */
static void test_moments_lie_where_the_slices_say(void **state)
{
    (void)state;
    Device dev = open_cpu();
    Layout layout = toy_random_layout(3, 3);
    Tensor start = random_vector(&layout, 3, 0.0f), grads = random_vector(&layout, 4, NAN);
    Owner whole, part;
    owner_open(&whole, &dev, &layout, 0, 1, start);
    adamw_update(&whole.opt, &dev, whole.params, grads, 1e-2, 1.0, 1);
    for (int32_t r = 0; r < 3; r++) {
        owner_open(&part, &dev, &layout, r, 3, start);
        adamw_update(&part.opt, &dev, part.params, grads, 1e-2, 1.0, 1);
        for (int32_t b = 0; b < layout.n_buckets; b++) {
            int64_t n = shard_slice_count(&part.shard, b);
            int64_t local = shard_slice_local(&part.shard, b);
            int64_t flat = shard_slice_flat(&part.shard, b);
            check_same(tensor_range(part.opt.state.m, local, n),
                       tensor_range(whole.opt.state.m, flat, n));
            check_same(tensor_range(part.opt.state.v, local, n),
                       tensor_range(whole.opt.state.v, flat, n));
        }
        owner_close(&part, &dev);
    }
    owner_close(&whole, &dev);
    free(start.data);
    free(grads.data);
    layout_free(&layout);
    device_close(&dev);
}

/* ---- padding, norm, decay ---------------------------------------------------------------- */

static void check_padding_is_zero(const Layout *layout, Tensor x)
{
    uint8_t *is_real = malloc((size_t)layout->count);
    assert_non_null(is_real);
    toy_mark_real(layout, is_real);
    for (int64_t i = 0; i < layout->count; i++)
        if (!is_real[i] && ((const float *)x.data)[i] != 0.0f)
            fail_msg("padding element %lld: %g", (long long)i, (double)((const float *)x.data)[i]);
    free(is_real);
}

static void test_padding_stays_zero(void **state)
{
    (void)state;
    Device dev = open_cpu();
    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        Layout layout = toy_random_layout(trial, 1);
        Tensor start = random_vector(&layout, 1, 0.0f), grads = random_vector(&layout, 2, 5.0f);
        Owner o;
        owner_open(&o, &dev, &layout, 0, 1, start);
        adamw_update(&o.opt, &dev, o.params, grads, 1e-2, 1.0, 1);
        check_padding_is_zero(&layout, o.params);
        check_padding_is_zero(&layout, o.opt.state.m);
        check_padding_is_zero(&layout, o.opt.state.v);
        owner_close(&o, &dev);
        free(start.data);
        free(grads.data);
        layout_free(&layout);
    }
    device_close(&dev);
}

static int64_t real_count(const Layout *layout)
{
    int64_t n = 0;
    for (int32_t i = 0; i < layout->n_params; i++)
        n += layout->param[i].file_rows * layout->param[i].dim[1];
    return n;
}

/* The sum over ranks of their shares, each of a disjoint part; a NaN in the padding would show. */
static double sum_squares_over(Device *dev, const Layout *layout, int32_t world, Tensor grads)
{
    double total = 0;
    Owner o;
    owner_open(&o, dev, layout, 0, 1, grads); /* zero_stage 0: owns all, counts its part */
    for (int32_t r = 0; r < world; r++) {
        Shard part;
        check_no_err(shard_make(&part, layout, r, world));
        adamw_sum_squares(&o.opt, dev, grads, &part);
        total += *(const double *)o.opt.sum_squares.data;
        shard_free(&part);
    }
    owner_close(&o, dev);
    return total;
}

static void test_norm_counts_each_element_once(void **state)
{
    (void)state;
    Device dev = open_cpu();
    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        int32_t world = 1 + (int32_t)(trial % 9);
        Layout layout = toy_random_layout(trial, world);
        Tensor grads = random_vector(&layout, trial, NAN);
        for (int64_t i = 0; i < layout.count; i++)
            if (!isnan(((float *)grads.data)[i]))
                ((float *)grads.data)[i] = -2.0f;
        double total = sum_squares_over(&dev, &layout, world, grads);
        assert_true(total == 4.0 * (double)real_count(&layout));
        free(grads.data);
        layout_free(&layout);
    }
    device_close(&dev);
}

static void test_norm_is_a_new_sum_each_time(void **state)
{
    (void)state;
    Device dev = open_cpu();
    Layout layout = toy_random_layout(5, 1);
    Tensor grads = random_vector(&layout, 5, 0.0f);
    Owner o;
    owner_open(&o, &dev, &layout, 0, 1, grads);
    adamw_sum_squares(&o.opt, &dev, grads, &o.shard);
    double first = *(const double *)o.opt.sum_squares.data;
    adamw_sum_squares(&o.opt, &dev, grads, &o.shard);
    assert_true(*(const double *)o.opt.sum_squares.data == first);
    owner_close(&o, &dev);
    free(grads.data);
    layout_free(&layout);
    device_close(&dev);
}

/* Without gradient AdamW leaves nothing but the decay: p (1 - lr * weight_decay), or p. */
static void test_decay_is_by_tensor(void **state)
{
    (void)state;
    Device dev = open_cpu();
    const ToyParam toy[2] = {{3, 3, 5, true, false}, {7, 7, 1, false, true}};
    Layout layout = toy_layout(toy, 2, 1);
    Tensor start = random_vector(&layout, 6, 0.0f), grads = copy_of(start);
    memset(grads.data, 0, tensor_bytes(grads));
    Owner o;
    owner_open(&o, &dev, &layout, 0, 1, start);
    adamw_update(&o.opt, &dev, o.params, grads, 0.5, 1.0, 1);
    for (int32_t p = 0; p < 2; p++)
        for (int64_t k = 0; k < toy[p].rows * toy[p].cols; k++) {
            int64_t i = layout.param[p].offset + k;
            float was = ((const float *)start.data)[i], is = ((const float *)o.params.data)[i];
            float wanted = p == 0 ? was * (float)(1 - 0.5 * 0.1) : was;
            assert_true(fabsf(is - wanted) <= 1e-7f * fabsf(was));
            assert_true(p == 0 || is == was);
        }
    owner_close(&o, &dev);
    free(start.data);
    free(grads.data);
    layout_free(&layout);
    device_close(&dev);
}

/* Two steps by hand in double, clipping factor included. */
static void test_two_steps_by_the_formula(void **state)
{
    (void)state;
    Device dev = open_cpu();
    const ToyParam toy = {1, 1, 1, true, true};
    Layout layout = toy_layout(&toy, 1, 1);
    Tensor start = random_vector(&layout, 8, 0.0f), grads = copy_of(start);
    Owner o;
    owner_open(&o, &dev, &layout, 0, 1, start);
    double p = *(const float *)start.data, m = 0, v = 0;
    for (int64_t step = 1; step <= 2; step++) {
        double lr = 0.01 * (double)step, g = 0.3f * (float)step;
        *(float *)grads.data = (float)g;
        adamw_update(&o.opt, &dev, o.params, grads, lr, 0.25, step);
        g *= 0.25;
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        p -= lr * 0.1 * p;
        p -= lr * (m / (1 - pow(0.9, (double)step))) /
             (sqrt(v / (1 - pow(0.95, (double)step))) + 1e-8);
    }
    assert_true(fabs(*(const float *)o.params.data - p) <= 1e-6 * fabs(p));
    owner_close(&o, &dev);
    free(start.data);
    free(grads.data);
    layout_free(&layout);
    device_close(&dev);
}

/* ---- memory ------------------------------------------------------------------------------ */

static size_t state_bytes(int32_t world, AdamwMaster master, size_t *arena_bytes)
{
    const ToyParam toy = {1000, 1000, 64, true, true}; /* 64000 = 1000 * 64 elements */
    Layout layout = toy_layout(&toy, 1, 4);
    Shard shard;
    AdamW opt;
    Arena arena;
    check_no_err(shard_make(&shard, &layout, 0, world));
    adamw_init(&opt, &shard, &HYPER, (AdamwForm){.master = master});
    arena_init(&arena, NULL, 0);
    adamw_layout(&opt, &arena);
    *arena_bytes = arena.peak_bytes;
    size_t bytes = adamw_state_bytes(&opt);
    shard_free(&shard);
    layout_free(&layout);
    return bytes;
}

static void test_state_is_8_10_or_12_bytes_per_owned_element(void **state)
{
    (void)state;
    size_t arena_bytes = 0;
    assert_int_equal(state_bytes(1, MASTER_NONE, &arena_bytes), 64000 * 8);
    assert_int_equal(arena_bytes, 64000 * 8 + ARENA_ALIGN_BYTES); /* and the sum of squares */
    assert_int_equal(state_bytes(1, MASTER_REMAINDER16, &arena_bytes), 64000 * 10);
    assert_int_equal(arena_bytes, 64000 * 10 + ARENA_ALIGN_BYTES);
    assert_int_equal(state_bytes(1, MASTER_F32, &arena_bytes), 64000 * 12);
    assert_int_equal(arena_bytes, 64000 * 12 + ARENA_ALIGN_BYTES);
}

static void test_four_ranks_hold_a_quarter_each(void **state)
{
    (void)state;
    size_t arena_bytes = 0;
    assert_int_equal(state_bytes(4, MASTER_NONE, &arena_bytes), 64000 * 8 / 4);
    assert_int_equal(arena_bytes, 64000 * 8 / 4 + ARENA_ALIGN_BYTES);
}

static void test_master_starts_as_the_parameters(void **state)
{
    (void)state;
    Device dev = open_cpu();
    Layout layout = toy_random_layout(9, 2);
    Tensor wide = random_vector(&layout, 9, 0.0f), start = as_bf16(wide);
    for (int32_t r = 0; r < 2; r++) {
        Owner o;
        owner_open(&o, &dev, &layout, r, 2, start);
        const float *master = o.opt.state.master.data;
        const uint16_t *bits = start.data;
        for (int32_t b = 0; b < layout.n_buckets; b++)
            for (int64_t i = 0; i < shard_slice_count(&o.shard, b); i++)
                assert_true(master[shard_slice_local(&o.shard, b) + i] ==
                            bf16_to_f32(bits[shard_slice_flat(&o.shard, b) + i]));
        owner_close(&o, &dev);
    }
    free(wide.data);
    free(start.data);
    layout_free(&layout);
    device_close(&dev);
}

/* Updates far below bfloat16's resolution add up in the master: without it nothing would ever move.
 */
static void test_master_keeps_small_updates(void **state)
{
    (void)state;
    Device dev = open_cpu();
    const ToyParam toy = {1, 1, 1, false, true};
    Layout layout = toy_layout(&toy, 1, 1);
    Tensor wide = random_vector(&layout, 1, 0.0f);
    *(float *)wide.data = 1.0f;
    Tensor start = as_bf16(wide);
    Owner o;
    owner_open(&o, &dev, &layout, 0, 1, start);
    for (int64_t step = 1; step <= 100; step++)
        adamw_update(&o.opt, &dev, o.params, wide, 1e-4, 1.0, step);
    assert_true(fabsf(*(const float *)o.opt.state.master.data - 0.99f) < 1e-5f);
    assert_true(fabsf(bf16_to_f32(*(const uint16_t *)o.params.data) - 0.99f) < 0.004f);
    owner_close(&o, &dev);
    free(wide.data);
    free(start.data);
    layout_free(&layout);
    device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sharded_is_unsharded_bit_for_bit),
        cmocka_unit_test(test_sharded_master_weights_too),
        cmocka_unit_test(test_moments_lie_where_the_slices_say),
        cmocka_unit_test(test_padding_stays_zero),
        cmocka_unit_test(test_norm_counts_each_element_once),
        cmocka_unit_test(test_norm_is_a_new_sum_each_time),
        cmocka_unit_test(test_decay_is_by_tensor),
        cmocka_unit_test(test_two_steps_by_the_formula),
        cmocka_unit_test(test_state_is_8_10_or_12_bytes_per_owned_element),
        cmocka_unit_test(test_four_ranks_hold_a_quarter_each),
        cmocka_unit_test(test_master_starts_as_the_parameters),
        cmocka_unit_test(test_master_keeps_small_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
