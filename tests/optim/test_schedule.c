#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "optim/schedule.h"

typedef struct {
    int64_t step;
    double lr;
} Golden;

static void check(const OptimConfig *optim, const Golden *golden, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double lr = schedule_lr(optim, golden[i].step);
        if (fabs(lr - golden[i].lr) > 4e-16 * fabs(golden[i].lr))
            fail_msg("step %lld: %.17g, wanted %.17g", (long long)golden[i].step, lr, golden[i].lr);
    }
}

#define CHECK(optim, golden) check(&(optim), (golden), sizeof(golden) / sizeof((golden)[0]))

static OptimConfig gpt2_124m(ConfigSchedule schedule)
{
    return (OptimConfig){.learning_rate = 6e-4,
                         .min_lr = 6e-5,
                         .warmup_iters = 2000,
                         .lr_decay_iters = 600000,
                         .decay_lr = true,
                         .lr_schedule = schedule};
}

/* Printed by nanoGPT's get_lr (train.py) with these settings, 17 digits. */
static void test_cosine_is_nanogpts(void **state)
{
    (void)state;
    static const Golden golden[] = {
        {0, 2.998500749625187e-07},
        {1, 5.997001499250374e-07},
        {999, 0.0002998500749625187},
        {1999, 0.0005997001499250374},
        {2000, 0.0006},
        {2001, 0.0005999999999962741},
        {100000, 0.0005649999182240157},
        {301000, 0.00032999999999999994},
        {599999, 6.00000000037259e-05},
        {600000, 6e-05},
        {600001, 6e-05},
        {700000, 6e-05},
    };
    const OptimConfig optim = gpt2_124m(CONFIG_LR_COSINE);
    CHECK(optim, golden);
}

static void test_cosine_of_shakespeare_char(void **state)
{
    (void)state;
    static const Golden golden[] = {
        {0, 9.900990099009901e-06},
        {99, 0.0009900990099009901},
        {100, 0.001},
        {101, 0.000999999907510999},
        {2500, 0.000564423209907245},
        {4999, 0.00010000009248900101},
        {5000, 0.0001},
        {5001, 0.0001},
    };
    OptimConfig optim = gpt2_124m(CONFIG_LR_COSINE);
    optim.learning_rate = 1e-3;
    optim.min_lr = 1e-4;
    optim.warmup_iters = 100;
    optim.lr_decay_iters = 5000;
    CHECK(optim, golden);
}

static void test_without_warmup(void **state)
{
    (void)state;
    static const Golden golden[] = {{0, 0.001},
                                    {1, 0.0009779754323328191},
                                    {9, 0.00012202456766718092},
                                    {10, 0.0001},
                                    {11, 0.0001}};
    OptimConfig optim = gpt2_124m(CONFIG_LR_COSINE);
    optim.learning_rate = 1e-3;
    optim.min_lr = 1e-4;
    optim.warmup_iters = 0;
    optim.lr_decay_iters = 10;
    CHECK(optim, golden);
}

static void test_warmup_as_long_as_the_decay(void **state)
{
    (void)state;
    static const Golden golden[] = {{9, 6e-4 * 10 / 11}, {10, 6e-5}, {11, 6e-5}};
    for (int schedule = CONFIG_LR_COSINE; schedule <= CONFIG_LR_WSD; schedule++) {
        OptimConfig optim = gpt2_124m((ConfigSchedule)schedule);
        optim.warmup_iters = optim.lr_decay_iters = 10;
        if (schedule != CONFIG_LR_CONSTANT)
            CHECK(optim, golden);
    }
}

static void test_linear_is_a_straight_line(void **state)
{
    (void)state;
    static const Golden golden[] = {{1999, 6e-4 * 2000 / 2001}, {2000, 6e-4},   {301000, 3.3e-4},
                                    {450500, 1.95e-4},          {600000, 6e-5}, {900000, 6e-5}};
    const OptimConfig optim = gpt2_124m(CONFIG_LR_LINEAR);
    CHECK(optim, golden);
}

static void test_constant_keeps_the_warmup(void **state)
{
    (void)state;
    static const Golden golden[] = {
        {0, 6e-4 / 2001}, {1999, 6e-4 * 2000 / 2001}, {2000, 6e-4}, {900000, 6e-4}};
    const OptimConfig optim = gpt2_124m(CONFIG_LR_CONSTANT);
    CHECK(optim, golden);
}

/* A quarter into the last fifth of 600000 steps, 1 - sqrt(1/4) of the range is left. */
static void test_wsd_decays_in_the_last_fifth(void **state)
{
    (void)state;
    static const Golden golden[] = {{0, 6e-4 / 2001}, {2000, 6e-4},   {480000, 6e-4},
                                    {510000, 3.3e-4}, {600000, 6e-5}, {600001, 6e-5}};
    const OptimConfig optim = gpt2_124m(CONFIG_LR_WSD);
    CHECK(optim, golden);
    assert_true(schedule_lr(&optim, 480001) < 6e-4);
}

static void test_wsd_with_a_long_warmup_decays_after_it(void **state)
{
    (void)state;
    OptimConfig optim = gpt2_124m(CONFIG_LR_WSD);
    optim.warmup_iters = 560000;
    static const Golden golden[] = {{560000, 6e-4}, {570000, 3.3e-4}, {600000, 6e-5}};
    CHECK(optim, golden);
}

static void test_decay_off_has_no_warmup_either(void **state)
{
    (void)state;
    OptimConfig optim = gpt2_124m(CONFIG_LR_COSINE);
    optim.decay_lr = false;
    static const Golden golden[] = {{0, 6e-4}, {2000, 6e-4}, {900000, 6e-4}};
    CHECK(optim, golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosine_is_nanogpts),
        cmocka_unit_test(test_cosine_of_shakespeare_char),
        cmocka_unit_test(test_without_warmup),
        cmocka_unit_test(test_warmup_as_long_as_the_decay),
        cmocka_unit_test(test_linear_is_a_straight_line),
        cmocka_unit_test(test_constant_keeps_the_warmup),
        cmocka_unit_test(test_wsd_decays_in_the_last_fifth),
        cmocka_unit_test(test_wsd_with_a_long_warmup_decays_after_it),
        cmocka_unit_test(test_decay_off_has_no_warmup_either),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
