/* Prepare: nanoGPT's files byte for byte, and never a mixture of two data sets, whatever goes
 * wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "data/prepare.h"
#include "data/shards.h"
#include "tests/support/check_err.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp.h"

/* Prepare `input` (a name in temp) into temp/out. */
static Err prepare(Temp *temp, const char *input, TokenizerKind kind, double val_fraction,
                   PrepareResult *result)
{
    char path[FILE_PATH_BYTES], out[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s", temp_path(temp, input));
    snprintf(out, sizeof out, "%s", temp_path(temp, "out"));
    PrepareArgs args = {.input = path, .out_dir = out, .kind = kind, .val_fraction = val_fraction};
    return prepare_text(&args, result);
}

static void check_refused(Temp *temp, const char *input, double val_fraction, ErrCode code,
                          const char *part)
{
    PrepareResult result;
    check_err(prepare(temp, input, TOKENIZER_CHAR, val_fraction, &result), code, part);
    assert_null(result.tokenizer.code_point);
}

/* A first data set, to be replaced or to survive: "abababab" and "ab". */
static void prepare_old(Temp *temp)
{
    PrepareResult result;
    temp_write_text(temp, "old.txt", "ababababab");
    check_no_err(prepare(temp, "old.txt", TOKENIZER_CHAR, 0.2, &result));
    tokenizer_free(&result.tokenizer);
}

static void assert_old(Temp *temp)
{
    static const uint16_t OLD[] = {0, 1, 0, 1, 0, 1, 0, 1};
    assert_true(temp_equals(temp, "out/train.bin", OLD, sizeof OLD));
    assert_true(temp_equals(temp, "out/val.bin", OLD, 2 * sizeof *OLD));
    assert_int_equal(temp_count(temp, "out"), 3);
}

/* ---- what is written --------------------------------------------------------------------- */

static void test_output_is_nanogpts(void **state)
{
    FileMap text = shared_file("tinyshakespeare_input.txt");
    FileMap train = shared_file("shakespeare_char_train.bin");
    FileMap val = shared_file("shakespeare_char_val.bin");
    PrepareResult result;
    temp_write(*state, "input.txt", text.data, text.n_bytes);
    check_no_err(prepare(*state, "input.txt", TOKENIZER_CHAR, 0.1, &result));
    assert_int_equal(result.n_chars, 1115394);
    assert_int_equal(result.n_train, 1003854);
    assert_int_equal(result.n_val, 111540);
    assert_int_equal(result.tokenizer.vocab_size, 65);
    assert_true(temp_equals(*state, "out/train.bin", train.data, train.n_bytes));
    assert_true(temp_equals(*state, "out/val.bin", val.data, val.n_bytes));
    tokenizer_free(&result.tokenizer);
    file_unmap(&text);
    file_unmap(&train);
    file_unmap(&val);
}

static void test_tokens_split_and_vocabulary(void **state)
{
    static const uint16_t TRAIN[] = {2, 1, 3, 0, 2, 1, 3, 0}, VAL[] = {1, 3};
    static const char META[] = "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,\"kind\":\"char\","
                               "\"vocab_size\":4,\"itos\":[\"\\n\",\"a\",\"b\",\"\xC3\xA9\"]}";
    PrepareResult result;
    temp_write_text(*state, "input.txt", "ba\xC3\xA9\nba\xC3\xA9\na\xC3\xA9");
    check_no_err(prepare(*state, "input.txt", TOKENIZER_CHAR, 0.2, &result));
    assert_int_equal(result.n_bytes, 13);
    assert_int_equal(result.n_chars, 10);
    assert_true(temp_equals(*state, "out/train.bin", TRAIN, sizeof TRAIN));
    assert_true(temp_equals(*state, "out/val.bin", VAL, sizeof VAL));
    assert_true(temp_equals(*state, "out/meta.json", META, sizeof META - 1));
    assert_int_equal(temp_count(*state, "out"), 3);
    tokenizer_free(&result.tokenizer);
}

static void test_bytes(void **state)
{
    static const uint16_t TRAIN[] = {255, 0, 13, 10, 195}, VAL[] = {40, 65};
    static const char META[] = "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,\"kind\":\"byte\","
                               "\"vocab_size\":256}";
    PrepareResult result;
    temp_write(*state, "input.bin", "\xFF\0\r\n\xC3(A", 7);
    check_no_err(prepare(*state, "input.bin", TOKENIZER_BYTE, 0.25, &result));
    assert_int_equal(result.n_chars, 7);
    assert_true(temp_equals(*state, "out/train.bin", TRAIN, sizeof TRAIN));
    assert_true(temp_equals(*state, "out/val.bin", VAL, sizeof VAL));
    assert_true(temp_equals(*state, "out/meta.json", META, sizeof META - 1));
    tokenizer_free(&result.tokenizer);
}

/* n_train is Python's int(n * 0.9) for each n. */
static void test_split_is_rounded_as_nanogpts(void **state)
{
    static const struct {
        size_t n;
        int64_t n_train;
    } CASES[] = {{2, 1}, {3, 2}, {9, 8}, {10, 9}, {11, 9}, {19, 17}, {20, 18}, {70, 63}, {99, 89}};
    char text[100];
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        PrepareResult result;
        temp_write(*state, "input.txt", text, CASES[i].n);
        check_no_err(prepare(*state, "input.txt", TOKENIZER_CHAR, 0.1, &result));
        assert_int_equal(result.n_train, CASES[i].n_train);
        assert_int_equal(result.n_val, (int64_t)CASES[i].n - CASES[i].n_train);
        tokenizer_free(&result.tokenizer);
    }
}

