/* When the watchdog ends a run, and what it says. The threads of one process stand for the ranks of
 * a host: the board is plain memory to them. */
#include "train/watchdog.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/check_err.h"

enum { MAX_LINES = 8 };

/* What a watchdog said and did; its thread writes, and the test reads when it has been stopped. */
typedef struct {
    Activity activity;
    Watchdog watchdog;
    char line[MAX_LINES][512];
    int32_t n_lines;
    int32_t n_ends; /* atomic */
} Dog;

static void keep_line(void *arg, const char *line)
{
    Dog *dog = arg;
    if (dog->n_lines < MAX_LINES)
        snprintf(dog->line[dog->n_lines++], sizeof dog->line[0], "%s", line);
}

static void note_end(void *arg)
{
    Dog *dog = arg;
    __atomic_add_fetch(&dog->n_ends, 1, __ATOMIC_SEQ_CST);
}

static int32_t ends_of(Dog *dog)
{
    return __atomic_load_n(&dog->n_ends, __ATOMIC_SEQ_CST);
}

static void nap_ms(int64_t ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void start_dog(Dog *dog, Phase phase, int64_t step, double limit_s)
{
    const WatchHandler handler = {.say = keep_line, .end = note_end, .arg = dog};
    *dog = (Dog){.n_lines = 0};
    activity_begin(&dog->activity, phase, step, limit_s, "backward of micro-step");
    check_no_err(watchdog_start(&dog->watchdog, &dog->activity, handler));
}

/* A rank of a host of `n` that share a board. */
static void place_dog(Dog *dog, WatchSlot *board, int32_t rank, int32_t n)
{
    const WatchPlace place = {.rank = rank,
                              .world = n,
                              .host = "node7",
                              .device = "cuda 1",
                              .board = board,
                              .n_slots = n,
                              .own = rank};
    watchdog_place(&dog->watchdog, &place);
}

/* Until it ended the program; 10 seconds at most. */
static void wait_for_end(Dog *dog)
{
    for (int i = 0; i < 1000 && !ends_of(dog); i++)
        nap_ms(10);
    assert_int_equal(ends_of(dog), 1);
}

static void check_line(const Dog *dog, int32_t i, const char *begin, const char *end)
{
    assert_true(i < dog->n_lines);
    const char *line = dog->line[i];
    assert_true(strlen(line) >= strlen(begin) + strlen(end));
    if (strncmp(line, begin, strlen(begin)) != 0 ||
        strcmp(line + strlen(line) - strlen(end), end) != 0)
        fail_msg("\"%s\", wanted \"%s...%s\"", line, begin, end);
}

/* ---- limits ------------------------------------------------------------------------------ */

static double limit_after(int64_t n, const double *seconds)
{
    StepTimes times = {.n = 0};
    for (int64_t i = 0; i < n; i++)
        step_times_add(&times, seconds[i]);
    return step_times_limit(&times, -1);
}

static void test_the_limit_of_a_step_follows_the_median(void **state)
{
    (void)state;
    const double seconds[] = {100, 4, 5, 900, 6};
    assert_true(limit_after(0, seconds) == 1800);
    assert_true(limit_after(1, seconds) == 2000);
    assert_true(limit_after(3, seconds) == 100); /* of 4 5 100 */
    assert_true(limit_after(5, seconds) == 120); /* of 4 5 6 100 900 */
    const double quick[] = {0.1, 0.1, 0.1};
    assert_true(limit_after(3, quick) == 60);
}

static void test_only_the_newest_steps_count(void **state)
{
    (void)state;
    StepTimes times = {.n = 0};
    for (int i = 0; i < 1000; i++)
        step_times_add(&times, 50);
    for (int i = 0; i < STEP_TIMES; i++)
        step_times_add(&times, 4);
    assert_true(step_times_limit(&times, -1) == 80);
}

static void test_a_setting_is_the_limit(void **state)
{
    (void)state;
    StepTimes times = {.n = 0};
    assert_true(step_times_limit(&times, 7.5) == 7.5);
    step_times_add(&times, 100);
    assert_true(step_times_limit(&times, 7.5) == 7.5);
    assert_true(step_times_limit(&times, 0) == 0);
}

/* ---- one rank ---------------------------------------------------------------------------- */

static void test_a_late_phase_is_said_and_ended_once(void **state)
{
    (void)state;
    Dog dog;
    start_dog(&dog, PHASE_STEP, 17, 0.3);
    place_dog(&dog, NULL, 0, 1);
    activity_do(&dog.activity, "reduce bucket", 3);
    activity_enter(&dog.activity, "all-reduce");
    assert_false(watchdog_has_expired(&dog.watchdog));
    wait_for_end(&dog);
    assert_true(watchdog_has_expired(&dog.watchdog));
    nap_ms(300);
    watchdog_stop(&dog.watchdog);
    assert_int_equal(ends_of(&dog), 1);
    assert_int_equal(dog.n_lines, 1);
    check_line(&dog, 0, "gpt_ddp: watchdog: rank 0 of 1 on node7 (cuda 1) has been 0.",
               " s in step 17: reduce bucket 3, in all-reduce; limit 0.3 s\n");
}

static void test_who_is_fed_lives(void **state)
{
    (void)state;
    Dog dog;
    start_dog(&dog, PHASE_STEP, 0, 5);
    place_dog(&dog, NULL, 0, 1);
    for (int64_t step = 0; step < 20; step++) { /* 1.2 s in all, each with a limit of 1 s */
        activity_begin(&dog.activity, PHASE_STEP, step, 1, "begin");
        nap_ms(60);
    }
    watchdog_stop(&dog.watchdog);
    assert_int_equal(ends_of(&dog), 0);
    assert_int_equal(dog.n_lines, 0);
}

/* A new operation is no new phase: what goes round in circles is ended, too. */
static void test_operations_do_not_feed(void **state)
{
    (void)state;
    Dog dog;
    start_dog(&dog, PHASE_EVAL, 0, 0.3);
    place_dog(&dog, NULL, 0, 1);
    for (int64_t i = 0; i < 1000 && !ends_of(&dog); i++) {
        activity_do(&dog.activity, "forward of batch", i);
        nap_ms(10);
    }
    watchdog_stop(&dog.watchdog);
    assert_int_equal(ends_of(&dog), 1);
}

static void test_without_a_limit_nothing_is_late(void **state)
{
    (void)state;
    Dog dog;
    start_dog(&dog, PHASE_SAVE, 5, 0.2);
    activity_begin(&dog.activity, PHASE_SAVE, 5, 0, "write");
    nap_ms(600);
    watchdog_stop(&dog.watchdog);
    assert_int_equal(ends_of(&dog), 0);
}

static void test_stopping_is_quick_and_may_come_first(void **state)
{
    (void)state;
    Dog dog = {.n_lines = 0};
    watchdog_stop(&dog.watchdog);
    int64_t begin_ns = activity_now_ns();
    for (int i = 0; i < 50; i++) {
        start_dog(&dog, PHASE_STEP, 1, 100);
        watchdog_stop(&dog.watchdog);
    }
    assert_true(activity_now_ns() - begin_ns < 4000000000); /* 50 looks would take 5 s */
}

/* ---- ranks of a host --------------------------------------------------------------------- */

/* Rank 1 is late; rank 0, whose own limit is far away, says its line and ends, too. */
static void test_one_late_rank_lets_all_speak(void **state)
{
    (void)state;
    WatchSlot board[2] = {{0}};
    Dog dog[2];
    for (int32_t r = 0; r < 2; r++) {
        start_dog(&dog[r], PHASE_STEP, 3, r == 1 ? 0.4 : 100);
        place_dog(&dog[r], board, r, 2);
    }
    for (int32_t r = 0; r < 2; r++)
        wait_for_end(&dog[r]);
    for (int32_t r = 0; r < 2; r++) {
        watchdog_stop(&dog[r].watchdog);
        assert_int_equal(dog[r].n_lines, 1);
    }
    check_line(&dog[0], 0, "gpt_ddp: watchdog: rank 0 of 2 on node7 (cuda 1) has been 0.",
               "; limit 100.0 s\n");
    check_line(&dog[1], 0, "gpt_ddp: watchdog: rank 1 of 2 on node7 (cuda 1) has been 0.",
               "; limit 0.4 s\n");
}

/* Of four ranks 0 and 3 do not run, and 2 left in peace: the first that answers, 1, names 0 and 3.
 */
static void test_who_does_not_answer_is_named_once(void **state)
{
    (void)state;
    WatchSlot board[4] = {{.rank = 0, .pid = 4711, .doing = "step 8: update"},
                          {0},
                          {.rank = 2, .left = 1},
                          {.rank = 3, .pid = 4712, .doing = "save at step 9: write"}};
    Dog dog;
    start_dog(&dog, PHASE_STEP, 9, 0.2);
    place_dog(&dog, board, 1, 4);
    wait_for_end(&dog);
    watchdog_stop(&dog.watchdog);
    assert_int_equal(dog.n_lines, 3);
    assert_int_equal(board[1].pid, (int32_t)getpid());
    assert_int_equal(board[1].expired, 1);
    check_line(&dog, 1, "gpt_ddp: watchdog: rank 0 of 4 on node7 (process 4711) does not answer",
               "last seen in step 8: update\n");
    check_line(&dog, 2, "gpt_ddp: watchdog: rank 3 of 4 on node7 (process 4712) does not answer",
               "last seen in save at step 9: write\n");
}

/* Rank 0 answers, so rank 1 leaves the naming to it. */
static void test_only_the_first_that_answers_names(void **state)
{
    (void)state;
    WatchSlot board[3] = {{.expired = 1}, {0}, {.rank = 2, .pid = 4713}};
    Dog dog;
    start_dog(&dog, PHASE_STEP, 9, 100);
    place_dog(&dog, board, 1, 3);
    wait_for_end(&dog);
    watchdog_stop(&dog.watchdog);
    assert_int_equal(dog.n_lines, 1);
}

/* Before its thread has looked once: a rank may be stopped there. */
static void test_a_place_on_the_board_says_at_once_what_goes_on(void **state)
{
    (void)state;
    WatchSlot board[2] = {{0}};
    Dog dog;
    start_dog(&dog, PHASE_START, -1, 100);
    nap_ms(20); /* the thread has looked, and sleeps until its next tick */
    place_dog(&dog, board, 1, 2);
    pthread_mutex_lock(&dog.watchdog.lock);
    assert_string_equal(board[1].doing, "start: backward of micro-step");
    pthread_mutex_unlock(&dog.watchdog.lock);
    watchdog_stop(&dog.watchdog);
}

/* A board that was let go may go away: nothing looks at it any more. */
static void test_a_board_that_was_let_go_is_not_touched(void **state)
{
    (void)state;
    WatchSlot board[2] = {{0}};
    Dog dog;
    start_dog(&dog, PHASE_END, -1, 100);
    place_dog(&dog, board, 0, 2);
    nap_ms(250);
    place_dog(&dog, NULL, 0, 2);
    assert_int_equal(board[0].left, 1);
    assert_string_equal(board[0].doing, "end: backward of micro-step");
    board[1].expired = 1;
    board[0].doing[0] = '\0';
    nap_ms(250);
    watchdog_stop(&dog.watchdog);
    assert_int_equal(ends_of(&dog), 0);
    assert_string_equal(board[0].doing, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_limit_of_a_step_follows_the_median),
        cmocka_unit_test(test_only_the_newest_steps_count),
        cmocka_unit_test(test_a_setting_is_the_limit),
        cmocka_unit_test(test_a_late_phase_is_said_and_ended_once),
        cmocka_unit_test(test_who_is_fed_lives),
        cmocka_unit_test(test_operations_do_not_feed),
        cmocka_unit_test(test_without_a_limit_nothing_is_late),
        cmocka_unit_test(test_stopping_is_quick_and_may_come_first),
        cmocka_unit_test(test_one_late_rank_lets_all_speak),
        cmocka_unit_test(test_who_does_not_answer_is_named_once),
        cmocka_unit_test(test_only_the_first_that_answers_names),
        cmocka_unit_test(test_a_place_on_the_board_says_at_once_what_goes_on),
        cmocka_unit_test(test_a_board_that_was_let_go_is_not_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
