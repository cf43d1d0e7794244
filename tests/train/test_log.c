#include "train/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

/* The console of these tests: a string. */
typedef struct {
    Log log;
    char *text;
    size_t n_bytes;
} Captured;

static void capture(Captured *c)
{
    *c = (Captured){.text = NULL};
    c->log.console = open_memstream(&c->text, &c->n_bytes);
    assert_non_null(c->log.console);
    c->log.max_iters = 100;
    c->log.peak_flops = 1e9;
    c->log.flop_per_token = 1e3;
}

static void release(Captured *c)
{
    log_close(&c->log);
    fclose(c->log.console);
    free(c->text);
}

static StepRecord sample_record(int64_t iter)
{
    return (StepRecord){.iter = iter,
                        .tokens = (iter + 1) * 1000,
                        .loss = 3.90512,
                        .lr = 6e-4,
                        .grad_norm = 0.42,
                        .step_ms = 2.0,
                        .step_tokens = 1000};
}

static char *read_metrics(Temp *temp)
{
    char *text;
    size_t n_bytes;
    check_no_err(file_read_text(temp_path(temp, "metrics.jsonl"), 1 << 20, &text, &n_bytes));
    return text;
}

static const LogResume BEGINNING = {.evaluates = true, .scores = true};

/* ---- for people -------------------------------------------------------------------------- */

static void test_step_line_is_nanogpts_with_more_behind(void **state)
{
    (void)state;
    Captured c;
    capture(&c);
    StepRecord record = sample_record(9);
    log_step(&c.log, &record, true);
    assert_string_equal(c.text,
                        "iter 9: loss 3.9051, time 2.00ms, mfu 50.00% | lr 6.00e-04, norm 0.42, "
                        "500,000 tok/s, eta 0s\n");
    release(&c);
}

static void test_unknown_peak_prints_mfu_minus_100(void **state)
{
    (void)state;
    Captured c;
    capture(&c);
    c.log.peak_flops = 0;
    StepRecord record = sample_record(0);
    log_step(&c.log, &record, true);
    assert_non_null(strstr(c.text, "mfu -100.00%"));
    release(&c);
}

static void test_step_between_log_lines_is_silent(void **state)
{
    (void)state;
    Captured c;
    capture(&c);
    StepRecord record = sample_record(0);
    log_step(&c.log, &record, false);
    fflush(c.log.console);
    assert_string_equal(c.text, "");
    release(&c);
}

static void test_eval_line_is_nanogpts(void **state)
{
    (void)state;
    Captured c;
    capture(&c);
    log_eval(&c.log, 2000, 1, 3.91234, 3.93456);
    assert_string_equal(c.text, "step 2000: train loss 3.9123, val loss 3.9346\n");
    release(&c);
}

static void test_eta_counts_the_steps_that_remain(void **state)
{
    (void)state;
    Captured c;
    capture(&c);
    StepRecord record = sample_record(9);
    record.step_ms = 2000;
    log_step(&c.log, &record, true);
    assert_non_null(strstr(c.text, "eta 3m00s")); /* 90 steps of 2 s */
    release(&c);
}

static void test_other_ranks_say_and_write_nothing(void **state)
{
    Temp *temp = *state;
    Log log;
    StepRecord record = sample_record(0);
    log_init(&log, false);
    check_no_err(log_open(&log, temp->dir, &BEGINNING));
    log_step(&log, &record, true);
    log_eval(&log, 0, 0, 1, 1);
    log_close(&log);
    assert_false(path_exists(temp_path(temp, "metrics.jsonl")));
}

/* ---- for programs ------------------------------------------------------------------------ */

static void test_every_step_is_one_line_of_metrics(void **state)
{
    Temp *temp = *state;
    Captured c;
    capture(&c);
    check_no_err(log_open(&c.log, temp->dir, &BEGINNING));
    StepRecord record = sample_record(7);
    log_step(&c.log, &record, false);
    log_eval(&c.log, 8, 8000, 1.5, 2.5);
    release(&c);
    char *text = read_metrics(temp);
    assert_string_equal(
        text, "{\"iter\":7,\"tokens\":8000,\"loss\":3.90512,\"lr\":0.0006,\"grad_norm\":0.42,"
              "\"time_ms\":2.000,\"tokens_per_s\":500000.0,\"mfu\":50.000,\"skipped\":false}\n"
              "{\"iter\":8,\"tokens\":8000,\"train_loss\":1.5,\"val_loss\":2.5}\n");
    free(text);
}

