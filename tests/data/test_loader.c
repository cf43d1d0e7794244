/* Loader: which text a sample is depends on its index alone; windows stay inside the files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "data/loader.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

enum { SEED = 1337, N_TOKENS = 60 };

/* A loader over n_tokens tokens that are never read, for questions about offsets only. */
typedef struct {
    TokenFile file;
    TokenFiles files;
    Loader loader;
} Offsets;

static void offsets_init(Offsets *o, int64_t n_tokens, int64_t block_size, ConfigSampling sampling,
                         uint64_t seed)
{
    static char path[] = "never.bin";
    *o = (Offsets){.file = {.path = path, .n_tokens = n_tokens}};
    o->files = (TokenFiles){&o->file, 1, n_tokens};
    check_no_err(loader_init(&o->loader, &o->files, sampling, seed, block_size, 50257));
}

/* ---- random ------------------------------------------------------------------------------ */

static void test_random_windows_are_those_of_nanogpt(void **state)
{
    (void)state;
    enum { N = 10, DRAWS = 10000 };
    int32_t seen[N] = {0};
    Offsets o;
    offsets_init(&o, N + 4, 4, CONFIG_SAMPLING_RANDOM, SEED);
    for (int64_t sample = 0; sample < DRAWS; sample++) {
        int64_t offset = loader_offset(&o.loader, sample);
        assert_in_range(offset, 0, N - 1); /* randint(len - block_size) */
        seen[offset]++;
    }
    for (int i = 0; i < N; i++) /* 1000 expected, with a deviation of 30 */
        assert_in_range(seen[i], 850, 1150);
}

static void test_random_with_a_single_window(void **state)
{
    (void)state;
    Offsets o;
    offsets_init(&o, 5, 4, CONFIG_SAMPLING_RANDOM, SEED);
    for (int64_t sample = 0; sample < 100; sample++)
        assert_int_equal(loader_offset(&o.loader, sample), 0);
}

static void test_random_reaches_all_of_a_large_file(void **state)
{
    (void)state;
    int64_t n_tokens = (int64_t)1 << 40, last = 0;
    Offsets o;
    offsets_init(&o, n_tokens, 1024, CONFIG_SAMPLING_RANDOM, SEED);
    for (int64_t sample = 0; sample < 1000; sample++) {
        int64_t offset = loader_offset(&o.loader, sample);
        assert_true(offset >= 0 && offset < n_tokens - 1024);
        last = offset > last ? offset : last;
    }
    assert_true(last > n_tokens / 100 * 98);
}

/* ---- shuffled ---------------------------------------------------------------------------- */

/* Every window of an epoch exactly once. */
static void assert_permutation(const Loader *loader, int64_t epoch, int64_t n)
{
    uint8_t *seen = calloc((size_t)n, 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t offset = loader_offset(loader, epoch * n + i);
        assert_int_equal(offset % loader->block_size, 0);
        assert_in_range(offset / loader->block_size, 0, n - 1);
        assert_false(seen[offset / loader->block_size]);
        seen[offset / loader->block_size] = 1;
    }
    free(seen);
}

static void test_each_epoch_has_every_window_once(void **state)
{
    (void)state;
    static const int64_t N[] = {1,  2,  3,  4,   5,   7,   15,   16,  17,
                                63, 64, 65, 255, 256, 257, 1000, 4097};
    for (size_t i = 0; i < sizeof N / sizeof *N; i++) {
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            Offsets o;
            offsets_init(&o, N[i] * 8 + 1, 8, CONFIG_SAMPLING_SHUFFLED, SEED + (uint64_t)i);
            assert_permutation(&o.loader, epoch, N[i]);
        }
    }
}

static void test_tokens_that_fill_no_window_make_none(void **state)
{
    (void)state;
    Offsets o;
    offsets_init(&o, 5 * 8, 8, CONFIG_SAMPLING_SHUFFLED, SEED); /* the fifth would lack a target */
    assert_permutation(&o.loader, 0, 4);
    offsets_init(&o, 5 * 8 + 8, 8, CONFIG_SAMPLING_SHUFFLED, SEED);
    assert_permutation(&o.loader, 0, 5);
}

