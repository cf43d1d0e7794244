#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"
#include "tests/support/plan_fixture.h"

/* A small model: 8 sequences of 16 tokens in a step. */
static Config small_config(void)
{
    Config cfg;
    config_defaults(&cfg);
    cfg.model.n_layer = 2;
    cfg.model.n_head = 2;
    cfg.model.n_embd = 16;
    cfg.model.block_size = 16;
    cfg.batch.batch_size = 4;
    cfg.batch.gradient_accumulation_steps = 2;
    return cfg;
}

static PlanTarget cpu_target(int32_t world)
{
    return (PlanTarget){
        .device = DEVICE_CPU, .dtype = DTYPE_F32, .world = world, .n_threads = 1, .vocab_size = 65};
}

/* ---- dividing the step ------------------------------------------------------------------- */

static void test_step_is_the_same_on_any_number_of_ranks(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    for (int32_t world = 1; world <= 8; world *= 2) {
        build(plan, &cfg, cpu_target(world));
        assert_int_equal(plan->step_sequences, 8);
        assert_int_equal(plan->rank_sequences * world, 8);
        assert_int_equal(plan->shape.micro_batch * plan->n_micro_steps, plan->rank_sequences);
    }
}

static void test_indivisible_batch_is_refused(void **state)
{
    Config cfg = small_config();
    PlanTarget target = cpu_target(3);
    check_err(plan_build(*state, &cfg, &target), ERR_USAGE, "does not divide over 3 ranks");
}

static void test_more_ranks_than_sequences_are_refused(void **state)
{
    Config cfg = small_config();
    PlanTarget target = cpu_target(16);
    check_err(plan_build(*state, &cfg, &target), ERR_USAGE, "use at most 8 ranks");
}

/* ---- micro_batch ------------------------------------------------------------------------- */

static void test_micro_batch_takes_the_whole_step_when_it_is_small(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    build(plan, &cfg, cpu_target(2));
    assert_int_equal(plan->shape.micro_batch, 4);
    assert_int_equal(plan->n_micro_steps, 1);
}

static void test_micro_batch_stops_at_the_token_cap(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    cfg.model.block_size = 1024;
    cfg.batch.batch_size = 12;
    cfg.batch.gradient_accumulation_steps = 5;
    PlanTarget target = cpu_target(1);
    build(plan, &cfg, target);
    int64_t on_cpu = plan->shape.micro_batch;
    target.device = DEVICE_CUDA;
    target.dtype = DTYPE_BF16;
    build(plan, &cfg, target);
    assert_in_range(on_cpu, 1, 59);
    assert_int_equal(plan->shape.micro_batch,
                     30); /* the largest divisor of 60 up to 32 * 1024 tokens */
}

static void test_given_micro_batch_is_honoured(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    cfg.batch.micro_batch = 2;
    build(plan, &cfg, cpu_target(1));
    assert_int_equal(plan->shape.micro_batch, 2);
    assert_int_equal(plan->n_micro_steps, 4);
}

static void test_given_micro_batch_must_divide(void **state)
{
    Config cfg = small_config();
    PlanTarget target = cpu_target(1);
    cfg.batch.micro_batch = 3;
    check_err(plan_build(*state, &cfg, &target), ERR_USAGE, "use 2 or auto");
}

static void test_head_chunk_is_never_more_than_the_rows(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    build(plan, &cfg, cpu_target(1));
    assert_int_equal(plan->shape.head_chunk, 8 * 16);
    cfg.memory.head_chunk = 24;
    build(plan, &cfg, cpu_target(1));
    assert_int_equal(plan->shape.head_chunk, 24);
}

/* ---- limits ------------------------------------------------------------------------------ */

static void test_auto_recomputes_and_takes_fewer_bytes_than_keeping(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    build(plan, &cfg, cpu_target(1));
    size_t lean_bytes = plan->total_bytes;
    assert_int_equal(plan->shape.recompute.n_at[RECOMPUTE_GELU_LN], plan->dims.n_layer);
    cfg.memory.recompute = CONFIG_RECOMPUTE_NONE;
    build(plan, &cfg, cpu_target(1));
    assert_true(lean_bytes < plan->total_bytes);
}

static void test_a_given_recompute_is_kept_under_a_limit(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    PlanTarget target = cpu_target(1);
    cfg.memory.recompute = CONFIG_RECOMPUTE_NONE;
    target.limit_bytes = 1;
    build(plan, &cfg, target);
    assert_int_equal(plan->shape.recompute.n_at[RECOMPUTE_NONE], plan->dims.n_layer);
    check_err(plan_check(plan), ERR_USAGE, "would fit: a smaller model");
}

static void test_refusal_names_the_micro_batch_that_fits(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    PlanTarget target = cpu_target(1);
    cfg.batch.micro_batch = 4;
    build(plan, &cfg, target);
    cfg.batch.micro_batch = 8;
    target.limit_bytes = plan->total_bytes;
    build(plan, &cfg, target);
    assert_int_equal(plan->shape.micro_batch, 8);
    check_err(plan_check(plan), ERR_USAGE, "would fit: micro_batch = 4 (or auto)");
}

