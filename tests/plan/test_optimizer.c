/* What the plan makes of master and offload: how AdamW's state is kept, where, and its bytes. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "tests/support/plan_fixture.h"

/* GPT-2 124M in micro-batches of 8. */
static Config medium_config(void)
{
    Config cfg;
    config_defaults(&cfg);
    cfg.batch.batch_size = 8;
    cfg.batch.gradient_accumulation_steps = 4;
    cfg.batch.micro_batch = 8;
    cfg.memory.offload = CONFIG_OFFLOAD_NONE;
    cfg.system.zero_stage = 1;
    return cfg;
}

static PlanTarget gpu_target(DType dtype, int32_t world)
{
    return (PlanTarget){.device = DEVICE_CUDA, .dtype = dtype, .world = world, .vocab_size = 50257};
}

/* ---- master ------------------------------------------------------------------------------ */

static void check_master(Plan *plan, DType dtype, ConfigMaster setting, AdamwMaster master,
                         size_t bytes_per_element)
{
    for (int32_t world = 1; world <= 4; world *= 4) {
        Config cfg = medium_config();
        cfg.memory.master = setting;
        build(plan, &cfg, gpu_target(dtype, world));
        assert_int_equal(plan->master, master);
        assert_int_equal(plan->optimizer_bytes * (size_t)world,
                         (size_t)plan->n_elements * bytes_per_element);
    }
}

static void masters_go_by_the_dtype(void **state)
{
    check_master(*state, DTYPE_BF16, CONFIG_MASTER_AUTO, MASTER_REMAINDER16, 10);
    check_master(*state, DTYPE_BF16, CONFIG_MASTER_REMAINDER16, MASTER_REMAINDER16, 10);
    check_master(*state, DTYPE_BF16, CONFIG_MASTER_F32, MASTER_F32, 12);
    check_master(*state, DTYPE_F16, CONFIG_MASTER_AUTO, MASTER_F32, 12);
    check_master(*state, DTYPE_F16, CONFIG_MASTER_F32, MASTER_F32, 12);
    check_master(*state, DTYPE_F32, CONFIG_MASTER_AUTO, MASTER_NONE, 8);
    check_master(*state, DTYPE_F32, CONFIG_MASTER_F32, MASTER_NONE, 8);
}

static void only_bfloat16_has_a_remainder(void **state)
{
    Plan *plan = *state;
    Config cfg = medium_config();
    cfg.memory.master = CONFIG_MASTER_REMAINDER16;
    PlanTarget f16 = gpu_target(DTYPE_F16, 1), f32 = gpu_target(DTYPE_F32, 1);
    check_err(plan_build(plan, &cfg, &f16), ERR_USAGE, "they are float16; use master = auto");
    check_err(plan_build(plan, &cfg, &f32), ERR_USAGE, "they are float32; use master = auto");
}

/* ---- offload ----------------------------------------------------------------------------- */

static const Region *find_region(const Plan *plan, const char *name)
{
    for (int32_t i = 0; i < plan->regions.n_regions; i++)
        if (strcmp(plan->regions.region[i].name, name) == 0)
            return &plan->regions.region[i];
    fail_msg("there is no region %s", name);
    return NULL;
}

/* The chunks lie over activations and take nothing; all of the state is on the host. */
static void offload_moves_the_state_and_nothing_else(void **state)
{
    Plan *plan = *state;
    Config cfg = medium_config();
    build(plan, &cfg, gpu_target(DTYPE_BF16, 1));
    size_t device_bytes = plan->total_bytes, host_bytes = plan->host_bytes;
    cfg.memory.offload = CONFIG_OFFLOAD_OPTIMIZER;
    build(plan, &cfg, gpu_target(DTYPE_BF16, 1));
    assert_true(plan->offload);
    assert_int_equal(plan->total_bytes, device_bytes - plan->optimizer_bytes);
    assert_int_equal(plan->host_bytes, host_bytes + plan->optimizer_bytes);
    assert_int_equal(find_region(plan, "exp_avg chunk")->offset,
                     find_region(plan, "residual")->offset);
    assert_int_equal(find_region(plan, "exp_avg chunk")->dim[0], ADAMW_CHUNK_ELEMENTS);
}

/* Where activations are short, what follows them comes behind the chunks. */
static void chunks_may_be_longer_than_activations(void **state)
{
    Plan *plan = *state;
    Config cfg = medium_config();
    cfg.model.block_size = 8;
    cfg.batch.micro_batch = 1;
    cfg.memory.offload = CONFIG_OFFLOAD_OPTIMIZER;
    build(plan, &cfg, gpu_target(DTYPE_BF16, 1));
    const Region *first = find_region(plan, "exp_avg chunk");
    const Region *after = find_region(plan, "gradient sum of squares");
    assert_int_equal(after->offset - first->offset, (size_t)2 * 10 * ADAMW_CHUNK_ELEMENTS);
}

static void the_cpu_has_nothing_to_offload(void **state)
{
    Plan *plan = *state;
    Config cfg = medium_config();
    cfg.memory.offload = CONFIG_OFFLOAD_OPTIMIZER;
    PlanTarget target = gpu_target(DTYPE_F32, 1);
    target.device = DEVICE_CPU;
    target.n_threads = 1;
    check_err(plan_build(plan, &cfg, &target), ERR_USAGE,
              "offload = optimizer: on device = cpu the optimizer's state is in host memory "
              "already; use offload = auto");
}

/* One byte short is refused, with the bytes of a rank, of its host, and of what there is. */
static void a_host_without_the_memory_is_refused_with_numbers(void **state)
{
    Plan *plan = *state;
    Config cfg = medium_config();
    char wanted[256];
    cfg.memory.offload = CONFIG_OFFLOAD_OPTIMIZER;
    PlanTarget target = gpu_target(DTYPE_BF16, 4);
    target.host_ranks = 4;
    build(plan, &cfg, target);
    target.host_limit_bytes = plan->host_bytes;
    build(plan, &cfg, target);
    check_no_err(plan_check(plan));
    target.host_limit_bytes--;
    build(plan, &cfg, target);
    snprintf(wanted, sizeof wanted,
             "needs %s of host memory per rank, %s for the 4 ranks of a host, %s can be had",
             human_bytes(plan->host_bytes).text, human_bytes(4 * plan->host_bytes).text,
             human_bytes(4 * target.host_limit_bytes).text);
    check_err(plan_check(plan), ERR_USAGE, wanted);
    check_err(plan_check(plan), ERR_USAGE, "would fit: offload = auto");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAN_TEST(masters_go_by_the_dtype),
        PLAN_TEST(only_bfloat16_has_a_remainder),
        PLAN_TEST(offload_moves_the_state_and_nothing_else),
        PLAN_TEST(chunks_may_be_longer_than_activations),
        PLAN_TEST(the_cpu_has_nothing_to_offload),
        PLAN_TEST(a_host_without_the_memory_is_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
