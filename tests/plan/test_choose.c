/* What the plan chooses: never past the limit, and of what fits the fastest by its own estimate. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plan/draft.h"
#include "tests/support/plan_fixture.h"

#define GIB (1024.0 * 1024.0 * 1024.0)

static double step_seconds(const Plan *plan)
{
    return plan_estimate(plan, plan->target.gpu).step;
}

/* ---- random plans ------------------------------------------------------------------------ */

/* A new number below n each time. */
static int64_t draw(uint64_t *state, int64_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((*state >> 33) % (uint64_t)n);
}

static void draw_model(uint64_t *random, Config *cfg)
{
    config_defaults(cfg);
    cfg->model.n_head = (int32_t)(1 + draw(random, 4));
    cfg->model.n_embd = cfg->model.n_head * 16 * (1 + draw(random, 4));
    cfg->model.n_layer = (int32_t)(1 + draw(random, 5));
    cfg->model.block_size = 16 << draw(random, 4);
    cfg->model.bias = draw(random, 2);
    cfg->batch.batch_size = 1 + draw(random, 12);
    cfg->batch.gradient_accumulation_steps = 12;
}

static void draw_keys(uint64_t *random, Config *cfg)
{
    if (draw(random, 4) == 0)
        cfg->batch.micro_batch = 1;
    if (draw(random, 3) == 0)
        cfg->memory.recompute = (int32_t)draw(random, CONFIG_RECOMPUTE_BLOCK + 1);
    if (draw(random, 3) == 0)
        cfg->memory.head_chunk = 1 + draw(random, 300);
    cfg->system.zero_stage = draw(random, 3);
    cfg->system.comm_dtype = (int32_t)draw(random, 2);
}

static PlanTarget draw_target(uint64_t *random)
{
    static const int32_t worlds[] = {1, 2, 3, 4, 6, 12};
    bool on_gpu = draw(random, 2);
    return (PlanTarget){
        .device = on_gpu ? DEVICE_CUDA : DEVICE_CPU,
        .dtype = on_gpu ? DTYPE_BF16 : DTYPE_F32,
        .world = worlds[draw(random, 6)],
        .n_threads = 1,
        .vocab_size = 10 + draw(random, 2000),
        .gpu = draw(random, 2) ? gpu_spec_find("h200") : NULL,
    };
}

/* ---- exhaustive search ------------------------------------------------------------------- */

typedef struct {
    PlanDraft draft;
    double step_s;      /* of the fastest that fits; INFINITY: none does */
    size_t total_bytes; /* of the smallest */
} Exhaustive;

static void look_at(Exhaustive *e, const PlanChoice *choice)
{
    const Plan *plan = e->draft.plan;
    check_no_err(draft_measure(&e->draft, choice));
    if (plan_fits(plan))
        e->step_s = fmin(e->step_s, step_seconds(plan));
    if (plan->total_bytes < e->total_bytes)
        e->total_bytes = plan->total_bytes;
}

/* Every way to put n_layer blocks at the levels auto may use. */
static void look_at_mixes(Exhaustive *e, PlanChoice choice)
{
    int32_t L = e->draft.plan->dims.n_layer;
    for (int32_t block = 0; block <= L; block++)
        for (int32_t qkv = 0; qkv + block <= L; qkv++)
            for (int32_t ffn = 0; ffn + qkv + block <= L; ffn++) {
                choice.recompute =
                    (RecomputeMix){.n_at = {0, L - ffn - qkv - block, ffn, qkv, block}};
                look_at(e, &choice);
            }
}

static void look_at_all(Exhaustive *e, int32_t zero_stage)
{
    const Plan *plan = e->draft.plan;
    int64_t given = e->draft.cfg->batch.micro_batch;
    int32_t n_offloads = plan->target.device == DEVICE_CPU ? 1 : 2;
    for (int64_t micro = 1; micro <= plan->rank_sequences; micro++) {
        bool allowed = given == CONFIG_AUTO ? micro == 1 || micro * plan->shape.n_tokens <=
                                                                plan_token_cap(plan->target.device)
                                            : micro == given;
        if (!allowed || plan->rank_sequences % micro != 0)
            continue;
        for (int32_t offload = 0; offload < n_offloads; offload++)
            look_at_mixes(
                e,
                (PlanChoice){.micro_batch = micro, .offload = offload, .zero_stage = zero_stage});
    }
}

