#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check_block(RngBlock block, const uint32_t want[4])
{
    for (int i = 0; i < 4; i++)
        assert_int_equal(block.word[i], want[i]);
}

/* kat_vectors of Random123, "philox4x32 10": counter, key -> output. The counter's words are index
 * (low, high) and stream (low, high); the key's are the seed's, with `use` in the top byte. */
static void test_philox_known_answers(void **state)
{
    (void)state;
    const RngUse none = (RngUse)0;
    check_block(rng_block(0, none, 0, 0),
                (uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    check_block(rng_block(UINT64_MAX, none, UINT64_MAX, UINT64_MAX),
                (uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    check_block(rng_block(0x299f31d0a4093822, none, 0x0370734413198a2e, 0x85a308d3243f6a88),
                (uint32_t[]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static void test_use_is_the_top_byte_of_the_key(void **state)
{
    (void)state;
    RngBlock want = rng_block((uint64_t)RNG_DROPOUT << 56 | 1337, (RngUse)0, 5, 6);
    check_block(rng_block(1337, RNG_DROPOUT, 5, 6), want.word);
}

static void test_each_argument_changes_the_bits(void **state)
{
    (void)state;
    const RngBlock all[] = {
        rng_block(1, RNG_INIT, 2, 3),    rng_block(2, RNG_INIT, 2, 3),
        rng_block(1, RNG_DATA, 2, 3),    rng_block(1, RNG_DROPOUT, 2, 3),
        rng_block(1, RNG_SAMPLER, 2, 3), rng_block(1, RNG_SHUFFLE, 2, 3),
        rng_block(1, RNG_INIT, 3, 3),    rng_block(1, RNG_INIT, 2, 4),
        rng_block(1, RNG_INIT, 3, 2),    rng_block(1, RNG_INIT, 2, (uint64_t)3 << 32),
    };
    const int n = sizeof all / sizeof *all;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(&all[i], &all[j], sizeof *all);
}

static void test_unit_stays_below_one(void **state)
{
    (void)state;
    assert_true(rng_unit(0) == 0.0f);
    assert_true(rng_unit(UINT32_MAX) == 1.0f - 0x1p-24f);
}

static void test_below_covers_the_range_evenly(void **state)
{
    (void)state;
    enum { N = 10, DRAWS = 20000 };
    int count[N] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        uint64_t x = rng_below(1337, RNG_DATA, 7, i, N);
        assert_true(x < N);
        count[x]++;
    }
    double chi2 = 0, want = (double)DRAWS / N;
    for (int i = 0; i < N; i++)
        chi2 += (count[i] - want) * (count[i] - want) / want;
    assert_true(chi2 < 27.9); /* 9 degrees of freedom: exceeded once in a thousand seeds */
}

static void test_below_reaches_large_ranges(void **state)
{
    (void)state;
    const uint64_t n = (uint64_t)1 << 39;
    uint64_t highest = 0;
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t x = rng_below(1, RNG_DATA, 0, i, n);
        assert_true(x < n);
        highest = x > highest ? x : highest;
    }
    assert_true(highest > n / 10 * 9);
    assert_int_equal(rng_below(1, RNG_DATA, 0, 0, 1), 0);
}

static void test_normal_has_the_moments(void **state)
{
    (void)state;
    enum { N = 40000 };
    static float x[N];
    rng_fill_normal(x, N, 0.02f, 1337, RNG_INIT, 0);
    double mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < N; i++) {
        double z = x[i] / 0.02;
        mean += z / N;
        square += z * z / N;
        fourth += z * z * z * z / N;
    }
    /* five standard errors: 1, sqrt(2) and sqrt(96) over sqrt(N) */
    assert_true(fabs(mean) < 5 / 200.0);
    assert_true(fabs(square - 1) < 5 * 1.4142 / 200.0);
    assert_true(fabs(fourth - 3) < 5 * 9.798 / 200.0);
}

/* Value i depends on i alone: any rank may compute any part. */
static void test_normal_prefix_does_not_depend_on_length(void **state)
{
    (void)state;
    float longer[13], shorter[13];
    rng_fill_normal(longer, 13, 1.0f, 1, RNG_INIT, 2);
    for (int64_t n = 0; n <= 12; n++) {
        shorter[n] = -99.0f;
        rng_fill_normal(shorter, n, 1.0f, 1, RNG_INIT, 2);
        assert_memory_equal(shorter, longer, (size_t)n * sizeof *longer);
        assert_true(shorter[n] == -99.0f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_use_is_the_top_byte_of_the_key),
        cmocka_unit_test(test_each_argument_changes_the_bits),
        cmocka_unit_test(test_unit_stays_below_one),
        cmocka_unit_test(test_below_covers_the_range_evenly),
        cmocka_unit_test(test_below_reaches_large_ranges),
        cmocka_unit_test(test_normal_has_the_moments),
        cmocka_unit_test(test_normal_prefix_does_not_depend_on_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
