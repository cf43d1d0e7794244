/* A run of one rank, from data files to checkpoints. */
#include "train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kernels/ops_table.h"
#include "tests/support/check_err.h"
#include "tests/support/run.h"
#include "train/eval.h"

enum { VOCAB = TEST_RUN_VOCAB, N_TRAIN = 4000, N_VAL = 600 };

static int setup(void **state)
{
    static const TestSetting settings[] = {
        {"n_head", "2"},           {"n_embd", "16"},       {"batch_size", "4"},
        {"learning_rate", "1e-2"}, {"warmup_iters", "2"},  {"gradient_accumulation_steps", "2"},
        {"max_iters", "6"},        {"eval_interval", "3"}, {"eval_iters", "2"},
    };
    return run_setup(state, DEVICE_CPU, N_TRAIN, N_VAL, settings,
                     sizeof settings / sizeof *settings);
}

static Err try_open(TestRun *run)
{
    return trainer_open(&run->trainer, &run->cfg, &run->comm, &run->dev, &run->stop, "");
}

static void reopen(TestRun *run)
{
    trainer_close(&run->trainer);
    check_no_err(try_open(run));
}

static StepRecord step(TestRun *run)
{
    StepRecord record;
    check_no_err(trainer_step(&run->trainer, &record));
    return record;
}

/* A copy of the parameters; the caller frees. */
static float *params_of(TestRun *run)
{
    Tensor params = run->trainer.model.params;
    float *copy = malloc(tensor_bytes(params));
    assert_non_null(copy);
    device_download(&run->dev, copy, params);
    check_no_err(device_sync(&run->dev));
    return copy;
}

static bool has_checkpoint(TestRun *run, int step_number)
{
    char name[64];
    snprintf(name, sizeof name, "out/step_%08d/MANIFEST.json", step_number);
    return path_exists(temp_path(&run->temp, name));
}

/* ---- memory ------------------------------------------------------------------------------ */

/* The CPU's table with an allocator that counts. Statics, for an op table has no room for a test's
 * state. */
static DeviceOps counting_ops;
static const DeviceOps *real_ops;
static size_t allocated_bytes;
static int n_allocations;

static Err counting_alloc(Device *dev, size_t n_bytes, void **memory)
{
    allocated_bytes += n_bytes;
    n_allocations++;
    return real_ops->alloc(dev, n_bytes, memory);
}

static void count_allocations(Device *dev)
{
    real_ops = dev->ops;
    counting_ops = *dev->ops;
    counting_ops.alloc = counting_alloc;
    dev->ops = &counting_ops;
    allocated_bytes = 0;
    n_allocations = 0;
}

static void test_planned_bytes_are_allocated_bytes(void **state)
{
    TestRun *run = *state;
    count_allocations(&run->dev);
    check_no_err(try_open(run));
    assert_int_equal(n_allocations, 1);
    assert_int_equal(allocated_bytes, run->trainer.plan->total_bytes);
}

static void test_nothing_is_allocated_after_the_start(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    count_allocations(&run->dev);
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(n_allocations, 0);
}

static void test_a_run_past_its_memory_limit_does_not_start(void **state)
{
    TestRun *run = *state;
    run_set(run, "n_embd", "256");
    run_set(run, "memory_limit", "1M");
    count_allocations(&run->dev);
    check_err(try_open(run), ERR_USAGE, "the limit is 1.0 MiB");
    assert_int_equal(n_allocations, 0);
    assert_false(path_exists(temp_path(&run->temp, "out")));
}

/* ---- the step ---------------------------------------------------------------------------- */

static void test_loss_begins_at_log_v_and_falls(void **state)
{
    TestRun *run = *state;
    run_set(run, "max_iters", "60");
    check_no_err(try_open(run));
    double first = step(run).loss, last = first;
    for (int i = 0; i < 59; i++)
        last = step(run).loss;
    assert_true(fabs(first - log(VOCAB)) < 0.1);
    assert_true(last < 0.6 * first);
}

static void test_micro_batch_does_not_change_the_training(void **state)
{
    TestRun *run = *state;
    double loss[4];
    float *params[4];
    static const char *const micro_batch[] = {"8", "4", "2", "1"};
    for (int i = 0; i < 4; i++) {
        run_set(run, "micro_batch", micro_batch[i]);
        reopen(run);
        for (int s = 0; s < 5; s++)
            loss[i] = step(run).loss;
        params[i] = params_of(run);
    }
    for (int i = 1; i < 4; i++) {
        assert_true(fabs(loss[i] - loss[0]) < 1e-6 * loss[0]);
        for (int64_t e = 0; e < run->trainer.layout.count; e++)
            assert_true(fabsf(params[i][e] - params[0][e]) < 1e-4f);
    }
    for (int i = 0; i < 4; i++)
        free(params[i]);
}