static void test_not_a_number_becomes_null(void **state)
{
    Temp *temp = *state;
    Captured c;
    capture(&c);
    check_no_err(log_open(&c.log, temp->dir, &BEGINNING));
    StepRecord record = sample_record(0);
    record.loss = NAN;
    record.grad_norm = INFINITY;
    record.skipped = true;
    log_step(&c.log, &record, false);
    release(&c);
    char *text = read_metrics(temp);
    assert_non_null(strstr(text, "\"loss\":null,"));
    assert_non_null(strstr(text, "\"grad_norm\":null,"));
    assert_non_null(strstr(text, "\"skipped\":true"));
    free(text);
}

#define STEP(n)  "{\"iter\":" #n ",\"tokens\":9,\"loss\":1}\n"
#define EVAL(n)  "{\"iter\":" #n ",\"tokens\":9,\"train_loss\":1,\"val_loss\":2}\n"
#define SCORE(n) "{\"iter\":" #n ",\"tokens\":9,\"hellaswag_acc\":0.5}\n"

static void check_resumed(Temp *temp, LogResume from, const char *wanted)
{
    Captured c;
    temp_write_text(temp, "metrics.jsonl",
                    EVAL(2) STEP(2) EVAL(3) SCORE(3) STEP(3) EVAL(4) STEP(4));
    capture(&c);
    check_no_err(log_open(&c.log, temp->dir, &from));
    release(&c);
    char *text = read_metrics(temp);
    assert_string_equal(text, wanted);
    free(text);
}

static void test_resuming_drops_the_lines_that_come_again(void **state)
{
    check_resumed(*state, (LogResume){.iter = 3, .evaluates = true, .scores = true},
                  EVAL(2) STEP(2));
    check_resumed(*state, (LogResume){.iter = 3, .scores = true}, EVAL(2) STEP(2) EVAL(3));
    check_resumed(*state, (LogResume){.iter = 3, .evaluates = true}, EVAL(2) STEP(2) SCORE(3));
    check_resumed(*state, (LogResume){.iter = 3}, EVAL(2) STEP(2) EVAL(3) SCORE(3));
    check_resumed(*state, (LogResume){.iter = 1, .evaluates = true}, "");
}

static void test_a_line_cut_by_a_crash_is_dropped(void **state)
{
    Temp *temp = *state;
    Captured c;
    temp_write_text(temp, "metrics.jsonl", "{\"iter\":1}\n{\"iter\":2,\"lo");
    capture(&c);
    check_no_err(log_open(&c.log, temp->dir, &(LogResume){.iter = 5}));
    release(&c);
    char *text = read_metrics(temp);
    assert_string_equal(text, "{\"iter\":1}\n");
    free(text);
}

static void test_a_full_disk_ends_the_metrics_and_nothing_else(void **state)
{
    (void)state;
    Captured c;
    capture(&c);
    c.log.metrics = fopen("/dev/full", "a");
    if (!c.log.metrics) {
        print_message("skipped: no /dev/full here\n");
        release(&c);
        skip();
    }
    StepRecord record = sample_record(0);
    log_step(&c.log, &record, false);
    log_step(&c.log, &record, false);
    assert_null(c.log.metrics);
    assert_non_null(strstr(c.text, "warning: metrics.jsonl cannot be written any more"));
    release(&c);
}

static void test_out_dir_that_cannot_be_made_is_refused(void **state)
{
    Temp *temp = *state;
    Captured c;
    char inside_a_file[FILE_PATH_BYTES];
    check_no_err(path_join(inside_a_file, temp_write_text(temp, "file", "x"), "out"));
    capture(&c);
    check_err(log_open(&c.log, inside_a_file, &BEGINNING), ERR_WRITE, "/file: Not a directory");
    release(&c);
}

#define TEMP_TEST(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_line_is_nanogpts_with_more_behind),
        cmocka_unit_test(test_unknown_peak_prints_mfu_minus_100),
        cmocka_unit_test(test_step_between_log_lines_is_silent),
        cmocka_unit_test(test_eval_line_is_nanogpts),
        cmocka_unit_test(test_eta_counts_the_steps_that_remain),
        TEMP_TEST(test_other_ranks_say_and_write_nothing),
        TEMP_TEST(test_every_step_is_one_line_of_metrics),
        TEMP_TEST(test_not_a_number_becomes_null),
        TEMP_TEST(test_resuming_drops_the_lines_that_come_again),
        TEMP_TEST(test_a_line_cut_by_a_crash_is_dropped),
        cmocka_unit_test(test_a_full_disk_ends_the_metrics_and_nothing_else),
        TEMP_TEST(test_out_dir_that_cannot_be_made_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
