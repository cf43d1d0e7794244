/* Tokenizers: UTF-8 taken strictly, ids as nanoGPT gives them, meta.json trusted in nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/tokenizer.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"
#include "tests/support/toy_bpe.h"

/* A literal and its bytes, NULs inside included. */
#define TEXT(literal) literal, sizeof(literal) - 1

/* ---- char -------------------------------------------------------------------------------- */

static void test_vocabulary_is_sorted_by_code_point(void **state)
{
    (void)state;
    static const uint32_t EXPECTED[] = {'\n', 'a', 'b', 0xE9, 0x20AC, 0x1F600};
    Tokenizer t;
    check_no_err(tokenizer_from_text(&t, TEXT("b\xF0\x9F\x98\x80"
                                              "ab\xE2\x82\xAC\n\xC3\xA9"
                                              "a")));
    assert_int_equal(t.kind, TOKENIZER_CHAR);
    assert_int_equal(t.vocab_size, 6);
    assert_memory_equal(t.code_point, EXPECTED, sizeof EXPECTED);
    tokenizer_free(&t);
}

static void test_ids_are_ranks_in_the_vocabulary(void **state)
{
    (void)state;
    static const int32_t EXPECTED[] = {1, 0, 2, 2, 3};
    Tokenizer t;
    int32_t *ids;
    int64_t n;
    check_no_err(tokenizer_from_text(&t, TEXT("hello")));
    check_no_err(tokenizer_encode(&t, TEXT("hello"), &ids, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(ids, EXPECTED, sizeof EXPECTED);
    free(ids);
    tokenizer_free(&t);
}

/* Bytes of a random Unicode scalar value; lengths of 1 to 4 bytes are equally likely. */
static size_t random_character(uint64_t seed, uint64_t index, char *out)
{
    static const uint32_t LIMIT[] = {0x80, 0x800, 0x10000, 0x110000};
    RngBlock bits = rng_block(seed, RNG_SAMPLER, 0, index);
    uint32_t c = bits.word[1] % LIMIT[bits.word[0] % 4];
    if (c >= 0xD800 && c < 0xE000)
        c -= 0xD800;
    Tokenizer one = {.kind = TOKENIZER_CHAR, .vocab_size = 1, .code_point = &c};
    return (size_t)tokenizer_decode(&one, 0, out);
}

static size_t random_text(uint64_t seed, int64_t n_characters, char *out)
{
    size_t n_bytes = 0;
    for (int64_t i = 0; i < n_characters; i++)
        n_bytes += random_character(seed, (uint64_t)i, out + n_bytes);
    return n_bytes;
}

static void assert_decodes_to(const Tokenizer *t, const int32_t *ids, int64_t n, const char *text,
                              size_t n_bytes)
{
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        char bytes[TOKENIZER_BYTES_PER_ID];
        size_t length = (size_t)tokenizer_decode(t, ids[i], bytes);
        assert_true(at + length <= n_bytes);
        assert_memory_equal(bytes, text + at, length);
        at += length;
    }
    assert_int_equal(at, n_bytes);
}

static void test_decoding_undoes_encoding_of_any_unicode(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        char text[4 * 999];
        size_t n_bytes = random_text(seed, 999, text);
        Tokenizer t;
        int32_t *ids;
        int64_t n;
        check_no_err(tokenizer_from_text(&t, text, n_bytes));
        check_no_err(tokenizer_encode(&t, text, n_bytes, &ids, &n));
        assert_int_equal(n, 999);
        assert_int_equal(tokenizer_count(&t, text, n_bytes), 999);
        assert_decodes_to(&t, ids, n, text, n_bytes);
        free(ids);
        tokenizer_free(&t);
    }
}