static void test_repeating_a_run_gives_the_same_bits(void **state)
{
    TestRun *run = *state;
    float *params[2];
    run_set(run, "dropout", "0.1");
    for (int i = 0; i < 2; i++) {
        reopen(run);
        for (int s = 0; s < 4; s++)
            step(run);
        params[i] = params_of(run);
    }
    assert_memory_equal(params[0], params[1], tensor_bytes(run->trainer.model.params));
    free(params[0]);
    free(params[1]);
}

static void test_step_record_counts_tokens_and_iterations(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    step(run);
    StepRecord record = step(run);
    assert_int_equal(record.iter, 1);
    assert_int_equal(record.step_tokens, 2 * 4 * 8);
    assert_int_equal(record.tokens, 2 * record.step_tokens);
    assert_false(record.skipped);
}

/* ---- numbers going wrong ----------------------------------------------------------------- */

static void poison_first_param(TestRun *run, float value)
{
    Tensor first = tensor_range(run->trainer.model.params, 0, 1);
    device_upload(&run->dev, first, &value);
}

static void test_a_step_that_is_not_finite_changes_no_parameter(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    poison_first_param(run, NAN);
    float *before = params_of(run);
    StepRecord record = step(run);
    float *after = params_of(run);
    assert_true(record.skipped);
    assert_int_equal(run->trainer.progress.n_bad_steps, 1);
    assert_memory_equal(before, after, tensor_bytes(run->trainer.model.params));
    free(before);
    free(after);
}

static void test_nothing_is_saved_among_bad_steps(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "1");
    check_no_err(try_open(run));
    poison_first_param(run, NAN);
    check_err(trainer_run(&run->trainer), ERR_DIVERGED, "not finite in 5 steps in a row");
    for (int i = 1; i <= 6; i++)
        assert_false(has_checkpoint(run, i));
}

static void test_data_moves_on_past_a_skipped_step(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    poison_first_param(run, INFINITY);
    step(run);
    assert_int_equal(run->trainer.progress.n_sequences, 8);
    assert_int_equal(run->trainer.progress.step, 1);
}

static void test_a_good_step_ends_the_count_of_bad_ones(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    poison_first_param(run, NAN);
    step(run);
    poison_first_param(run, 0);
    assert_false(step(run).skipped);
    assert_int_equal(run->trainer.progress.n_bad_steps, 0);
}

static void test_too_many_bad_steps_end_the_run(void **state)
{
    TestRun *run = *state;
    run_set(run, "max_bad_steps", "3");
    check_no_err(try_open(run));
    poison_first_param(run, NAN);
    check_err(trainer_run(&run->trainer), ERR_DIVERGED, "3 steps in a row, the last at iter 2");
}

/* ---- evaluation -------------------------------------------------------------------------- */

static void test_evaluation_is_the_same_every_time(void **state)
{
    TestRun *run = *state;
    double first, second;
    run_set(run, "dropout", "0.2");
    check_no_err(try_open(run));
    check_no_err(eval_loss(&run->trainer, &run->trainer.val_loader, &first));
    check_no_err(eval_loss(&run->trainer, &run->trainer.val_loader, &second));
    assert_true(first == second);
}

static void test_evaluation_does_not_depend_on_the_micro_batch(void **state)
{
    TestRun *run = *state;
    double whole, odd;
    run_set(run, "eval_iters", "3"); /* 12 windows: not a multiple of 8 */
    check_no_err(try_open(run));
    check_no_err(eval_loss(&run->trainer, &run->trainer.val_loader, &whole));
    run_set(run, "micro_batch", "1");
    reopen(run);
    check_no_err(eval_loss(&run->trainer, &run->trainer.val_loader, &odd));
    assert_true(fabs(whole - odd) < 1e-6 * whole);
}

static void test_eval_only_writes_nothing(void **state)
{
    TestRun *run = *state;
    run_set(run, "eval_only", "true");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(run->trainer.progress.step, 0);
    assert_false(path_exists(temp_path(&run->temp, "out")));
}

/* ---- the loop ---------------------------------------------------------------------------- */