/* Of n windows, how many are at the same place in two orders? About one for independent ones. */
static int32_t count_equal(const Loader *a, int64_t epoch_a, const Loader *b, int64_t epoch_b,
                           int64_t n)
{
    int32_t equal = 0;
    for (int64_t i = 0; i < n; i++)
        equal += loader_offset(a, epoch_a * n + i) == loader_offset(b, epoch_b * n + i);
    return equal;
}

static void test_epochs_have_different_orders(void **state)
{
    (void)state;
    Offsets o;
    offsets_init(&o, 1000 * 8 + 1, 8, CONFIG_SAMPLING_SHUFFLED, SEED);
    assert_in_range(count_equal(&o.loader, 0, &o.loader, 1, 1000), 0, 10);
    assert_in_range(count_equal(&o.loader, 1, &o.loader, 2, 1000), 0, 10);
}

static void test_seeds_have_different_orders(void **state)
{
    (void)state;
    Offsets a, b;
    offsets_init(&a, 1000 * 8 + 1, 8, CONFIG_SAMPLING_SHUFFLED, SEED);
    offsets_init(&b, 1000 * 8 + 1, 8, CONFIG_SAMPLING_SHUFFLED, SEED + 1);
    assert_in_range(count_equal(&a.loader, 0, &b.loader, 0, 1000), 0, 10);
}

static void test_neighbours_are_scattered(void **state)
{
    (void)state;
    int32_t n_ascending = 0, n_adjacent = 0;
    Offsets o;
    offsets_init(&o, 1000 * 8 + 1, 8, CONFIG_SAMPLING_SHUFFLED, SEED);
    for (int64_t i = 1; i < 1000; i++) {
        int64_t step = loader_offset(&o.loader, i) - loader_offset(&o.loader, i - 1);
        n_ascending += step > 0;
        n_adjacent += llabs(step) == 8;
    }
    assert_in_range(n_ascending, 440, 560); /* half, with a deviation of 9 */
    assert_in_range(n_adjacent, 0, 12);     /* two, with a deviation of 1.4 */
}

static void test_shuffle_of_a_large_file_stays_inside(void **state)
{
    (void)state;
    int64_t n_tokens = (int64_t)1 << 40;
    Offsets o;
    offsets_init(&o, n_tokens, 1, CONFIG_SAMPLING_SHUFFLED, SEED);
    for (int64_t sample = 0; sample < 1000; sample++) {
        int64_t offset = loader_offset(&o.loader, sample * 999999937);
        assert_true(offset >= 0 && offset < n_tokens - 1);
    }
}

/* ---- repeatable -------------------------------------------------------------------------- */

static void check_same_for_any_asker(ConfigSampling sampling)
{
    int64_t offset[100];
    Offsets all, some;
    offsets_init(&all, 12345, 16, sampling, SEED);
    offsets_init(&some, 12345, 16, sampling, SEED);
    for (int64_t sample = 0; sample < 100; sample++)
        offset[sample] = loader_offset(&all.loader, sample);
    for (int64_t world = 1; world <= 4; world++)
        for (int64_t rank = world - 1; rank >= 0; rank--)
            for (int64_t sample = rank; sample < 100; sample += world)
                assert_int_equal(loader_offset(&some.loader, sample), offset[sample]);
}

static void test_random_sample_is_the_same_for_any_asker(void **state)
{
    (void)state;
    check_same_for_any_asker(CONFIG_SAMPLING_RANDOM);
}

static void test_shuffled_sample_is_the_same_for_any_asker(void **state)
{
    (void)state;
    check_same_for_any_asker(CONFIG_SAMPLING_SHUFFLED);
}

/* Runs of earlier versions are to be repeatable: these numbers may not change. */
static void test_samples_are_those_of_earlier_versions(void **state)
{
    (void)state;
    static const int64_t RANDOM[] = {537543, 848273, 339484, 250452};
    static const int64_t SHUFFLED[] = {422272, 553152, 399808, 122816};
    Offsets random, shuffled;
    offsets_init(&random, 1003854, 64, CONFIG_SAMPLING_RANDOM, SEED);
    offsets_init(&shuffled, 1003854, 64, CONFIG_SAMPLING_SHUFFLED, SEED);
    for (int64_t i = 0; i < 4; i++) {
        assert_int_equal(loader_offset(&random.loader, i), RANDOM[i]);
        assert_int_equal(loader_offset(&shuffled.loader, 15685 * i), SHUFFLED[i]);
    }
}

