/* Token files: both formats, any number and any length of them, and nothing believed unchecked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/shards.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

enum { HEADER_INTS = 256, HEADER_BYTES = 1024, MAX_TOKENS = 100 };

/* n tokens first, first + 1, ... as nanoGPT writes them. */
static void write_plain(Temp *temp, const char *name, uint16_t first, size_t n)
{
    uint16_t token[MAX_TOKENS];
    for (size_t i = 0; i < n; i++)
        token[i] = (uint16_t)(first + i);
    temp_write(temp, name, token, n * sizeof *token);
}

/* The same as llm.c does, with any three first words in its header. */
static void write_shard(Temp *temp, const char *name, const int32_t head[3], uint16_t first,
                        size_t n)
{
    struct {
        int32_t header[HEADER_INTS];
        uint16_t token[MAX_TOKENS];
    } file = {{head[0], head[1], head[2]}, {0}};
    for (size_t i = 0; i < n; i++)
        file.token[i] = (uint16_t)(first + i);
    temp_write(temp, name, &file, HEADER_BYTES + n * sizeof *file.token);
}

/* The sequence is first, first + 1, ... */
static void assert_counts_from(const TokenFiles *files, int32_t first, int64_t n)
{
    int32_t out[4 * MAX_TOKENS];
    assert_int_equal(files->n_tokens, n);
    token_files_read(files, 0, n, out);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(out[i], first + i);
}

static void check_counts_from(Temp *temp, const char *spec, int32_t first, int64_t n)
{
    TokenFiles files;
    check_no_err(token_files_open(&files, temp_path(temp, spec)));
    assert_counts_from(&files, first, n);
    token_files_close(&files);
}

static void check_refused(Temp *temp, const char *spec, ErrCode code, const char *part)
{
    TokenFiles files;
    const char *path = temp_path(temp, spec);
    Err err = token_files_open(&files, path);
    assert_non_null(strstr(err_message(err), path)); /* every message names the path */
    check_err(err, code, part);
    assert_null(files.file);
}

static void check_val_counts_from(Temp *temp, const char *spec, int32_t first, int64_t n)
{
    TokenFiles files;
    check_no_err(token_files_open_val(&files, temp_path(temp, spec)));
    assert_counts_from(&files, first, n);
    token_files_close(&files);
}

/* ---- what can be read -------------------------------------------------------------------- */

static void test_nanogpt_file(void **state)
{
    write_plain(*state, "train.bin", 1000, 37);
    check_counts_from(*state, "train.bin", 1000, 37);
}

static void test_nanogpt_file_of_one_token(void **state)
{
    write_plain(*state, "train.bin", 65535, 1);
    check_counts_from(*state, "train.bin", 65535, 1);
}

static void test_llmc_shard(void **state)
{
    write_shard(*state, "a.bin", (int32_t[]){20240520, 1, 37}, 1000, 37);
    check_counts_from(*state, "a.bin", 1000, 37);
}

static void test_directory_is_its_bin_files_sorted(void **state)
{
    write_plain(*state, "c.bin", 50, 10);
    write_shard(*state, "a.bin", (int32_t[]){20240520, 1, 20}, 0, 20);
    write_plain(*state, "b.bin", 20, 30);
    temp_write_text(*state, "notes.txt", "odd");
    temp_write_text(*state, "a.binary", "odd");
    check_counts_from(*state, ".", 0, 60);
}

static void test_of_a_directory_the_files_to_validate_measure(void **state)
{
    write_plain(*state, "owt_train_0.bin", 0, 10);
    check_val_counts_from(*state, ".", 0, 10); /* there is nothing else */
    write_plain(*state, "owt_val_1.bin", 60, 5);
    write_plain(*state, "owt_val_0.bin", 50, 10);
    check_val_counts_from(*state, ".", 50, 15);
    check_val_counts_from(*state, "owt_train_0.bin", 0, 10);
}

