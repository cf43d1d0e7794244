/* Split: GPT-2's pattern, on texts whose pieces are written out and against a plain reading of it;
 * cuts that change no piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "text/split.h"
#include "text/unicode_class.h"
#include "text/utf8.h"

enum { MOST_BYTES = 512 };

/* ---- texts with their pieces ------------------------------------------------------------- */

/* `pieces` is a text with a bar where a piece ends. */
static void check_pieces(const char *pieces)
{
    char text[MOST_BYTES], got[2 * MOST_BYTES] = "";
    size_t n = 0;
    for (const char *c = pieces; *c; c++)
        if (*c != '|')
            text[n++] = *c;
    for (size_t at = 0, length; at < n; at += length) {
        length = split_piece(text + at, n - at);
        strcat(got, at ? "|" : "");
        strncat(got, text + at, length);
    }
    assert_string_equal(got, pieces);
}

static void test_words_numbers_and_signs(void **state)
{
    (void)state;
    check_pieces("Hello| world|!");
    check_pieces("1234| 56|th");
    check_pieces("x|=|1|;| -->$|5");
}

static void test_contractions(void **state)
{
    (void)state;
    check_pieces("it|'s| don|'t| we|'re| they|'ve| I|'m| he|'ll| she|'d");
    check_pieces("it|'|S"); /* lower case only */
    check_pieces(" '|s");   /* and where a piece begins */
    check_pieces("''|t");
    check_pieces("'s|tart");
    check_pieces("'|x");
    check_pieces("'|r"); /* cut off */
    check_pieces("'|v");
    check_pieces("'|l");
    check_pieces("'");
}

static void test_white_space_leaves_its_last_character(void **state)
{
    (void)state;
    check_pieces("a| | b");
    check_pieces("a|   | b");
    check_pieces("a|\n\n|\n|b"); /* only a space joins what follows */
    check_pieces("c| |\n|d");
    check_pieces(" |\t|!");
    check_pieces("a|\n");
    check_pieces("a| \n"); /* at the end there is nothing to leave it to */
    check_pieces("  ");
    check_pieces(" ");
}

static void test_unicode_kinds(void **state)
{
    (void)state;
    check_pieces("\xC2\xA0|\xC2\xA0|a");                    /* U+00A0: white space */
    check_pieces("\xC2\x85|\xC2\x85|a");                    /* U+0085 */
    check_pieces("\xE3\x80\x80|\xE3\x80\x80|a");            /* U+3000 */
    check_pieces(" \xE1\xA0\x8E|b");                        /* U+180E is none */
    check_pieces("a|\xE2\x80\x8B|b");                       /* U+200B */
    check_pieces("e|\xCC\x81|e");                           /* a combining mark is no letter */
    check_pieces("\xE6\xBC\xA2\xE5\xAD\x97|1\xC2\xBD");     /* CJK; U+00BD is a number */
    check_pieces("\xE2\x85\xA7\xD9\xA3| \xC3\xBC\xCE\xB1"); /* U+2167, U+0663 */
    check_pieces(" \xF0\x9F\x91\x8D!");                     /* an emoji is a sign */
    check_pieces("\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8|\xE0\xA5\x8D|\xE0\xA4\xA4|\xE0\xA5\x87");
}

static void test_invalid_bytes_are_signs(void **state)
{
    (void)state;
    check_pieces("a|\xFF|b");
    check_pieces("a| \xFF\x80!|b");
    check_pieces(" \xE6\xBC|x");          /* cut off */
    check_pieces("a|\xED\xA0\x80|b");     /* a surrogate */
    check_pieces("a|\xC1\x81|b");         /* an overlong "A" */
    check_pieces("a|\xF4\x90\x80\x80|b"); /* above U+10FFFF */
    check_pieces("\xC3\xBC|\xBC| \xC3");  /* a continuation too many */
}

static void test_classes_beyond_the_tables(void **state)
{
    (void)state;
    assert_int_equal(unicode_class(0x2FA1D), CLASS_LETTER);
    assert_int_equal(unicode_class(0x323AF), CLASS_LETTER); /* the last one */
    assert_int_equal(unicode_class(0x323B0), CLASS_OTHER);
    assert_int_equal(unicode_class(0x10FFFF), CLASS_OTHER);
}

/* ---- against a plain reading of the pattern ---------------------------------------------- */

typedef struct {
    UnicodeClass kind;
    char ascii; /* or 0 */
    size_t n_bytes;
} Char;

static size_t read_chars(const char *text, size_t n_bytes, Char *out)
{
    size_t n = 0;
    for (size_t at = 0; at < n_bytes; at += out[n++].n_bytes) {
        uint32_t c;
        size_t length = utf8_decode(text + at, n_bytes - at, &c);
        out[n] = length ? (Char){unicode_class(c), c < 128 ? (char)c : 0, length}
                        : (Char){CLASS_OTHER, 0, 1};
    }
    return n;
}

