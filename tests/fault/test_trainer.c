/* A run whose checkpoints are written beside it: when they appear, what becomes of them when the
 * disk fails or hangs, and when the run ends. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fault/shim.h"
#include "tests/support/check_err.h"
#include "tests/support/run.h"
#include "train/trainer.h"

enum { PATIENCE_MS = 20000 };
static const int64_t HOUR_NS = INT64_C(3600) * 1000000000;

static int setup(void **state)
{
    static const TestSetting settings[] = {
        {"n_head", "2"},     {"n_embd", "16"},
        {"batch_size", "4"}, {"gradient_accumulation_steps", "2"},
        {"max_iters", "6"},  {"eval_interval", "100"},
        {"eval_iters", "2"}, {"checkpoint_interval", "100"},
    };
    return run_setup(state, DEVICE_CPU, 3000, 600, settings, sizeof settings / sizeof *settings);
}

static int teardown(void **state)
{
    fault_disarm();
    fault_watch(NULL);
    fault_set_free(-1);
    return run_teardown(state);
}

static Trainer *start(TestRun *run)
{
    check_no_err(trainer_open(&run->trainer, &run->cfg, &run->comm, &run->dev, &run->stop, ""));
    fault_watch(run->cfg.run.out_dir);
    return &run->trainer;
}

static void step(Trainer *t)
{
    StepRecord record;
    check_no_err(trainer_step(t, &record));
}

static bool has(TestRun *run, int step_number)
{
    char name[64];
    snprintf(name, sizeof name, "out/step_%08d", step_number);
    if (!path_exists(temp_path(&run->temp, name)))
        return false;
    check_no_err(checkpoint_verify(temp_path(&run->temp, name)));
    return true;
}

/* Until the thread is done and a step has told of it. */
static void await_writer(Trainer *t)
{
    int waited = 0;
    while (!writer_is_idle(&t->saves.writer) && waited++ < PATIENCE_MS)
        usleep(1000);
    assert_true(writer_is_idle(&t->saves.writer));
    step(t);
}

/* ---- beside training --------------------------------------------------------------------- */

static void test_training_goes_on_while_a_checkpoint_is_written(void **state)
{
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    fault_arm(FAULT_HOLD, 7);
    check_no_err(saves_save(t));
    for (int i = 0; i < 3; i++) {
        step(t);
        assert_false(t->saves.is_written);
        check_no_err(saves_settle(t));
    }
    assert_int_equal(t->progress.step, 4);
    assert_false(has(run, 1));
    fault_disarm();
    await_writer(t);
    assert_true(t->saves.is_written);
    assert_false(has(run, 1)); /* that it is written is no reason to rename it yet */
    check_no_err(saves_settle(t));
    assert_true(has(run, 1));
    assert_int_equal(t->saves.saved_step, 1);
}

/* The state of the step at which it was begun, not of when it was written. */
static void test_what_is_written_beside_training_is_the_state_of_its_step(void **state)
{
    static const char *const NAMES[] = {"model.safetensors", "optimizer.safetensors"};
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    check_no_err(checkpoint_save(&t->saves.writer.state, &t->progress));
    char synchronous[FILE_PATH_BYTES];
    memcpy(synchronous, temp_path(&run->temp, "synchronous"), sizeof synchronous);
    assert_int_equal(rename(temp_path(&run->temp, "out/step_00000001"), synchronous), 0);
    fault_arm(FAULT_HOLD, 7);
    check_no_err(saves_save(t));
    step(t);
    step(t);
    fault_disarm();
    await_writer(t);
    check_no_err(saves_settle(t));
    for (int i = 0; i < 2; i++) {
        char name[64];
        FileDigest one, two;
        snprintf(name, sizeof name, "synchronous/%s", NAMES[i]);
        check_no_err(file_digest(temp_path(&run->temp, name), &one));
        snprintf(name, sizeof name, "out/step_00000001/%s", NAMES[i]);
        check_no_err(file_digest(temp_path(&run->temp, name), &two));
        assert_int_equal(one.n_bytes, two.n_bytes);
        assert_memory_equal(one.block_hash, two.block_hash, (size_t)one.n_blocks * 8);
        file_digest_free(&one);
        file_digest_free(&two);
    }
}

