#include "base/err.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"

static Err fail_with(ErrCode code)
{
    FAIL(code, "%s: odd size %d", "train.bin", 7);
}

static Err pass_up(ErrCode code)
{
    TRY(fail_with(code));
    return OK;
}

static Err pass_ok(int *reached)
{
    TRY(OK);
    *reached = 1;
    return OK;
}

static void test_fail_carries_code_and_message(void **state)
{
    (void)state;
    Err err = fail_with(ERR_DATA);
    assert_int_equal(err_code(err), ERR_DATA);
    assert_string_equal(err_message(err), "train.bin: odd size 7");
    err_free(err);
}

static void test_ok_is_silent(void **state)
{
    (void)state;
    int reached = 0;
    assert_null(pass_ok(&reached));
    assert_int_equal(reached, 1);
    assert_int_equal(err_code(OK), ERR_NONE);
    assert_string_equal(err_message(OK), "");
    assert_null(err_prefix(OK, "x"));
    err_free(OK);
}

/* The lines of the trail of `err`, which is freed. */
static int trail_lines(Err err, char *text, size_t n_bytes)
{
    int lines = 0;
    FILE *out = fmemopen(text, n_bytes, "w");
    err_print_trail(err, out);
    fclose(out);
    err_free(err);
    for (const char *s = text; (s = strchr(s, '\n')) != NULL; s++)
        lines++;
    return lines;
}

static void test_try_adds_to_the_trail(void **state)
{
    (void)state;
    char text[4096] = "";
    assert_int_equal(trail_lines(pass_up(ERR_DATA), text, sizeof text), 2);
    assert_non_null(strstr(text, "test_err.c:"));
}

static void test_long_trails_are_counted(void **state)
{
    (void)state;
    char text[4096] = "";
    Err err = fail_with(ERR_DATA);
    for (int i = 0; i < 30; i++)
        err = err_trace(err, "loop.c", i);
    assert_int_equal(trail_lines(err, text, sizeof text), 17);
    assert_non_null(strstr(text, "and 15 more"));
}

static Err jump(int *released)
{
    Err err;
    TRY_GOTO(err, done, fail_with(ERR_WRITE));
    *released = -1;
done:
    *released += 1;
    return err;
}

static void test_try_goto_releases(void **state)
{
    (void)state;
    int released = 0;
    Err err = jump(&released);
    assert_int_equal(released, 1);
    assert_int_equal(err_code(err), ERR_WRITE);
    err_free(err);
}

static void test_prefix_goes_in_front(void **state)
{
    (void)state;
    Err err = err_prefix(fail_with(ERR_DATA), "rank %d", 3);
    assert_string_equal(err_message(err), "rank 3: train.bin: odd size 7");
    err_free(err);
}

static void test_prefix_longer_than_the_message_is_cut(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    Err err = err_prefix(ERR_NEW(ERR_DATA, "%s", text), "%s", text);
    assert_in_range(strlen(err_message(err)), 1000, 1023);
    err_free(err);
}

static void test_a_message_is_nothing_that_a_terminal_obeys(void **state)
{
    (void)state;
    Err err = ERR_NEW(ERR_DATA, "a \x1b[31m b\nc\x7f \xC2\x9B \xC3\xBC \xC2\xA0 \xC2");
    err = err_prefix(err, "x\ty");
    assert_string_equal(err_message(err), "x?y: a ?[31m b?c? ?? \xC3\xBC \xC2\xA0 \xC2");
    err_free(err);
}

static void test_first_keeps_the_first(void **state)
{
    (void)state;
    Err first = fail_with(ERR_DATA);
    assert_ptr_equal(err_first(first, fail_with(ERR_WRITE)), first);
    assert_ptr_equal(err_first(OK, first), first);
    assert_ptr_equal(err_first(first, OK), first);
    err_free(first);
}

static void test_exit_codes_are_those_promised(void **state)
{
    (void)state;
    const int want[] = {64, 65, 66, 71, 74, 85, 86, 87, 88};
    const int have[] = {
#define X(name, exit_code, text) exit_code,
        ERR_CODES(X)
#undef X
    };
    assert_int_equal(sizeof have, sizeof want);
    assert_memory_equal(have, want, sizeof want);
}

static void test_assert_prints_and_aborts(void **state)
{
    (void)state;
    int end[2], status = 0;
    char text[512] = "";
    assert_int_equal(pipe(end), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(end[1], STDERR_FILENO);
        ASSERT(1 + 1 == 3, "two is %d", 2);
        _exit(0);
    }
    close(end[1]);
    ssize_t got;
    for (size_t used = 0; (got = read(end[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    close(end[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "test_err.c:"));
    assert_non_null(strstr(text, "assertion failed: 1 + 1 == 3: two is 2\n"));
}

static void test_assert_that_holds_does_nothing(void **state)
{
    (void)state;
    ASSERT(1 + 1 == 2, "never seen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_carries_code_and_message),
        cmocka_unit_test(test_ok_is_silent),
        cmocka_unit_test(test_try_adds_to_the_trail),
        cmocka_unit_test(test_long_trails_are_counted),
        cmocka_unit_test(test_try_goto_releases),
        cmocka_unit_test(test_prefix_goes_in_front),
        cmocka_unit_test(test_prefix_longer_than_the_message_is_cut),
        cmocka_unit_test(test_a_message_is_nothing_that_a_terminal_obeys),
        cmocka_unit_test(test_first_keeps_the_first),
        cmocka_unit_test(test_exit_codes_are_those_promised),
        cmocka_unit_test(test_assert_prints_and_aborts),
        cmocka_unit_test(test_assert_that_holds_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