/* ---- evaluation -------------------------------------------------------------------------- */

static void check_eval_windows(int64_t n_tokens, int64_t block_size, int64_t n_windows)
{
    int64_t end = 0;
    Offsets o;
    offsets_init(&o, n_tokens, block_size, CONFIG_SAMPLING_RANDOM, SEED);
    for (int64_t w = 0; w < n_windows; w++) {
        int64_t offset = loader_eval_offset(&o.loader, w, n_windows);
        assert_true(offset >= end); /* no overlap */
        end = offset + block_size;
        assert_true(end < n_tokens); /* the last target exists */
        int64_t even = (int64_t)((double)w * (double)(n_tokens - 1) / (double)n_windows);
        assert_true(llabs(offset - even) <= 1);
    }
}

static void test_eval_windows_are_even_and_do_not_overlap(void **state)
{
    (void)state;
    for (int64_t n_windows = 1; n_windows <= 12; n_windows++)
        for (int64_t n_tokens = n_windows * 7 + 1; n_tokens < n_windows * 7 + 40; n_tokens++)
            check_eval_windows(n_tokens, 7, n_windows);
    check_eval_windows((int64_t)1 << 40, 1024, 20000);
}

/* As many tokens as there may be and the shortest windows: products past 2^63. */
static void test_eval_windows_of_the_largest_set(void **state)
{
    (void)state;
    Offsets o;
    const int64_t n_tokens = (int64_t)1 << 40, n_windows = n_tokens / 2 + 1;
    offsets_init(&o, n_tokens, 1, CONFIG_SAMPLING_RANDOM, SEED);
    assert_int_equal(loader_eval_offset(&o.loader, n_windows - 1, n_windows), n_tokens - 3);
    assert_int_equal(loader_eval_offset(&o.loader, n_windows / 2, n_windows), n_tokens / 2 - 2);
}

static void test_eval_windows_do_not_depend_on_seed_or_sampling(void **state)
{
    (void)state;
    Offsets a, b;
    offsets_init(&a, 111540, 64, CONFIG_SAMPLING_RANDOM, SEED);
    offsets_init(&b, 111540, 64, CONFIG_SAMPLING_SHUFFLED, SEED + 1);
    for (int64_t w = 0; w < 240; w++)
        assert_int_equal(loader_eval_offset(&a.loader, w, 240),
                         loader_eval_offset(&b.loader, w, 240));
}

