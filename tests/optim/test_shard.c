/* Shards of random layouts: together the ranks own every element once, and padding belongs to
 * nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "optim/shard.h"
#include "tests/support/check_err.h"
#include "tests/optim/toy_layout.h"

enum { N_TRIALS = 500, MAX_WORLD = 17 };

/* Every trial has its own layout and number of ranks; the small numbers come often. */
static int32_t world_of(uint64_t trial)
{
    uint64_t draw = 1000;
    int64_t most = trial % 2 ? 5 : MAX_WORLD;
    return 1 + (int32_t)toy_random(trial, &draw, (uint64_t)most);
}

static void for_each_trial(void (*check)(const Layout *layout, int32_t world))
{
    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        Layout layout = toy_random_layout(trial, world_of(trial));
        check(&layout, world_of(trial));
        layout_free(&layout);
    }
}

static Shard make(const Layout *layout, int32_t rank, int32_t world)
{
    Shard shard;
    check_no_err(shard_make(&shard, layout, rank, world));
    return shard;
}

static void count_owners(const Layout *layout, int32_t rank, int32_t world, uint8_t *owners)
{
    Shard shard = make(layout, rank, world);
    for (int32_t i = 0; i < shard.n_segments; i++)
        for (int64_t k = 0; k < shard.segment[i].count; k++)
            owners[shard.segment[i].flat + k]++;
    shard_free(&shard);
}

static void check_every_element_has_one_owner(const Layout *layout, int32_t world)
{
    uint8_t *owners = calloc((size_t)layout->count, 1);
    uint8_t *is_real = calloc((size_t)layout->count, 1);
    toy_mark_real(layout, is_real);
    for (int32_t rank = 0; rank < world; rank++)
        count_owners(layout, rank, world, owners);
    for (int64_t i = 0; i < layout->count; i++)
        if (owners[i] != is_real[i])
            fail_msg("%d ranks, element %lld: %d owners, wanted %d", world, (long long)i, owners[i],
                     is_real[i]);
    free(owners);
    free(is_real);
}

static void test_every_element_has_one_owner(void **state)
{
    (void)state;
    for_each_trial(check_every_element_has_one_owner);
}

/* Rank 0's slice starts the bucket, each next one follows, the last ends it; all are whole lines.
 */
static void check_slices_line_up(const Layout *layout, int32_t world)
{
    for (int32_t b = 0; b < layout->n_buckets; b++) {
        int64_t next = layout->bucket[b].offset;
        for (int32_t rank = 0; rank < world; rank++) {
            Shard shard = make(layout, rank, world);
            assert_int_equal(shard_slice_flat(&shard, b), next);
            assert_int_equal(shard_slice_count(&shard, b) % 64, 0);
            next += shard_slice_count(&shard, b);
            shard_free(&shard);
        }
        assert_int_equal(next, layout->bucket[b].offset + layout->bucket[b].count);
    }
}

static void test_slices_line_up(void **state)
{
    (void)state;
    for_each_trial(check_slices_line_up);
}

/* A shard vector is its slices one after another, nothing between them and nothing behind. */
static void check_shard_vector_is_its_slices(const Layout *layout, int32_t world)
{
    Shard shard = make(layout, world - 1, world);
    int64_t next = 0;
    for (int32_t b = 0; b < layout->n_buckets; b++) {
        assert_int_equal(shard_slice_local(&shard, b), next);
        next += shard_slice_count(&shard, b);
    }
    assert_int_equal(next, shard.count);
    assert_int_equal(shard.count * world, layout->count);
    shard_free(&shard);
}

static void test_shard_vector_is_its_slices(void **state)
{
    (void)state;
    for_each_trial(check_shard_vector_is_its_slices);
}

static void check_segment(const Shard *shard, const Segment *s)
{
    const Param *p = &shard->layout->param[s->param];
    int64_t slice_flat = shard_slice_flat(shard, p->bucket);
    int64_t slice_local = shard_slice_local(shard, p->bucket);
    assert_true(s->count > 0);
    assert_int_equal(s->flat, p->offset + s->within);
    assert_true(s->within >= 0 && s->within + s->count <= p->file_rows * p->dim[1]);
    assert_int_equal(s->local - slice_local, s->flat - slice_flat);
    assert_true(s->flat + s->count <= slice_flat + shard_slice_count(shard, p->bucket));
}