static int count_in_metrics(TestRun *run, const char *part)
{
    char *text;
    size_t n_bytes;
    int n = 0;
    check_no_err(
        file_read_text(temp_path(&run->temp, "out/metrics.jsonl"), 1 << 20, &text, &n_bytes));
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    free(text);
    return n;
}

static void test_a_run_makes_max_iters_updates(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(run->trainer.progress.step, 6);
    assert_int_equal(count_in_metrics(run, "\"loss\""), 6);
}

static void test_evaluations_come_at_0_at_the_interval_and_at_the_end(void **state)
{
    TestRun *run = *state;
    run_set(run, "eval_interval", "4");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(count_in_metrics(run, "\"val_loss\""), 3);
    assert_int_equal(count_in_metrics(run, "{\"iter\":4,\"tokens\":256,\"train_loss\""), 1);
    assert_int_equal(count_in_metrics(run, "{\"iter\":6,\"tokens\":384,\"train_loss\""), 1);
}

static void test_checkpoints_come_at_their_interval_and_at_the_end(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "4");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_false(has_checkpoint(run, 0));
    assert_false(has_checkpoint(run, 3));
    assert_true(has_checkpoint(run, 4));
    assert_true(has_checkpoint(run, 6));
}

static void test_older_checkpoints_are_pruned(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "1");
    run_set(run, "keep_checkpoints", "2");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_false(has_checkpoint(run, 4));
    assert_true(has_checkpoint(run, 5));
    assert_true(has_checkpoint(run, 6));
}

static void test_what_does_not_improve_is_not_saved_unless_asked(void **state)
{
    TestRun *run = *state;
    run_set(run, "always_save_checkpoint", "false");
    run_set(run, "learning_rate", "0");
    run_set(run, "min_lr", "0");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_false(has_checkpoint(run, 3));
    assert_false(has_checkpoint(run, 6));
}

static void test_what_improves_is_saved(void **state)
{
    TestRun *run = *state;
    run_set(run, "always_save_checkpoint", "false");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    assert_true(has_checkpoint(run, 3));
    assert_true(run->trainer.progress.best_val_loss < log(VOCAB));
    assert_in_range(run->trainer.progress.best_step, 3, 6);
}

/* ---- saving goes wrong ------------------------------------------------------------------- */

/* out_dir becomes a plain file, so that nothing can be saved in it. */
static void break_out_dir(TestRun *run)
{
    char out[FILE_PATH_BYTES];
    memcpy(out, temp_path(&run->temp, "out"), sizeof out);
    assert_int_equal(rename(out, temp_path(&run->temp, "moved")), 0);
    temp_write_text(&run->temp, "out", "in the way");
}

static void test_failed_saves_end_the_run_only_when_there_are_three(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "1");
    run_set(run, "max_iters", "30");
    run_set(run, "async_save", "false");
    check_no_err(try_open(run));
    break_out_dir(run);
    Err err = trainer_run(&run->trainer);
    assert_int_equal(run->trainer.progress.step, 3);
    check_err(err, ERR_WRITE, "out");
}

static void test_so_do_failed_saves_beside_training(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "1");
    run_set(run, "max_iters", "30");
    check_no_err(try_open(run));
    break_out_dir(run);
    Err err = trainer_run(&run->trainer);
    assert_in_range(run->trainer.progress.step, 3, 4); /* it is heard of a step later */
    check_err(err, ERR_WRITE, "out");
}

static void test_one_failed_save_is_forgotten_when_the_next_works(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "1");
    check_no_err(try_open(run));
    run->trainer.saves.n_failed = 2;
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(run->trainer.saves.n_failed, 0);
    assert_true(has_checkpoint(run, 6));
}

static void test_the_last_save_must_work(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "6");
    check_no_err(try_open(run));
    break_out_dir(run);
    check_err(trainer_run(&run->trainer), ERR_WRITE, "out");
}

/* ---- start and stop ---------------------------------------------------------------------- */

static void test_a_signal_saves_and_asks_to_be_run_again(void **state)
{
    TestRun *run = *state;
    run_set(run, "eval_interval", "100");
    check_no_err(try_open(run));
    step(run);
    run->stop = SIGUSR1;
    check_err(trainer_run(&run->trainer), ERR_REQUEUE, "after 2 updates");
    assert_true(has_checkpoint(run, 2));
}

static void test_a_signal_during_an_evaluation_does_not_wait_for_its_end(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    run->stop = SIGTERM;
    check_err(trainer_run(&run->trainer), ERR_REQUEUE, "after 0 updates");
    assert_true(has_checkpoint(run, 0));
    assert_int_equal(count_in_metrics(run, "val_loss"), 0);
}

