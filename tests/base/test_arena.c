#include "base/arena.h"

#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    Tensor weight, mean, scratch, bytes;
} Module;

/* As modules do it: two lasting tensors, then two that share memory. */
static void module_layout(Module *m, Arena *arena)
{
    m->weight = arena_2d(arena, REGION_PARAMETERS, "weight", DTYPE_F32, 3, 5);
    m->mean = arena_1d(arena, REGION_ACTIVATIONS, "mean", DTYPE_F32, 100);
    size_t mark = arena_mark(arena);
    m->scratch = arena_1d(arena, REGION_SCRATCH, "scratch", DTYPE_BF16, 1000);
    arena_rewind(arena, mark);
    m->bytes = arena_1d(arena, REGION_WORKSPACE, "bytes", DTYPE_U8, 10);
}

static void test_measuring_gives_no_memory(void **state)
{
    (void)state;
    Arena plan;
    Module m;
    arena_init(&plan, NULL, 0);
    module_layout(&m, &plan);
    assert_false(tensor_present(m.weight));
    assert_int_equal(tensor_count(m.weight), 15);
    assert_int_equal(m.weight.dim[1], 5);
}

static void test_peak_counts_shared_memory_once(void **state)
{
    (void)state;
    Arena plan;
    Module m;
    arena_init(&plan, NULL, 0);
    module_layout(&m, &plan);
    assert_int_equal(plan.peak_bytes, 256 + 512 + 2048);
    assert_int_equal(plan.used_bytes, 256 + 512 + 256);
}

static void test_carving_is_the_plan(void **state)
{
    (void)state;
    static alignas(ARENA_ALIGN_BYTES) unsigned char memory[4096];
    Arena plan, real;
    Module m;
    arena_init(&plan, NULL, 0);
    module_layout(&m, &plan);
    arena_init(&real, memory, plan.peak_bytes);
    module_layout(&m, &real);
    assert_ptr_equal(m.weight.data, memory);
    assert_ptr_equal(m.mean.data, memory + 256);
    assert_ptr_equal(m.scratch.data, memory + 768);
    assert_ptr_equal(m.bytes.data, m.scratch.data);
    assert_int_equal(real.n_regions, plan.n_regions);
    assert_memory_equal(real.region, plan.region, sizeof plan.region);
    assert_int_equal(real.peak_bytes, plan.peak_bytes);
}

static void test_regions_are_recorded(void **state)
{
    (void)state;
    Arena plan;
    Module m;
    arena_init(&plan, NULL, 0);
    module_layout(&m, &plan);
    assert_int_equal(plan.n_regions, 4);
    const Region *r = &plan.region[2];
    assert_string_equal(r->name, "scratch");
    assert_int_equal(r->group, REGION_SCRATCH);
    assert_int_equal(r->dtype, DTYPE_BF16);
    assert_int_equal(r->dim[0], 1000);
    assert_int_equal(r->offset, 768);
    assert_int_equal(r->bytes, 2048);
}

static void test_nothing_takes_no_region(void **state)
{
    (void)state;
    Arena plan;
    arena_init(&plan, NULL, 0);
    Tensor t = arena_2d(&plan, REGION_PARAMETERS, "bias", DTYPE_F32, 0, 5);
    assert_false(tensor_present(t));
    assert_int_equal(tensor_count(t), 0);
    assert_int_equal(plan.n_regions, 0);
    assert_int_equal(plan.peak_bytes, 0);
}

/* Two users of one place, the larger first or last: what follows is behind both. */
static void test_forward_goes_behind_the_longer(void **state)
{
    (void)state;
    for (int longer_first = 0; longer_first < 2; longer_first++) {
        Arena plan;
        arena_init(&plan, NULL, 0);
        arena_1d(&plan, REGION_SCRATCH, "before", DTYPE_U8, 256);
        size_t begin = arena_mark(&plan);
        arena_1d(&plan, REGION_SCRATCH, "one", DTYPE_U8, longer_first ? 1024 : 512);
        size_t end = arena_mark(&plan);
        arena_rewind(&plan, begin);
        arena_1d(&plan, REGION_SCRATCH, "other", DTYPE_U8, longer_first ? 512 : 1024);
        arena_forward(&plan, end);
        arena_1d(&plan, REGION_SCRATCH, "after", DTYPE_U8, 256);
        assert_int_equal(plan.region[2].offset, plan.region[1].offset);
        assert_int_equal(plan.region[3].offset, 256 + 1024);
        assert_int_equal(plan.peak_bytes, 256 + 1024 + 256);
    }
}

static void test_absurd_shapes_do_not_wrap(void **state)
{
    (void)state;
    const int64_t dim[4] = {1 << 20, 1 << 20, 1 << 20, 1 << 20};
    Arena plan;
    arena_init(&plan, NULL, 0);
    for (int i = 0; i < 3; i++)
        arena_tensor(&plan, REGION_ACTIVATIONS, "huge", DTYPE_F32, 4, dim);
    arena_1d(&plan, REGION_ACTIVATIONS, "small", DTYPE_F32, 1);
    assert_true(plan.peak_bytes > SIZE_MAX / 2 - 1024 && plan.peak_bytes <= SIZE_MAX / 2);
}

static void test_every_group_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < N_REGION_GROUPS; i++)
        for (int j = 0; j <= i; j++)
            assert_true((strcmp(region_group_name((RegionGroup)i),
                                region_group_name((RegionGroup)j)) == 0) == (i == j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measuring_gives_no_memory),
        cmocka_unit_test(test_peak_counts_shared_memory_once),
        cmocka_unit_test(test_carving_is_the_plan),
        cmocka_unit_test(test_regions_are_recorded),
        cmocka_unit_test(test_nothing_takes_no_region),
        cmocka_unit_test(test_forward_goes_behind_the_longer),
        cmocka_unit_test(test_absurd_shapes_do_not_wrap),
        cmocka_unit_test(test_every_group_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
