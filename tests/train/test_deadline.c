#include "train/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const int64_t S = 1000000000;

/* A process that began at 100 s, in a job that ends at job_end_s; 0: unknown. */
static Deadline make(int64_t job_end_s, double stop_after_s, size_t n_save_bytes)
{
    Deadline d;
    const JobTimes times = {.start_ns = 100 * S, .job_end_ns = job_end_s * S};
    deadline_init(&d, &times, stop_after_s, n_save_bytes);
    return d;
}

static void test_without_limits_a_run_never_stops(void **state)
{
    (void)state;
    Deadline none = {0}, unknown = make(0, 0, 1000);
    assert_int_equal(deadline_reached(&none, INT64_MAX, 1), STOP_NOT);
    assert_int_equal(deadline_reached(&unknown, INT64_MAX, 1), STOP_NOT);
}

static void test_stop_after_counts_from_the_start(void **state)
{
    (void)state;
    Deadline d = make(0, 90, 0);
    assert_int_equal(deadline_reached(&d, 190 * S - 1, 1000), STOP_NOT);
    assert_int_equal(deadline_reached(&d, 190 * S, 1000), STOP_AFTER);
}

static void test_the_margin_has_room_for_two_saves_and_two_steps(void **state)
{
    (void)state;
    Deadline d = make(100 + 86400, 0, 700000000);
    assert_float_equal(deadline_margin(&d, 5), 60 + 2 * 7 + 2 * 5, 1e-9);
    deadline_add_save(&d, 20);
    deadline_add_save(&d, 3);
    assert_float_equal(deadline_margin(&d, 5), 60 + 2 * 20 + 2 * 5, 1e-9);
    int64_t last = (100 + 86400 - 110) * S;
    assert_int_equal(deadline_reached(&d, last - 1, 5), STOP_NOT);
    assert_int_equal(deadline_reached(&d, last, 5), STOP_JOB_ENDS);
}

static void test_a_short_job_keeps_three_quarters_of_its_time(void **state)
{
    (void)state;
    Deadline d = make(160, 0, 0);
    assert_float_equal(deadline_margin(&d, 1), 15, 1e-9);
    assert_int_equal(deadline_reached(&d, 145 * S - 1, 1), STOP_NOT);
    assert_int_equal(deadline_reached(&d, 145 * S, 1), STOP_JOB_ENDS);
}

static void test_of_both_limits_the_first_counts(void **state)
{
    (void)state;
    Deadline d = make(100 + 3600, 1800, 0);
    assert_int_equal(deadline_reached(&d, 1899 * S, 0), STOP_NOT);
    assert_int_equal(deadline_reached(&d, 1900 * S, 0), STOP_AFTER);
    assert_int_equal(deadline_reached(&d, 3640 * S, 0), STOP_JOB_ENDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_limits_a_run_never_stops),
        cmocka_unit_test(test_stop_after_counts_from_the_start),
        cmocka_unit_test(test_the_margin_has_room_for_two_saves_and_two_steps),
        cmocka_unit_test(test_a_short_job_keeps_three_quarters_of_its_time),
        cmocka_unit_test(test_of_both_limits_the_first_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
