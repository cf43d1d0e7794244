/* The memory of a run on a GPU, as the GPU sees it: planned bytes are the peak; the ballast makes a
 * large card small, and gives way where it cannot be had. */
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_on_cpu/fake_stream.h"
#include "tests/support/check_err.h"
#include "tests/support/run.h"
#include "train/ballast.h"
#include "train/trainer.h"

enum { N_TOKENS = 2000, MIB = 1 << 20, CARD_MIB = 448, LIMIT_MIB = 40 };

/* What a run has on the device beside its plan: nothing. A GPU has a context and cuBLASLt's
 * workspaces besides, which are no allocations of this program. */
enum { BESIDE_THE_PLAN_BYTES = 0 };

static int setup(void **state)
{
    static const TestSetting settings[] = {
        {"n_head", "1"},      {"n_embd", "32"},
        {"batch_size", "2"},  {"warmup_iters", "1"},
        {"max_iters", "3"},   {"eval_interval", "2"},
        {"eval_iters", "1"},  {"dtype", "bfloat16"},
        {"micro_batch", "1"}, {"gradient_accumulation_steps", "1"},
    };
    return run_setup(state, DEVICE_CUDA, N_TOKENS, N_TOKENS, settings,
                     sizeof settings / sizeof *settings);
}

static void start(TestRun *run)
{
    check_no_err(trainer_open(&run->trainer, &run->cfg, &run->comm, &run->dev, NULL, ""));
}

static size_t free_bytes(TestRun *run)
{
    DeviceInfo info;
    check_no_err(device_info(&run->dev, &info));
    return info.memory_free_bytes;
}

/* First: the peak is of all the process has done so far. */
static void test_planned_bytes_are_the_peak(void **state)
{
    static const char *const offloads[] = {"none", "optimizer"};
    TestRun *run = *state;
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        run_set(run, "offload", offloads[i]);
        run_set(run, "out_dir", temp_path(&run->temp, offloads[i]));
        start(run);
        const Plan *plan = run->trainer.plan;
        most = plan->total_bytes > most ? plan->total_bytes : most;
        assert_int_equal(fake_pinned_bytes(), plan->host_bytes);
        check_no_err(trainer_run(&run->trainer));
        assert_int_equal(fake_peak_bytes(), most + BESIDE_THE_PLAN_BYTES);
        assert_int_equal(fake_pinned_bytes(), plan->host_bytes);
        trainer_close(&run->trainer);
        assert_int_equal(free_bytes(run), (size_t)CARD_MIB * MIB);
        assert_int_equal(fake_pinned_bytes(), 0);
    }
}

static void test_ballast_leaves_the_limit_and_the_reserve(void **state)
{
    TestRun *run = *state;
    run_set(run, "memory_limit", "40MiB");
    start(run);
    size_t total = run->trainer.plan->total_bytes;
    size_t wanted = (size_t)LIMIT_MIB * MIB - total + MEMORY_RESERVE_BYTES;
    size_t left = free_bytes(run);
    assert_true(left >= wanted && left < wanted + 4 * MIB);
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(free_bytes(run), left);
    trainer_close(&run->trainer);
    assert_int_equal(free_bytes(run), (size_t)CARD_MIB * MIB);
}

static void test_without_a_limit_nothing_is_held(void **state)
{
    TestRun *run = *state;
    start(run);
    assert_null(run->trainer.ballast);
    assert_int_equal(free_bytes(run), (size_t)CARD_MIB * MIB - run->trainer.plan->total_bytes);
}

static void test_a_limit_beyond_the_card_holds_nothing(void **state)
{
    TestRun *run = *state;
    run_set(run, "memory_limit", "1GiB");
    start(run);
    assert_null(run->trainer.ballast);
}

/* In a process of its own, for the card is described when it is first used: 48 MiB are the most it
 * gives at once, and the ballast takes what it can get of the about 150 it wants. */
static void test_ballast_takes_what_can_be_had(void **state)
{
    TestRun *run = *state;
    if (!getenv("GPT_EMU_LARGEST_BLOCK"))
        return;
    run_set(run, "memory_limit", "40MiB");
    start(run);
    size_t held = (size_t)CARD_MIB * MIB - run->trainer.plan->total_bytes - free_bytes(run);
    assert_true(held > 0 && held <= 48 * MIB && held > 40 * MIB);
    check_no_err(trainer_run(&run->trainer));
}

#define RUN_TEST(test) cmocka_unit_test_setup_teardown(test, setup, run_teardown)

int main(int argc, char **argv)
{
    (void)argc;
    const struct CMUnitTest tests[] = {
        RUN_TEST(test_planned_bytes_are_the_peak),
        RUN_TEST(test_ballast_leaves_the_limit_and_the_reserve),
        RUN_TEST(test_without_a_limit_nothing_is_held),
        RUN_TEST(test_a_limit_beyond_the_card_holds_nothing),
    };
    const struct CMUnitTest in_pieces[] = {RUN_TEST(test_ballast_takes_what_can_be_had)};
    setenv("GPT_EMU_MEMORY", "469762048", 1);
    if (getenv("GPT_EMU_LARGEST_BLOCK"))
        return cmocka_run_group_tests(in_pieces, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[4096];
    snprintf(command, sizeof command, "GPT_EMU_LARGEST_BLOCK=%d '%s'", 48 * MIB, argv[0]);
    return failed + (system(command) != 0);
}