/* The fastest of all choices, measured one by one. `plan` was built with this config. */
static Exhaustive search_all(const Plan *plan, const Config *cfg, size_t limit_bytes)
{
    Plan *scratch = malloc(sizeof *scratch);
    assert_non_null(scratch);
    *scratch = *plan;
    scratch->target.limit_bytes = limit_bytes;
    Exhaustive e = {
        .draft = {.plan = scratch, .cfg = cfg}, .step_s = INFINITY, .total_bytes = SIZE_MAX};
    check_no_err(draft_open(&e.draft));
    look_at_all(&e, 1);
    if (cfg->system.zero_stage == CONFIG_AUTO && plan->target.world > 1)
        look_at_all(&e, 2);
    draft_close(&e.draft);
    free(scratch);
    return e;
}

static void the_choice_is_the_fastest_of_all_that_fit(void **state)
{
    enum { N_PLANS = 60 };
    Plan *plan = *state;
    uint64_t random = 1;
    int32_t n_squeezed = 0;
    for (int32_t i = 0; i < N_PLANS; i++) {
        Config cfg;
        draw_model(&random, &cfg);
        cfg.system.zero_stage = draw(&random, 2) ? CONFIG_AUTO : 1;
        PlanTarget target = draw_target(&random);
        check_no_err(plan_build(plan, &cfg, &target));
        size_t most = plan->total_bytes;
        Exhaustive all = search_all(plan, &cfg, 0);
        target.limit_bytes =
            all.total_bytes + (most - all.total_bytes) * (size_t)draw(&random, 100) / 100;
        check_no_err(plan_build(plan, &cfg, &target));
        all = search_all(plan, &cfg, target.limit_bytes);
        assert_true(plan_fits(plan) == isfinite(all.step_s));
        assert_true(step_seconds(plan) <= all.step_s);
        n_squeezed += plan->total_bytes < most;
    }
    assert_true(n_squeezed > N_PLANS / 3); /* or nothing was tried */
}

/* Past the limit only when the smallest plan is, and then refused with a reason. */
static void three_hundred_random_plans_keep_to_their_limit(void **state)
{
    enum { N_PLANS = 300 };
    Plan *plan = *state;
    uint64_t random = 7;
    int32_t n_fit = 0, n_refused = 0;
    for (int32_t i = 0; i < N_PLANS; i++) {
        Config cfg;
        draw_model(&random, &cfg);
        draw_keys(&random, &cfg);
        PlanTarget target = draw_target(&random);
        target.limit_bytes =
            (size_t)((i % 3 == 0 ? 16 << 20 : 400 << 10) * (1 + draw(&random, 50)) / 10);
        check_no_err(plan_build(plan, &cfg, &target));
        Err err = plan_check(plan);
        assert_true(plan->total_bytes <= target.limit_bytes || err);
        n_fit += !err;
        n_refused += err != NULL;
        err_free(err);
    }
    assert_true(n_fit > 50 && n_refused > 50);
}

/* ---- GPT-2 on 12 GB ---------------------------------------------------------------------- */

static void gpt2(Config *cfg, int32_t n_layer, int32_t n_head, int64_t n_embd)
{
    config_defaults(cfg);
    cfg->model.n_layer = n_layer;
    cfg->model.n_head = n_head;
    cfg->model.n_embd = n_embd;
    cfg->batch.batch_size = 64;
    cfg->batch.gradient_accumulation_steps = 8;
}

static PlanTarget card_of_12_gb(int32_t world)
{
    return (PlanTarget){.device = DEVICE_CUDA,
                        .dtype = DTYPE_BF16,
                        .world = world,
                        .vocab_size = 50257,
                        .limit_bytes = (size_t)(11.1 * GIB),
                        .gpu = gpu_spec_find("rtx3060")};
}

