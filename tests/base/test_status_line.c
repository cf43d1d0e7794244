#include "base/status_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/activity.h"

typedef struct {
    FILE *out;
    char *text; /* what was written */
    size_t n_bytes;
} Terminal;

static void open_terminal(Terminal *t)
{
    *t = (Terminal){0};
    t->out = open_memstream(&t->text, &t->n_bytes);
    assert_non_null(t->out);
}

static void check_written(Terminal *t, const char *expected)
{
    assert_int_equal(fclose(t->out), 0);
    assert_string_equal(t->text, expected);
    free(t->text);
}

static void a_line_is_written_over_and_cleared(void **state)
{
    (void)state;
    Terminal t;
    open_terminal(&t);
    StatusLine line = status_line_begin(t.out, 0);
    status_line_show(&line, -1, "%d items", 7);
    status_line_clear(&line);
    check_written(&t, "\r7 items\x1b[K\r\x1b[K");
}

static void a_line_shown_a_moment_ago_stays(void **state)
{
    (void)state;
    Terminal t;
    open_terminal(&t);
    StatusLine line = status_line_begin(t.out, 0);
    status_line_show(&line, -1, "first");
    status_line_show(&line, -1, "second");
    check_written(&t, "\rfirst\x1b[K");
}

/* 100 s for a quarter of what is done in all, of which a quarter was done before. */
static void the_rest_is_reckoned_from_what_this_run_did(void **state)
{
    (void)state;
    Terminal t;
    open_terminal(&t);
    StatusLine line = status_line_begin(t.out, 0.25);
    line.begin_ns = activity_now_ns() - (int64_t)100 * 1000000000;
    status_line_show(&line, 0.5, "texts");
    check_written(&t, "\rtexts, 50%, 3m20s left\x1b[K");
}

static void nobody_looks(void **state)
{
    (void)state;
    StatusLine line = status_line_begin(NULL, 0);
    status_line_show(NULL, 0.5, "x");
    status_line_show(&line, 0.5, "x");
    status_line_clear(&line);
    assert_int_equal(line.shown_ns, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_written_over_and_cleared),
        cmocka_unit_test(a_line_shown_a_moment_ago_stays),
        cmocka_unit_test(the_rest_is_reckoned_from_what_this_run_did),
        cmocka_unit_test(nobody_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
