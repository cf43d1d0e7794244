#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "tests/support/check_err.h"
#include "tests/support/temp.h"

static void check_contents(const char *path, const char *want)
{
    char *text = NULL;
    size_t n_bytes = 0;
    check_no_err(file_read_text(path, 1 << 20, &text, &n_bytes));
    assert_string_equal(text, want);
    assert_int_equal(n_bytes, strlen(want));
    free(text);
}

/* Names in the folder of the test, hidden ones too. */
static int32_t count_names(const Temp *t)
{
    char **names = NULL;
    int32_t n_names = 0;
    check_no_err(dir_list(t->dir, &names, &n_names));
    dir_list_free(names, n_names);
    return n_names;
}

/* ---- paths ------------------------------------------------------------------------------- */

static void test_join(void **state)
{
    (void)state;
    char out[FILE_PATH_BYTES];
    check_no_err(path_join(out, "a", "b"));
    assert_string_equal(out, "a/b");
    check_no_err(path_join(out, "a/", "b"));
    assert_string_equal(out, "a/b");
    check_no_err(path_join(out, "", "b"));
    assert_string_equal(out, "b");
}

static void test_join_refuses_what_does_not_fit(void **state)
{
    (void)state;
    char out[FILE_PATH_BYTES], name[FILE_PATH_BYTES];
    memset(name, 'x', sizeof name);
    name[FILE_PATH_BYTES - 3] = '\0';
    check_no_err(path_join(out, "a", name));
    name[FILE_PATH_BYTES - 3] = 'x';
    name[FILE_PATH_BYTES - 2] = '\0';
    check_err(path_join(out, "a", name), ERR_USAGE, "longer than 4095 bytes");
}

static void test_temporary_names_differ(void **state)
{
    (void)state;
    char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
    check_no_err(path_temporary(a, "out/step_1"));
    check_no_err(path_temporary(b, "out/step_1"));
    assert_string_not_equal(a, b);
    assert_memory_equal(a, "out/.", 5);
    check_no_err(path_temporary(a, "bare"));
    assert_memory_equal(a, "./.", 3);
    check_no_err(path_temporary(a, "/root_file/"));
    assert_memory_equal(a, "/.", 2);
}

/* ---- directories ------------------------------------------------------------------------- */

static void test_make_makes_parents_and_may_repeat(void **state)
{
    Temp *t = *state;
    char path[FILE_PATH_BYTES];
    check_no_err(path_join(path, t->dir, "a/b//c/"));
    check_no_err(dir_make(path));
    assert_true(path_is_dir(path));
    check_no_err(dir_make(path));
}

/* A symbolic link in the place of a temporary directory would lead writes elsewhere. */
static void test_make_new_follows_nothing(void **state)
{
    Temp *t = *state;
    char link[FILE_PATH_BYTES];
    check_no_err(path_join(link, t->dir, "link"));
    check_no_err(dir_make_new(temp_path(t, "new")));
    assert_true(path_is_dir(t->path));
    check_err(dir_make_new(t->path), ERR_WRITE, "File exists");
    assert_int_equal(symlink(t->path, link), 0);
    check_err(dir_make_new(link), ERR_WRITE, "File exists");
    check_err(dir_make_new(temp_path(t, "missing/new")), ERR_WRITE, "/missing/new: ");
}

static void test_make_names_what_is_in_the_way(void **state)
{
    Temp *t = *state;
    temp_write_text(t, "file", "x");
    check_err(dir_make(temp_path(t, "file/deeper")), ERR_WRITE, "/file: ");
    check_err(dir_make(""), ERR_WRITE, "cannot make the directory");
}

static void test_list_is_sorted(void **state)
{
    Temp *t = *state;
    char **names = NULL;
    int32_t n_names = 0;
    for (int i = 40; i-- > 0;) {
        char name[16];
        snprintf(name, sizeof name, "f%02d", i * 7 % 40);
        temp_write_text(t, name, "");
    }
    check_no_err(dir_list(t->dir, &names, &n_names));
    assert_int_equal(n_names, 40);
    for (int32_t i = 0; i < n_names; i++)
        assert_int_equal(atoi(names[i] + 1), i);
    dir_list_free(names, n_names);
}

static void test_list_of_nothing(void **state)
{
    Temp *t = *state;
    char **names = NULL;
    int32_t n_names = -1;
    check_no_err(dir_list(t->dir, &names, &n_names));
    assert_int_equal(n_names, 0);
    dir_list_free(names, n_names);
    check_err(dir_list(temp_path(t, "none"), &names, &n_names), ERR_MISSING, "No such file");
}

