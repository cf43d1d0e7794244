/* The shape of a model that is there already. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

static const char CONFIG[] = "{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_head\": 3, "
                             "\"n_embd\": 24, \"n_positions\": 10, \"vocab_size\": 65, "
                             "\"activation_function\": \"gelu\"}";

static void set(Config *cfg, const char *key, const char *value)
{
    check_no_err(config_set(cfg, "test", key, value));
}

/* Settings that begin from `dir` of the folder. */
static void begin_from(Config *cfg, Temp *t)
{
    temp_write_text(t, "config.json", CONFIG);
    config_defaults(cfg);
    set(cfg, "init_from", t->dir);
}

static void test_a_directory_gives_the_shape(void **state)
{
    Config cfg;
    begin_from(&cfg, *state);
    check_no_err(checkpoint_adopt_shape(&cfg));
    assert_int_equal(cfg.model.n_layer, 2);
    assert_int_equal(cfg.model.n_head, 3);
    assert_int_equal(cfg.model.n_embd, 24);
    assert_int_equal(cfg.model.block_size, 10);
    assert_int_equal(cfg.model.vocab_size, 65);
    assert_int_equal(cfg.model.gelu, CONFIG_GELU_ERF);
    assert_true(cfg.model.bias);
    assert_true(cfg.model.dropout == 0);
}

static void test_what_is_given_stays(void **state)
{
    Config cfg;
    begin_from(&cfg, *state);
    set(&cfg, "block_size", "4");
    set(&cfg, "n_layer", "12"); /* the default, and meant: loading refuses it */
    set(&cfg, "bias", "false");
    check_no_err(checkpoint_adopt_shape(&cfg));
    assert_int_equal(cfg.model.block_size, 4);
    assert_int_equal(cfg.model.n_layer, 12);
    assert_int_equal(cfg.model.n_embd, 24);
    assert_false(cfg.model.bias);
}

static void test_given_and_adopted_must_go_together(void **state)
{
    Config cfg;
    begin_from(&cfg, *state);
    set(&cfg, "n_head", "5");
    check_err(checkpoint_adopt_shape(&cfg), ERR_USAGE, "n_head");
}

static void test_a_directory_must_be_a_model(void **state)
{
    Temp *t = *state;
    Config cfg;
    begin_from(&cfg, t);
    temp_write_text(t, "config.json", "{\"model_type\": \"llama\"}");
    check_err(checkpoint_adopt_shape(&cfg), ERR_DATA, "\"model_type\" is not gpt2");
    set(&cfg, "init_from", "/nowhere/at/all");
    check_err(checkpoint_adopt_shape(&cfg), ERR_MISSING, "/nowhere/at/all");
}

static void test_scratch_adopts_nothing(void **state)
{
    Config cfg, before;
    begin_from(&cfg, *state);
    set(&cfg, "init_from", "scratch");
    before = cfg;
    check_no_err(checkpoint_adopt_shape(&cfg));
    assert_memory_equal(&cfg, &before, sizeof cfg);
}

/* A run that began from a directory goes on after a signal with init_from = auto. */
static void test_a_resumed_run_has_the_shape_of_its_checkpoint(void **state)
{
    Temp *t = *state;
    ToyRun run;
    Comm comm;
    Device dev;
    Config cfg;
    const DeviceArgs device = {.kind = DEVICE_CPU, .n_threads = 1};
    const ToyArgs args = toy_args(false);
    check_no_err(comm_open(&comm, false));
    check_no_err(device_open(&dev, &device));
    toy_open(&run, &args, &comm, &dev, t->dir);
    toy_fill(&run, 1);
    check_no_err(checkpoint_save(&run.state, &(Progress){.step = 3, .best_val_loss = INFINITY}));
    toy_close(&run);
    device_close(&dev);
    comm_close(&comm);

    config_defaults(&cfg);
    set(&cfg, "init_from", "auto");
    set(&cfg, "out_dir", t->dir);
    check_no_err(checkpoint_adopt_shape(&cfg));
    assert_int_equal(cfg.model.n_layer, 2);
    assert_int_equal(cfg.model.n_embd, 24);
    assert_false(cfg.model.bias);
    assert_true(cfg.model.vocab_size == CONFIG_AUTO); /* the data's, which is compared */
}

static void test_nothing_to_resume_is_no_fault_here(void **state)
{
    Temp *t = *state;
    Config cfg;
    config_defaults(&cfg);
    set(&cfg, "init_from", "auto");
    set(&cfg, "out_dir", temp_path(t, "nothing_here"));
    check_no_err(checkpoint_adopt_shape(&cfg));
    assert_int_equal(cfg.model.n_layer, 12);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_directory_gives_the_shape),
        TEST(test_what_is_given_stays),
        TEST(test_given_and_adopted_must_go_together),
        TEST(test_a_directory_must_be_a_model),
        TEST(test_scratch_adopts_nothing),
        TEST(test_a_resumed_run_has_the_shape_of_its_checkpoint),
        TEST(test_nothing_to_resume_is_no_fault_here),
    };
    return cmocka_run_group_tests_name("adopt", tests, NULL, NULL);
}