static void test_pattern_is_its_matches_sorted(void **state)
{
    write_plain(*state, "train_10.bin", 7, 3);
    write_plain(*state, "train_02.bin", 2, 5);
    write_plain(*state, "train_01.bin", 0, 2);
    write_plain(*state, "val_00.bin", 100, 2);
    check_counts_from(*state, "train_*.bin", 0, 10);
}

static void test_file_with_the_name_of_a_pattern_is_that_file(void **state)
{
    write_plain(*state, "a[1].bin", 5, 2);
    write_plain(*state, "a1.bin", 9, 2);
    check_counts_from(*state, "a[1].bin", 5, 2);
}

static void test_reads_cross_file_borders(void **state)
{
    for (uint16_t i = 0; i < 10; i++) {
        char name[] = "0.bin";
        name[0] = (char)('0' + i);
        write_plain(*state, name, (uint16_t)(3 * i), 3);
    }
    TokenFiles files;
    check_no_err(token_files_open(&files, temp_path(*state, ".")));
    for (int64_t begin = 0; begin <= 30; begin++) {
        for (int64_t n = 0; n <= 30 - begin; n++) {
            int32_t out[31] = {0};
            out[n] = -7;
            token_files_read(&files, begin, n, out);
            for (int64_t i = 0; i < n; i++)
                assert_int_equal(out[i], begin + i);
            assert_int_equal(out[n], -7);
        }
    }
    token_files_close(&files);
}

static void test_closed_files_may_be_closed(void **state)
{
    (void)state;
    TokenFiles files = {0};
    token_files_close(&files);
    assert_null(files.file);
}

/* ---- larger than 2 GiB ------------------------------------------------------------------- */

static void check_last_tokens(Temp *temp, const char *name, int64_t n_tokens, const uint16_t *last,
                              int64_t n_last)
{
    TokenFiles files;
    int32_t out[8];
    check_no_err(token_files_open(&files, temp_path(temp, name)));
    assert_int_equal(files.n_tokens, n_tokens);
    token_files_read(&files, n_tokens - n_last, n_last, out);
    for (int64_t i = 0; i < n_last; i++)
        assert_int_equal(out[i], last[i]);
    check_err(token_files_check(&files, n_tokens - 8, 8, 77), ERR_DATA,
              "token 77 at position 1610612735 ");
    token_files_close(&files);
}

static void test_nanogpt_file_of_3_gib(void **state)
{
    static const uint16_t LAST[] = {11, 22, 33, 77};
    temp_write_sparse(*state, "big.bin", (size_t)3 << 30, LAST, sizeof LAST);
    check_last_tokens(*state, "big.bin", (int64_t)3 << 29, LAST, 4);
}

static void test_llmc_shard_of_3_gib(void **state)
{
    static const uint16_t LAST[] = {11, 22, 33, 77};
    static const int32_t HEAD[] = {20240520, 1, 3 << 29};
    temp_write_sparse(*state, "big.bin", sizeof HEAD, HEAD, sizeof HEAD);
    temp_write_sparse(*state, "big.bin", ((size_t)3 << 30) + HEADER_BYTES, LAST, sizeof LAST);
    check_last_tokens(*state, "big.bin", (int64_t)3 << 29, LAST, 4);
}

static void test_positions_behind_a_large_file(void **state)
{
    static const uint16_t LAST[] = {1, 2};
    int32_t out[4];
    TokenFiles files;
    temp_write_sparse(*state, "a.bin", (size_t)5 << 30, LAST, sizeof LAST);
    write_plain(*state, "b.bin", 3, 2);
    check_no_err(token_files_open(&files, temp_path(*state, ".")));
    token_files_read(&files, files.n_tokens - 4, 4, out);
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(out[i], i + 1);
    token_files_close(&files);
}

/* ---- what cannot ------------------------------------------------------------------------- */

static void test_missing_file(void **state)
{
    check_refused(*state, "none.bin", ERR_MISSING, "no such file");
}