static void test_remove_takes_the_files_along(void **state)
{
    Temp *t = *state;
    char path[FILE_PATH_BYTES];
    check_no_err(path_join(path, t->dir, "step"));
    check_no_err(dir_make(path));
    temp_write_text(t, "step/a", "x");
    temp_write_text(t, "step/b", "x");
    check_no_err(dir_remove(path));
    assert_false(path_exists(path));
    check_no_err(dir_remove(path)); /* missing is fine */
}

static void test_remove_refuses_deeper_trees(void **state)
{
    Temp *t = *state;
    char path[FILE_PATH_BYTES];
    check_no_err(dir_make(temp_path(t, "step/deep")));
    check_no_err(path_join(path, t->dir, "step"));
    check_err(dir_remove(path), ERR_WRITE, "step/deep");
    assert_true(path_is_dir(temp_path(t, "step/deep")));
}

static void test_remove_does_not_follow_a_link(void **state)
{
    Temp *t = *state;
    char link[FILE_PATH_BYTES], target[FILE_PATH_BYTES];
    check_no_err(dir_make(temp_path(t, "kept")));
    temp_write_text(t, "kept/file", "x");
    check_no_err(path_join(link, t->dir, "link"));
    check_no_err(path_join(target, t->dir, "kept"));
    assert_int_equal(symlink(target, link), 0);
    check_no_err(dir_remove(link));
    assert_false(path_exists(link));
    assert_true(path_exists(temp_path(t, "kept/file")));
    check_err(dir_remove(temp_path(t, "kept/file")), ERR_WRITE, "not a directory");
}

