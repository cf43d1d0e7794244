#include "optim/loss_scale.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void good_steps(LossScale *s, int n)
{
    for (int i = 0; i < n; i++)
        loss_scale_good(s);
}

static void test_without_a_scale_nothing_happens(void **state)
{
    (void)state;
    LossScale s = {0};
    good_steps(&s, 3 * LOSS_SCALE_GOOD_STEPS);
    assert_false(loss_scale_overflow(&s));
    assert_true(loss_scale_factor(&s) == 1.0);
    assert_true(s.scale == 0);
}

static void test_it_doubles_after_enough_good_steps_in_a_row(void **state)
{
    (void)state;
    LossScale s = {.scale = 8};
    good_steps(&s, LOSS_SCALE_GOOD_STEPS - 1);
    assert_true(loss_scale_factor(&s) == 8.0);
    good_steps(&s, 1);
    assert_true(loss_scale_factor(&s) == 16.0);
    good_steps(&s, LOSS_SCALE_GOOD_STEPS - 1);
    assert_true(loss_scale_overflow(&s)); /* the count begins anew */
    good_steps(&s, LOSS_SCALE_GOOD_STEPS - 1);
    assert_true(loss_scale_factor(&s) == 8.0);
    good_steps(&s, 1);
    assert_true(loss_scale_factor(&s) == 16.0);
}

static void test_it_halves_down_to_its_floor(void **state)
{
    (void)state;
    LossScale s = {.scale = LOSS_SCALE_START};
    int n = 0;
    while (loss_scale_overflow(&s))
        n++;
    assert_int_equal(n, 16);
    assert_true(loss_scale_factor(&s) == LOSS_SCALE_FLOOR);
    good_steps(&s, LOSS_SCALE_GOOD_STEPS);
    assert_true(loss_scale_factor(&s) == 2 * LOSS_SCALE_FLOOR); /* and up again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_scale_nothing_happens),
        cmocka_unit_test(test_it_doubles_after_enough_good_steps_in_a_row),
        cmocka_unit_test(test_it_halves_down_to_its_floor),
    };
    return cmocka_run_group_tests_name("loss_scale", tests, NULL, NULL);
}
