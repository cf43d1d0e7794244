/* The files of a BPE vocabulary: both pairs of names; whatever is wrong in one of them is refused
 * with one line that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check_err.h"
#include "tests/support/toy_bpe.h"
#include "text/bpe_table.h"
#include "text/utf8.h"

/* The small vocabulary's files with a place in one of them changed, in dir under these names. */
static void write_changed(Temp *t, const char *name, const char *as, const char *from,
                          const char *to)
{
    size_t n_bytes;
    char *text = toy_bpe_text(name, &n_bytes);
    char *at = from ? strstr(text, from) : text, *changed = malloc(n_bytes + strlen(to) + 1);
    assert_non_null(at);
    size_t n = (size_t)(at - text), n_from = from ? strlen(from) : 0;
    memcpy(changed, text, n);
    strcpy(changed + n, to);
    strcat(changed, at + n_from);
    temp_write_text(t, as, changed);
    free(changed);
    free(text);
}

static void write_toy(Temp *t, const char *vocab, const char *merges)
{
    write_changed(t, "vocab.json", vocab, NULL, "");
    write_changed(t, "merges.txt", merges, NULL, "");
}

static void check_opens(Temp *t)
{
    Bpe *bpe;
    check_no_err(bpe_open(&bpe, t->dir));
    assert_int_equal(bpe_vocab_size(bpe), TOY_BPE_VOCAB);
    bpe_close(bpe);
}

static void check_refused(Temp *t, ErrCode code, const char *message)
{
    Bpe *bpe;
    check_err(bpe_open(&bpe, t->dir), code, message);
    assert_null(bpe);
}

/* ---- what is read ------------------------------------------------------------------------ */

static void test_hugging_face_names(void **state)
{
    write_toy(*state, "vocab.json", "merges.txt");
    check_opens(*state);
}

static void test_openai_names(void **state)
{
    write_toy(*state, "encoder.json", "vocab.bpe");
    check_opens(*state);
}

static void test_version_and_last_line_end_may_be_missing(void **state)
{
    write_toy(*state, "vocab.json", "merges.txt");
    write_changed(*state, "merges.txt", "merges.txt", "#version: 0.2\n", "");
    check_opens(*state);
    size_t n_bytes;
    char *text = toy_bpe_text("merges.txt", &n_bytes);
    temp_write(*state, "merges.txt", text, n_bytes - 1);
    free(text);
    check_opens(*state);
}

static void test_line_ends_of_windows(void **state)
{
    size_t n_bytes, n = 0;
    char *text = toy_bpe_text("merges.txt", &n_bytes), *dos = malloc(2 * n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == '\n')
            dos[n++] = '\r';
        dos[n++] = text[i];
    }
    write_toy(*state, "vocab.json", "merges.txt");
    temp_write(*state, "merges.txt", dos, n);
    free(dos);
    free(text);
    check_opens(*state);
}

static void test_no_end_of_text_is_a_vocabulary_too(void **state)
{
    Bpe *bpe;
    Temp *t = *state;
    write_toy(t, "vocab.json", "merges.txt");
    write_changed(t, "vocab.json", "vocab.json", ",\n\"<|endoftext|>\": 456", "");
    check_no_err(bpe_open(&bpe, t->dir));
    assert_int_equal(bpe_end_of_text(bpe), -1);
    bpe_close(bpe);
}

/* ---- what is refused --------------------------------------------------------------------- */

static void test_missing_files_are_named(void **state)
{
    Temp *t = *state;
    check_refused(t, ERR_MISSING, "neither vocab.json and merges.txt nor encoder.json and vocab");
    temp_write_text(t, "tokenizer.json", "{}");
    check_refused(t, ERR_MISSING, "vocab.bpe; its tokenizer.json is not read: put vocab.json and");
    write_changed(t, "vocab.json", "vocab.json", NULL, "");
    check_refused(t, ERR_MISSING, "has vocab.json, but no merges.txt");
    write_changed(t, "merges.txt", "merges.txt", NULL, "");
    check_opens(t);
    assert_int_equal(remove(temp_path(t, "vocab.json")), 0);
    check_refused(t, ERR_MISSING, "has merges.txt, but no vocab.json");
}