static void test_temporaries_are_removed_by_their_names(void **state)
{
    Temp *t = *state;
    char file[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    static const char *const kept[] = {"a", ".0123456789abcdef.json", ".0123456789abcde.tmp"};
    for (int32_t i = 0; i < 3; i++)
        temp_write_text(t, kept[i], "x");
    check_no_err(path_temporary(file, temp_path(t, "metrics.jsonl")));
    check_no_err(file_publish(file, "x", 1));
    check_no_err(path_temporary(path, temp_path(t, "x")));
    check_no_err(dir_make(path));
    dir_remove_temporaries(t->dir);
    assert_false(path_exists(file) || path_exists(path));
    for (int32_t i = 0; i < 3; i++)
        assert_true(path_exists(temp_path(t, kept[i])));
    dir_remove_temporaries(path); /* missing is fine */
}

static void test_rename_replaces(void **state)
{
    Temp *t = *state;
    char from[FILE_PATH_BYTES];
    temp_write_text(t, "old", "old");
    check_no_err(path_join(from, t->dir, "new"));
    temp_write_text(t, "new", "new");
    check_no_err(path_rename(from, temp_path(t, "old")));
    check_contents(temp_path(t, "old"), "new");
    check_err(path_rename(from, temp_path(t, "old")), ERR_WRITE, "cannot rename");
}

/* ---- reading ----------------------------------------------------------------------------- */

static void test_map_shows_the_bytes(void **state)
{
    Temp *t = *state;
    FileMap map;
    check_no_err(file_map(&map, temp_write(t, "f", "a\0b", 3)));
    assert_int_equal(map.n_bytes, 3);
    assert_memory_equal(map.data, "a\0b", 3);
    file_unmap(&map);
    assert_null(map.data);
    file_unmap(&map);
}

static void test_map_of_an_empty_file(void **state)
{
    Temp *t = *state;
    FileMap map = {(const uint8_t *)"x", 9};
    check_no_err(file_map(&map, temp_write_text(t, "empty", "")));
    assert_null(map.data);
    assert_int_equal(map.n_bytes, 0);
    file_unmap(&map);
}

static void test_map_past_two_gib(void **state)
{
    Temp *t = *state;
    FileMap map;
    const size_t n_bytes = ((size_t)3 << 30) + 5;
    temp_write_text(t, "sparse", "");
    assert_int_equal(truncate(t->path, (off_t)n_bytes), 0);
    int fd = open(t->path, O_WRONLY);
    assert_int_equal(pwrite(fd, "end", 3, (off_t)n_bytes - 3), 3);
    close(fd);
    check_no_err(file_map(&map, t->path));
    assert_int_equal(map.n_bytes, n_bytes);
    assert_memory_equal(map.data + n_bytes - 3, "end", 3);
    file_unmap(&map);
}

static void test_map_says_why_not(void **state)
{
    Temp *t = *state;
    FileMap map;
    check_err(file_map(&map, temp_path(t, "none")), ERR_MISSING, "none: No such file");
    check_err(file_map(&map, t->dir), ERR_MISSING, "not a regular file");
    assert_int_equal(mkfifo(temp_path(t, "pipe"), 0600), 0);
    check_err(file_map(&map, t->path), ERR_MISSING, "not a regular file");
}

static void test_text_ends_in_nul(void **state)
{
    Temp *t = *state;
    char *text = NULL;
    check_no_err(file_read_text(temp_write_text(t, "f", ""), 10, &text, NULL));
    assert_string_equal(text, "");
    free(text);
    check_contents(temp_write_text(t, "f", "hello"), "hello");
}

static void test_text_longer_than_a_buffer(void **state)
{
    Temp *t = *state;
    static char long_text[100001];
    for (size_t n = 4090; n < 4100; n++) { /* around the first buffer */
        memset(long_text, 'x', n);
        long_text[n] = '\0';
        check_contents(temp_write_text(t, "f", long_text), long_text);
    }
    memset(long_text, 'y', 100000);
    check_contents(temp_write_text(t, "f", long_text), long_text);
}

static void test_text_has_a_limit(void **state)
{
    Temp *t = *state;
    char *text = NULL;
    temp_write_text(t, "f", "12345678901");
    check_err(file_read_text(t->path, 10, &text, NULL), ERR_DATA, "larger than 10 bytes");
    assert_null(text);
    check_no_err(file_read_text(t->path, 11, &text, NULL));
    free(text);
}

static void test_text_says_why_not(void **state)
{
    Temp *t = *state;
    char *text = NULL;
    check_err(file_read_text(temp_path(t, "none"), 10, &text, NULL), ERR_MISSING, "none: No such");
    check_err(file_read_text(t->dir, 10, &text, NULL), ERR_MISSING, "Is a directory");
    assert_null(text);
}

/* ---- writing ----------------------------------------------------------------------------- */

static void test_create_refuses_an_existing_file(void **state)
{
    Temp *t = *state;
    FileWriter *w = NULL;
    temp_write_text(t, "f", "precious");
    check_err(file_create(&w, t->path), ERR_WRITE, "File exists");
    assert_null(w);
    check_contents(t->path, "precious");
}

static void test_create_refuses_a_symbolic_link(void **state)
{
    Temp *t = *state;
    FileWriter *w = NULL;
    char target[FILE_PATH_BYTES];
    check_no_err(path_join(target, t->dir, "target"));
    assert_int_equal(symlink(target, temp_path(t, "link")), 0);
    check_err(file_create(&w, t->path), ERR_WRITE, "cannot create");
    assert_false(path_exists(target));
}

/* Pieces of many lengths, across block edges. */
static void write_pattern(FileWriter *w, uint8_t *all, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        all[i] = (uint8_t)(i * 2654435761u >> 24);
    for (size_t at = 0, part = 1; at < n_bytes; at += part, part = part * 3 + 1) {
        part = part < n_bytes - at ? part : n_bytes - at;
        check_no_err(file_write(w, all + at, part));
    }
}

static void check_digest(const FileDigest *digest, const uint8_t *all, size_t n_bytes)
{
    int64_t n_blocks = (int64_t)((n_bytes + FILE_BLOCK_BYTES - 1) / FILE_BLOCK_BYTES);
    assert_int_equal(digest->n_bytes, n_bytes);
    assert_int_equal(digest->n_blocks, n_blocks);
    for (int64_t i = 0; i < n_blocks; i++) {
        size_t begin = (size_t)i * FILE_BLOCK_BYTES, left = n_bytes - begin;
        size_t block = left < FILE_BLOCK_BYTES ? left : FILE_BLOCK_BYTES;
        assert_true(digest->block_hash[i] == XXH3_64bits(all + begin, block));
    }
}

static void check_written(Temp *t, size_t n_bytes)
{
    FileWriter *w = NULL;
    FileDigest digest, again;
    FileMap map;
    uint8_t *all = malloc(n_bytes + 1);
    check_no_err(file_create(&w, temp_path(t, "f")));
    write_pattern(w, all, n_bytes);
    check_no_err(file_close(w, &digest));
    check_digest(&digest, all, n_bytes);
    check_no_err(file_digest(t->path, &again));
    check_digest(&again, all, n_bytes);
    check_no_err(file_map(&map, t->path));
    assert_int_equal(map.n_bytes, n_bytes);
    assert_true(n_bytes == 0 || memcmp(map.data, all, n_bytes) == 0);
    file_unmap(&map);
    file_digest_free(&digest);
    file_digest_free(&again);
    free(all);
    assert_int_equal(unlink(t->path), 0);
}

static void test_digest_per_block(void **state)
{
    const size_t lengths[] = {0,
                              1,
                              FILE_BLOCK_BYTES - 1,
                              FILE_BLOCK_BYTES,
                              FILE_BLOCK_BYTES + 1,
                              3 * FILE_BLOCK_BYTES + 12345};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check_written(*state, lengths[i]);
}

static void test_digest_of_many_blocks(void **state)
{
    check_written(*state, 20 * (size_t)FILE_BLOCK_BYTES + 7);
}

static void test_digest_names_a_missing_file(void **state)
{
    FileDigest digest;
    check_err(file_digest(temp_path(*state, "none"), &digest), ERR_MISSING, "none: No such file");
    assert_int_equal(mkfifo(temp_path(*state, "pipe"), 0600), 0);
    check_err(file_digest(temp_path(*state, "pipe"), &digest), ERR_MISSING, "not a regular file");
    check_err(file_digest("/dev/zero", &digest), ERR_MISSING, "not a regular file");
    assert_null(digest.block_hash);
}

static void test_abandon_deletes(void **state)
{
    Temp *t = *state;
    FileWriter *w = NULL;
    check_no_err(file_create(&w, temp_path(t, "f")));
    check_no_err(file_write(w, "half", 4));
    file_abandon(w);
    file_abandon(NULL);
    assert_int_equal(count_names(t), 0);
}

/* A full disk, as a limit on the size of files: write gives EFBIG once the signal is ignored. */
static void limit_file_size(rlim_t n_bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = n_bytes < limit.rlim_max ? n_bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_full_disk_is_remembered_and_leaves_nothing(void **state)
{
    Temp *t = *state;
    FileWriter *w = NULL;
    FileDigest digest;
    uint8_t *block = calloc(1, FILE_BLOCK_BYTES);
    check_no_err(file_create(&w, temp_path(t, "f")));
    limit_file_size(FILE_BLOCK_BYTES + 1000); /* the second block is written short, then refused */
    check_no_err(file_write(w, block, FILE_BLOCK_BYTES));
    check_err(file_write(w, block, FILE_BLOCK_BYTES), ERR_WRITE, "f: File too large");
    limit_file_size(RLIM_INFINITY);
    check_err(file_write(w, "more", 4), ERR_WRITE, "f: File too large");
    check_err(file_close(w, &digest), ERR_WRITE, "f: File too large");
    assert_null(digest.block_hash);
    assert_int_equal(count_names(t), 0);
    free(block);
}

static void test_publish_replaces(void **state)
{
    Temp *t = *state;
    temp_write_text(t, "f", "a longer old text");
    check_no_err(file_publish(t->path, "new", 3));
    check_contents(t->path, "new");
    check_no_err(file_publish(temp_path(t, "fresh"), "", 0));
    check_contents(t->path, "");
    assert_int_equal(count_names(t), 2);
}

/* Who has the old file open keeps reading the old contents: nothing is written in place. */
static void test_publish_never_writes_in_place(void **state)
{
    Temp *t = *state;
    FileMap map;
    temp_write_text(t, "f", "old");
    check_no_err(file_map(&map, t->path));
    check_no_err(file_publish(t->path, "new", 3));
    assert_memory_equal(map.data, "old", 3);
    file_unmap(&map);
}

static void test_failed_publish_keeps_the_old(void **state)
{
    Temp *t = *state;
    char large[4096] = "";
    temp_write_text(t, "f", "old");
    limit_file_size(1000);
    Err err = file_publish(t->path, large, sizeof large);
    limit_file_size(RLIM_INFINITY);
    check_err(err, ERR_WRITE, "/f: cannot write ");
    check_contents(t->path, "old");
    assert_int_equal(count_names(t), 1);
}

static void test_publish_onto_a_directory_leaves_nothing(void **state)
{
    Temp *t = *state;
    check_no_err(dir_make(temp_path(t, "d")));
    check_err(file_publish(t->path, "x", 1), ERR_WRITE, "cannot rename");
    assert_int_equal(count_names(t), 1);
}

static void test_publish_into_a_missing_directory(void **state)
{
    check_err(file_publish(temp_path(*state, "none/f"), "x", 1), ERR_WRITE,
              "none/f: cannot create ");
}

/* ---- going on with a file ---------------------------------------------------------------- */

static void test_a_file_goes_on_from_where_it_was_synced(void **state)
{
    Temp *t = *state;
    FileWriter *w;
    const char *path = temp_write_text(t, "file", "abcdef");
    check_no_err(file_resume(&w, path, 3));
    check_no_err(file_write(w, "xy", 2));
    check_no_err(file_sync(w));
    check_contents(path, "abcxy");
    check_no_err(file_write(w, "z", 1));
    check_no_err(file_close(w, NULL));
    check_contents(path, "abcxyz");
}

static void test_a_file_that_is_shorter_does_not_go_on(void **state)
{
    Temp *t = *state;
    FileWriter *w;
    check_err(file_resume(&w, temp_write_text(t, "file", "abc"), 4), ERR_WRITE, "shorter");
    assert_null(w);
    check_err(file_resume(&w, temp_path(t, "none"), 0), ERR_WRITE, "none");
    assert_null(w);
}

static void test_a_file_goes_on_in_one_run_only(void **state)
{
    Temp *t = *state;
    FileWriter *first, *second;
    const char *path = temp_path(t, "file");
    check_no_err(file_create(&first, path));
    check_no_err(file_lock(first));
    check_err(file_resume(&second, path, 0), ERR_WRITE, "cannot lock");
    assert_null(second);
    check_no_err(file_write(first, "abc", 3));
    check_no_err(file_close(first, NULL));
    check_contents(path, "abc");
    check_no_err(file_resume(&second, path, 3));
    check_no_err(file_close(second, NULL));
    check_contents(path, "abc");
}

/* ---- reading from beginning to end ------------------------------------------------------- */

static void test_reader_reads_to_the_end(void **state)
{
    Temp *t = *state;
    FileReader *r;
    char data[4];
    size_t n;
    check_no_err(file_open(&r, temp_write_text(t, "file", "abcdef")));
    assert_int_equal(file_reader_bytes(r), 6);
    assert_true(file_reader_written_ns(r) > 0);
    check_no_err(file_read(r, data, 4, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(data, "abcd", 4);
    check_no_err(file_read(r, data, 4, &n));
    assert_int_equal(n, 2);
    check_no_err(file_read(r, data, 4, &n));
    assert_int_equal(n, 0);
    file_reader_close(r);
}

static void test_reader_names_what_cannot_be_read(void **state)
{
    Temp *t = *state;
    FileReader *r;
    check_err(file_open(&r, temp_path(t, "none")), ERR_MISSING, "none");
    assert_null(r);
    check_err(file_open(&r, t->dir), ERR_MISSING, "is a directory");
    assert_null(r);
}

#define IN_TEMP(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_join_refuses_what_does_not_fit),
        cmocka_unit_test(test_temporary_names_differ),
        IN_TEMP(test_make_makes_parents_and_may_repeat),
        IN_TEMP(test_make_new_follows_nothing),
        IN_TEMP(test_make_names_what_is_in_the_way),
        IN_TEMP(test_list_is_sorted),
        IN_TEMP(test_list_of_nothing),
        IN_TEMP(test_remove_takes_the_files_along),
        IN_TEMP(test_remove_refuses_deeper_trees),
        IN_TEMP(test_remove_does_not_follow_a_link),
        IN_TEMP(test_temporaries_are_removed_by_their_names),
        IN_TEMP(test_rename_replaces),
        IN_TEMP(test_map_shows_the_bytes),
        IN_TEMP(test_map_of_an_empty_file),
        IN_TEMP(test_map_past_two_gib),
        IN_TEMP(test_map_says_why_not),
        IN_TEMP(test_text_ends_in_nul),
        IN_TEMP(test_text_longer_than_a_buffer),
        IN_TEMP(test_text_has_a_limit),
        IN_TEMP(test_text_says_why_not),
        IN_TEMP(test_create_refuses_an_existing_file),
        IN_TEMP(test_create_refuses_a_symbolic_link),
        IN_TEMP(test_digest_per_block),
        IN_TEMP(test_digest_of_many_blocks),
        IN_TEMP(test_digest_names_a_missing_file),
        IN_TEMP(test_abandon_deletes),
        IN_TEMP(test_full_disk_is_remembered_and_leaves_nothing),
        IN_TEMP(test_publish_replaces),
        IN_TEMP(test_publish_never_writes_in_place),
        IN_TEMP(test_failed_publish_keeps_the_old),
        IN_TEMP(test_publish_onto_a_directory_leaves_nothing),
        IN_TEMP(test_a_file_goes_on_from_where_it_was_synced),
        IN_TEMP(test_a_file_that_is_shorter_does_not_go_on),
        IN_TEMP(test_a_file_goes_on_in_one_run_only),
        IN_TEMP(test_reader_reads_to_the_end),
        IN_TEMP(test_reader_names_what_cannot_be_read),
        IN_TEMP(test_publish_into_a_missing_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
