/* Data sets: where they are looked for, which files are which, and whose vocabulary counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/shards.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"
#include "tests/support/toy_bpe.h"

static const char META_2[] = "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,\"kind\":\"char\","
                             "\"vocab_size\":2,\"itos\":[\"a\",\"b\"]}";

typedef struct {
    Temp temp;
    char old_dir[FILE_PATH_BYTES];
} Place;

/* The tests run inside the temporary folder, which has data/ as the data_dir. */
static int enter(void **state)
{
    Place *p = calloc(1, sizeof *p);
    temp_make(&p->temp);
    temp_make_dir(&p->temp, "data");
    *state = p;
    return !getcwd(p->old_dir, sizeof p->old_dir) || chdir(p->temp.dir) != 0;
}

static int leave(void **state)
{
    Place *p = *state;
    int failed = chdir(p->old_dir);
    temp_remove(&p->temp);
    free(p);
    return failed;
}

/* A token file that is recognised by its first token. */
static void write_tokens(void **state, const char *name, uint16_t mark)
{
    uint16_t token[] = {mark, 0, 1};
    Place *p = *state;
    temp_write(&p->temp, name, token, sizeof token);
}

static void write_text(void **state, const char *name, const char *text)
{
    Place *p = *state;
    temp_write_text(&p->temp, name, text);
}

static void make_dir(void **state, const char *name)
{
    Place *p = *state;
    temp_make_dir(&p->temp, name);
}

static Config config_of(const char *dataset)
{
    Config cfg = {0};
    snprintf(cfg.data.dataset, sizeof cfg.data.dataset, "%s", dataset);
    snprintf(cfg.data.data_dir, sizeof cfg.data.data_dir, "data");
    snprintf(cfg.model.init_from, sizeof cfg.model.init_from, "scratch");
    cfg.model.vocab_size = CONFIG_AUTO;
    return cfg;
}

static int32_t first_token(const TokenFiles *files)
{
    int32_t token;
    token_files_read(files, 0, 1, &token);
    return token;
}

/* The data set opens, and its files are those with these marks and lengths. */
static void check_opens(const char *dataset, int32_t train_mark, int32_t n_train, int32_t val_mark,
                        int32_t n_val)
{
    Dataset set;
    Config cfg = config_of(dataset);
    check_no_err(dataset_open(&set, &cfg));
    assert_int_equal(first_token(&set.train), train_mark);
    assert_int_equal(set.train.n_files, n_train);
    assert_int_equal(first_token(&set.val), val_mark);
    assert_int_equal(set.val.n_files, n_val);
    dataset_close(&set);
}

static void check_refused(const char *dataset, ErrCode code, const char *part)
{
    Dataset set;
    Config cfg = config_of(dataset);
    check_err(dataset_open(&set, &cfg), code, part);
    assert_null(set.train.file);
    assert_null(set.val.file);
}

static void write_pair(void **state, const char *dir, uint16_t mark)
{
    char name[FILE_PATH_BYTES];
    make_dir(state, dir);
    snprintf(name, sizeof name, "%s/train.bin", dir);
    write_tokens(state, name, mark);
    snprintf(name, sizeof name, "%s/val.bin", dir);
    write_tokens(state, name, (uint16_t)(mark + 1));
}

/* ---- where ------------------------------------------------------------------------------- */

static void test_name_is_looked_for_under_data_dir(void **state)
{
    write_pair(state, "data/set", 10);
    check_opens("set", 10, 1, 11, 1);
}

static void test_name_under_data_dir_wins_over_the_same_path(void **state)
{
    write_pair(state, "data/set", 10);
    write_pair(state, "set", 20);
    check_opens("set", 10, 1, 11, 1);
}

static void test_name_may_be_a_path_after_all(void **state)
{
    write_pair(state, "set", 20);
    check_opens("set", 20, 1, 21, 1);
}