static void test_wrong_vocabularies_are_refused(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } CASES[] = {
        {"\"!\": 0", "\"!\": 1", "have the same id 1"},
        {"\"!\": 0", "\"!\": 457", "from 0 to 456"},
        {"\"!\": 0", "\"!\": -1", "the id of \"!\" should be"},
        {"\"!\": 0", "\"!\": 4294967296", "the id of \"!\" should be"},
        {"\"!\": 0", "\"!\": 0.0", "the id of \"!\" should be"},
        {"\"!\": 0", "\"!\": \"0\"", "the id of \"!\" should be"},
        {"\"!\": 0", "\"!!\": 0", "no token for the byte 0x21"},
        {"\"!\": 0", "\"\": 0", "alphabet"},
        {"\"!\": 0", "\"\\u0144\": 0", "alphabet"},
        {"\"!\": 0", "\" \": 0", "alphabet"},
        {"\"!\": 0", "\"\\u4e00\": 0", "alphabet"},
        {"\"!\": 0", "\"\\u0000\": 0", "vocab.json:"},
        {"\"!\": 0", "\"\\\"\": 0", "duplicate object key"},
        {"\"!\": 0", "\"!\" 0", "vocab.json:2"},
        {"{", "[{", "vocab.json:"},
        {"<|endoftext|>", "xyz", "no merge makes 1 of the tokens"},
        {",\n\"\\u0120everything\": 455,\n\"<|endoftext|>\": 456", ",\n\"<|endoftext|>\": 455",
         "merges.txt:201: makes a token that is not in the vocabulary"},
    };
    Temp *t = *state;
    write_toy(t, "vocab.json", "merges.txt");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        write_changed(t, "vocab.json", "vocab.json", CASES[i].from, CASES[i].to);
        check_refused(t, ERR_DATA, CASES[i].message);
    }
}

static void test_vocabularies_of_other_shapes_are_refused(void **state)
{
    static const struct {
        const char *text, *message;
    } CASES[] = {
        {"", "vocab.json:1"},
        {"{}", "has 0 tokens, should be 256 to 65536"},
        {"[]", "should be an object"},
        {"{\"a\": 0}", "has 1 tokens"},
    };
    Temp *t = *state;
    write_toy(t, "vocab.json", "merges.txt");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        temp_write_text(t, "vocab.json", CASES[i].text);
        check_refused(t, ERR_DATA, CASES[i].message);
    }
    temp_write_sparse(t, "vocab.json", BPE_MAX_FILE_BYTES + 1, "}", 1);
    check_refused(t, ERR_DATA, "vocab.json");
}

static void test_a_vocabulary_too_large_for_a_token_is_refused(void **state)
{
    Temp *t = *state;
    char *text = malloc(2 << 20), *at = text;
    write_toy(t, "vocab.json", "merges.txt");
    for (int i = 0; i <= BPE_MAX_VOCAB; i++)
        at += sprintf(at, "%s\"%d\": %d", i ? "," : "{", i, i);
    strcpy(at, "}");
    temp_write_text(t, "vocab.json", text);
    free(text);
    check_refused(t, ERR_DATA, "has 65537 tokens");
}

static void test_wrong_merges_are_refused(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } CASES[] = {
        {"#version: 0.2\n", "#version: 0.2\n\n", "merges.txt:2: should be two tokens"},
        {"#version", "version", "merges.txt:1: \"version:\" is not in the vocabulary"},
        {"\n", "\nab\n", "merges.txt:2: should be two tokens"},
        {"\n", "\n a\n", "merges.txt:2: \"\" is not in"},
        {"\n", "\na \n", "merges.txt:2: \"\" is not in"},
        {"\n", "\na b c\n", "merges.txt:2: \"b c\" is not in"},
        {"\n", "\na qqq\n", "merges.txt:2: \"qqq\" is not in"},
        {"\n", "\nqqq a\n", "merges.txt:2: \"qqq\" is not in"},
        {"\n", "\nq q\n", "merges.txt:2: makes a token that is not in"},
        {"\n", "\na \xFF\n", "merges.txt:2: "},
        {"\xC4\xA0"
         "e verything\n",
         "\xC4\xA0"
         "e verything\n\xC4\xA0"
         "e verything\n",
         "merges.txt:202: the same merge was given before"},
        {"\xC4\xA0"
         "e verything\n",
         "", "no merge makes 1 of the tokens"},
        {"\xC4\xA0"
         "e verything\n",
         "\xC4\xA0"
         "e very",
         "merges.txt:201: "},
    };
    Temp *t = *state;
    write_toy(t, "vocab.json", "merges.txt");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        write_changed(t, "merges.txt", "merges.txt", CASES[i].from, CASES[i].to);
        check_refused(t, ERR_DATA, CASES[i].message);
    }
}

/* Every file that is cut off is refused, or lacks no more than the last line end. */
static void test_cut_off_files_are_refused(void **state)
{
    static const char *const NAME[] = {"vocab.json", "merges.txt"};
    Temp *t = *state;
    write_toy(t, "vocab.json", "merges.txt");
    for (int i = 0; i < 2; i++) {
        size_t n_bytes;
        Bpe *bpe;
        char *text = toy_bpe_text(NAME[i], &n_bytes);
        for (size_t n = 0; n + 1 < n_bytes; n += 1 + n_bytes / 20) {
            temp_write(t, NAME[i], text, n);
            Err err = bpe_open(&bpe, t->dir);
            assert_non_null(strstr(err_message(err), NAME[i]));
            check_err(err, ERR_DATA, t->dir);
        }
        temp_write(t, NAME[i], text, n_bytes);
        free(text);
    }
    check_opens(t);
}