static void test_refusal_names_the_largest_regions(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    PlanTarget target = cpu_target(1);
    target.limit_bytes = 1 << 10;
    build(plan, &cfg, target);
    Err err = plan_check(plan);
    assert_non_null(err);
    size_t largest = 0;
    const char *name = "";
    for (int32_t i = 0; i < plan->regions.n_regions; i++)
        if (plan->regions.region[i].bytes > largest) {
            largest = plan->regions.region[i].bytes;
            name = plan->regions.region[i].name;
        }
    check_err(err, ERR_USAGE, name);
}

/* ---- bytes ------------------------------------------------------------------------------- */

static void test_optimizer_bytes_of_four_ranks_are_a_quarter(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    build(plan, &cfg, cpu_target(1));
    size_t alone = plan->optimizer_bytes;
    build(plan, &cfg, cpu_target(4));
    size_t padding = (size_t)plan->pad_elements * 8 * 8;
    assert_int_equal(plan->optimizer_bytes * 4, plan->optimizer_whole_bytes);
    assert_in_range(plan->optimizer_whole_bytes, alone, alone + padding);
}

static void test_zero_stage_0_keeps_all_of_the_optimizer(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    cfg.system.zero_stage = 0;
    build(plan, &cfg, cpu_target(4));
    assert_int_equal(plan->optimizer_bytes, plan->optimizer_whole_bytes);
}

static size_t bytes_of_group(const Plan *plan, RegionGroup group)
{
    size_t n_bytes = 0;
    for (int32_t i = 0; i < plan->regions.n_regions; i++)
        n_bytes += plan->regions.region[i].group == group ? plan->regions.region[i].bytes : 0;
    return n_bytes;
}

static const Region *region_named(const Plan *plan, const char *name)
{
    for (int32_t i = 0; i < plan->regions.n_regions; i++)
        if (strcmp(plan->regions.region[i].name, name) == 0)
            return &plan->regions.region[i];
    return NULL;
}

/* A quarter of them, and places for four buckets: 0.7 GiB instead of 1.9 of GPT-2 medium. */
static void test_zero_stage_2_shares_the_gradients(void **state)
{
    Plan *plan = *state;
    Config cfg;
    config_defaults(&cfg);
    cfg.model.n_layer = 24;
    cfg.model.n_head = 16;
    cfg.model.n_embd = 1024;
    cfg.system.zero_stage = 1;
    build(plan, &cfg, cpu_target(4));
    size_t whole = bytes_of_group(plan, REGION_GRADIENTS), total = plan->total_bytes;
    assert_int_equal(region_named(plan, "grads")->dim[0], plan->n_elements);
    cfg.system.zero_stage = 2;
    build(plan, &cfg, cpu_target(4));
    size_t shared = bytes_of_group(plan, REGION_GRADIENTS);
    assert_null(region_named(plan, "grads"));
    assert_int_equal(region_named(plan, "gradient shard")->dim[0], plan->n_elements / 4);
    assert_int_equal(region_named(plan, "gradient shard")->bytes +
                         region_named(plan, "gradient buckets")->bytes,
                     shared);
    assert_true(shared < whole * 2 / 5);
    assert_int_equal(total - plan->total_bytes, whole - shared);
    build(plan, &cfg, cpu_target(1));
    assert_int_equal(plan->zero_stage, 1);
    assert_int_equal(region_named(plan, "grads")->dim[0], plan->n_elements);
}

static void test_gradients_in_bfloat16_have_staging_where_they_travel(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    build(plan, &cfg, cpu_target(2));
    assert_int_equal(bytes_of_group(plan, REGION_COMM), 0);
    cfg.system.comm_dtype = CONFIG_COMM_BF16;
    build(plan, &cfg, cpu_target(1));
    assert_int_equal(bytes_of_group(plan, REGION_COMM), 0);
    build(plan, &cfg, cpu_target(2));
    size_t gradients = bytes_of_group(plan, REGION_GRADIENTS);
    assert_in_range(bytes_of_group(plan, REGION_COMM), gradients / 4, gradients);
}

/* Over activations of training, which are dead when the model is looked at. */
static void test_looking_at_the_model_takes_host_memory_only(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    PlanTarget target = cpu_target(2);
    target.device = DEVICE_CUDA;
    target.dtype = DTYPE_BF16;
    build(plan, &cfg, target);
    size_t total = plan->total_bytes, host = plan->host_bytes;
    assert_null(region_named(plan, "sample cache.k"));
    strcpy(cfg.run.eval_hellaswag, "file");
    cfg.run.sample_interval = 10;
    build(plan, &cfg, target);
    assert_int_equal(region_named(plan, "sample cache.k")->bytes, 2 * 16 * 16 * 2);
    assert_int_equal(plan->total_bytes, total);
    size_t rows = (size_t)plan->shape.micro_batch * 16;
    assert_in_range(plan->host_bytes - host, 4 * rows + 4 * 1024 + 8 * 65,
                    4 * rows + 4 * 1124 + 8 * 65 + 3 * ARENA_ALIGN_BYTES);
}

