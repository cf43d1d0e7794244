#include "optim/outliers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

enum { MOST_IN_ROW = 5 };
static const double LIMIT = 6;

/* exp of N(0, deviation^2) about `level`, number i of a stream. */
static double noisy(double level, double deviation, int64_t i)
{
    double sum = -6;
    for (uint64_t k = 0; k < 3; k++) /* twelve uniform numbers: variance 1 */
        for (int w = 0; w < 4; w++)
            sum += (double)rng_unit(rng_block(9, RNG_DATA, (uint64_t)i, k).word[w]);
    return level * exp(deviation * sum);
}

static OutlierVerdict judge(Outliers *o, double loss, double norm)
{
    return outliers_judge(o, loss, norm, LIMIT, MOST_IN_ROW);
}

static void fill(Outliers *o, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(judge(o, noisy(3, 0.01, 2 * i), noisy(0.5, 0.1, 2 * i + 1)),
                         STEP_ACCEPTED);
}

static void test_z_counts_robust_deviations_of_the_logarithm(void **state)
{
    (void)state;
    double window[101];
    for (int i = 0; i < 101; i++)
        window[i] = 1 + 0.01 * (i * 37 % 101); /* median 1.5, median deviation 0.25 */
    assert_float_equal(outliers_z(window, 101, exp(1.5)), 0, 1e-9);
    assert_float_equal(outliers_z(window, 101, exp(1.5 + 1.4826)), 4, 1e-9);
    assert_float_equal(outliers_z(window, 101, exp(1.5 - 1.4826)), -4, 1e-9);
}

static void test_of_an_even_count_the_median_is_between(void **state)
{
    (void)state;
    double window[64];
    for (int i = 0; i < 64; i++)
        window[i] = i % 2;
    assert_float_equal(outliers_z(window, 64, exp(0.5 + 1.4826)), 2, 1e-9);
}

static void test_steps_that_are_all_alike_leave_room_for_a_little(void **state)
{
    (void)state;
    Outliers o = {0};
    for (int i = 0; i < 200; i++)
        assert_int_equal(judge(&o, 2, 1), STEP_ACCEPTED);
    assert_int_equal(judge(&o, 2 * 1.005, 1), STEP_ACCEPTED);
    assert_int_equal(judge(&o, 2 * 1.007, 1), STEP_OUTLIER);
}

static void test_a_short_window_says_nothing(void **state)
{
    (void)state;
    Outliers o = {0};
    fill(&o, OUTLIER_LEAST - 1);
    assert_int_equal(judge(&o, 1e6, 1e6), STEP_ACCEPTED);
    assert_int_equal(o.n, OUTLIER_LEAST);
    assert_int_equal(judge(&o, 1e6, 1e6), STEP_OUTLIER);
}

static void test_either_value_is_enough(void **state)
{
    (void)state;
    Outliers o = {0};
    fill(&o, 128);
    assert_int_equal(judge(&o, 3.5, 0.5), STEP_OUTLIER);
    assert_int_equal(judge(&o, 3, 5), STEP_OUTLIER);
    assert_int_equal(judge(&o, 3, 0.5), STEP_ACCEPTED);
}

static void test_what_is_low_is_welcome(void **state)
{
    (void)state;
    Outliers o = {0};
    fill(&o, 128);
    assert_int_equal(judge(&o, 0.01, 0), STEP_ACCEPTED);
}

static void test_outliers_do_not_enter_the_window(void **state)
{
    (void)state;
    Outliers o = {0}, before;
    fill(&o, 200);
    before = o;
    assert_int_equal(judge(&o, 30, 50), STEP_OUTLIER);
    assert_memory_equal(o.loss, before.loss, sizeof o.loss);
    assert_memory_equal(o.norm, before.norm, sizeof o.norm);
    assert_int_equal(o.n, OUTLIER_WINDOW);
    assert_int_equal(o.n_skipped, 1);
    assert_int_equal(o.n_in_row, 1);
    assert_int_equal(judge(&o, 3, 0.5), STEP_ACCEPTED);
    assert_int_equal(o.n_in_row, 0);
    assert_int_equal(o.n_skipped, 1);
}

static void test_a_level_that_stays_is_accepted(void **state)
{
    (void)state;
    Outliers o = {0};
    fill(&o, 128);
    for (int i = 0; i < MOST_IN_ROW; i++)
        assert_int_equal(judge(&o, 6, 5), STEP_OUTLIER);
    assert_int_equal(judge(&o, 6, 5), STEP_NEW_LEVEL);
    assert_int_equal(o.n, 1);
    for (int i = 0; i < 300; i++)
        assert_int_equal(judge(&o, noisy(6, 0.01, 2 * i), noisy(5, 0.1, 2 * i + 1)), STEP_ACCEPTED);
    assert_int_equal(o.n_skipped, MOST_IN_ROW);
}

static void test_a_slow_rise_is_none(void **state)
{
    (void)state;
    Outliers o = {0};
    for (int64_t i = 0; i < 2000; i++)
        assert_int_equal(judge(&o, noisy(3 + 1e-3 * (double)i, 0.01, i), 1), STEP_ACCEPTED);
}

/* The window is the newest values, oldest first. */
static void test_the_window_keeps_the_newest(void **state)
{
    (void)state;
    Outliers o = {0};
    for (int i = 1; i <= 300; i++)
        outliers_judge(&o, i, 2 * i, 1e9, MOST_IN_ROW);
    assert_int_equal(o.n, OUTLIER_WINDOW);
    for (int i = 0; i < OUTLIER_WINDOW; i++) {
        assert_true(o.loss[i] == log(173 + i));
        assert_true(o.norm[i] == log(2 * (173 + i)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_z_counts_robust_deviations_of_the_logarithm),
        cmocka_unit_test(test_of_an_even_count_the_median_is_between),
        cmocka_unit_test(test_steps_that_are_all_alike_leave_room_for_a_little),
        cmocka_unit_test(test_a_short_window_says_nothing),
        cmocka_unit_test(test_either_value_is_enough),
        cmocka_unit_test(test_what_is_low_is_welcome),
        cmocka_unit_test(test_outliers_do_not_enter_the_window),
        cmocka_unit_test(test_a_level_that_stays_is_accepted),
        cmocka_unit_test(test_a_slow_rise_is_none),
        cmocka_unit_test(test_the_window_keeps_the_newest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
