/* Memory and initial parameters. */
#include "model/gpt2.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check_err.h"

#include "tests/support/tiny_gpt.h"

enum { B = 4, T = 16 };

/* A model's layout without memory; close_measured releases. */
typedef struct {
    Layout layout;
    GPT2 model;
    Arena arena;
} Measured;

static Measured *measure_at(GptDims dims, GptShape shape, void *base, size_t n_bytes)
{
    Measured *m = calloc(1, sizeof *m);
    assert_non_null(m);
    check_no_err(layout_make(&m->layout, &dims, 1000, 384));
    check_no_err(gpt2_open(&m->model, &dims, &shape, &m->layout));
    arena_init(&m->arena, base, n_bytes);
    gpt2_layout(&m->model, &m->arena);
    return m;
}

static Measured *measure(GptDims dims, GptShape shape)
{
    return measure_at(dims, shape, NULL, 0);
}

static void close_measured(Measured *m)
{
    gpt2_close(&m->model);
    layout_free(&m->layout);
    free(m);
}

static GptShape shape_with(Recompute recompute, bool training)
{
    GptShape shape = tiny_shape(B, T);
    shape.recompute = recompute_all(recompute, tiny_dims().n_layer);
    shape.training = training;
    return shape;
}

static const Region *find_region(const Arena *arena, const char *name)
{
    for (int32_t i = 0; i < arena->n_regions; i++)
        if (strcmp(arena->region[i].name, name) == 0)
            return &arena->region[i];
    return NULL;
}

/* ---- memory ------------------------------------------------------------------------------ */

static void carving_takes_exactly_what_was_measured(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        GptShape shape = shape_with(variant & 1 ? RECOMPUTE_GELU_LN : RECOMPUTE_NONE, variant & 2);
        Measured *plan = measure(tiny_dims(), shape);
        size_t n_bytes = plan->arena.peak_bytes;
        void *memory = aligned_alloc(ARENA_ALIGN_BYTES, n_bytes);
        assert_non_null(memory);
        Measured *real = measure_at(tiny_dims(), shape, memory, n_bytes);
        assert_int_equal(real->arena.peak_bytes, n_bytes);
        assert_int_equal(real->arena.used_bytes, plan->arena.used_bytes);
        assert_int_equal(real->arena.n_regions, plan->arena.n_regions);
        assert_memory_equal(real->arena.region, plan->arena.region,
                            (size_t)plan->arena.n_regions * sizeof(Region));
        free(memory);
        close_measured(plan);
        close_measured(real);
    }
}

static void measuring_again_gives_the_same(void **state)
{
    (void)state;
    Measured *m = measure(tiny_dims(), shape_with(RECOMPUTE_GELU_LN, true));
    size_t n_bytes = m->arena.peak_bytes;
    arena_init(&m->arena, NULL, 0);
    gpt2_layout(&m->model, &m->arena);
    assert_int_equal(m->arena.peak_bytes, n_bytes);
    close_measured(m);
}

static bool is_overlay(const Region *r)
{
    return strcmp(r->name, "wide") == 0 || strcmp(r->name, "logits") == 0;
}

/* Whichever of the two is larger, what comes after lies behind both. */
static void only_logits_and_wide_share_memory(void **state)
{
    (void)state;
    for (int64_t chunk = 1; chunk <= B * T; chunk += B * T - 1) {
        GptShape shape = shape_with(RECOMPUTE_GELU_LN, true);
        shape.head_chunk = chunk;
        Measured *m = measure(tiny_dims(), shape);
        const Arena *a = &m->arena;
        assert_int_equal(a->used_bytes, a->peak_bytes);
        for (int32_t i = 0; i < a->n_regions; i++)
            for (int32_t j = 0; j < i; j++) {
                const Region *x = &a->region[i], *y = &a->region[j];
                bool apart = x->offset >= y->offset + y->bytes || y->offset >= x->offset + x->bytes;
                assert_true(apart || (is_overlay(x) && is_overlay(y)));
            }
        close_measured(m);
    }
}

/* Buffers of (N,C) among activations and scratch: notes on memory count 10 L + 7 and 16 L + 7. */
static int64_t count_c_buffers(const Measured *m)
{
    int64_t elements = 0, C = m->model.dims.n_embd;
    for (int32_t i = 0; i < m->arena.n_regions; i++) {
        const Region *r = &m->arena.region[i];
        if ((r->group == REGION_ACTIVATIONS || r->group == REGION_SCRATCH) && r->rank == 2)
            elements += r->dim[0] * r->dim[1];
    }
    assert_int_equal(elements % (B * T * C), 0);
    return elements / (B * T * C);
}

static void activations_are_as_few_as_promised(void **state)
{
    static const struct {
        int64_t per_block, beside;
    } promised[] = {{16, 7}, {10, 7}, {6, 11}, {3, 14}, {1, 16}}; /* recompute.h, acts.h */
    (void)state;
    GptDims dims = tiny_dims();
    for (int32_t level = 0; level < N_RECOMPUTES; level++)
        for (dims.n_layer = 1; dims.n_layer < 5; dims.n_layer++) {
            GptShape shape = tiny_shape(B, T);
            shape.recompute = recompute_all((Recompute)level, dims.n_layer);
            Measured *m = measure(dims, shape);
            assert_int_equal(count_c_buffers(m),
                             promised[level].per_block * dims.n_layer + promised[level].beside);
            close_measured(m);
        }
}

