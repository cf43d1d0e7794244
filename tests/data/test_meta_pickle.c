/* nanoGPT's meta.pkl: the shape that Python writes for it is read; everything else is refused, and
 * nothing is ever read behind the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "data/meta_pickle.h"
#include "tests/support/check_err.h"

#define TEXT(literal) literal, sizeof(literal) - 1

/* As Python 3.8 and later write {"vocab_size": 2, "itos": {0: "a", 1: "b"}, "stoi": {...}}. */
#define PROTOCOL_4 "\x80\x04\x95\x40\0\0\0\0\0\0\0}\x94(\x8C\x0Avocab_size\x94K\x02"
#define ITOS_4                                                                                     \
    "\x8C\x04itos\x94}\x94(K\0\x8C\x01"                                                            \
    "a\x94K\x01\x8C\x01"                                                                           \
    "b\x94u"
#define STOI_4 "\x8C\x04stoi\x94}\x94(h\x04K\0h\x05K\x01u"

/* *code_point is a copy of exactly the file's bytes read. */
static Err read_copy(const char *data, size_t n_bytes, uint32_t **code_point, int32_t *n)
{
    uint8_t *copy = malloc(n_bytes + (n_bytes == 0));
    memcpy(copy, data, n_bytes);
    Err err = meta_pickle_read(copy, n_bytes, code_point, n);
    free(copy);
    return err;
}

static void check_reads(const char *data, size_t n_bytes, int32_t n_expected)
{
    uint32_t *code_point;
    int32_t n;
    check_no_err(read_copy(data, n_bytes, &code_point, &n));
    assert_int_equal(n, n_expected);
    for (int32_t i = 0; i < n; i++)
        assert_int_equal(code_point[i], 'a' + i);
    free(code_point);
}

static void check_refused(const char *data, size_t n_bytes, const char *message)
{
    uint32_t *code_point;
    int32_t n;
    check_err(read_copy(data, n_bytes, &code_point, &n), ERR_DATA, message);
    assert_null(code_point);
}

static void test_protocol_4(void **state)
{
    (void)state;
    check_reads(TEXT(PROTOCOL_4 ITOS_4 STOI_4 "u."), 2);
}

static void test_protocol_2(void **state)
{
    (void)state;
    check_reads(
        TEXT("\x80\x02}q\0(X\x0A\0\0\0vocab_sizeq\x01K\x01X\x04\0\0\0itosq\x02}q\x03K\0X\x01"
             "\0\0\0aq\x04sX\x04\0\0\0stoiq\x05}q\x06h\x04K\0su."),
        1);
}

static void test_what_is_not_that_shape_is_refused(void **state)
{
    (void)state;
    check_refused(TEXT(""), "is cut off");
    check_refused(TEXT("pickle"), "is no pickle of protocol");
    check_refused(TEXT("\x80\x06}."), "is no pickle of protocol");
    check_refused(TEXT("\x80\x04}."), "\"vocab_size\" is missing");
    check_refused(TEXT("\x80\x04K\x01."), "is not one dict");
    check_refused(TEXT("\x80\x04}}."), "is not one dict");
    check_refused(TEXT("\x80\x04}.}"), "is not one dict");
    check_refused(TEXT("\x80\x04}}}}."), "more than 3 dicts");
    check_refused(TEXT("\x80\x04u."), "no dict before a mark");
    check_refused(TEXT("\x80\x04(u."), "no dict before a mark");
    check_refused(TEXT("\x80\x04K\x01(u."), "no dict");
    check_refused(TEXT("\x80\x04}(K\x01u."), "a key without a value");
    check_refused(TEXT("\x80\x04}s."), "no dict");
    check_refused(TEXT("\x80\x04h\0."), "refers to what is not there");
    check_refused(TEXT("\x80\x04\x94."), "remembers nothing");
    check_refused(TEXT("\x80\x04(\x94."), "remembers nothing");
    check_refused(TEXT("\x80\x04}q\x01."), "out of order");
    check_refused(TEXT(PROTOCOL_4 ITOS_4 "u."), "\"stoi\" is missing");
    check_refused(TEXT(PROTOCOL_4 ITOS_4 STOI_4 "K\x05K\x05u."), "and no other");
    check_refused(TEXT(PROTOCOL_4 ITOS_4 "\x8C\x04stoi\x94}\x94(h\x04K\0h\x05K\0u"
                                         "u."),
                  "differ");
    check_refused(TEXT(PROTOCOL_4 ITOS_4 "\x8C\x04stoi\x94}\x94(h\x04K\0u"
                                         "u."),
                  "2 entries");
    check_refused(TEXT(PROTOCOL_4 "\x8C\x04itos\x94}\x94(K\0\x8C\x01"
                                  "b\x94K\x01\x8C\x01"
                                  "a\x94u" STOI_4 "u."),
                  "should come after");
    check_refused(TEXT(PROTOCOL_4 "\x8C\x04itos\x94}\x94(K\0\x8C\x02"
                                  "ab\x94K\x01\x8C\x01"
                                  "b\x94u" STOI_4 "u."),
                  "not of one character");
    check_refused(TEXT(PROTOCOL_4 "\x8C\x04itos\x94}\x94(K\0\x8C\x01"
                                  "a\x94J\xFF\xFF\xFF\xFF\x8C\x01"
                                  "b\x94u" STOI_4 "u."),
                  "no whole number from 0 to 1");
}

/* What could name a class or call something is no part of the language. */
static void test_other_opcodes_are_refused(void **state)
{
    (void)state;
    static const char KNOWN[] = "}(suJKMXqrhj.\x8C\x94\x95";
    for (int code = 0; code < 256; code++) {
        char data[] = {'\x80', '\x04', (char)code, 'c', 'o', 's', '\n'};
        if (!memchr(KNOWN, code, sizeof KNOWN - 1))
            check_refused(data, sizeof data, "has no place in a vocabulary");
    }
}

static void test_cut_off_and_damaged_files(void **state)
{
    (void)state;
    static const char WHOLE[] = PROTOCOL_4 ITOS_4 STOI_4 "u.";
    char data[sizeof WHOLE];
    for (size_t n = 0; n < sizeof WHOLE - 1; n++)
        check_refused(WHOLE, n, "");
    for (size_t i = 0; i < sizeof WHOLE - 1; i++) {
        for (int bit = 0; bit < 8; bit++) {
            uint32_t *code_point;
            int32_t n;
            memcpy(data, WHOLE, sizeof data);
            data[i] = (char)(data[i] ^ 1 << bit);
            err_free(read_copy(data, sizeof WHOLE - 1, &code_point, &n));
            free(code_point);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocol_4),
        cmocka_unit_test(test_protocol_2),
        cmocka_unit_test(test_what_is_not_that_shape_is_refused),
        cmocka_unit_test(test_other_opcodes_are_refused),
        cmocka_unit_test(test_cut_off_and_damaged_files),
    };
    return cmocka_run_group_tests_name("meta.pkl", tests, NULL, NULL);
}