static void test_pattern_without_match(void **state)
{
    write_plain(*state, "val.bin", 0, 4);
    check_refused(*state, "train*.bin", ERR_MISSING, "match of a pattern");
}

static void test_directory_without_bin_files(void **state)
{
    temp_write_text(*state, "notes.txt", "text");
    check_refused(*state, ".", ERR_MISSING, "no *.bin file");
}

static void test_empty_file(void **state)
{
    temp_write_text(*state, "a.bin", "");
    check_refused(*state, "a.bin", ERR_DATA, "empty");
}

static void test_odd_number_of_bytes(void **state)
{
    temp_write_text(*state, "a.bin", "12345");
    check_refused(*state, "a.bin", ERR_DATA, "5 bytes, an odd number");
    temp_write_text(*state, "b.bin", "1");
    check_refused(*state, "b.bin", ERR_DATA, "1 bytes, an odd number");
}

static void test_shard_cut_off_in_its_header(void **state)
{
    static const int32_t HEAD[] = {20240520, 1, 0};
    temp_write(*state, "a.bin", HEAD, sizeof HEAD);
    check_refused(*state, "a.bin", ERR_DATA, "cut off in its header (12 of 1024 bytes)");
    temp_write(*state, "b.bin", HEAD, sizeof *HEAD);
    check_refused(*state, "b.bin", ERR_DATA, "cut off in its header (4 of 1024 bytes)");
}

static void test_shard_of_another_version(void **state)
{
    write_shard(*state, "a.bin", (int32_t[]){20240520, 2, 5}, 0, 5);
    check_refused(*state, "a.bin", ERR_DATA, "version 2");
}

static void test_shard_whose_count_and_length_disagree(void **state)
{
    static const int32_t COUNT[] = {6, 4, 0, -5, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof COUNT / sizeof *COUNT; i++) {
        write_shard(*state, "a.bin", (int32_t[]){20240520, 1, COUNT[i]}, 0, 5);
        check_refused(*state, "a.bin", ERR_DATA, "10 bytes follow");
    }
}

static void test_shard_without_tokens(void **state)
{
    write_shard(*state, "a.bin", (int32_t[]){20240520, 1, 0}, 0, 0);
    check_refused(*state, "a.bin", ERR_DATA, "claims 0 tokens");
}

static void test_shard_with_an_odd_byte(void **state)
{
    struct {
        int32_t header[HEADER_INTS];
        char rest[11];
    } file = {{20240520, 1, 5}, {0}};
    temp_write(*state, "a.bin", &file, HEADER_BYTES + sizeof file.rest);
    check_refused(*state, "a.bin", ERR_DATA, "claims 5 tokens, but 11 bytes follow");
}