static void test_every_region_lies_within_the_total(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    build(plan, &cfg, cpu_target(1));
    size_t end = 0;
    for (int32_t i = 0; i < plan->regions.n_regions; i++) {
        const Region *r = &plan->regions.region[i];
        assert_in_range(r->offset + r->bytes, 1, plan->total_bytes);
        if (r->offset + r->bytes > end)
            end = r->offset + r->bytes;
    }
    assert_int_equal(end, plan->total_bytes);
}

/* nanoGPT's run that dies on a 12 GB card: batch_size 64, block_size 1024. */
static void test_the_run_that_failed_fits_12_gb(void **state)
{
    Plan *plan = *state;
    Config cfg;
    config_defaults(&cfg);
    cfg.batch.batch_size = 64;
    cfg.batch.gradient_accumulation_steps = 8;
    PlanTarget target = {.device = DEVICE_CUDA,
                         .dtype = DTYPE_BF16,
                         .world = 1,
                         .vocab_size = 50257,
                         .limit_bytes = (size_t)(11.1 * (1 << 30))};
    build(plan, &cfg, target);
    check_no_err(plan_check(plan));
    assert_true(plan->shape.micro_batch >= 16);
}

static void test_the_deepest_model_of_the_key_table_is_planned(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    cfg.model.n_layer = 1000;
    build(plan, &cfg, cpu_target(1));
    assert_true(plan->total_bytes > 0);
}

/* ---- vocabulary and dtype ---------------------------------------------------------------- */

static void test_vocabulary_is_the_configs_then_the_datas_then_gpt2s(void **state)
{
    (void)state;
    Config cfg = small_config();
    assert_int_equal(plan_vocab_size(&cfg, 65), 65);
    assert_int_equal(plan_vocab_size(&cfg, CONFIG_AUTO), 50257);
    cfg.model.vocab_size = 100;
    assert_int_equal(plan_vocab_size(&cfg, 65), 100);
}

static void test_the_cpu_refuses_bfloat16(void **state)
{
    (void)state;
    Config cfg = small_config();
    DType dtype;
    cfg.system.dtype = CONFIG_DTYPE_BF16;
    check_err(plan_dtype(&cfg, DEVICE_CPU, &dtype), ERR_USAGE, "float32");
    check_no_err(plan_dtype(&cfg, DEVICE_CUDA, &dtype));
    assert_int_equal(dtype, DTYPE_BF16);
}

/* ---- the table --------------------------------------------------------------------------- */

static void test_table_shows_total_limit_and_shares(void **state)
{
    Plan *plan = *state;
    Config cfg = small_config();
    PlanTarget target = cpu_target(4);
    target.limit_bytes = 1 << 30;
    build(plan, &cfg, target);
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    assert_non_null(out);
    plan_print(plan, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "total per rank"));
    assert_non_null(strstr(text, "limit per rank"));
    assert_non_null(strstr(text, "1.0 GiB"));
    assert_non_null(strstr(text, "1/4 of"));
    assert_non_null(strstr(text, "tokens per step       128 = 8 sequences x 16"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAN_TEST(test_step_is_the_same_on_any_number_of_ranks),
        PLAN_TEST(test_indivisible_batch_is_refused),
        PLAN_TEST(test_more_ranks_than_sequences_are_refused),
        PLAN_TEST(test_micro_batch_takes_the_whole_step_when_it_is_small),
        PLAN_TEST(test_micro_batch_stops_at_the_token_cap),
        PLAN_TEST(test_given_micro_batch_is_honoured),
        PLAN_TEST(test_given_micro_batch_must_divide),
        PLAN_TEST(test_head_chunk_is_never_more_than_the_rows),
        PLAN_TEST(test_auto_recomputes_and_takes_fewer_bytes_than_keeping),
        PLAN_TEST(test_a_given_recompute_is_kept_under_a_limit),
        PLAN_TEST(test_refusal_names_the_micro_batch_that_fits),
        PLAN_TEST(test_refusal_names_the_largest_regions),
        PLAN_TEST(test_optimizer_bytes_of_four_ranks_are_a_quarter),
        PLAN_TEST(test_zero_stage_0_keeps_all_of_the_optimizer),
        PLAN_TEST(test_zero_stage_2_shares_the_gradients),
        PLAN_TEST(test_gradients_in_bfloat16_have_staging_where_they_travel),
        PLAN_TEST(test_looking_at_the_model_takes_host_memory_only),
        PLAN_TEST(test_every_region_lies_within_the_total),
        PLAN_TEST(test_the_run_that_failed_fits_12_gb),
        PLAN_TEST(test_the_deepest_model_of_the_key_table_is_planned),
        cmocka_unit_test(test_vocabulary_is_the_configs_then_the_datas_then_gpt2s),
        cmocka_unit_test(test_the_cpu_refuses_bfloat16),
        PLAN_TEST(test_table_shows_total_limit_and_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