static void test_path_wins_over_the_same_name_under_data_dir(void **state)
{
    make_dir(state, "some");
    make_dir(state, "data/some");
    write_pair(state, "data/some/set", 10);
    write_pair(state, "some/set", 20);
    check_opens("some/set", 20, 1, 21, 1);
    check_opens("./some/set", 20, 1, 21, 1);
    check_opens("some/set/", 20, 1, 21, 1);
}

static void test_path_may_be_under_data_dir_after_all(void **state)
{
    make_dir(state, "data/some");
    write_pair(state, "data/some/set", 10);
    check_opens("some/set", 10, 1, 11, 1);
}

static void test_absolute_path(void **state)
{
    Place *p = *state;
    write_pair(state, "set", 20);
    check_opens(temp_path(&p->temp, "set"), 20, 1, 21, 1);
}

static void test_missing_name_says_where_it_was_looked_for(void **state)
{
    (void)state;
    check_refused("nix", ERR_MISSING, "no dataset at data/nix, nor at nix");
    check_refused("nix", ERR_MISSING,
                  "gpt_prepare --out=data/nix TEXT\" (characters; GPT-2's tokens with "
                  "--tokenizer=DIR), or set data_dir");
}

static void test_missing_absolute_path_is_looked_for_once(void **state)
{
    (void)state;
    check_refused("/nowhere/nix", ERR_MISSING, "no dataset at /nowhere/nix: make");
}

static void test_empty_name(void **state)
{
    (void)state;
    check_refused("", ERR_USAGE, "dataset is empty");
}

static void test_name_too_long_for_a_path(void **state)
{
    (void)state;
    char name[CONFIG_TEXT_BYTES];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    check_refused(name, ERR_MISSING, "no dataset at data/xxx");
}

/* ---- which files ------------------------------------------------------------------------- */

static void test_directory_of_shards(void **state)
{
    make_dir(state, "data/web");
    write_tokens(state, "data/web/web_train_000002.bin", 12);
    write_tokens(state, "data/web/web_train_000001.bin", 11);
    write_tokens(state, "data/web/web_val_000000.bin", 10);
    write_text(state, "data/web/other.bin", "odd");
    check_opens("web", 11, 2, 10, 1);
}

static void test_pattern_over_shards(void **state)
{
    make_dir(state, "data/web");
    write_tokens(state, "data/web/a_train_1.bin", 11);
    write_tokens(state, "data/web/a_train_2.bin", 12);
    write_tokens(state, "data/web/a_val_1.bin", 13);
    write_tokens(state, "data/web/b_train_1.bin", 14);
    check_opens("data/web/a_*.bin", 11, 2, 13, 1);
    check_opens("web/a_*.bin", 11, 2, 13, 1);
}

static void test_later_word_decides(void **state)
{
    make_dir(state, "data/old");
    write_tokens(state, "data/old/medieval_train_0.bin", 11);
    write_tokens(state, "data/old/trains_val_0.bin", 12);
    check_opens("old", 11, 1, 12, 1);
}

static void test_words_in_directory_names_do_not_count(void **state)
{
    make_dir(state, "data/train");
    write_tokens(state, "data/train/a_val.bin", 12);
    write_tokens(state, "data/train/a_train.bin", 11);
    write_text(state, "data/train/a.bin", "odd");
    check_opens("train", 11, 1, 12, 1);
}

static void test_nanogpt_names_exclude_others(void **state)
{
    write_pair(state, "data/set", 10);
    write_tokens(state, "data/set/a_train.bin", 30);
    check_opens("set", 10, 1, 11, 1);
}

static void test_validation_file_missing(void **state)
{
    make_dir(state, "data/set");
    write_tokens(state, "data/set/train.bin", 10);
    check_refused("set", ERR_MISSING, "data/set: there is no val.bin in it");
    check_refused("set", ERR_MISSING, "gpt_prepare --out=data/set");
}

static void test_half_a_nanogpt_data_set_is_not_completed_by_other_files(void **state)
{
    make_dir(state, "data/set");
    write_tokens(state, "data/set/val.bin", 10);
    write_tokens(state, "data/set/a_train.bin", 30);
    check_refused("set", ERR_MISSING, "there is no train.bin in it");
}