static void plan_12_gb(Plan *plan, const Config *cfg, int32_t world)
{
    PlanTarget target = card_of_12_gb(world);
    check_no_err(plan_build(plan, cfg, &target));
    check_no_err(plan_check(plan));
}

static double extra_flop(const Plan *plan)
{
    return plan_estimate(plan, plan->target.gpu).extra_flop;
}

static void the_124m_fits_without_recomputing_a_product(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 12, 12, 768);
    plan_12_gb(plan, &cfg, 1);
    assert_in_range(plan->shape.micro_batch, 16, 32);
    assert_true(extra_flop(plan) == 0);
    assert_false(plan->offload);
}

static void sixty_four_sequences_at_once_cost_six_percent_at_most(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 12, 12, 768);
    cfg.batch.micro_batch = 64;
    PlanTarget target = card_of_12_gb(1);
    target.limit_bytes = (size_t)(10.9 * GIB);
    check_no_err(plan_build(plan, &cfg, &target));
    check_no_err(plan_check(plan));
    assert_true(extra_flop(plan) > 0 && extra_flop(plan) <= 0.06);
    cfg.memory.recompute = CONFIG_RECOMPUTE_BLOCK;
    plan_12_gb(plan, &cfg, 1);
    assert_true((double)plan->total_bytes <= 4.8 * GIB);
}

static void the_774m_and_the_1558m_fit_with_adamw_on_the_host(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 36, 20, 1280);
    plan_12_gb(plan, &cfg, 1);
    assert_true(plan->offload && plan->shape.micro_batch >= 4 && extra_flop(plan) == 0);
    gpt2(&cfg, 48, 25, 1600);
    plan_12_gb(plan, &cfg, 1);
    assert_true(plan->offload && extra_flop(plan) == 0);
    cfg.memory.offload = CONFIG_OFFLOAD_NONE;
    cfg.system.zero_stage = CONFIG_AUTO;
    plan_12_gb(plan, &cfg, 4);
    assert_int_equal(plan->zero_stage, 2);
}

/* Rings of such cards are slow: reducing in each micro-step takes part of the step. */
static void gradients_in_bfloat16_take_half_the_time(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 48, 25, 1600);
    cfg.batch.micro_batch = 1;
    cfg.system.zero_stage = 2;
    double reduce_s[2];
    for (int32_t turn = 0; turn < 2; turn++) {
        cfg.system.comm_dtype = turn == 0 ? CONFIG_COMM_F32 : CONFIG_COMM_BF16;
        plan_12_gb(plan, &cfg, 4);
        PlanEstimate e = plan_estimate(plan, plan->target.gpu);
        reduce_s[turn] = e.reduce;
    }
    assert_true(reduce_s[1] < 0.6 * reduce_s[0]);
}

static void the_350m_fits_at_micro_batch_8(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 24, 16, 1024);
    plan_12_gb(plan, &cfg, 1);
    assert_true(plan->shape.micro_batch >= 8);
    assert_false(plan->offload);
}

/* ---- refusals ---------------------------------------------------------------------------- */

/* One setting of a refusal, "key = value" or "N ranks of as much memory", applied. */
static void apply_setting(const char *setting, Config *cfg, PlanTarget *target)
{
    long long number;
    if (sscanf(setting, "%lld ranks", &number) == 1)
        target->world = (int32_t)number;
    else if (sscanf(setting, "block_size = %lld", &number) == 1)
        cfg->model.block_size = number;
    else if (sscanf(setting, "micro_batch = %lld", &number) == 1)
        cfg->batch.micro_batch = number;
    else if (strcmp(setting, "recompute = auto") == 0)
        cfg->memory.recompute = CONFIG_RECOMPUTE_AUTO;
    else if (strcmp(setting, "master = auto") == 0)
        cfg->memory.master = CONFIG_MASTER_AUTO;
    else if (strcmp(setting, "head_chunk = auto") == 0)
        cfg->memory.head_chunk = CONFIG_AUTO;
    else if (strcmp(setting, "zero_stage = auto") == 0)
        cfg->system.zero_stage = CONFIG_AUTO;
    else if (strcmp(setting, "offload = auto") == 0)
        cfg->memory.offload = CONFIG_OFFLOAD_AUTO;
    else
        fail_msg("not a setting: '%s'", setting);
}

