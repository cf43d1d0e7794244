/* What a thread is doing, in words. */
#include "base/activity.h"

#include "tests/support/check_err.h"

static void check_text(const Activity *a, const char *wanted)
{
    char text[128];
    Activity seen = activity_look(a);
    activity_describe(&seen, text, sizeof text);
    assert_string_equal(text, wanted);
}

static void test_phase_operation_and_call(void **state)
{
    (void)state;
    Activity a = {0};
    activity_begin(&a, PHASE_START, -1, 1, "open the data");
    check_text(&a, "start: open the data");
    activity_begin(&a, PHASE_STEP, 17, 1, "begin");
    activity_do(&a, "reduce bucket", 3);
    check_text(&a, "step 17: reduce bucket 3");
    activity_leave(&a, activity_enter(&a, "barrier"));
    check_text(&a, "step 17: reduce bucket 3");
    activity_enter(&a, "all-reduce");
    check_text(&a, "step 17: reduce bucket 3, in all-reduce");
    activity_leave(&a, NULL);
    activity_begin(&a, PHASE_SAVE, 2000, 1, "write");
    check_text(&a, "save at step 2000: write");
    activity_begin(&a, PHASE_END, -1, 1, NULL);
    check_text(&a, "end: nothing");
}

static void test_of_nested_calls_the_outermost_shows(void **state)
{
    (void)state;
    Activity a = {0};
    activity_begin(&a, PHASE_EVAL, 0, 0, "loss");
    const char *none = activity_enter(&a, "agreement");
    const char *outer = activity_enter(&a, "maximum");
    check_text(&a, "eval at step 0: loss, in agreement");
    activity_leave(&a, outer);
    check_text(&a, "eval at step 0: loss, in agreement");
    activity_leave(&a, none);
    check_text(&a, "eval at step 0: loss");
}

static void test_the_deadline_is_the_limit_from_now(void **state)
{
    (void)state;
    Activity a = {0};
    int64_t before_ns = activity_now_ns();
    activity_begin(&a, PHASE_STEP, 1, 2.5, "begin");
    int64_t after_ns = activity_now_ns();
    assert_in_range(a.deadline_ns, before_ns + 2500000000, after_ns + 2500000000);
    activity_do(&a, "forward", 0);
    assert_in_range(a.deadline_ns, before_ns + 2500000000, after_ns + 2500000000);
    activity_begin(&a, PHASE_STEP, 2, 0, "begin");
    assert_int_equal(a.deadline_ns, 0);
}

static void test_nobody_need_look(void **state)
{
    (void)state;
    activity_begin(NULL, PHASE_STEP, 1, 1, "begin");
    activity_do(NULL, "forward", 0);
    activity_leave(NULL, activity_enter(NULL, "barrier"));
}

static void test_text_is_cut_where_the_room_ends(void **state)
{
    (void)state;
    char text[8] = "";
    text_append(text, sizeof text, "abcd");
    text_append_integer(text, sizeof text, -120345);
    assert_string_equal(text, "abcd-12");
    text_append(text, sizeof text, "x");
    assert_string_equal(text, "abcd-12");
    char number[32] = "";
    text_append_integer(number, sizeof number, INT64_MIN);
    text_append(number, sizeof number, " ");
    text_append_integer(number, sizeof number, 0);
    assert_string_equal(number, "-9223372036854775808 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phase_operation_and_call),
        cmocka_unit_test(test_of_nested_calls_the_outermost_shows),
        cmocka_unit_test(test_the_deadline_is_the_limit_from_now),
        cmocka_unit_test(test_nobody_need_look),
        cmocka_unit_test(test_text_is_cut_where_the_room_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