static void test_empty_directory(void **state)
{
    make_dir(state, "data/set");
    check_refused("set", ERR_MISSING, "there is no train.bin or *train*.bin in it");
}

static void test_one_file_is_not_a_data_set(void **state)
{
    write_pair(state, "data/set", 10);
    check_refused("data/set/train.bin", ERR_MISSING, "no val.bin among the files it names");
}

static void test_bad_token_file_is_named(void **state)
{
    write_pair(state, "data/set", 10);
    write_text(state, "data/set/val.bin", "odd");
    check_refused("set", ERR_DATA, "data/set/val.bin: 3 bytes");
}

static void test_closed_data_set_may_be_closed(void **state)
{
    (void)state;
    Dataset set = {0};
    dataset_close(&set);
    assert_null(set.train.file);
}

/* ---- the vocabulary ---------------------------------------------------------------------- */

static void check_vocabulary(int64_t given, int64_t expected, const char *meta_path)
{
    Dataset set;
    Config cfg = config_of("set");
    cfg.model.vocab_size = given;
    check_no_err(dataset_open(&set, &cfg));
    assert_int_equal(set.vocab_size, expected);
    assert_string_equal(set.meta_path, meta_path);
    dataset_close(&set);
}

static void check_vocabulary_refused(int64_t given, ErrCode code, const char *part)
{
    Dataset set;
    Config cfg = config_of("set");
    cfg.model.vocab_size = given;
    check_err(dataset_open(&set, &cfg), code, part);
    assert_null(set.train.file);
}

static void test_vocabulary_is_that_of_meta_json(void **state)
{
    write_pair(state, "data/set", 0);
    write_text(state, "data/set/meta.json", META_2);
    check_vocabulary(CONFIG_AUTO, 2, "data/set/meta.json");
}

static void test_vocabulary_is_unknown_without_meta_json(void **state)
{
    write_pair(state, "data/set", 0);
    check_vocabulary(CONFIG_AUTO, CONFIG_AUTO, "");
}

static void test_larger_vocabulary_may_be_given(void **state)
{
    write_pair(state, "data/set", 0);
    write_text(state, "data/set/meta.json", META_2);
    check_vocabulary(128, 2, "data/set/meta.json");
}

static void test_smaller_vocabulary_is_refused(void **state)
{
    write_pair(state, "data/set", 0);
    write_text(state, "data/set/meta.json", META_2);
    check_vocabulary_refused(1, ERR_USAGE, "vocab_size = 1 is below the 2 of data/set/meta.json");
}

static void test_hostile_meta_json_is_refused(void **state)
{
    write_pair(state, "data/set", 0);
    write_text(state, "data/set/meta.json", "{\"vocab_size\":65}");
    check_vocabulary_refused(CONFIG_AUTO, ERR_DATA, "data/set/meta.json: ");
}

/* As a model in a folder gives it. */
static Config config_of_model(int64_t vocab_size)
{
    Config cfg = config_of("set");
    snprintf(cfg.model.init_from, sizeof cfg.model.init_from, "a_model");
    cfg.model.vocab_size = vocab_size;
    return cfg;
}

static void check_foreign(const Config *cfg, bool expected)
{
    Dataset set;
    check_no_err(dataset_open(&set, cfg));
    assert_int_equal(dataset_is_foreign(&set, cfg), expected);
    dataset_close(&set);
}

static void test_a_model_of_another_vocabulary_is_noticed(void **state)
{
    Config same = config_of_model(2), other = config_of_model(50257), less = config_of_model(1);
    Config scratch = config_of("set");
    Dataset set;
    write_pair(state, "data/set", 0);
    check_foreign(&other, false); /* not known */
    write_text(state, "data/set/meta.json", META_2);
    check_foreign(&same, false);
    check_foreign(&other, true);
    check_err(dataset_open(&set, &less), ERR_USAGE, "the model in a_model has a vocabulary of 1, ");
    scratch.model.vocab_size = 50257;
    check_foreign(&scratch, false);
    check_no_err(config_set(&other, NULL, "vocab_size", "50257"));
    check_foreign(&other, false);
}

