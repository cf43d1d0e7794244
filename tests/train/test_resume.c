/* How a resumed run cuts its steps up: as the run did that it goes on with, while that fits. */
#include <stdlib.h>
#include <string.h>

#include "tests/support/check_err.h"
#include "tests/support/run.h"

static int setup(void **state)
{
    static const TestSetting settings[] = {
        {"n_head", "2"},        {"n_embd", "16"},    {"batch_size", "16"},
        {"max_iters", "4"},     {"eval_iters", "1"}, {"gradient_accumulation_steps", "1"},
        {"eval_interval", "2"}, {"dropout", "0.1"},
    };
    return run_setup(state, DEVICE_CPU, 4000, 600, settings, sizeof settings / sizeof *settings);
}

static Err open_run(TestRun *run)
{
    return trainer_open(&run->trainer, &run->cfg, &run->comm, &run->dev, &run->stop, "");
}

/* Bytes of the plan that the settings make. */
static int64_t planned_bytes(TestRun *run)
{
    check_no_err(open_run(run));
    int64_t n_bytes = (int64_t)run->trainer.plan->total_bytes;
    trainer_close(&run->trainer);
    return n_bytes;
}

/* Two steps and a checkpoint with this micro_batch; then settings to go on, with none. */
static void run_half(TestRun *run, const char *micro_batch)
{
    run_set(run, "max_iters", "2");
    run_set(run, "micro_batch", micro_batch);
    check_no_err(open_run(run));
    check_no_err(trainer_run(&run->trainer));
    trainer_close(&run->trainer);
    run_set(run, "init_from", "resume");
    run_set(run, "max_iters", "4");
    run_set(run, "micro_batch", "auto");
}

static void test_a_checkpoint_knows_how_its_steps_were_cut(void **state)
{
    TestRun *run = *state;
    StepCut cut;
    run_set(run, "head_chunk", "24");
    run_half(run, "4");
    check_no_err(checkpoint_read_cut(temp_path(&run->temp, "out/step_00000002"), &cut));
    assert_int_equal(cut.world, 1);
    assert_int_equal(cut.micro_batch, 4);
    assert_int_equal(cut.head_chunk, 24);
    assert_int_equal(cut.zero_stage, 1);
}

static void test_a_resumed_run_keeps_the_micro_batch(void **state)
{
    TestRun *run = *state;
    run_half(run, "2");
    check_no_err(open_run(run));
    assert_int_equal(run->trainer.plan->shape.micro_batch, 2);
}

static void test_what_is_set_is_not_kept(void **state)
{
    TestRun *run = *state;
    run_half(run, "2");
    run_set(run, "micro_batch", "8");
    check_no_err(open_run(run));
    assert_int_equal(run->trainer.plan->shape.micro_batch, 8);
}

static void test_what_no_longer_fits_is_chosen_anew(void **state)
{
    TestRun *run = *state;
    char limit[32];
    run_set(run, "micro_batch", "2");
    snprintf(limit, sizeof limit, "%lld", (long long)planned_bytes(run));
    run_half(run, "16");
    run_set(run, "memory_limit", limit);
    check_no_err(open_run(run));
    assert_true(run->trainer.plan->shape.micro_batch <= 2);
    check_no_err(trainer_run(&run->trainer));
}

static void test_another_batch_size_is_cut_anew(void **state)
{
    TestRun *run = *state;
    run_half(run, "16");
    run_set(run, "batch_size", "10");
    check_no_err(open_run(run));
    assert_int_equal(run->trainer.plan->shape.micro_batch, 10);
}

#define RUN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, run_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST(test_a_checkpoint_knows_how_its_steps_were_cut),
        RUN_TEST(test_a_resumed_run_keeps_the_micro_batch),
        RUN_TEST(test_what_is_set_is_not_kept),
        RUN_TEST(test_what_no_longer_fits_is_chosen_anew),
        RUN_TEST(test_another_batch_size_is_cut_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