static void test_parts_are_the_whole(void **state)
{
    (void)state;
    char text[4 * 200];
    size_t n_bytes = random_text(7, 200, text), at = 0;
    Tokenizer t;
    int32_t *whole, part[200];
    int64_t n, n_part, done = 0;
    check_no_err(tokenizer_from_text(&t, text, n_bytes));
    check_no_err(tokenizer_encode(&t, text, n_bytes, &whole, &n));
    for (int64_t capacity = 0; at < n_bytes; capacity = (capacity + 1) % 7, done += n_part)
        check_no_err(tokenizer_encode_part(&t, text, n_bytes, &at, part + done, capacity, &n_part));
    assert_int_equal(done, n);
    assert_memory_equal(part, whole, (size_t)n * sizeof *whole);
    free(whole);
    tokenizer_free(&t);
}

static void test_first_and_last_of_each_length_are_valid(void **state)
{
    (void)state;
    Tokenizer t;
    check_no_err(
        tokenizer_from_text(&t, TEXT("\0\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80"
                                     "\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF")));
    assert_int_equal(t.vocab_size, 10);
    assert_int_equal(t.code_point[9], 0x10FFFF);
    tokenizer_free(&t);
}

static void test_invalid_utf8_is_refused_where_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n_bytes;
    } CASES[] = {
        {TEXT("ab\x80")},             /* continuation without a lead */
        {TEXT("ab\xC3")},             /* cut off: 2, 3 and 4 bytes */
        {TEXT("ab\xE2\x82")},         /* */
        {TEXT("ab\xF0\x9F\x98")},     /* */
        {TEXT("ab\xC3(")},            /* lead without a continuation */
        {TEXT("ab\xC0\x80")},         /* overlong: 2, 3 and 4 bytes */
        {TEXT("ab\xC1\xBF")},         /* */
        {TEXT("ab\xE0\x9F\xBF")},     /* */
        {TEXT("ab\xF0\x8F\xBF\xBF")}, /* */
        {TEXT("ab\xED\xA0\x80")},     /* first and last surrogate */
        {TEXT("ab\xED\xBF\xBF")},     /* */
        {TEXT("ab\xF4\x90\x80\x80")}, /* above U+10FFFF */
        {TEXT("ab\xF5\x80\x80\x80")}, /* */
        {TEXT("ab\xFF")},             /* never in UTF-8 */
    };
    Tokenizer ab;
    check_no_err(tokenizer_from_text(&ab, TEXT("ab")));
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Tokenizer t;
        int32_t *ids;
        int64_t n;
        check_err(tokenizer_from_text(&t, CASES[i].text, CASES[i].n_bytes), ERR_DATA, "byte 2 (");
        check_err(tokenizer_encode(&ab, CASES[i].text, CASES[i].n_bytes, &ids, &n), ERR_DATA,
                  "byte 2 (");
        assert_null(ids);
    }
    tokenizer_free(&ab);
}

static void check_unknown(const char *text, const char *message)
{
    Tokenizer t;
    int32_t *ids;
    int64_t n;
    check_no_err(tokenizer_from_text(&t, TEXT("bd")));
    check_err(tokenizer_encode(&t, text, strlen(text), &ids, &n), ERR_DATA, message);
    tokenizer_free(&t);
}

static void test_unknown_characters_are_named(void **state)
{
    (void)state;
    check_unknown("bda", "\"a\" (U+0061) at byte 2");                      /* below the first */
    check_unknown("bcd", "\"c\" (U+0063) at byte 1");                      /* between two */
    check_unknown("b\xE2\x82\xAC", "\"\xE2\x82\xAC\" (U+20AC) at byte 1"); /* above the last */
}

static void test_no_text_has_no_vocabulary(void **state)
{
    (void)state;
    Tokenizer t;
    check_err(tokenizer_from_text(&t, "", 0), ERR_DATA, "no text");
}

static void test_no_text_encodes_to_nothing(void **state)
{
    (void)state;
    Tokenizer t;
    int32_t *ids;
    int64_t n;
    check_no_err(tokenizer_from_text(&t, TEXT("a")));
    check_no_err(tokenizer_encode(&t, "", 0, &ids, &n));
    assert_int_equal(n, 0);
    free(ids);
    tokenizer_free(&t);
}

