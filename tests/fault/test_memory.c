/* Every allocation of our own code (and of jansson where it writes) that fails, one after the
 * other, through the start of a run, a step, a save and a load: an error that says so, never a
 * crash, a wrong checkpoint or an older one taken in silence; and the same again with memory works.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/fault/saver.h"
#include "tests/fault/shim_malloc.h"
#include "tests/support/check_err.h"
#include "train/trainer.h"

typedef struct {
    Saver saver;
    Temp data;
    Config cfg;
    Trainer trainer;
} Fixture;

static void write_tokens(Fixture *f, const char *name)
{
    uint16_t tokens[600];
    for (int i = 0; i < 600; i++)
        tokens[i] = (uint16_t)(i % 17);
    temp_write(&f->data, name, tokens, sizeof tokens);
}

static int set_up(void **state)
{
    static const char *const SETTINGS[][2] = {
        {"n_layer", "1"},     {"n_head", "2"},
        {"n_embd", "16"},     {"block_size", "8"},
        {"batch_size", "2"},  {"max_iters", "60000"},
        {"vocab_size", "17"}, {"gradient_accumulation_steps", "1"},
    };
    Fixture *f = calloc(1, sizeof *f);
    *state = f;
    saver_open(&f->saver);
    temp_make(&f->data);
    write_tokens(f, "train.bin");
    write_tokens(f, "val.bin");
    config_defaults(&f->cfg);
    for (size_t i = 0; i < sizeof SETTINGS / sizeof *SETTINGS; i++)
        check_no_err(config_set(&f->cfg, "test", SETTINGS[i][0], SETTINGS[i][1]));
    check_no_err(config_set(&f->cfg, "test", "dataset", f->data.dir));
    check_no_err(config_set(&f->cfg, "test", "out_dir", temp_path(&f->data, "out")));
    check_no_err(comm_bind(&f->saver.comm, &f->saver.dev, COMM_SINGLE));
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    fault_malloc_disarm();
    trainer_close(&f->trainer);
    temp_remove(&f->data);
    saver_close(&f->saver);
    free(f);
    return 0;
}

/* One thing a run does; what it opens it closes. */
typedef Err ActFn(Fixture *f);

static Err load_config(Fixture *f)
{
    char *override[] = {"--n_layer=2", "--out_dir=x"};
    Config *cfg = malloc(sizeof *cfg);
    if (!cfg)
        return ERR_NEW(ERR_SYSTEM, "out of memory for the settings");
    Err err = config_load(cfg, temp_path(&f->data, "run.ini"), 2, override);
    free(cfg);
    return err;
}

static Err open_trainer(Fixture *f)
{
    Err err = trainer_open(&f->trainer, &f->cfg, &f->saver.comm, &f->saver.dev, NULL, "");
    trainer_close(&f->trainer);
    f->trainer = (Trainer){0};
    return err;
}

static Err step(Fixture *f)
{
    StepRecord record;
    return trainer_step(&f->trainer, &record);
}

static Err save(Fixture *f)
{
    return saver_save(&f->saver, 2, 2);
}

static Err find_and_load(Fixture *f)
{
    char dir[FILE_PATH_BYTES];
    bool found;
    Progress progress;
    TRY(checkpoint_find(&f->saver.comm, saver_out_dir(&f->saver), &found, dir));
    assert_true(found);
    TRY(checkpoint_load(&f->saver.run.state, dir, &progress));
    assert_int_equal(progress.step, 2);
    return OK;
}

/* Fail call 1, 2, ... of `act` until it makes no more. */
static void fail_each(Fixture *f, const char *what, ActFn *act, bool jansson,
                      void (*check)(Fixture *f, bool worked))
{
    int64_t at = 0, n_calls;
    do {
        at++;
        fault_malloc_arm(at, jansson);
        Err err = act(f);
        n_calls = fault_malloc_disarm();
        if (err && !err_message(err)[0])
            fail_msg("%s, allocation %lld: nothing is said", what, (long long)at);
        bool worked = !err;
        err_free(err);
        if (check)
            check(f, worked);
    } while (at <= n_calls);
    check_no_err(act(f));
    printf("%s: %lld allocations failed, %lld of %lld clean\n", what, (long long)at - 1,
           (long long)at - 1, (long long)at - 1);
}

static void settings(void **state)
{
    Fixture *f = *state;
    temp_write_text(&f->data, "run.ini", "[model]\nn_layer = 3\n[run]\nseed = 5\n");
    fail_each(f, "settings", load_config, true, NULL);
}

static void start(void **state)
{
    fail_each(*state, "start", open_trainer, true, NULL);
}

static void one_step(void **state)
{
    Fixture *f = *state;
    check_no_err(trainer_open(&f->trainer, &f->cfg, &f->saver.comm, &f->saver.dev, NULL, ""));
    fail_each(f, "a step", step, true, NULL);
}

/* The older one, or the newer; then the older one alone again. */
static void check_saved_and_reset(Fixture *f, bool worked)
{
    Saved found = saver_found(&f->saver);
    if (found.step != 2 && (worked || found.step != 1))
        fail_msg("found step %lld", (long long)found.step);
    saver_folder(&f->saver);
    check_no_err(saver_save(&f->saver, 1, 1));
}

static void a_save(void **state)
{
    Fixture *f = *state;
    saver_folder(&f->saver);
    check_no_err(saver_save(&f->saver, 1, 1));
    fail_each(f, "a save", save, true, check_saved_and_reset);
}

static void a_load(void **state)
{
    Fixture *f = *state;
    saver_folder(&f->saver);
    check_no_err(saver_save(&f->saver, 1, 1));
    check_no_err(saver_save(&f->saver, 2, 2));
    /* jansson 2.14's parser writes behind its buffers when an allocation fails: not ours to test */
    fail_each(f, "find and load", find_and_load, false, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(settings), TEST(start), TEST(one_step), TEST(a_save), TEST(a_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