/* The n bytes at text end where `end` begins in them, if it does. */
static size_t until(const char *text, size_t n, const char *end)
{
    const char *at = strstr(text, end);
    return at && (size_t)(at - text) < n ? (size_t)(at - text) : n;
}

/* All settings of one change: "SETTING", "SETTING with SETTING and SETTING". */
static void apply_change(const char *text, size_t n, Config *cfg, PlanTarget *target)
{
    for (size_t at = 0, length; at < n; at += length + strlen(" and ")) {
        char setting[64];
        length = until(text + at, until(text + at, n - at, " with "), " and ");
        assert_true(length < sizeof setting);
        snprintf(setting, sizeof setting, "%.*s", (int)length, text + at);
        apply_setting(setting, cfg, target);
        length += strncmp(text + at + length, " with ", 6) == 0;
    }
}

/* Every change that a refusal names is enough. Returns how many. */
static int32_t check_changes(Plan *plan, const Config *cfg, const PlanTarget *target)
{
    char fix[sizeof plan->fix];
    int32_t n_changes = 0;
    snprintf(fix, sizeof fix, "%s", plan->fix);
    if (strcmp(fix, "a smaller model") == 0)
        return 0;
    for (const char *change = fix; *change; n_changes++) {
        Config changed = *cfg;
        PlanTarget changed_target = *target;
        size_t n = until(change, strlen(change), ", or ");
        apply_change(change, n, &changed, &changed_target);
        check_no_err(plan_build(plan, &changed, &changed_target));
        check_no_err(plan_check(plan));
        change += n + (change[n] ? strlen(", or ") : 0);
    }
    return n_changes;
}

static void a_refusal_names_something_that_fits(void **state)
{
    Plan *plan = *state;
    for (int32_t variant = 0; variant < 4; variant++) {
        Config cfg;
        gpt2(&cfg, 12, 12, 768);
        PlanTarget target = card_of_12_gb(1);
        target.limit_bytes = variant < 3 ? (size_t)(3.0 * GIB) : (size_t)(1.6 * GIB);
        cfg.memory.offload = CONFIG_OFFLOAD_NONE;
        if (variant == 0)
            cfg.batch.micro_batch = 64;
        if (variant == 1)
            cfg.memory.recompute = CONFIG_RECOMPUTE_NONE, cfg.batch.micro_batch = 16;
        if (variant == 2)
            cfg.memory.head_chunk = 65536, cfg.batch.micro_batch = 32;
        if (variant == 3)
            cfg.memory.recompute = CONFIG_RECOMPUTE_BLOCK;
        check_no_err(plan_build(plan, &cfg, &target));
        assert_false(plan_fits(plan));
        check_err(plan_check(plan), ERR_USAGE, plan->fix);
        assert_true(check_changes(plan, &cfg, &target) >= 1);
    }
}

/* Keys that are given stand in the way of each other, and of more ranks. */
static void every_change_of_random_refusals_fits(void **state)
{
    enum { N_PLANS = 200 };
    Plan *plan = *state;
    uint64_t random = 3;
    int32_t n_changes = 0;
    for (int32_t i = 0; i < N_PLANS; i++) {
        Config cfg;
        draw_model(&random, &cfg);
        draw_keys(&random, &cfg);
        if (draw(&random, 2))
            cfg.batch.micro_batch = cfg.batch.batch_size;
        if (draw(&random, 3) == 0)
            cfg.memory.offload = CONFIG_OFFLOAD_NONE;
        PlanTarget target = draw_target(&random);
        target.world = 1 + (int32_t)draw(&random, 4);
        if (12 / target.world * cfg.batch.batch_size % cfg.batch.micro_batch != 0)
            cfg.batch.micro_batch = CONFIG_AUTO;
        check_no_err(plan_build(plan, &cfg, &target));
        target.limit_bytes = plan->total_bytes * (size_t)(60 + draw(&random, 40)) / 100;
        check_no_err(plan_build(plan, &cfg, &target));
        n_changes += check_changes(plan, &cfg, &target);
    }
    assert_in_range(n_changes, N_PLANS / 4, 2 * N_PLANS);
}

