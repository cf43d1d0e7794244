/* The manifest finds what changed, and where. */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/manifest.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

enum { BIG_BYTES = 3 * FILE_BLOCK_BYTES + 1000 };

typedef struct {
    Temp temp;
    uint8_t *bytes; /* BIG_BYTES, the contents of big.bin */
} Fixture;

static void write_big(Fixture *f, size_t n_bytes)
{
    temp_write(&f->temp, "big.bin", f->bytes, n_bytes);
}

/* big.bin, empty.bin and their manifest. */
static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    temp_make(&f->temp);
    f->bytes = malloc(BIG_BYTES + 1);
    for (size_t i = 0; i < BIG_BYTES + 1; i++)
        f->bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    write_big(f, BIG_BYTES);
    temp_write(&f->temp, "empty.bin", "", 0);
    Manifest manifest = {0};
    check_no_err(file_digest(temp_path(&f->temp, "big.bin"), manifest_add(&manifest, "big.bin")));
    check_no_err(
        file_digest(temp_path(&f->temp, "empty.bin"), manifest_add(&manifest, "empty.bin")));
    check_no_err(manifest_write(&manifest, f->temp.dir));
    manifest_free(&manifest);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    temp_remove(&f->temp);
    free(f->bytes);
    free(f);
    return 0;
}

static Err check_dir(Fixture *f)
{
    Manifest manifest;
    Err err = manifest_read(&manifest, f->temp.dir);
    if (err)
        return err;
    err = manifest_check(&manifest, f->temp.dir);
    manifest_free(&manifest);
    return err;
}

static void test_untouched_files_pass(void **state)
{
    check_no_err(check_dir(*state));
}

static void test_entries_come_back(void **state)
{
    Fixture *f = *state;
    Manifest manifest;
    check_no_err(manifest_read(&manifest, f->temp.dir));
    assert_int_equal(manifest.n_files, 2);
    assert_string_equal(manifest.file[0].name, "big.bin");
    assert_int_equal(manifest.file[0].digest.n_bytes, BIG_BYTES);
    assert_int_equal(manifest.file[0].digest.n_blocks, 4);
    assert_string_equal(manifest.file[1].name, "empty.bin");
    assert_int_equal(manifest.file[1].digest.n_blocks, 0);
    manifest_free(&manifest);
}

static void test_names_the_damaged_block(void **state)
{
    static const struct {
        size_t at;
        const char *range;
    } CASE[] = {{0, "big.bin: damaged: bytes 0 to 1048575 "},
                {FILE_BLOCK_BYTES - 1, "bytes 0 to 1048575 "},
                {FILE_BLOCK_BYTES, "bytes 1048576 to 2097151 "},
                {3 * FILE_BLOCK_BYTES, "bytes 3145728 to 3146727 "},
                {BIG_BYTES - 1, "bytes 3145728 to 3146727 "}};
    Fixture *f = *state;
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        f->bytes[CASE[i].at] ^= 0x10;
        write_big(f, BIG_BYTES);
        check_err(check_dir(f), ERR_DATA, CASE[i].range);
        f->bytes[CASE[i].at] ^= 0x10;
    }
}

static void test_joins_neighbouring_damaged_blocks(void **state)
{
    Fixture *f = *state;
    f->bytes[FILE_BLOCK_BYTES] ^= 1;
    f->bytes[2 * FILE_BLOCK_BYTES] ^= 1;
    write_big(f, BIG_BYTES);
    check_err(check_dir(f), ERR_DATA, "bytes 1048576 to 3145727 ");
}

static Err check_sample(Fixture *f, size_t most_bytes, size_t *n_read)
{
    Manifest manifest;
    check_no_err(manifest_read(&manifest, f->temp.dir));
    assert_int_equal(manifest_bytes(&manifest), BIG_BYTES);
    Err err = manifest_check_sample(&manifest, f->temp.dir, most_bytes, n_read);
    manifest_free(&manifest);
    return err;
}