static void test_a_save_waits_for_the_one_before(void **state)
{
    TestRun *run = *state;
    Trainer *t = start(run);
    for (int i = 1; i <= 3; i++) {
        step(t);
        check_no_err(saves_save(t));
        assert_int_equal(t->saves.pending_step, i);
        assert_int_equal(t->saves.saved_step, i == 1 ? -1 : i - 1);
    }
    check_no_err(saves_finish(t));
    for (int i = 1; i <= 3; i++)
        assert_true(has(run, i));
}

static void test_the_end_waits_and_keeps_what_is_to_be_kept(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_interval", "1");
    run_set(run, "keep_checkpoints", "2");
    run_set(run, "keep_every", "3");
    check_no_err(trainer_run(start(run)));
    for (int i = 1; i <= 6; i++)
        assert_true(has(run, i) == (i == 3 || i >= 5));
}

static void test_an_end_by_an_error_publishes_what_is_written(void **state)
{
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    check_no_err(saves_save(t));
    Activity activity = {0};
    activity_begin(&activity, PHASE_END, -1, 1, "release memory");
    run->comm.activity = &activity;
    trainer_close(t);
    run->comm.activity = NULL;
    assert_true(has(run, 1));
    assert_int_equal(activity_look(&activity).phase, PHASE_SAVE); /* with its limit */
}

static void test_a_signal_after_a_save_has_begun_does_not_save_again(void **state)
{
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    check_no_err(saves_save(t));
    t->stop = STOP_SIGNAL;
    check_err(saves_stop(t), ERR_REQUEUE, "after 1 updates");
    assert_true(has(run, 1));
    assert_int_equal(t->saves.saved_step, 1);
}

static void test_without_memory_training_waits(void **state)
{
    TestRun *run = *state;
    Trainer *t = start(run);
    t->saves.asked = true; /* and the answer was no */
    step(t);
    check_no_err(saves_save(t));
    assert_int_equal(t->saves.pending_step, -1);
    assert_true(has(run, 1));
}

/* ---- when -------------------------------------------------------------------------------- */

static void test_a_save_is_due_when_the_time_is_up(void **state)
{
    TestRun *run = *state;
    run_set(run, "always_save_checkpoint", "false"); /* evaluated or not */
    Trainer *t = start(run);
    step(t);
    assert_false(saves_due(t, false));
    t->saves.begin_ns -= HOUR_NS;
    step(t);
    assert_true(saves_due(t, false));
    check_no_err(saves_save(t));
    assert_false(saves_due(t, false));
    step(t);
    assert_false(saves_due(t, false));
}

static void test_no_time_is_ever_up_when_it_is_off(void **state)
{
    TestRun *run = *state;
    run_set(run, "checkpoint_time", "0");
    Trainer *t = start(run);
    t->saves.begin_ns -= HOUR_NS;
    step(t);
    assert_false(saves_due(t, false));
}

/* Saves for safety's sake must not push the best one out. */
static void test_the_best_is_kept_where_only_the_best_is_saved(void **state)
{
    TestRun *run = *state;
    run_set(run, "always_save_checkpoint", "false");
    run_set(run, "keep_checkpoints", "1");
    Trainer *t = start(run);
    for (int i = 1; i <= 4; i++) {
        step(t);
        if (i == 2) {
            t->progress.best_val_loss = 1.5;
            t->progress.best_step = 2;
        }
        check_no_err(saves_save(t));
    }
    check_no_err(saves_finish(t));
    for (int i = 1; i <= 4; i++)
        assert_true(has(run, i) == (i == 2 || i == 4));
}

/* ---- the disk ---------------------------------------------------------------------------- */