static void test_resume_goes_on_where_the_run_stopped(void **state)
{
    TestRun *run = *state;
    run_set(run, "dropout", "0.1");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    float *whole = params_of(run);
    run_set(run, "out_dir", temp_path(&run->temp, "again"));
    reopen(run);
    step(run);
    run->stop = SIGUSR1;
    check_err(trainer_run(&run->trainer), ERR_REQUEUE, "after 2 updates");
    run->stop = 0;
    run_set(run, "init_from", "resume");
    reopen(run);
    assert_int_equal(run->trainer.progress.step, 2);
    check_no_err(trainer_run(&run->trainer));
    float *resumed = params_of(run);
    assert_memory_equal(whole, resumed, tensor_bytes(run->trainer.model.params));
    free(whole);
    free(resumed);
}

/* So low a limit that some steps are outliers. */
static void test_a_window_of_outliers_goes_on_where_it_stopped(void **state)
{
    TestRun *run = *state;
    Outliers whole;
    run_set(run, "max_iters", "180");
    run_set(run, "eval_interval", "1000");
    run_set(run, "skip_outlier_z", "2");
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    whole = run->trainer.progress.outliers;
    float *params = params_of(run);
    assert_true(whole.n_skipped > 0 && whole.n == OUTLIER_WINDOW);
    assert_int_equal(run->trainer.progress.n_updates, 180 - whole.n_skipped);
    run_set(run, "out_dir", temp_path(&run->temp, "again"));
    reopen(run);
    for (int i = 0; i < 99; i++)
        step(run);
    run->stop = SIGUSR1;
    check_err(trainer_run(&run->trainer), ERR_REQUEUE, "after 100 updates");
    run->stop = 0;
    run_set(run, "init_from", "resume");
    reopen(run);
    check_no_err(trainer_run(&run->trainer));
    float *resumed = params_of(run);
    assert_memory_equal(params, resumed, tensor_bytes(run->trainer.model.params));
    assert_memory_equal(&run->trainer.progress.outliers, &whole, sizeof whole);
    free(params);
    free(resumed);
}

static void test_an_outlier_changes_nothing_but_where_the_data_stands(void **state)
{
    TestRun *run = *state;
    run_set(run, "skip_outlier_z", "6");
    check_no_err(try_open(run));
    Progress *progress = &run->trainer.progress;
    for (int i = 0; i < OUTLIER_LEAST; i++)
        step(run);
    for (int i = 0; i < OUTLIER_LEAST; i++)
        progress->outliers.loss[i] -= 10;
    float *before = params_of(run);
    StepRecord record = step(run);
    float *after = params_of(run);
    assert_true(record.skipped);
    assert_non_null(
        strstr(record.why, "an outlier, no update (1 in a row, 5 are a new level; 1 in"));
    assert_int_equal(progress->step, OUTLIER_LEAST + 1);
    assert_int_equal(progress->n_sequences, 8 * (OUTLIER_LEAST + 1));
    assert_int_equal(progress->n_updates, OUTLIER_LEAST);
    assert_int_equal(progress->n_bad_steps, 0);
    assert_memory_equal(before, after, tensor_bytes(run->trainer.model.params));
    free(before);
    free(after);
}

static ino_t inode_of(TestRun *run, const char *name)
{
    struct stat info;
    assert_int_equal(stat(temp_path(&run->temp, name), &info), 0);
    return info.st_ino;
}

static void test_a_finished_run_is_not_saved_again(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    ino_t before = inode_of(run, "out/step_00000006");
    run_set(run, "init_from", "resume");
    reopen(run);
    check_no_err(trainer_run(&run->trainer));
    assert_int_equal(inode_of(run, "out/step_00000006"), before);
}

static void test_resume_without_a_checkpoint_is_refused(void **state)
{
    TestRun *run = *state;
    run_set(run, "init_from", "resume");
    check_err(try_open(run), ERR_MISSING, "no usable checkpoint");
    assert_false(path_exists(temp_path(&run->temp, "out")));
}

static void test_auto_without_a_checkpoint_starts_from_scratch(void **state)
{
    TestRun *run = *state;
    run_set(run, "init_from", "auto");
    check_no_err(try_open(run));
    assert_int_equal(run->trainer.progress.step, 0);
}