static void host_memory_has_a_limit_too(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 12, 12, 768);
    PlanTarget target = card_of_12_gb(1);
    target.host_limit_bytes = 1 << 10;
    check_no_err(plan_build(plan, &cfg, &target));
    check_err(plan_check(plan), ERR_USAGE, "for the 1 rank of a host, 1.0 KiB can be had");
}

/* ---- time -------------------------------------------------------------------------------- */

/* As many blocks and divisors as settings may name: thousands of plans are measured. */
static void a_plan_of_a_thousand_blocks_takes_seconds(void **state)
{
    enum { MOST_SECONDS = 12 }; /* of the processor, in a build with sanitizers */
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 1000, 4, 256);
    cfg.batch.batch_size = 12;
    cfg.batch.gradient_accumulation_steps = 40;
    PlanTarget target = card_of_12_gb(1);
    clock_t start = clock();
    check_no_err(plan_build(plan, &cfg, &target));
    assert_true(plan_fits(plan));
    assert_true(clock() - start < (clock_t)MOST_SECONDS * CLOCKS_PER_SEC);
}

/* ---- cards ------------------------------------------------------------------------------- */

static void a_card_is_known_by_its_name_and_by_the_drivers(void **state)
{
    (void)state;
    assert_ptr_equal(gpu_spec_find("a100"), gpu_spec_find("NVIDIA A100-SXM4-80GB"));
    assert_ptr_equal(gpu_spec_find("h100"), gpu_spec_find("NVIDIA H100 80GB HBM3"));
    assert_ptr_equal(gpu_spec_find("rtx3060"), gpu_spec_find("NVIDIA GeForce RTX 3060"));
    assert_null(gpu_spec_find("NVIDIA GeForce RTX 3060 Ti"));
    assert_null(gpu_spec_find("rtx306"));
    char names[128];
    snprintf(names, sizeof names, "%s", gpu_spec_names());
    for (char *name = strtok(names, " "); name; name = strtok(NULL, " "))
        assert_non_null(gpu_spec_find(name));
}

/* 0.81 GFLOP per token (0.82 with both kernels of attention's backward) at 75 % of 25.5 TFLOP/s. */
static void the_124m_on_a_3060_makes_23000_tokens_a_second(void **state)
{
    Plan *plan = *state;
    Config cfg;
    gpt2(&cfg, 12, 12, 768);
    plan_12_gb(plan, &cfg, 1);
    double rate = plan_estimate(plan, plan->target.gpu).tokens_per_s;
    assert_in_range((int64_t)rate, 22000, 24000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAN_TEST(the_choice_is_the_fastest_of_all_that_fit),
        PLAN_TEST(three_hundred_random_plans_keep_to_their_limit),
        PLAN_TEST(the_124m_fits_without_recomputing_a_product),
        PLAN_TEST(sixty_four_sequences_at_once_cost_six_percent_at_most),
        PLAN_TEST(gradients_in_bfloat16_take_half_the_time),
        PLAN_TEST(the_350m_fits_at_micro_batch_8),
        PLAN_TEST(the_774m_and_the_1558m_fit_with_adamw_on_the_host),
        PLAN_TEST(a_refusal_names_something_that_fits),
        PLAN_TEST(every_change_of_random_refusals_fits),
        PLAN_TEST(host_memory_has_a_limit_too),
        PLAN_TEST(a_plan_of_a_thousand_blocks_takes_seconds),
        cmocka_unit_test(a_card_is_known_by_its_name_and_by_the_drivers),
        PLAN_TEST(the_124m_on_a_3060_makes_23000_tokens_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