/* From operation `at` of the second save on; then there is room again. */
static void check_full_disk(TestRun *run, int64_t at)
{
    Trainer *t = start(run);
    step(t);
    check_no_err(saves_save(t));
    step(t);
    await_writer(t);
    check_no_err(saves_settle(t));
    check_no_err(writer_join(&t->saves.writer));
    fault_arm(FAULT_FULL, at);
    check_no_err(saves_save(t));
    await_writer(t);
    check_no_err(saves_settle(t));
    fault_disarm();
    assert_int_equal(t->saves.n_failed, 1);
    assert_int_equal(t->saves.saved_step, 1);
    assert_true(has(run, 1));
    check_no_err(saves_save(t));
    check_no_err(saves_finish(t));
    assert_int_equal(t->saves.n_failed, 0);
    assert_int_equal(t->saves.saved_step, t->progress.step);
    assert_true(has(run, (int)t->progress.step));
}

static void test_a_full_disk_costs_a_checkpoint_and_no_more(void **state)
{
    for (int64_t at = 1; at <= 20; at += 6) {
        check_full_disk(*state, at);
        teardown(state);
        setup(state);
    }
}

/* The writer waits for the disk at its manifest, and a byte of the weights changes meanwhile. */
static void test_what_does_not_read_back_is_not_published(void **state)
{
    enum { AT_THE_MANIFEST = 24 };
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    fault_arm(FAULT_HOLD, AT_THE_MANIFEST);
    check_no_err(saves_save(t));
    const char *doing = "";
    for (int i = 0; i < PATIENCE_MS && strcmp(doing, "write the manifest") != 0; i++) {
        usleep(1000);
        doing = activity_look(&t->saves.writer.activity).operation;
    }
    FILE *file = fopen(temp_path(&run->temp, "out/.tmp_step_00000001/model.safetensors"), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -10, SEEK_END), 0);
    assert_int_equal(fputc(77, file), 77);
    assert_int_equal(fclose(file), 0);
    fault_disarm();
    await_writer(t);
    check_no_err(saves_settle(t));
    assert_int_equal(t->saves.n_failed, 1);
    assert_false(has(run, 1));
}

static void test_space_is_looked_at_first(void **state)
{
    TestRun *run = *state;
    run_set(run, "async_save", "false");
    Trainer *t = start(run);
    step(t);
    fault_set_free(1000);
    check_no_err(saves_save(t));
    check_no_err(saves_finish(t));
    assert_int_equal(t->saves.n_failed, 1);
    char tmp[FILE_PATH_BYTES];
    check_no_err(path_join(tmp, run->cfg.run.out_dir, ".tmp_step_00000001"));
    assert_false(path_exists(tmp));
    check_err(checkpoint_save(&t->saves.writer.state, &t->progress), ERR_WRITE,
              "1000 B free, a checkpoint takes");
    fault_set_free(-1);
    check_no_err(saves_save(t));
    check_no_err(saves_finish(t));
    assert_true(has(run, 1));
}

static void test_space_is_looked_at_by_the_writer(void **state)
{
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    fault_set_free(1000);
    check_no_err(saves_save(t));
    await_writer(t);
    check_no_err(saves_settle(t));
    assert_int_equal(t->saves.n_failed, 1);
    assert_false(has(run, 1));
}

static void test_a_disk_that_hangs_is_named(void **state)
{
    TestRun *run = *state;
    run_set(run, "save_timeout", "0.05");
    Trainer *t = start(run);
    step(t);
    fault_arm(FAULT_HOLD, 7);
    check_no_err(saves_save(t));
    assert_false(t->saves.warned);
    usleep(60000);
    step(t);
    assert_true(t->saves.warned);
    Activity seen = activity_look(&t->saves.writer.activity);
    char doing[128];
    activity_describe(&seen, doing, sizeof doing);
    assert_non_null(strstr(doing, "save at step 1: write model.safetensors"));
    fault_disarm();
    check_no_err(saves_finish(t));
    assert_true(has(run, 1));
}

static void test_a_start_removes_what_a_killed_one_was_writing(void **state)
{
    TestRun *run = *state;
    check_no_err(dir_make(run->cfg.run.out_dir));
    temp_write_text(&run->temp, "out/.0123456789abcdef.tmp", "half of metrics.jsonl");
    start(run);
    assert_false(path_exists(temp_path(&run->temp, "out/.0123456789abcdef.tmp")));
}