static void test_scratch_does_not_mix_with_an_older_run(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    trainer_close(&run->trainer);
    check_err(try_open(run), ERR_USAGE, "/step_00000006): continue it with");
    assert_true(has_checkpoint(run, 6));
}

static void test_two_runs_do_not_share_an_out_dir(void **state)
{
    TestRun *run = *state;
    Trainer second;
    check_no_err(try_open(run));
    run_set(run, "init_from", "auto");
    check_err(trainer_open(&second, &run->cfg, &run->comm, &run->dev, NULL, ""), ERR_SYSTEM,
              "two runs in one out_dir");
    trainer_close(&second);
    reopen(run); /* the first has let go */
}

static void test_a_directory_gives_its_weights_and_nothing_else(void **state)
{
    TestRun *run = *state;
    check_no_err(try_open(run));
    check_no_err(trainer_run(&run->trainer));
    float *trained = params_of(run);
    run_set(run, "init_from", temp_path(&run->temp, "out/step_00000006"));
    run_set(run, "out_dir", temp_path(&run->temp, "tuned"));
    reopen(run);
    float *loaded = params_of(run);
    assert_int_equal(run->trainer.progress.step, 0);
    assert_memory_equal(trained, loaded, tensor_bytes(run->trainer.model.params));
    free(trained);
    free(loaded);
}

/* ---- data -------------------------------------------------------------------------------- */

static void test_a_token_outside_the_vocabulary_stops_the_start(void **state)
{
    TestRun *run = *state;
    run_set(run, "vocab_size", "16");
    check_err(try_open(run), ERR_DATA, "train.bin");
    assert_false(path_exists(temp_path(&run->temp, "out")));
}

#define RUN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, run_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST(test_planned_bytes_are_allocated_bytes),
        RUN_TEST(test_nothing_is_allocated_after_the_start),
        RUN_TEST(test_a_run_past_its_memory_limit_does_not_start),
        RUN_TEST(test_loss_begins_at_log_v_and_falls),
        RUN_TEST(test_micro_batch_does_not_change_the_training),
        RUN_TEST(test_repeating_a_run_gives_the_same_bits),
        RUN_TEST(test_step_record_counts_tokens_and_iterations),
        RUN_TEST(test_a_step_that_is_not_finite_changes_no_parameter),
        RUN_TEST(test_nothing_is_saved_among_bad_steps),
        RUN_TEST(test_data_moves_on_past_a_skipped_step),
        RUN_TEST(test_a_good_step_ends_the_count_of_bad_ones),
        RUN_TEST(test_too_many_bad_steps_end_the_run),
        RUN_TEST(test_evaluation_is_the_same_every_time),
        RUN_TEST(test_evaluation_does_not_depend_on_the_micro_batch),
        RUN_TEST(test_eval_only_writes_nothing),
        RUN_TEST(test_a_run_makes_max_iters_updates),
        RUN_TEST(test_evaluations_come_at_0_at_the_interval_and_at_the_end),
        RUN_TEST(test_checkpoints_come_at_their_interval_and_at_the_end),
        RUN_TEST(test_older_checkpoints_are_pruned),
        RUN_TEST(test_what_does_not_improve_is_not_saved_unless_asked),
        RUN_TEST(test_what_improves_is_saved),
        RUN_TEST(test_failed_saves_end_the_run_only_when_there_are_three),
        RUN_TEST(test_so_do_failed_saves_beside_training),
        RUN_TEST(test_one_failed_save_is_forgotten_when_the_next_works),
        RUN_TEST(test_the_last_save_must_work),
        RUN_TEST(test_a_signal_saves_and_asks_to_be_run_again),
        RUN_TEST(test_a_signal_during_an_evaluation_does_not_wait_for_its_end),
        RUN_TEST(test_resume_goes_on_where_the_run_stopped),
        RUN_TEST(test_a_window_of_outliers_goes_on_where_it_stopped),
        RUN_TEST(test_an_outlier_changes_nothing_but_where_the_data_stands),
        RUN_TEST(test_a_finished_run_is_not_saved_again),
        RUN_TEST(test_resume_without_a_checkpoint_is_refused),
        RUN_TEST(test_auto_without_a_checkpoint_starts_from_scratch),
        RUN_TEST(test_scratch_does_not_mix_with_an_older_run),
        RUN_TEST(test_two_runs_do_not_share_an_out_dir),
        RUN_TEST(test_a_directory_gives_its_weights_and_nothing_else),
        RUN_TEST(test_a_token_outside_the_vocabulary_stops_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
