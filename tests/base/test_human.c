#include "base/human.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_bytes_choose_the_unit(void **state)
{
    (void)state;
    assert_string_equal(human_bytes(0).text, "0 B");
    assert_string_equal(human_bytes(1023).text, "1023 B");
    assert_string_equal(human_bytes(1536).text, "1.5 KiB");
    assert_string_equal(human_bytes((size_t)3 << 30).text, "3.0 GiB");
}

/* Never "1024.0 KiB": what rounds to the next unit is written in it. */
static void test_bytes_below_a_unit_round_into_it(void **state)
{
    (void)state;
    assert_string_equal(human_bytes((1 << 20) - 60).text, "1023.9 KiB");
    assert_string_equal(human_bytes((1 << 20) - 1).text, "1.0 MiB");
    assert_string_equal(human_bytes(SIZE_MAX).text, "16384.0 PiB");
}

static void test_counts_group_by_thousands(void **state)
{
    (void)state;
    assert_string_equal(human_count(0).text, "0");
    assert_string_equal(human_count(999).text, "999");
    assert_string_equal(human_count(491520).text, "491,520");
    assert_string_equal(human_count(-1234567).text, "-1,234,567");
    assert_string_equal(human_count(INT64_MAX).text, "9,223,372,036,854,775,807");
}

static void test_durations_show_two_units(void **state)
{
    (void)state;
    assert_string_equal(human_duration(44.6).text, "45s");
    assert_string_equal(human_duration(750).text, "12m30s");
    assert_string_equal(human_duration(4 * 3600 + 5 * 60).text, "4h05m");
    assert_string_equal(human_duration(3 * 86400 + 4 * 3600).text, "3d04h");
}

/* What comes out of a division by a speed that may be 0. */
static void test_durations_that_are_no_time(void **state)
{
    (void)state;
    assert_string_equal(human_duration(INFINITY).text, "1000000d00h");
    assert_string_equal(human_duration(NAN).text, "0s");
    assert_string_equal(human_duration(-5).text, "0s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_choose_the_unit),
        cmocka_unit_test(test_bytes_below_a_unit_round_into_it),
        cmocka_unit_test(test_counts_group_by_thousands),
        cmocka_unit_test(test_durations_show_two_units),
        cmocka_unit_test(test_durations_that_are_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