/* Text with each of the code points 0x10000 .. 0x10000 + n - 1. */
static char *many_characters(int32_t n)
{
    char *text = malloc((size_t)n * 4);
    for (int32_t i = 0; text && i < n; i++) {
        uint32_t c = 0x10000 + (uint32_t)i;
        Tokenizer one = {.kind = TOKENIZER_CHAR, .vocab_size = 1, .code_point = &c};
        assert_int_equal(tokenizer_decode(&one, 0, text + 4 * i), 4);
    }
    return text;
}

static void test_vocabulary_may_fill_a_token(void **state)
{
    (void)state;
    Tokenizer t;
    int32_t *ids;
    int64_t n;
    char *text = many_characters(TOKENIZER_MAX_VOCAB);
    check_no_err(tokenizer_from_text(&t, text, 4 * (size_t)TOKENIZER_MAX_VOCAB));
    check_no_err(tokenizer_encode(&t, text, 4 * (size_t)TOKENIZER_MAX_VOCAB, &ids, &n));
    assert_int_equal(ids[n - 1], TOKENIZER_MAX_VOCAB - 1);
    free(ids);
    free(text);
    tokenizer_free(&t);
}

static void test_vocabulary_beyond_a_token_is_refused(void **state)
{
    (void)state;
    Tokenizer t;
    char *text = many_characters(TOKENIZER_MAX_VOCAB + 1);
    check_err(tokenizer_from_text(&t, text, 4 * (size_t)(TOKENIZER_MAX_VOCAB + 1)), ERR_DATA,
              "65537 kinds of characters");
    free(text);
}

/* ---- byte -------------------------------------------------------------------------------- */

static void test_bytes_are_their_own_ids(void **state)
{
    (void)state;
    Tokenizer t;
    int32_t *ids;
    int64_t n;
    char text[256];
    for (int i = 0; i < 256; i++)
        text[i] = (char)(255 - i);
    tokenizer_bytes(&t);
    check_no_err(tokenizer_encode(&t, text, sizeof text, &ids, &n));
    assert_int_equal(n, 256);
    for (int i = 0; i < 256; i++)
        assert_int_equal(ids[i], 255 - i);
    assert_decodes_to(&t, ids, n, text, sizeof text);
    free(ids);
    tokenizer_free(&t);
}

/* ---- meta.json --------------------------------------------------------------------------- */

static void check_survives_a_file(Temp *temp, const Tokenizer *t)
{
    Tokenizer loaded;
    check_no_err(tokenizer_save(t, temp_path(temp, "meta.json")));
    check_no_err(tokenizer_load(&loaded, temp_path(temp, "meta.json")));
    assert_int_equal(loaded.kind, t->kind);
    assert_int_equal(loaded.vocab_size, t->vocab_size);
    if (t->kind == TOKENIZER_CHAR)
        assert_memory_equal(loaded.code_point, t->code_point,
                            (size_t)t->vocab_size * sizeof *t->code_point);
    tokenizer_free(&loaded);
}

static void test_char_tokenizer_survives_a_file(void **state)
{
    Tokenizer t;
    check_no_err(
        tokenizer_from_text(&t, TEXT("\0\x01\n\"\\/\x7F\xC2\x80\xEF\xBF\xBE\xF0\x9F\x98\x80")));
    check_survives_a_file(*state, &t);
    tokenizer_free(&t);
}

static void test_largest_tokenizer_survives_a_file(void **state)
{
    Tokenizer t;
    char *text = many_characters(TOKENIZER_MAX_VOCAB);
    check_no_err(tokenizer_from_text(&t, text, 4 * (size_t)TOKENIZER_MAX_VOCAB));
    check_survives_a_file(*state, &t);
    free(text);
    tokenizer_free(&t);
}

static void test_byte_tokenizer_survives_a_file(void **state)
{
    Tokenizer t;
    tokenizer_bytes(&t);
    check_survives_a_file(*state, &t);
}

static void copy_toy(Temp *temp, const char *name)
{
    size_t n_bytes;
    char *text = toy_bpe_text(name, &n_bytes);
    temp_write(temp, name, text, n_bytes);
    free(text);
}