static void test_other_files_of_llmc(void **state)
{
    static const struct {
        int32_t magic;
        const char *what;
    } CASES[] = {{20240801, "32-bit tokens"},
                 {20240326, "a model"},
                 {20240328, "a tokenizer"},
                 {20240522, "an evaluation set"},
                 {20240527, "a training state"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        write_shard(*state, "a.bin", (int32_t[]){CASES[i].magic, 1, 5}, 0, 5);
        check_refused(*state, "a.bin", ERR_DATA, CASES[i].what);
    }
}

static void test_unreadable_files(void **state)
{
    temp_make_dir(*state, "d");
    temp_make_dir(*state, "d/a.bin");
    check_refused(*state, "d", ERR_MISSING, "a.bin");
    temp_make_dir(*state, "e");
    assert_int_equal(symlink("nowhere", temp_path(*state, "e/a.bin")), 0);
    check_refused(*state, "e", ERR_MISSING, "a.bin");
}

static void test_file_without_permission(void **state)
{
    if (geteuid() == 0) {
        print_message("skipped: root may read everything\n");
        skip();
    }
    write_plain(*state, "a.bin", 0, 4);
    assert_int_equal(chmod(temp_path(*state, "a.bin"), 0), 0);
    check_refused(*state, "a.bin", ERR_MISSING, "Permission denied");
}

static void test_one_bad_file_among_good_ones(void **state)
{
    write_plain(*state, "a.bin", 0, 4);
    temp_write_text(*state, "b.bin", "odd");
    write_plain(*state, "c.bin", 0, 4);
    check_refused(*state, ".", ERR_DATA, "b.bin");
}

/* ---- tokens against the vocabulary ------------------------------------------------------- */

/* Two files with tokens 0..4 and 5..9. */
static void open_two(Temp *temp, TokenFiles *files)
{
    write_plain(temp, "a.bin", 0, 5);
    write_plain(temp, "b.bin", 5, 5);
    check_no_err(token_files_open(files, temp_path(temp, ".")));
}

static void test_tokens_below_the_vocabulary_pass(void **state)
{
    TokenFiles files;
    open_two(*state, &files);
    check_no_err(token_files_check(&files, 0, 10, 10));
    check_no_err(token_files_check(&files, 0, 10, 50257));
    check_no_err(token_files_check(&files, 10, 0, 1));
    token_files_close(&files);
}

static void test_only_the_tokens_asked_for_are_checked(void **state)
{
    TokenFiles files;
    open_two(*state, &files);
    check_no_err(token_files_check(&files, 0, 7, 7));
    check_err(token_files_check(&files, 0, 8, 7), ERR_DATA, "token 7 ");
    token_files_close(&files);
}

static void test_bad_token_is_located(void **state)
{
    TokenFiles files;
    open_two(*state, &files);
    check_err(token_files_check(&files, 1, 9, 3), ERR_DATA, "a.bin: token 3 at position 3 ");
    check_err(token_files_check(&files, 1, 9, 5), ERR_DATA, "b.bin: token 5 at position 0 ");
    check_err(token_files_check(&files, 7, 3, 8), ERR_DATA, "b.bin: token 8 at position 3 ");
    token_files_close(&files);
}

static void test_largest_token_fits_only_the_largest_vocabulary(void **state)
{
    TokenFiles files;
    write_plain(*state, "a.bin", 65535, 1);
    check_no_err(token_files_open(&files, temp_path(*state, "a.bin")));
    check_no_err(token_files_check(&files, 0, 1, 65536));
    check_no_err(token_files_check(&files, 0, 1, (int64_t)1 << 40));
    check_err(token_files_check(&files, 0, 1, 65535), ERR_DATA, "token 65535 ");
    token_files_close(&files);
}

#define T(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_nanogpt_file),
        T(test_nanogpt_file_of_one_token),
        T(test_llmc_shard),
        T(test_directory_is_its_bin_files_sorted),
        T(test_of_a_directory_the_files_to_validate_measure),
        T(test_pattern_is_its_matches_sorted),
        T(test_file_with_the_name_of_a_pattern_is_that_file),
        T(test_reads_cross_file_borders),
        cmocka_unit_test(test_closed_files_may_be_closed),
        T(test_nanogpt_file_of_3_gib),
        T(test_llmc_shard_of_3_gib),
        T(test_positions_behind_a_large_file),
        T(test_missing_file),
        T(test_pattern_without_match),
        T(test_directory_without_bin_files),
        T(test_empty_file),
        T(test_odd_number_of_bytes),
        T(test_shard_cut_off_in_its_header),
        T(test_shard_of_another_version),
        T(test_shard_whose_count_and_length_disagree),
        T(test_shard_without_tokens),
        T(test_shard_with_an_odd_byte),
        T(test_other_files_of_llmc),
        T(test_unreadable_files),
        T(test_file_without_permission),
        T(test_one_bad_file_among_good_ones),
        T(test_tokens_below_the_vocabulary_pass),
        T(test_only_the_tokens_asked_for_are_checked),
        T(test_bad_token_is_located),
        T(test_largest_token_fits_only_the_largest_vocabulary),
    };
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