static void test_too_many_merges_are_refused(void **state)
{
    Temp *t = *state;
    size_t n = 65536;
    char *text = malloc(n);
    write_toy(t, "vocab.json", "merges.txt");
    memset(text, '\n', n);
    temp_write(t, "merges.txt", text, n);
    free(text);
    check_refused(t, ERR_DATA, "has 65536 lines, more than 65535");
}

/* ---- the largest vocabulary --------------------------------------------------------------- */

/* A byte in the files' alphabet. */
static int32_t put_byte(char *out, int byte)
{
    int32_t n_before = 0;
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
        return utf8_encode((uint32_t)byte, out);
    for (int b = 0; b < byte; b++)
        n_before += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    return utf8_encode(0x100 + (uint32_t)n_before, out);
}

static void write_byte(FILE *out, int byte, bool is_json)
{
    char text[UTF8_MAX_BYTES];
    int32_t n = put_byte(text, byte);
    if (is_json && (byte == '"' || byte == '\\'))
        fputc('\\', out);
    fwrite(text, 1, (size_t)n, out);
}

/* Pairs of bytes that are no tokens, so that with the bytes there are 65536. */
static bool is_left_out(int left, int right)
{
    return left != right && (right - left == 1 || right - left == -255);
}

/* Bytes have the last ids, and z the very last. */
static int id_of_byte(int byte)
{
    return BPE_MAX_VOCAB - 1 - (byte ^ 'z');
}

static void write_largest(const char *vocab_path, const char *merges_path)
{
    FILE *vocab = fopen(vocab_path, "w"), *merges = fopen(merges_path, "w");
    int id = 0;
    assert_true(vocab && merges);
    fputc('{', vocab);
    for (int pair = 0; pair < 65536; pair++) {
        int left = pair >> 8, right = pair & 255;
        if (is_left_out(left, right))
            continue;
        fprintf(vocab, "%s\"", id > 0 ? ",\n" : "");
        write_byte(vocab, left, true);
        write_byte(vocab, right, true);
        fprintf(vocab, "\":%d", id++);
        write_byte(merges, left, false);
        fputc(' ', merges);
        write_byte(merges, right, false);
        fputc('\n', merges);
    }
    for (int byte = 0; byte < 256; byte++) {
        fputs(",\"", vocab);
        write_byte(vocab, byte, true);
        fprintf(vocab, "\":%d", id_of_byte(byte));
    }
    fputc('}', vocab);
    assert_int_equal(fclose(vocab) | fclose(merges), 0);
}

/* The last token with itself is a pair of nothing but ones. */
static void test_all_ids_may_be_taken(void **state)
{
    Bpe *bpe;
    char vocab[FILE_PATH_BYTES], merges[FILE_PATH_BYTES];
    int n_wrong = 0, id = 0;
    strcpy(vocab, temp_path(*state, "vocab.json"));
    strcpy(merges, temp_path(*state, "merges.txt"));
    write_largest(vocab, merges);
    check_no_err(bpe_open_files(&bpe, vocab, merges));
    assert_int_equal(bpe_vocab_size(bpe), BPE_MAX_VOCAB);
    for (int pair = 0; pair < 65536; pair++) {
        int left = pair >> 8, right = pair & 255;
        uint32_t wanted =
            is_left_out(left, right) ? BPE_NO_MERGE : (uint32_t)id << 16 | (uint32_t)id;
        uint32_t merge = bpe_merge(bpe, (uint32_t)id_of_byte(left), (uint32_t)id_of_byte(right));
        n_wrong += merge != wanted;
        id += !is_left_out(left, right);
    }
    for (uint32_t left = 0; left < BPE_MAX_VOCAB - 256; left++) /* no merge has such a left side */
        for (uint32_t right = 0; right < 32; right++)
            n_wrong += bpe_merge(bpe, left, right) != BPE_NO_MERGE;
    assert_int_equal(n_wrong, 0);
    bpe_close(bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hugging_face_names, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_openai_names, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_version_and_last_line_end_may_be_missing, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_line_ends_of_windows, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_no_end_of_text_is_a_vocabulary_too, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_all_ids_may_be_taken, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_missing_files_are_named, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_vocabularies_are_refused, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_vocabularies_of_other_shapes_are_refused, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(test_a_vocabulary_too_large_for_a_token_is_refused,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_merges_are_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_cut_off_files_are_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_too_many_merges_are_refused, temp_setup,
                                        temp_teardown),
    };
    return cmocka_run_group_tests_name("bpe files", tests, NULL, NULL);
}
