/* UTF-8: texts that arrive in pieces leave in whole characters. What is valid is tested with the
 * tokenizers (tests/data/test_tokenizer.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "text/utf8.h"

enum { MOST_BYTES = 64 };

/* Give a text on in two parts, then its end; the bytes must be the same, and those that came out
 * before the end must be whole characters when the text is valid. */
static void check_stream(const char *text, size_t n_bytes, size_t n_first)
{
    Utf8Stream s = {0};
    char out[2 * MOST_BYTES];
    size_t n, at = 0;
    utf8_stream_push(&s, text, n_first, out, &n);
    at += n;
    assert_int_equal(n, n_first - utf8_cut_off(text, n_first));
    utf8_stream_push(&s, text + n_first, n_bytes - n_first, out + at, &n);
    at += n;
    utf8_stream_end(&s, out + at, &n);
    assert_int_equal(at + n, n_bytes);
    assert_memory_equal(out, text, n_bytes);
    assert_int_equal(s.n_held, 0);
}

static void test_every_cut_of_a_text(void **state)
{
    (void)state;
    static const char TEXT[] = "a\xC3\xBC\xE4\xB8\x80\xF0\x9F\x91\x8D\xFF\x80\xE4\xE4\xB8\xF0\x9F"
                               "\xED\xA0\xC1\xF4\x8F\xF4\x90z\xE4\xB8";
    for (size_t n = 0; n <= sizeof TEXT - 1; n++)
        for (size_t n_first = 0; n_first <= n; n_first++)
            check_stream(TEXT, n, n_first);
}

static void check_cut_off(const char *text, size_t n)
{
    assert_int_equal(utf8_cut_off(text, strlen(text)), n);
}

static void test_only_what_can_become_a_character_is_held(void **state)
{
    (void)state;
    check_cut_off("", 0);
    check_cut_off("a", 0);
    check_cut_off("\xC3\xBC", 0);
    check_cut_off("a\xC3", 1);
    check_cut_off("a\xE4\xB8", 2);
    check_cut_off("a\xF0\x9F\x91", 3);
    check_cut_off("\xE0", 1);
    check_cut_off("\xE0\xA0", 2);
    check_cut_off("\xE0\x9F", 0); /* overlong */
    check_cut_off("\xED\x9F", 2);
    check_cut_off("\xED\xA0", 0); /* a surrogate */
    check_cut_off("\xF4\x8F", 2);
    check_cut_off("\xF4\x90", 0); /* above U+10FFFF */
    check_cut_off("\xF5", 0);
    check_cut_off("\xC1", 0);
    check_cut_off("\x80\x80\x80", 0);
    check_cut_off("\xC3\x80\x80", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut_of_a_text),
        cmocka_unit_test(test_only_what_can_become_a_character_is_held),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
