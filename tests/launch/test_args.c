#include "launch/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/check_err.h"

enum { FLAG_WORLD, FLAG_OUT_DIR, FLAG_PLAN, N_FLAGS, MAX_WORDS = 8 };

typedef struct {
    Flag flag[N_FLAGS];
    char *rest[MAX_WORDS];
    int32_t n_rest;
} Taken;

/* Take the flags out of words[0..n), as a program named "x" gets them. */
static Err take(Taken *taken, const char *const *words, int n)
{
    char *argv[MAX_WORDS] = {"x"};
    *taken = (Taken){.flag = {[FLAG_WORLD] = {"world", "N", "", NULL},
                              [FLAG_OUT_DIR] = {"out_dir", "DIR", "", NULL},
                              [FLAG_PLAN] = {"plan", NULL, "", NULL}}};
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)words[i];
    return args_take(taken->flag, N_FLAGS, n + 1, argv, taken->rest, &taken->n_rest);
}

#define TAKE(taken, ...)                                                                           \
    take((taken), (const char *const[]){__VA_ARGS__},                                              \
         (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

static void values_come_behind_an_equal_sign_or_a_blank(void **state)
{
    (void)state;
    Taken t;
    check_no_err(TAKE(&t, "--world=4", "--out_dir", "a b"));
    assert_string_equal(t.flag[FLAG_WORLD].text, "4");
    assert_string_equal(t.flag[FLAG_OUT_DIR].text, "a b");
    assert_null(t.flag[FLAG_PLAN].text);
    assert_int_equal(t.n_rest, 0);
}

static void dashes_and_underscores_are_the_same(void **state)
{
    (void)state;
    Taken t;
    check_no_err(TAKE(&t, "--out-dir=a-b_c"));
    assert_string_equal(t.flag[FLAG_OUT_DIR].text, "a-b_c");
}

static void the_rest_keeps_its_order(void **state)
{
    (void)state;
    Taken t;
    check_no_err(TAKE(&t, "x.ini", "--plan", "--worlds=3", "-"));
    assert_string_equal(t.flag[FLAG_PLAN].text, "");
    assert_int_equal(t.n_rest, 3);
    assert_string_equal(t.rest[0], "x.ini");
    assert_string_equal(t.rest[1], "--worlds=3");
    assert_string_equal(t.rest[2], "-");
}

static void a_value_must_be_there(void **state)
{
    (void)state;
    Taken t;
    check_err(TAKE(&t, "--world"), ERR_USAGE, "--world needs a value: --world=N");
    check_err(TAKE(&t, "--out_dir", "--plan"), ERR_USAGE, "--out_dir needs a value");
}

static void a_value_may_begin_with_dashes_behind_an_equal_sign(void **state)
{
    (void)state;
    Taken t;
    check_no_err(TAKE(&t, "--out_dir=--plan", "--world", "-3"));
    assert_string_equal(t.flag[FLAG_OUT_DIR].text, "--plan");
    assert_string_equal(t.flag[FLAG_WORLD].text, "-3");
    assert_null(t.flag[FLAG_PLAN].text);
}

static void a_switch_takes_no_value(void **state)
{
    (void)state;
    Taken t;
    check_err(TAKE(&t, "--plan=yes"), ERR_USAGE, "--plan takes no value");
}

static void a_flag_given_twice_is_refused(void **state)
{
    (void)state;
    Taken t;
    check_err(TAKE(&t, "--world=1", "--world=2"), ERR_USAGE, "--world was given twice");
    check_err(TAKE(&t, "--plan", "--plan"), ERR_USAGE, "--plan was given twice");
}

/* Of a program with the flags of `take`. */
static Err refuse(char *const *rest, int32_t n_rest, int32_t n_allowed)
{
    const Flag known[] = {{"world", "N", "", NULL}, {"out_dir", "DIR", "", NULL}};
    return args_refuse_rest(known, 2, rest, n_rest, n_allowed);
}

static void unknown_arguments_are_named(void **state)
{
    (void)state;
    char *flag[] = {"text", "--x"}, *words[] = {"text", "more"}, *dash[] = {"-"};
    check_err(refuse(flag, 2, 2), ERR_USAGE, "unknown argument --x; --help lists");
    check_err(refuse(words, 2, 1), ERR_USAGE,
              "unknown argument more: one directory is taken, here text");
    check_err(refuse(words, 2, 0), ERR_USAGE, "unknown argument text; --help lists");
    check_no_err(refuse(words, 2, 2));
    check_no_err(refuse(dash, 1, 1)); /* standard input */
}

static void the_nearest_flag_is_named(void **state)
{
    (void)state;
    char *near[] = {"--outdir=x"}, *single[] = {"-worlds"};
    check_err(refuse(near, 1, 1), ERR_USAGE, "argument --outdir=x; did you mean --out_dir?");
    check_err(refuse(single, 1, 1), ERR_USAGE, "argument -worlds; did you mean --world?");
}

static void integers_have_bounds(void **state)
{
    (void)state;
    int64_t value = 7;
    check_no_err(args_integer(&(Flag){.name = "n", .text = NULL}, 1, 9, &value));
    assert_int_equal(value, 7);
    check_no_err(args_integer(&(Flag){.name = "n", .text = "9"}, 1, 9, &value));
    assert_int_equal(value, 9);
    static const char *const OUTSIDE[] = {"0", "10", "-1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof *OUTSIDE; i++)
        check_err(args_integer(&(Flag){.name = "n", .text = OUTSIDE[i]}, 1, 9, &value), ERR_USAGE,
                  "must be from 1 to 9");
    static const char *const WRONG[] = {"", "x", "3x", "1.5", "--plan"};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        check_err(args_integer(&(Flag){.name = "n", .text = WRONG[i]}, 1, 9, &value), ERR_USAGE,
                  "not a whole number");
    assert_int_equal(value, 9);
}

static void fractions_are_above_0_and_below_1(void **state)
{
    (void)state;
    double value = 0.5;
    check_no_err(args_fraction(&(Flag){.name = "x", .text = NULL}, &value));
    assert_true(value == 0.5);
    check_no_err(args_fraction(&(Flag){.name = "x", .text = "0.25"}, &value));
    assert_true(value == 0.25);
    static const char *const OUTSIDE[] = {"0", "1", "-0.1", "1.5", "inf", "nan"};
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof *OUTSIDE; i++)
        check_err(args_fraction(&(Flag){.name = "x", .text = OUTSIDE[i]}, &value), ERR_USAGE,
                  "must be above 0 and below 1");
    check_err(args_fraction(&(Flag){.name = "x", .text = "x"}, &value), ERR_USAGE, "not a number");
    assert_true(value == 0.25);
}

static void numbers_have_bounds(void **state)
{
    (void)state;
    double value = 0.5;
    check_no_err(args_number(&(Flag){.name = "x", .text = "0.25"}, 0, 1, &value));
    assert_true(value == 0.25);
    static const char *const OUTSIDE[] = {"-0.1", "1.5", "inf", "nan"};
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof *OUTSIDE; i++)
        check_err(args_number(&(Flag){.name = "x", .text = OUTSIDE[i]}, 0, 1, &value), ERR_USAGE,
                  "must be from 0 to 1");
    check_err(args_number(&(Flag){.name = "x", .text = "half"}, 0, 1, &value), ERR_USAGE,
              "not a number");
    assert_true(value == 0.25);
}

static void a_choice_is_one_of_its_words(void **state)
{
    (void)state;
    static const char *const WORDS[] = {"auto", "cpu", "cuda", NULL};
    int32_t which = 7;
    check_no_err(args_choice(&(Flag){.name = "x"}, WORDS, &which));
    assert_int_equal(which, 7);
    check_no_err(args_choice(&(Flag){.name = "x", .text = "cuda"}, WORDS, &which));
    assert_int_equal(which, 2);
    check_err(args_choice(&(Flag){.name = "x", .text = "cud"}, WORDS, &which), ERR_USAGE,
              "--x=cud: should be auto, cpu or cuda");
    assert_int_equal(which, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_behind_an_equal_sign_or_a_blank),
        cmocka_unit_test(dashes_and_underscores_are_the_same),
        cmocka_unit_test(the_rest_keeps_its_order),
        cmocka_unit_test(a_value_must_be_there),
        cmocka_unit_test(a_value_may_begin_with_dashes_behind_an_equal_sign),
        cmocka_unit_test(a_switch_takes_no_value),
        cmocka_unit_test(a_flag_given_twice_is_refused),
        cmocka_unit_test(unknown_arguments_are_named),
        cmocka_unit_test(the_nearest_flag_is_named),
        cmocka_unit_test(integers_have_bounds),
        cmocka_unit_test(fractions_are_above_0_and_below_1),
        cmocka_unit_test(numbers_have_bounds),
        cmocka_unit_test(a_choice_is_one_of_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