/* Of four blocks the first and the third; the size always. */
static void test_a_sample_reads_no_more_than_it_may(void **state)
{
    enum { TWO = 2 * FILE_BLOCK_BYTES };
    Fixture *f = *state;
    size_t n_read;
    check_no_err(check_sample(f, BIG_BYTES, &n_read));
    assert_int_equal(n_read, BIG_BYTES);
    check_no_err(check_sample(f, TWO, &n_read));
    assert_int_equal(n_read, TWO);
    f->bytes[FILE_BLOCK_BYTES] ^= 1;
    write_big(f, BIG_BYTES);
    check_no_err(check_sample(f, TWO, &n_read));
    check_err(check_sample(f, BIG_BYTES, &n_read), ERR_DATA, "bytes 1048576 to 2097151 ");
    f->bytes[TWO] ^= 1;
    write_big(f, BIG_BYTES);
    check_err(check_sample(f, TWO, &n_read), ERR_DATA, "bytes 2097152 to 3145727 ");
    write_big(f, BIG_BYTES - 1);
    check_err(check_sample(f, 1, &n_read), ERR_DATA, "are missing");
}

static void test_names_what_is_missing_or_too_much(void **state)
{
    Fixture *f = *state;
    write_big(f, 5000);
    check_err(check_dir(f), ERR_DATA, "bytes 5000 to 3146727 are missing");
    write_big(f, 0);
    check_err(check_dir(f), ERR_DATA, "bytes 0 to 3146727 are missing");
    write_big(f, BIG_BYTES + 1);
    check_err(check_dir(f), ERR_DATA, "bytes 3146728 to 3146728 are too many");
    write_big(f, BIG_BYTES);
    temp_write(&f->temp, "empty.bin", "x", 1);
    check_err(check_dir(f), ERR_DATA, "empty.bin: damaged: bytes 0 to 0 are too many");
}

static void test_missing_files(void **state)
{
    Fixture *f = *state;
    assert_int_equal(remove(temp_path(&f->temp, "empty.bin")), 0);
    check_err(check_dir(f), ERR_MISSING, "empty.bin");
    assert_int_equal(remove(temp_path(&f->temp, MANIFEST_NAME)), 0);
    check_err(check_dir(f), ERR_MISSING, MANIFEST_NAME);
}

/* Every bit of every byte, not one per byte: nothing in the text is beyond the checksum. */
static void test_finds_every_flipped_bit_of_itself(void **state)
{
    Fixture *f = *state;
    char *text;
    size_t n_bytes;
    Manifest manifest;
    check_no_err(file_read_text(temp_path(&f->temp, MANIFEST_NAME), 10000, &text, &n_bytes));
    for (size_t bit = 0; bit < 8 * n_bytes; bit++) {
        text[bit / 8] ^= (char)(1 << bit % 8);
        temp_write(&f->temp, MANIFEST_NAME, text, n_bytes);
        check_err(manifest_read(&manifest, f->temp.dir), ERR_DATA, MANIFEST_NAME ": damaged");
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(text);
}

/* Whoever wrote it: nothing outside the directory, nothing that a terminal obeys. */
static void test_refuses_names_that_are_not_plain(void **state)
{
    static const char *const NAMES[] = {"../big.bin", "/etc/passwd", ".",
                                        "..",         ".hidden",     "big\x7f"};
    Fixture *f = *state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        Manifest manifest = {0}, again;
        assert_int_equal(remove(temp_path(&f->temp, MANIFEST_NAME)), 0);
        manifest_add(&manifest, NAMES[i]);
        check_no_err(manifest_write(&manifest, f->temp.dir));
        check_err(manifest_read(&again, f->temp.dir), ERR_SYSTEM, "this program did not write it");
    }
}

static void test_finds_its_own_truncation(void **state)
{
    Fixture *f = *state;
    char *text;
    size_t n_bytes;
    Manifest manifest;
    check_no_err(file_read_text(temp_path(&f->temp, MANIFEST_NAME), 10000, &text, &n_bytes));
    for (size_t n = 0; n < n_bytes; n++) {
        temp_write(&f->temp, MANIFEST_NAME, text, n);
        check_err(manifest_read(&manifest, f->temp.dir), ERR_DATA, MANIFEST_NAME ": damaged");
    }
    text[n_bytes] = '\n';
    temp_write(&f->temp, MANIFEST_NAME, text, n_bytes + 1);
    check_err(manifest_read(&manifest, f->temp.dir), ERR_DATA, MANIFEST_NAME ": damaged");
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_untouched_files_pass),
        TEST(test_entries_come_back),
        TEST(test_names_the_damaged_block),
        TEST(test_joins_neighbouring_damaged_blocks),
        TEST(test_a_sample_reads_no_more_than_it_may),
        TEST(test_names_what_is_missing_or_too_much),
        TEST(test_missing_files),
        TEST(test_finds_every_flipped_bit_of_itself),
        TEST(test_refuses_names_that_are_not_plain),
        TEST(test_finds_its_own_truncation),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
