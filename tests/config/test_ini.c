#include "config/ini.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/check_err.h"
#include "tests/support/temp.h"

static void check_entry(const IniEntry *entry, const char *section, const char *key,
                        const char *value, int line)
{
    assert_string_equal(entry->section, section);
    assert_string_equal(entry->key, key);
    assert_string_equal(entry->value, value);
    assert_int_equal(entry->line, line);
}

/* The one value of a one-line file. */
static void check_value(Temp *t, const char *line, const char *want)
{
    Ini ini;
    check_no_err(ini_read(&ini, temp_write_text(t, "x.ini", line)));
    assert_int_equal(ini.n_entries, 1);
    assert_string_equal(ini.entry[0].value, want);
    ini_free(&ini);
}

static void check_refused(Temp *t, const char *text, const char *part)
{
    Ini ini;
    check_err(ini_read(&ini, temp_write_text(t, "x.ini", text)), ERR_USAGE, part);
    assert_null(ini.entry);
    assert_null(ini.text);
}

static void test_sections_keys_and_lines(void **state)
{
    Ini ini;
    check_no_err(ini_read(&ini, temp_write_text(*state, "x.ini",
                                                "first = 1\n"
                                                "# a comment\n"
                                                "\n"
                                                "[ model ]   ; another\n"
                                                "  n_layer=12  \n"
                                                "\tn_head\t=\t6\n"
                                                "[run]\n"
                                                "out_dir = out")));
    assert_int_equal(ini.n_entries, 4);
    check_entry(&ini.entry[0], "", "first", "1", 1);
    check_entry(&ini.entry[1], "model", "n_layer", "12", 5);
    check_entry(&ini.entry[2], "model", "n_head", "6", 6);
    check_entry(&ini.entry[3], "run", "out_dir", "out", 8);
    ini_free(&ini);
}

static void test_comments_after_values(void **state)
{
    check_value(*state, "k = 12 # twelve", "12");
    check_value(*state, "k = 12\t; twelve", "12");
    check_value(*state, "k = a#b;c", "a#b;c");
    check_value(*state, "k = a b  # c # d", "a b");
}

static void test_quotes_protect(void **state)
{
    check_value(*state, "k = 'a # b' # c", "'a # b'");
    check_value(*state, "k = \"a ; b\"\t; c", "\"a ; b\"");
    check_value(*state, "k = 'it's' # it's", "'it's'");
    check_value(*state, "k = it's", "it's");
}

static void test_values_may_hold_equal_signs(void **state)
{
    check_value(*state, "k = a=b=c", "a=b=c");
}

static void test_windows_line_ends_and_byte_order_mark(void **state)
{
    Ini ini;
    check_no_err(
        ini_read(&ini, temp_write_text(*state, "x.ini", "\xEF\xBB\xBF[a]\r\nk = v\r\n\r\n")));
    assert_int_equal(ini.n_entries, 1);
    check_entry(&ini.entry[0], "a", "k", "v", 2);
    ini_free(&ini);
}

static void test_empty_file(void **state)
{
    Ini ini;
    check_no_err(ini_read(&ini, temp_write_text(*state, "x.ini", "")));
    assert_int_equal(ini.n_entries, 0);
    ini_free(&ini);
}

static void test_long_lines_are_kept_whole(void **state)
{
    enum { N = 100000 };
    char *line = malloc(N + 5);
    memcpy(line, "k = ", 4);
    memset(line + 4, 'x', N);
    line[N + 4] = '\0';
    check_value(*state, line, line + 4);
    free(line);
}

static void test_many_settings(void **state)
{
    enum { N = 500 };
    char text[N * 32];
    size_t used = 0;
    Ini ini;
    for (int i = 0; i < N; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "k%d = %d\n", i, i);
    check_no_err(ini_read(&ini, temp_write_text(*state, "x.ini", text)));
    assert_int_equal(ini.n_entries, N);
    check_entry(&ini.entry[N - 1], "", "k499", "499", N);
    ini_free(&ini);
}

/* Each key is looked for among all before it: a megabyte of them would take minutes. */
static void test_too_many_settings(void **state)
{
    char text[(INI_MAX_ENTRIES + 1) * 16];
    size_t used = 0;
    for (int i = 0; i <= INI_MAX_ENTRIES; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "k%d = 1\n", i);
    check_refused(*state, text, "x.ini:1001: more than 1000 settings");
}

static void test_duplicates_name_both_lines(void **state)
{
    check_refused(*state, "[a]\nk = 1\n\n[b]\nk = 2\n",
                  "x.ini:5: k was already set on line 2; remove one of the two");
}

static void test_faults_name_the_line(void **state)
{
    check_refused(*state, "\n[model\n", "x.ini:2: \"[model\" has no closing ]; write [section]");
    check_refused(*state, "[model] k = 1", "x.ini:1: \"k = 1\" after the ]; put it on a line");
    check_refused(
        *state, "import time",
        "x.ini:1: \"import time\" is no [section], no comment and no setting; write key = "
        "value");
    check_refused(*state, "\n\n = 3", "x.ini:3: \"= 3\" is no [section]");
    check_refused(*state, "k =", "x.ini:1: k has no value; give it one or remove the line");
    check_refused(*state, "k = # 3", "x.ini:1: k has no value");
    check_refused(*state, "k = 'abc # x", "x.ini:1: the quote that opens 'abc # x is not closed");
}

static void test_not_a_text_file(void **state)
{
    Temp *t = *state;
    Ini ini;
    check_err(ini_read(&ini, temp_write(t, "x.ini", "k = 1\n\0\0", 8)), ERR_USAGE, "NUL byte");
    temp_write_text(t, "x.ini", "");
    char *large = malloc(INI_MAX_BYTES + 1);
    memset(large, '#', INI_MAX_BYTES + 1);
    temp_write(t, "x.ini", large, INI_MAX_BYTES + 1);
    free(large);
    check_err(ini_read(&ini, t->path), ERR_USAGE, "larger than 1048576 bytes");
}

static void test_missing_file(void **state)
{
    Ini ini;
    check_err(ini_read(&ini, temp_path(*state, "none.ini")), ERR_MISSING, "none.ini: No such file");
}

#define IN_TEMP(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP(test_sections_keys_and_lines),
        IN_TEMP(test_comments_after_values),
        IN_TEMP(test_quotes_protect),
        IN_TEMP(test_values_may_hold_equal_signs),
        IN_TEMP(test_windows_line_ends_and_byte_order_mark),
        IN_TEMP(test_empty_file),
        IN_TEMP(test_long_lines_are_kept_whole),
        IN_TEMP(test_many_settings),
        IN_TEMP(test_too_many_settings),
        IN_TEMP(test_duplicates_name_both_lines),
        IN_TEMP(test_faults_name_the_line),
        IN_TEMP(test_not_a_text_file),
        IN_TEMP(test_missing_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