static void test_bpe_tokenizer_survives_a_file(void **state)
{
    char dir[FILE_PATH_BYTES], spare[TOKENIZER_BYTES_PER_ID];
    Tokenizer t, loaded;
    int32_t *ids;
    int64_t n_ids;
    size_t n;
    toy_bpe_dir(dir);
    check_no_err(tokenizer_open_bpe(&t, dir));
    copy_toy(*state, "vocab.json");
    copy_toy(*state, "merges.txt");
    check_no_err(tokenizer_save(&t, temp_path(*state, "meta.json")));
    check_no_err(tokenizer_load(&loaded, temp_path(*state, "meta.json")));
    assert_int_equal(loaded.kind, TOKENIZER_BPE);
    assert_int_equal(loaded.vocab_size, TOY_BPE_VOCAB);
    check_no_err(tokenizer_encode(&loaded, TEXT(" was<|endoftext|>"), &ids, &n_ids));
    assert_int_equal(n_ids, 2);
    assert_memory_equal(tokenizer_text(&loaded, ids[0], spare, &n), " was", 4);
    assert_int_equal(n, 4);
    assert_int_equal(ids[1], TOY_BPE_VOCAB - 1);
    free(ids);
    tokenizer_free(&loaded);
    tokenizer_free(&t);
}

static void test_bpe_needs_its_files(void **state)
{
    Tokenizer t;
    temp_write_text(*state, "meta.json",
                    "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,\"kind\":\"gpt2\","
                    "\"vocab_size\":456}");
    check_err(tokenizer_load(&t, temp_path(*state, "meta.json")), ERR_MISSING, "neither vocab");
    copy_toy(*state, "vocab.json");
    copy_toy(*state, "merges.txt");
    check_err(tokenizer_load(&t, temp_path(*state, "meta.json")), ERR_DATA, "has 457 tokens");
    assert_null(t.bpe);
}

static void test_the_documented_file_is_read(void **state)
{
    Tokenizer t;
    temp_write_text(*state, "meta.json",
                    "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,\"kind\":\"char\","
                    "\"vocab_size\":2,\"itos\":[\"\\n\",\" \"]}");
    check_no_err(tokenizer_load(&t, temp_path(*state, "meta.json")));
    assert_int_equal(t.vocab_size, 2);
    assert_int_equal(t.code_point[1], ' ');
    tokenizer_free(&t);
}

#define HEAD "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,"

