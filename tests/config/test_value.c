#include "config/value.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"

static void test_bools(void **state)
{
    (void)state;
    const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "on", "On", "1"};
    const char *const no[] = {"false", "False", "no", "NO", "off", "Off", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        bool value = false;
        assert_true(value_read_bool(yes[i], &value));
        assert_true(value);
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        bool value = true;
        assert_true(value_read_bool(no[i], &value));
        assert_false(value);
    }
}

static void test_bools_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"", "2", "maybe", "truee", "tru", "true ", "01"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool value;
        if (value_read_bool(bad[i], &value))
            fail_msg("\"%s\" was read as a truth value", bad[i]);
    }
}

static void test_counts(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int64_t want;
    } good[] = {
        {"0", 0},
        {"12", 12},
        {"+7", 7},
        {"-3", -3},
        {"007", 7},
        {"64k", 64000},
        {"64K", 64000},
        {"64M", 64000000},
        {"2G", 2000000000},
        {"1T", 1000000000000},
        {"1.5k", 1500},
        {"1.1M", 1100000},
        {"0.3G", 300000000},
        {"6e5", 600000},
        {"5*8", 40},
        {" 5 * 8 ", 40},
        {"2*3*4k", 24000},
        {"0.5*8", 4},
        {"9223372036854775807", INT64_MAX},
        {"9007199254740993", 9007199254740993}, /* not a double */
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t value = -1;
        if (!value_read_count(good[i].text, &value) || value != good[i].want)
            fail_msg("\"%s\" gave %lld", good[i].text, (long long)value);
    }
}

static void test_counts_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "abc",
                               "1.5",
                               "1.0001k",
                               "12x",
                               "12 13",
                               "5*",
                               "*5",
                               "5**8",
                               "1e",
                               "0x10",
                               "inf",
                               "nan",
                               "1e400",
                               "k",
                               "12kk",
                               "64MiB",
                               "9223372036854775808",
                               "1e300*1e300",
                               "--5",
                               "12k3",
                               "1e17"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value;
        if (value_read_count(bad[i], &value))
            fail_msg("\"%s\" was read as %lld", bad[i], (long long)value);
    }
}

static void test_reals(void **state)
{
    (void)state;
    const struct {
        const char *text;
        double want;
    } good[] = {
        {"6e-4", 6e-4}, {"0.1", 0.1},   {".5", 0.5},      {"1.", 1.0},
        {"-2.5", -2.5}, {"1E-8", 1e-8}, {"2*3e-4", 6e-4}, {"0", 0.0},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value = -99;
        if (!value_read_real(good[i].text, &value) || value != good[i].want)
            fail_msg("\"%s\" gave %.17g", good[i].text, value);
    }
}

static void test_reals_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",      "fast",   "6e-4x", "inf", "-nan",
                               "1e999", "0x1p-3", "1,5",   ".",   "1 2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value;
        if (value_read_real(bad[i], &value))
            fail_msg("\"%s\" was read as %g", bad[i], value);
    }
}

static void test_bytes(void **state)
{
    (void)state;
    const int64_t kib = 1024, mib = kib * 1024, gib = mib * 1024;
    const struct {
        const char *text;
        int64_t want;
    } good[] = {
        {"4096", 4096},
        {"4096B", 4096},
        {"1k", kib},
        {"1KiB", kib},
        {"1kb", kib},
        {"512M", 512 * mib},
        {"512MB", 512 * mib},
        {"512 MiB", 512 * mib},
        {"12G", 12 * gib},
        {"12GB", 12 * gib},
        {"12gib", 12 * gib},
        {"2TiB", 2048 * gib},
        {"1.5GiB", 3 * gib / 2},
        {"2*3GiB", 6 * gib},
        {"11.6GiB", 12455405158},
        {"0.5B", 0},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t value = -1;
        if (!value_read_bytes(good[i].text, &value) || value != good[i].want)
            fail_msg("\"%s\" gave %lld", good[i].text, (long long)value);
    }
}

static void test_bytes_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"", "lots", "12Q", "12Gi", "12GiBs", "GiB", "1e30", "12 13"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value;
        if (value_read_bytes(bad[i], &value))
            fail_msg("\"%s\" was read as %lld", bad[i], (long long)value);
    }
}

static void test_seconds(void **state)
{
    (void)state;
    const struct {
        const char *text;
        double want;
    } good[] = {
        {"120", 120},   {"120s", 120},    {"10m", 600},   {"23h50m", 85800}, {"1d", 86400},
        {"500ms", 0.5}, {"1h 30m", 5400}, {"1.5h", 5400}, {"2*60", 120},     {"1m30s", 90},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value = -1;
        if (!value_read_seconds(good[i].text, &value) || fabs(value - good[i].want) > 1e-9)
            fail_msg("\"%s\" gave %.17g", good[i].text, value);
    }
}

static void test_seconds_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"", "soon", "10x", "m", "10m5", "1h30"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value;
        if (value_read_seconds(bad[i], &value))
            fail_msg("\"%s\" was read as %g", bad[i], value);
    }
}

static void test_printed_text(void **state)
{
    (void)state;
    assert_string_equal(value_print_count(-12).text, "-12");
    assert_string_equal(value_print_real(6e-4).text, "0.0006");
    assert_string_equal(value_print_real(100).text, "100");
    assert_string_equal(value_print_real(0).text, "0");
    assert_string_equal(value_print_real(1e-8).text, "1e-08");
    assert_string_equal(value_print_bytes((int64_t)12 << 30).text, "12GiB");
    assert_string_equal(value_print_bytes(1536).text, "1536");
    assert_string_equal(value_print_bytes(0).text, "0");
    assert_string_equal(value_print_seconds(120).text, "120s");
    assert_string_equal(value_print_seconds(0.5).text, "0.5s");
}

/* What is printed reads back to the same bits, for values of all magnitudes. */
static void test_printed_values_read_back(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        RngBlock r = rng_block(1, RNG_DATA, 0, i);
        int64_t count = (int64_t)((uint64_t)r.word[0] << 32 | r.word[1]) >> (r.word[2] % 63), again;
        double real = ldexp((double)count, (int)(r.word[3] % 200) - 150), real_again;
        assert_true(value_read_count(value_print_count(count).text, &again) && again == count);
        assert_true(value_read_real(value_print_real(real).text, &real_again) &&
                    real_again == real);
        real = fabs(real);
        assert_true(value_read_seconds(value_print_seconds(real).text, &real_again));
        assert_true(real_again == real);
        count = llabs(count) >> 21 << r.word[3] % 11; /* up to 2^53 */
        assert_true(value_read_bytes(value_print_bytes(count).text, &again) && again == count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bools),        cmocka_unit_test(test_bools_refused),
        cmocka_unit_test(test_counts),       cmocka_unit_test(test_counts_refused),
        cmocka_unit_test(test_reals),        cmocka_unit_test(test_reals_refused),
        cmocka_unit_test(test_bytes),        cmocka_unit_test(test_bytes_refused),
        cmocka_unit_test(test_seconds),      cmocka_unit_test(test_seconds_refused),
        cmocka_unit_test(test_printed_text), cmocka_unit_test(test_printed_values_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