/* A text of characters of 1 to 4 bytes, many times longer than what is encoded at once. */
static void test_long_text_decodes_to_itself(void **state)
{
    static const char PIECE[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
    enum { N_PIECES = 100003, PIECE_BYTES = sizeof PIECE - 1 };
    PrepareResult result;
    TokenFiles files;
    char *text = malloc((size_t)N_PIECES * PIECE_BYTES);
    for (size_t i = 0; i < N_PIECES; i++)
        memcpy(text + i * PIECE_BYTES, PIECE, PIECE_BYTES);
    temp_write(*state, "input.txt", text, (size_t)N_PIECES * PIECE_BYTES);
    free(text);
    check_no_err(prepare(*state, "input.txt", TOKENIZER_CHAR, 0.37, &result));
    tokenizer_free(&result.tokenizer);
    check_no_err(token_files_open(&files, temp_path(*state, "out"))); /* train.bin, then val.bin */
    assert_int_equal(files.n_tokens, 4 * N_PIECES);
    for (int64_t i = 0; i < files.n_tokens; i++) {
        int32_t token;
        token_files_read(&files, i, 1, &token);
        assert_int_equal(token, i % 4);
    }
    token_files_close(&files);
}

static void test_out_dir_is_made(void **state)
{
    char out[FILE_PATH_BYTES];
    PrepareResult result;
    snprintf(out, sizeof out, "%s", temp_path(*state, "a/b/c"));
    PrepareArgs args = {.out_dir = out, .kind = TOKENIZER_BYTE, .val_fraction = 0.5};
    args.input = temp_write_text(*state, "input.txt", "text");
    check_no_err(prepare_text(&args, &result));
    assert_int_equal(temp_count(*state, "a/b/c"), 3);
}

static void test_older_data_set_is_replaced(void **state)
{
    static const uint16_t NEW[] = {2, 1, 0};
    PrepareResult result;
    prepare_old(*state);
    temp_write_text(*state, "new.txt", "zyxz");
    check_no_err(prepare(*state, "new.txt", TOKENIZER_CHAR, 0.25, &result));
    tokenizer_free(&result.tokenizer);
    assert_true(temp_equals(*state, "out/train.bin", NEW, sizeof NEW));
    assert_true(temp_equals(*state, "out/val.bin", NEW, sizeof *NEW));
    assert_int_equal(temp_count(*state, "out"), 3);
    check_no_err(tokenizer_load(&result.tokenizer, temp_path(*state, "out/meta.json")));
    assert_int_equal(result.tokenizer.vocab_size, 3);
    tokenizer_free(&result.tokenizer);
}

static void test_leftovers_of_a_killed_run_are_removed(void **state)
{
    prepare_old(*state);
    temp_write_text(*state, "out/gpt_prepare-0123456789abcdef-train.bin.tmp", "part");
    temp_write_text(*state, "out/gpt_prepare-0123456789abcdef-input.tmp", "part");
    temp_write_text(*state, "out/notes.tmp", "mine");
    prepare_old(*state);
    assert_true(temp_equals(*state, "out/notes.tmp", "mine", 4));
    assert_int_equal(temp_count(*state, "out"), 4);
}

/* ---- what goes wrong --------------------------------------------------------------------- */

static void test_missing_input_leaves_no_directory(void **state)
{
    check_refused(*state, "none.txt", 0.1, ERR_MISSING, "none.txt");
    assert_false(path_exists(temp_path(*state, "out")));
}

static void test_directory_as_input(void **state)
{
    temp_make_dir(*state, "texts");
    check_refused(*state, "texts", 0.1, ERR_MISSING, "texts");
}

static void test_empty_input(void **state)
{
    temp_write_text(*state, "input.txt", "");
    check_refused(*state, "input.txt", 0.1, ERR_DATA, "input.txt is empty");
    assert_false(path_exists(temp_path(*state, "out")));
}

static void test_text_too_short_to_split(void **state)
{
    temp_write_text(*state, "input.txt", "a");
    check_refused(*state, "input.txt", 0.1, ERR_DATA,
                  "1 tokens leave 0 to train and 1 to validate");
    temp_write_text(*state, "input.txt", "abcdefgh");
    check_refused(*state, "input.txt", 0.9, ERR_DATA,
                  "8 tokens leave 0 to train and 8 to validate");
    assert_false(path_exists(temp_path(*state, "out")));
}

static void test_val_fraction_out_of_range(void **state)
{
    static const double BAD[] = {0.0, 1.0, -0.1, 1.5};
    temp_write_text(*state, "input.txt", "text");
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        check_refused(*state, "input.txt", BAD[i], ERR_USAGE, "val_fraction is");
}

static void test_invalid_utf8_leaves_the_older_data_set(void **state)
{
    prepare_old(*state);
    temp_write_text(*state, "new.txt", "zyx\xFF");
    check_refused(*state, "new.txt", 0.5, ERR_DATA, "new.txt: byte 3 (0xFF) is not valid UTF-8");
    assert_old(*state);
}

static void test_out_dir_that_is_a_file(void **state)
{
    temp_write_text(*state, "input.txt", "text");
    temp_write_text(*state, "out", "a file");
    check_refused(*state, "input.txt", 0.5, ERR_WRITE, "out");
    assert_true(temp_equals(*state, "out", "a file", 6));
}

/* A limit on the size of files stands for a full disk. */
static void test_full_disk_leaves_the_older_data_set(void **state)
{
    PrepareResult result;
    struct rlimit old, small = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    static const char ZEROS[8192];
    prepare_old(*state);
    temp_write(*state, "new.bin", ZEROS, sizeof ZEROS);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    Err err = prepare(*state, "new.bin", TOKENIZER_BYTE, 0.1, &result);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    check_err(err, ERR_WRITE, "train.bin");
    assert_old(*state);
}

/* Something stands in the way of the last but one name: the data set must not look complete. */
static void test_half_published_data_set_is_refused(void **state)
{
    Dataset set;
    Config cfg = {.model.vocab_size = CONFIG_AUTO};
    prepare_old(*state);
    assert_int_equal(unlink(temp_path(*state, "out/meta.json")), 0);
    temp_make_dir(*state, "out/meta.json");
    temp_write_text(*state, "new.txt", "zyxz");
    check_refused(*state, "new.txt", 0.25, ERR_WRITE, "meta.json");
    assert_int_equal(temp_count(*state, "out"), 2); /* val.bin, and what stood in the way */
    snprintf(cfg.data.dataset, sizeof cfg.data.dataset, "%.512s", temp_path(*state, "out"));
    check_err(dataset_open(&set, &cfg), ERR_MISSING, "there is no train.bin in it");
}

#define T(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_output_is_nanogpts),
        T(test_tokens_split_and_vocabulary),
        T(test_bytes),
        T(test_split_is_rounded_as_nanogpts),
        T(test_long_text_decodes_to_itself),
        T(test_out_dir_is_made),
        T(test_older_data_set_is_replaced),
        T(test_leftovers_of_a_killed_run_are_removed),
        T(test_missing_input_leaves_no_directory),
        T(test_directory_as_input),
        T(test_empty_input),
        T(test_text_too_short_to_split),
        T(test_val_fraction_out_of_range),
        T(test_invalid_utf8_leaves_the_older_data_set),
        T(test_out_dir_that_is_a_file),
        T(test_full_disk_leaves_the_older_data_set),
        T(test_half_published_data_set_is_refused),
    };
    return cmocka_run_group_tests_name("prepare", tests, NULL, NULL);
}