static void test_hostile_files_are_refused(void **state)
{
    static const struct {
        const char *text, *message;
    } CASES[] = {
        {"", "meta.json:1: "},
        {"[1,2]", "\"format\" should be"},
        {"null", "meta.json:1: "},
        {HEAD, "meta.json:1: "},
        {"{\"format\":\"\xFF\"}", "meta.json:1: "},
        {"{\"a\":1,\"a\":2}", "duplicate object key"},
        {"{\"format\":7}", "\"format\" should be"},
        {"{\"format\":\"other\",\"version\":1}", "\"format\" should be"},
        {"{\"format\":\"gpt_ddp.tokenizer\",\"version\":2}", "\"version\" should be 1"},
        {"{\"format\":\"gpt_ddp.tokenizer\",\"version\":\"1\"}", "\"version\" should be 1"},
        {HEAD "\"stoi\":{}}", "unknown key \"stoi\""},
        {HEAD "\"kind\":\"gpt2\",\"vocab_size\":50257,\"itos\":[]}", "no \"itos\""},
        {HEAD "\"kind\":\"word\",\"vocab_size\":2}", "\"kind\" should be"},
        {HEAD "\"vocab_size\":2}", "\"kind\" should be"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":0,\"itos\":[]}", "\"vocab_size\" should be"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":-1,\"itos\":[]}", "\"vocab_size\" should be"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":65537,\"itos\":[]}", "\"vocab_size\" should be"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":4294967297,\"itos\":[\"a\"]}",
         "\"vocab_size\" should"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1.0,\"itos\":[\"a\"]}", "\"vocab_size\" should be"},
        {HEAD "\"kind\":\"char\",\"itos\":[\"a\"]}", "\"vocab_size\" should be"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1}", "\"itos\" should be a list of 1"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1,\"itos\":\"a\"}", "\"itos\" should be a list"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1,\"itos\":{\"0\":\"a\"}}",
         "\"itos\" should be a list"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":3,\"itos\":[\"a\",\"b\"]}", "a list of 3"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1,\"itos\":[\"a\",\"b\"]}", "a list of 1"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":2,\"itos\":[\"a\",\"bc\"]}",
         "entry 1 should be a str"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1,\"itos\":[\"\"]}", "entry 0 should be a string"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1,\"itos\":[97]}", "entry 0 should be a string"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":1,\"itos\":[null]}", "entry 0 should be a string"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":2,\"itos\":[\"b\",\"a\"]}", "entry 1 (U+0061)"},
        {HEAD "\"kind\":\"char\",\"vocab_size\":2,\"itos\":[\"a\",\"a\"]}", "entry 1 (U+0061)"},
        {HEAD "\"kind\":\"byte\",\"vocab_size\":255}", "has vocab_size 256"},
        {HEAD "\"kind\":\"byte\",\"vocab_size\":256,\"itos\":[]}", "no \"itos\""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Tokenizer t;
        const char *path = temp_write_text(*state, "meta.json", CASES[i].text);
        Err err = tokenizer_load(&t, path);
        assert_true(strstr(err_message(err), path) == err_message(err));
        check_err(err, ERR_DATA, CASES[i].message);
        assert_null(t.code_point);
    }
}

static void test_deep_nesting_is_refused(void **state)
{
    Tokenizer t;
    size_t n = 1 << 20;
    char *text = malloc(n);
    memset(text, '[', n);
    temp_write(*state, "meta.json", text, n);
    free(text);
    check_err(tokenizer_load(&t, temp_path(*state, "meta.json")), ERR_DATA, "depth");
}

static void test_huge_file_is_refused_unread(void **state)
{
    Tokenizer t;
    temp_write_sparse(*state, "meta.json", (size_t)5 << 20, "}", 1);
    check_err(tokenizer_load(&t, temp_path(*state, "meta.json")), ERR_DATA, "larger than");
}

static void test_missing_file_is_named(void **state)
{
    Tokenizer t;
    check_err(tokenizer_load(&t, temp_path(*state, "none.json")), ERR_MISSING, "none.json");
}

static void test_unwritable_file_is_named(void **state)
{
    Tokenizer t;
    tokenizer_bytes(&t);
    check_err(tokenizer_save(&t, temp_path(*state, "none/meta.json")), ERR_WRITE, "none/");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary_is_sorted_by_code_point),
        cmocka_unit_test(test_ids_are_ranks_in_the_vocabulary),
        cmocka_unit_test(test_decoding_undoes_encoding_of_any_unicode),
        cmocka_unit_test(test_parts_are_the_whole),
        cmocka_unit_test(test_first_and_last_of_each_length_are_valid),
        cmocka_unit_test(test_invalid_utf8_is_refused_where_it_is),
        cmocka_unit_test(test_unknown_characters_are_named),
        cmocka_unit_test(test_no_text_has_no_vocabulary),
        cmocka_unit_test(test_no_text_encodes_to_nothing),
        cmocka_unit_test(test_vocabulary_may_fill_a_token),
        cmocka_unit_test(test_vocabulary_beyond_a_token_is_refused),
        cmocka_unit_test(test_bytes_are_their_own_ids),
        cmocka_unit_test_setup_teardown(test_char_tokenizer_survives_a_file, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_largest_tokenizer_survives_a_file, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_byte_tokenizer_survives_a_file, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_bpe_tokenizer_survives_a_file, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_bpe_needs_its_files, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_the_documented_file_is_read, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_hostile_files_are_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_deep_nesting_is_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_huge_file_is_refused_unread, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_missing_file_is_named, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_unwritable_file_is_named, temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