static void test_eval_windows_are_as_many_as_fit(void **state)
{
    (void)state;
    Offsets o;
    offsets_init(&o, 61, 10, CONFIG_SAMPLING_RANDOM, SEED);
    assert_int_equal(loader_eval_windows(&o.loader, 1), 1);
    assert_int_equal(loader_eval_windows(&o.loader, 5), 5);
    assert_int_equal(loader_eval_windows(&o.loader, 6), 6);
    assert_int_equal(loader_eval_windows(&o.loader, 7), 6);
    offsets_init(&o, 60, 10, CONFIG_SAMPLING_RANDOM, SEED);
    assert_int_equal(loader_eval_windows(&o.loader, 1000000), 5);
    offsets_init(&o, 11, 10, CONFIG_SAMPLING_RANDOM, SEED);
    assert_int_equal(loader_eval_windows(&o.loader, 1000000), 1);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* Tokens 0 .. N_TOKENS - 1 in three files. */
static void open_files(Temp *temp, TokenFiles *files)
{
    uint16_t token[N_TOKENS];
    for (uint16_t i = 0; i < N_TOKENS; i++)
        token[i] = i;
    temp_write(temp, "a.bin", token, 7 * sizeof *token);
    temp_write(temp, "b.bin", token + 7, 1 * sizeof *token);
    temp_write(temp, "c.bin", token + 8, (N_TOKENS - 8) * sizeof *token);
    check_no_err(token_files_open(files, temp->dir));
}

static void test_targets_are_the_next_tokens(void **state)
{
    enum { T = 10 };
    TokenFiles files;
    Loader loader;
    open_files(*state, &files);
    check_no_err(loader_init(&loader, &files, CONFIG_SAMPLING_RANDOM, SEED, T, N_TOKENS));
    for (int64_t offset = 0; offset < N_TOKENS - T; offset++) {
        int32_t tokens[T], targets[T];
        check_no_err(loader_read(&loader, offset, tokens, targets));
        for (int64_t i = 0; i < T; i++) {
            assert_int_equal(tokens[i], offset + i);
            assert_int_equal(targets[i], offset + i + 1);
        }
    }
    token_files_close(&files);
}

static void test_token_outside_the_vocabulary_is_refused(void **state)
{
    enum { T = 10 };
    int32_t tokens[T], targets[T];
    TokenFiles files;
    Loader loader;
    open_files(*state, &files);
    check_no_err(loader_init(&loader, &files, CONFIG_SAMPLING_RANDOM, SEED, T, 30));
    check_no_err(loader_read(&loader, 19, tokens, targets));
    /* 30 is a target only */
    check_err(loader_read(&loader, 20, tokens, targets), ERR_DATA,
              "c.bin: token 30 at position 22 ");
    check_err(loader_read(&loader, 40, tokens, targets), ERR_DATA, "token 40 ");
    token_files_close(&files);
}

static void test_files_shorter_than_a_window_are_refused(void **state)
{
    TokenFiles files;
    Loader loader;
    open_files(*state, &files);
    check_no_err(loader_init(&loader, &files, CONFIG_SAMPLING_RANDOM, SEED, 59, N_TOKENS));
    check_err(loader_init(&loader, &files, CONFIG_SAMPLING_RANDOM, SEED, 60, N_TOKENS), ERR_DATA,
              "a.bin and the files after it: 60 tokens, but a window takes block_size + 1 = 61");
    token_files_close(&files);
}

static void test_validation_file_shorter_than_a_window_is_named(void **state)
{
    TokenFiles files;
    Loader loader;
    temp_write(*state, "val.bin", "abcdef", 6);
    check_no_err(token_files_open(&files, temp_path(*state, "val.bin")));
    check_err(loader_init(&loader, &files, CONFIG_SAMPLING_SHUFFLED, SEED, 256, 65536), ERR_DATA,
              "val.bin: 3 tokens, but a window takes block_size + 1 = 257: lower block_size");
    token_files_close(&files);
}

static void test_more_tokens_than_can_be_drawn_are_refused(void **state)
{
    (void)state;
    static char path[] = "huge.bin";
    int64_t n_tokens = ((int64_t)1 << 40) + 1;
    TokenFile file = {.path = path, .n_tokens = n_tokens};
    TokenFiles files = {&file, 1, n_tokens};
    Loader loader;
    check_err(loader_init(&loader, &files, CONFIG_SAMPLING_RANDOM, SEED, 8, 50257), ERR_DATA,
              "huge.bin");
}

#define T(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_windows_are_those_of_nanogpt),
        cmocka_unit_test(test_random_with_a_single_window),
        cmocka_unit_test(test_random_reaches_all_of_a_large_file),
        cmocka_unit_test(test_each_epoch_has_every_window_once),
        cmocka_unit_test(test_tokens_that_fill_no_window_make_none),
        cmocka_unit_test(test_epochs_have_different_orders),
        cmocka_unit_test(test_seeds_have_different_orders),
        cmocka_unit_test(test_neighbours_are_scattered),
        cmocka_unit_test(test_shuffle_of_a_large_file_stays_inside),
        cmocka_unit_test(test_random_sample_is_the_same_for_any_asker),
        cmocka_unit_test(test_shuffled_sample_is_the_same_for_any_asker),
        cmocka_unit_test(test_samples_are_those_of_earlier_versions),
        cmocka_unit_test(test_eval_windows_are_even_and_do_not_overlap),
        cmocka_unit_test(test_eval_windows_of_the_largest_set),
        cmocka_unit_test(test_eval_windows_do_not_depend_on_seed_or_sampling),
        cmocka_unit_test(test_eval_windows_are_as_many_as_fit),
        T(test_targets_are_the_next_tokens),
        T(test_token_outside_the_vocabulary_is_refused),
        T(test_files_shorter_than_a_window_are_refused),
        T(test_validation_file_shorter_than_a_window_is_named),
        cmocka_unit_test(test_more_tokens_than_can_be_drawn_are_refused),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