static void check_segments_agree(const Layout *layout, int32_t world)
{
    for (int32_t rank = 0; rank < world; rank++) {
        Shard shard = make(layout, rank, world);
        for (int32_t i = 0; i < shard.n_segments; i++) {
            const Segment *s = &shard.segment[i];
            check_segment(&shard, s);
            if (i > 0)
                assert_true(s->flat >= s[-1].flat + s[-1].count);
        }
        shard_free(&shard);
    }
}

static void test_segments_name_the_same_elements_everywhere(void **state)
{
    (void)state;
    for_each_trial(check_segments_agree);
}

/* llm.c cuts tensors, so 3 GPUs and 1024 channels do not work; here an edge may lie inside a
 * tensor. */
static void test_an_edge_crosses_a_tensor(void **state)
{
    (void)state;
    const ToyParam toy = {.rows = 1000, .file_rows = 1000, .cols = 1, .ends_bucket = true};
    Layout layout = toy_layout(&toy, 1, 3); /* 1152 = 3 * 384 */
    static const int64_t counts[3] = {384, 384, 232};
    for (int32_t rank = 0; rank < 3; rank++) {
        Shard shard = make(&layout, rank, 3);
        assert_int_equal(shard.n_segments, 1);
        assert_int_equal(shard.segment[0].within, 384 * rank);
        assert_int_equal(shard.segment[0].count, counts[rank]);
        shard_free(&shard);
    }
    layout_free(&layout);
}

static void test_more_ranks_than_elements(void **state)
{
    (void)state;
    const ToyParam toy = {.rows = 5, .file_rows = 5, .cols = 1, .ends_bucket = true};
    Layout layout = toy_layout(&toy, 1, 8);
    for (int32_t rank = 0; rank < 8; rank++) {
        Shard shard = make(&layout, rank, 8);
        assert_int_equal(shard.count, 64);
        assert_int_equal(shard.n_segments, rank == 0);
        shard_free(&shard);
    }
    layout_free(&layout);
}

static void test_a_world_of_one_owns_everything_in_place(void **state)
{
    (void)state;
    Layout layout = toy_random_layout(7, 4); /* zero_stage 0 on a layout padded for four */
    Shard shard = make(&layout, 0, 1);
    assert_int_equal(shard.count, layout.count);
    assert_int_equal(shard.n_segments, layout.n_params);
    for (int32_t i = 0; i < shard.n_segments; i++)
        assert_int_equal(shard.segment[i].local, shard.segment[i].flat);
    shard_free(&shard);
    layout_free(&layout);
}

static void test_shards_of_a_gpt2(void **state)
{
    (void)state;
    const GptDims dims = {.n_layer = 3,
                          .n_head = 5,
                          .n_embd = 35,
                          .block_size = 17,
                          .vocab_size = 65,
                          .vocab_padded = 128,
                          .bias = true};
    for (int32_t world = 1; world <= 7; world++) {
        Layout layout;
        check_no_err(layout_make(&layout, &dims, 5000, shard_pad_elements(world)));
        check_every_element_has_one_owner(&layout, world);
        check_slices_line_up(&layout, world);
        check_segments_agree(&layout, world);
        layout_free(&layout);
    }
}

static void test_pad_is_whole_lines_for_every_rank(void **state)
{
    (void)state;
    for (int32_t world = 1; world <= 4096; world++) {
        int64_t pad = shard_pad_elements(world);
        assert_int_equal(pad % 128, 0);
        assert_int_equal(pad % (64 * (int64_t)world), 0);
        assert_true(pad <= 128 * (int64_t)world);
    }
    assert_int_equal(shard_pad_elements(1), 128);
    assert_int_equal(shard_pad_elements(2), 128);
    assert_int_equal(shard_pad_elements(3), 384);
    assert_int_equal(shard_pad_elements(4), 256);
}

static void test_free_leaves_nothing(void **state)
{
    (void)state;
    Layout layout = toy_random_layout(1, 2);
    Shard shard = make(&layout, 1, 2);
    shard_free(&shard);
    assert_null(shard.segment);
    shard_free(&shard);
    layout_free(&layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_element_has_one_owner),
        cmocka_unit_test(test_slices_line_up),
        cmocka_unit_test(test_shard_vector_is_its_slices),
        cmocka_unit_test(test_segments_name_the_same_elements_everywhere),
        cmocka_unit_test(test_an_edge_crosses_a_tensor),
        cmocka_unit_test(test_more_ranks_than_elements),
        cmocka_unit_test(test_a_world_of_one_owns_everything_in_place),
        cmocka_unit_test(test_shards_of_a_gpt2),
        cmocka_unit_test(test_pad_is_whole_lines_for_every_rank),
        cmocka_unit_test(test_free_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