static void inference_keeps_one_layer_and_no_gradients(void **state)
{
    (void)state;
    GptDims two = tiny_dims(), ten = tiny_dims();
    ten.n_layer = 10;
    Measured *a = measure(two, shape_with(RECOMPUTE_NONE, false));
    Measured *b = measure(ten, shape_with(RECOMPUTE_NONE, false));
    assert_int_equal(count_c_buffers(a), count_c_buffers(b));
    assert_null(find_region(&a->arena, "grads"));
    assert_false(tensor_count(a->model.grads) > 0 && tensor_present(a->model.grads));
    close_measured(a);
    close_measured(b);
}

static void storage_dtype_halves_parameters_not_gradients(void **state)
{
    (void)state;
    GptShape shape = shape_with(RECOMPUTE_GELU_LN, true);
    shape.dtype = DTYPE_BF16;
    Measured *m = measure(tiny_dims(), shape);
    assert_int_equal(find_region(&m->arena, "params")->dtype, DTYPE_BF16);
    assert_int_equal(find_region(&m->arena, "h.*.qkv")->dtype, DTYPE_BF16);
    assert_int_equal(find_region(&m->arena, "grads")->dtype, DTYPE_F32);
    assert_int_equal(find_region(&m->arena, "h.*.lse")->dtype, DTYPE_F32);
    close_measured(m);
}

/* ---- initial parameters ------------------------------------------------------------------ */

static void check_normal(const Param *p, const float *values, double stddev)
{
    double sum = 0, squares = 0, n = (double)param_file_count(p);
    for (int64_t i = 0; i < param_file_count(p); i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    assert_true(fabs(sum / n) < 4 * stddev / sqrt(n));
    assert_true(fabs(squares / n - stddev * stddev) < 4 * stddev * stddev * sqrt(2 / n));
}

static double wanted_stddev(const Param *p, int32_t n_layer)
{
    bool is_projection = strstr(p->name, "c_proj") != NULL;
    return is_projection ? 0.02 / sqrt(2.0 * n_layer) : 0.02;
}

static void initial_values_are_nanogpts(void **state)
{
    (void)state;
    TinyGpt t;
    GptDims dims = tiny_dims();
    tiny_open(&t, dims, tiny_shape(1, 4));
    check_no_err(gpt2_init_params(&t.model, &t.dev, 1337, NULL, NULL));
    float *values = tiny_read(&t, t.model.params);
    for (int32_t i = 0; i < t.layout.n_params; i++) {
        const Param *p = &t.layout.param[i];
        bool is_gain = p->rank == 1 && strstr(p->name, "weight");
        if (p->rank == 2)
            check_normal(p, values + p->offset, wanted_stddev(p, dims.n_layer));
        else
            for (int64_t j = 0; j < param_count(p); j++)
                assert_true(values[p->offset + j] == (is_gain ? 1.0f : 0.0f));
    }
    free(values);
    tiny_close(&t);
}

static void padded_rows_start_at_zero(void **state)
{
    (void)state;
    TinyGpt t;
    GptDims dims = tiny_dims();
    tiny_open(&t, dims, tiny_shape(1, 4));
    check_no_err(gpt2_init_params(&t.model, &t.dev, 1337, NULL, NULL));
    float *wte = tiny_read(&t, t.model.param.wte);
    for (int64_t i = dims.vocab_size * dims.n_embd; i < dims.vocab_padded * dims.n_embd; i++)
        assert_true(wte[i] == 0.0f);
    free(wte);
    tiny_close(&t);
}

static void initial_values_do_not_depend_on_buckets(void **state)
{
    (void)state;
    TinyGpt t;
    GptDims dims = tiny_dims();
    tiny_open(&t, dims, tiny_shape(1, 4));
    check_no_err(gpt2_init_params(&t.model, &t.dev, 5, NULL, NULL));
    Layout other;
    check_no_err(layout_make(&other, &dims, 1 << 20, 128));
    for (int32_t i = 0; i < other.n_params; i++) {
        const Param *p = &other.param[i];
        int64_t n = param_count(p);
        float *want = malloc((size_t)n * sizeof *want);
        assert_non_null(want);
        gpt2_init_tensor(&dims, p, i, 5, want);
        float *got = tiny_read(&t, tensor_range(t.model.params, t.layout.param[i].offset, n));
        assert_memory_equal(got, want, (size_t)n * sizeof *want);
        free(want);
        free(got);
    }
    layout_free(&other);
    tiny_close(&t);
}

static void tensors_and_seeds_have_values_of_their_own(void **state)
{
    (void)state;
    GptDims dims = tiny_dims();
    Param p = {.kind = PARAM_FC_W, .rank = 2, .dim = {24, 96}, .file_rows = 24};
    float values[3][24 * 96];
    gpt2_init_tensor(&dims, &p, 1, 5, values[0]);
    gpt2_init_tensor(&dims, &p, 2, 5, values[1]);
    gpt2_init_tensor(&dims, &p, 1, 6, values[2]);
    assert_memory_not_equal(values[0], values[1], 64);
    assert_memory_not_equal(values[0], values[2], 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carving_takes_exactly_what_was_measured),
        cmocka_unit_test(measuring_again_gives_the_same),
        cmocka_unit_test(only_logits_and_wide_share_memory),
        cmocka_unit_test(activations_are_as_few_as_promised),
        cmocka_unit_test(inference_keeps_one_layer_and_no_gradients),
        cmocka_unit_test(storage_dtype_halves_parameters_not_gradients),
        cmocka_unit_test(initial_values_are_nanogpts),
        cmocka_unit_test(padded_rows_start_at_zero),
        cmocka_unit_test(initial_values_do_not_depend_on_buckets),
        cmocka_unit_test(tensors_and_seeds_have_values_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