/* Lines of steps that come again cannot be dropped, run.json cannot be replaced. */
static void test_records_that_cannot_be_written_do_not_end_a_start(void **state)
{
    enum { AFTER_THE_FOLDER = 4 };
    static const char LINES[] = "{\"iter\": 7, \"loss\": 1}\n";
    TestRun *run = *state;
    Trainer *t = start(run);
    step(t);
    check_no_err(saves_save(t));
    check_no_err(saves_finish(t));
    trainer_close(t);
    temp_write_text(&run->temp, "out/metrics.jsonl", LINES);
    run_set(run, "init_from", "resume");
    fault_arm(FAULT_FULL, AFTER_THE_FOLDER);
    check_no_err(trainer_open(t, &run->cfg, &run->comm, &run->dev, &run->stop, ""));
    fault_disarm();
    assert_int_equal(t->progress.step, 1);
    check_no_err(trainer_run(t));
    assert_true(has(run, 6));
    assert_true(temp_equals(&run->temp, "out/metrics.jsonl", LINES, sizeof LINES - 1));
}

/* ---- the CPUs ---------------------------------------------------------------------------- */

/* Those that the writer's thread may use while this one is bound to the first of `own`. */
static cpu_set_t cpus_of_the_writer(TestRun *run, cpu_set_t own, bool launched)
{
    cpu_set_t first, found;
    CPU_ZERO(&first);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&first) == 0; cpu++)
        if (CPU_ISSET(cpu, &own))
            CPU_SET(cpu, &first);
    Trainer *t = &run->trainer;
    run->comm.launched = launched;
    assert_int_equal(sched_setaffinity(0, sizeof first, &first), 0);
    step(t);
    fault_arm(FAULT_HOLD, 7);
    check_no_err(saves_save(t));
    const char *doing = "begin";
    for (int i = 0; i < PATIENCE_MS && strcmp(doing, "begin") == 0; i++) {
        usleep(1000);
        doing = activity_look(&t->saves.writer.activity).operation;
    }
    int rc = pthread_getaffinity_np(t->saves.writer.thread, sizeof found, &found);
    fault_disarm();
    assert_int_equal(sched_setaffinity(0, sizeof own, &own), 0);
    assert_int_equal(rc, 0);
    check_no_err(saves_finish(t));
    return found;
}

/* Where there is one CPU only nothing of this can be seen. */
static void test_the_writer_leaves_the_cpu_a_launcher_bound(void **state)
{
    TestRun *run = *state;
    cpu_set_t own, found, both;
    start(run);
    assert_int_equal(sched_getaffinity(0, sizeof own, &own), 0);
    found = cpus_of_the_writer(run, own, false);
    assert_int_equal(CPU_COUNT(&found), 1);
    found = cpus_of_the_writer(run, own, true);
    CPU_AND(&both, &found, &own);
    assert_true(CPU_EQUAL(&both, &own));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_training_goes_on_while_a_checkpoint_is_written),
        TEST(test_what_is_written_beside_training_is_the_state_of_its_step),
        TEST(test_a_save_waits_for_the_one_before),
        TEST(test_the_end_waits_and_keeps_what_is_to_be_kept),
        TEST(test_an_end_by_an_error_publishes_what_is_written),
        TEST(test_a_signal_after_a_save_has_begun_does_not_save_again),
        TEST(test_without_memory_training_waits),
        TEST(test_a_save_is_due_when_the_time_is_up),
        TEST(test_no_time_is_ever_up_when_it_is_off),
        TEST(test_the_best_is_kept_where_only_the_best_is_saved),
        TEST(test_a_full_disk_costs_a_checkpoint_and_no_more),
        TEST(test_what_does_not_read_back_is_not_published),
        TEST(test_space_is_looked_at_first),
        TEST(test_space_is_looked_at_by_the_writer),
        TEST(test_a_disk_that_hangs_is_named),
        TEST(test_a_start_removes_what_a_killed_one_was_writing),
        TEST(test_records_that_cannot_be_written_do_not_end_a_start),
        TEST(test_the_writer_leaves_the_cpu_a_launcher_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