static size_t match_literal(const Char *c, size_t n, const char *literal)
{
    size_t length = strlen(literal);
    for (size_t i = 0; i < length; i++)
        if (i >= n || c[i].ascii != literal[i])
            return 0;
    return length;
}

static size_t match_run(const Char *c, size_t n, UnicodeClass kind)
{
    size_t i = 0;
    while (i < n && c[i].kind == kind)
        i++;
    return i;
}

/* The characters of the first alternative of the pattern that matches. */
static size_t match(const Char *c, size_t n)
{
    static const char *const LITERAL[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    static const UnicodeClass KIND[] = {CLASS_LETTER, CLASS_NUMBER, CLASS_OTHER};
    for (int i = 0; i < 7; i++)
        if (match_literal(c, n, LITERAL[i]))
            return match_literal(c, n, LITERAL[i]);
    for (int i = 0; i < 3; i++) {
        size_t space = c[0].ascii == ' ', run = match_run(c + space, n - space, KIND[i]);
        if (run > 0)
            return space + run;
    }
    size_t spaces = match_run(c, n, CLASS_SPACE);
    return spaces < n && spaces > 1 ? spaces - 1 : spaces;
}

/* Text of random fragments; returns its bytes. */
static size_t random_text(uint64_t seed, char *text)
{
    static const char *const PART[] = {
        "'",
        "s",
        "t",
        "re",
        "ll",
        "d",
        " ",
        "  ",
        "\n",
        "\t",
        "\xC2\xA0",
        "\xE2\x80\xA8",
        "a",
        "B",
        "1",
        "\xC2\xBD",
        "!",
        "\xCC\x81",
        "\xE4\xB8\x80",
        "\xF0\x9F\x91\x8D",
        "\x80",
        "\xE4",
        "\xF0",
        "\xED\xA0\x80",
    };
    size_t n = 0, n_parts = rng_below(seed, RNG_SAMPLER, 1, 0, 60);
    for (size_t i = 0; i < n_parts; i++) {
        const char *part = PART[rng_below(seed, RNG_SAMPLER, 2, i, sizeof PART / sizeof *PART)];
        memcpy(text + n, part, strlen(part));
        n += strlen(part);
    }
    return n;
}

static void test_random_texts_as_the_pattern_reads(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 5000; seed++) {
        char text[MOST_BYTES];
        Char c[MOST_BYTES];
        size_t n_bytes = random_text(seed, text), n = read_chars(text, n_bytes, c);
        for (size_t i = 0, at = 0; i < n;) {
            size_t matched = match(c + i, n - i), length = 0;
            for (size_t k = 0; k < matched; k++)
                length += c[i++].n_bytes;
            assert_int_equal(split_piece(text + at, n_bytes - at), length);
            at += length;
        }
    }
}

/* ---- cuts -------------------------------------------------------------------------------- */

/* ends[i]: a piece ends at byte i. */
static void find_ends(const char *text, size_t n_bytes, bool *ends)
{
    memset(ends, 0, MOST_BYTES);
    for (size_t at = 0; at < n_bytes;) {
        at += split_piece(text + at, n_bytes - at);
        ends[at] = true;
    }
}

static void test_pieces_end_at_cuts_of_every_part(void **state)
{
    (void)state;
    size_t n_cuts = 0;
    for (uint64_t seed = 0; seed < 500; seed++) {
        char text[MOST_BYTES];
        bool ends[MOST_BYTES];
        size_t n_bytes = random_text(seed, text);
        find_ends(text, n_bytes, ends);
        for (size_t n = 1; n <= n_bytes; n++) {
            size_t cut = split_cut(text, n);
            assert_true(cut < n);
            assert_true(cut == 0 || ends[cut]);
            n_cuts += cut > 0;
        }
    }
    assert_true(n_cuts > 5000);
}

static void test_cuts_are_late(void **state)
{
    (void)state;
    static const char TEXT[] = "one two three four five";
    assert_int_equal(split_cut(TEXT, sizeof TEXT - 1), strlen("one two three four"));
    assert_int_equal(split_cut("aaaaaaaaaaaa", 12), 0);
    assert_int_equal(split_cut("            ", 12), 0);
    assert_int_equal(split_cut("a           ", 12), 1);
    assert_int_equal(split_cut("'sssssss", 8), 0);
    assert_int_equal(split_cut("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_numbers_and_signs),
        cmocka_unit_test(test_contractions),
        cmocka_unit_test(test_white_space_leaves_its_last_character),
        cmocka_unit_test(test_unicode_kinds),
        cmocka_unit_test(test_invalid_bytes_are_signs),
        cmocka_unit_test(test_classes_beyond_the_tables),
        cmocka_unit_test(test_random_texts_as_the_pattern_reads),
        cmocka_unit_test(test_pieces_end_at_cuts_of_every_part),
        cmocka_unit_test(test_cuts_are_late),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}