static void copy_toy_bpe(void **state, const char *name, const char *as)
{
    size_t n_bytes;
    char *text = toy_bpe_text(name, &n_bytes);
    write_text(state, as, text);
    free(text);
}

static void test_a_model_may_have_more_tokens_than_gpt2s_data(void **state)
{
    const Config padded = config_of_model(512);
    write_pair(state, "data/set", 0);
    copy_toy_bpe(state, "vocab.json", "data/set/vocab.json");
    copy_toy_bpe(state, "merges.txt", "data/set/merges.txt");
    write_text(state, "data/set/meta.json",
               "{\"format\":\"gpt_ddp.tokenizer\",\"version\":1,\"kind\":\"gpt2\","
               "\"vocab_size\":457}");
    check_foreign(&padded, false);
}

static void test_vocabulary_is_that_of_meta_pkl(void **state)
{
    static const char PICKLE[] =
        "\x80\x02}(X\x0A\0\0\0vocab_sizeK\x01X\x04\0\0\0itos}K\0X\x01\0\0\0a"
        "sX\x04\0\0\0stoi}X\x01\0\0\0aK\0su.";
    write_pair(state, "data/set", 0);
    temp_write(&((Place *)*state)->temp, "data/set/meta.pkl", PICKLE, sizeof PICKLE - 1);
    check_vocabulary(CONFIG_AUTO, 1, "data/set/meta.pkl");
    check_vocabulary(65, 1, "data/set/meta.pkl");
}

static void test_other_pickles_need_a_given_vocabulary(void **state)
{
    write_pair(state, "data/set", 0);
    write_text(state, "data/set/meta.pkl", "pickle");
    check_vocabulary_refused(CONFIG_AUTO, ERR_DATA, "data/set/meta.pkl: is no pickle");
    check_vocabulary(65, CONFIG_AUTO, "");
}

static void test_pickle_beside_meta_json_does_not_matter(void **state)
{
    write_pair(state, "data/set", 0);
    write_text(state, "data/set/meta.pkl", "pickle");
    write_text(state, "data/set/meta.json", META_2);
    check_vocabulary(CONFIG_AUTO, 2, "data/set/meta.json");
}

#define T(test) cmocka_unit_test_setup_teardown(test, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_name_is_looked_for_under_data_dir),
        T(test_name_under_data_dir_wins_over_the_same_path),
        T(test_name_may_be_a_path_after_all),
        T(test_path_wins_over_the_same_name_under_data_dir),
        T(test_path_may_be_under_data_dir_after_all),
        T(test_absolute_path),
        T(test_missing_name_says_where_it_was_looked_for),
        T(test_missing_absolute_path_is_looked_for_once),
        T(test_empty_name),
        T(test_name_too_long_for_a_path),
        T(test_directory_of_shards),
        T(test_pattern_over_shards),
        T(test_later_word_decides),
        T(test_words_in_directory_names_do_not_count),
        T(test_nanogpt_names_exclude_others),
        T(test_validation_file_missing),
        T(test_half_a_nanogpt_data_set_is_not_completed_by_other_files),
        T(test_empty_directory),
        T(test_one_file_is_not_a_data_set),
        T(test_bad_token_file_is_named),
        cmocka_unit_test(test_closed_data_set_may_be_closed),
        T(test_vocabulary_is_that_of_meta_json),
        T(test_vocabulary_is_unknown_without_meta_json),
        T(test_larger_vocabulary_may_be_given),
        T(test_smaller_vocabulary_is_refused),
        T(test_hostile_meta_json_is_refused),
        T(test_a_model_of_another_vocabulary_is_noticed),
        T(test_a_model_may_have_more_tokens_than_gpt2s_data),
        T(test_vocabulary_is_that_of_meta_pkl),
        T(test_other_pickles_need_a_given_vocabulary),
        T(test_pickle_beside_meta_json_does_not_matter),
    };
    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
