/* nanoGPT's configuration files: assignments in Python. */
#include "config/python.h"

#include <string.h>

#include "config/config.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

static Err load(Config *cfg, Temp *t, const char *text)
{
    return config_load(cfg, temp_write_text(t, "train.py", text), 0, NULL);
}

/* In the manner of nanoGPT's configs for GPT-2, characters and fine-tuning. */
static void test_a_file_for_gpt2(void **state)
{
    Config cfg;
    check_no_err(load(&cfg, *state,
                      "# GPT-2 on eight cards\n"
                      "# torchrun --nproc_per_node=8 train.py config/train_gpt2.py\n\n"
                      "wandb_log = True\n"
                      "wandb_run_name='gpt2-124M'\n\n"
                      "# 12 x 1024 x 40 tokens\n"
                      "batch_size = 12\n"
                      "block_size = 1024\n"
                      "gradient_accumulation_steps = 5 * 8\n\n"
                      "max_iters = 600000\n"
                      "lr_decay_iters = max_iters\n"
                      "eval_interval = 1000 # often enough\n"
                      "weight_decay = 1e-1\n"));
    assert_int_equal(cfg.batch.gradient_accumulation_steps, 40);
    assert_int_equal(cfg.optim.lr_decay_iters, 600000);
    assert_int_equal(cfg.run.eval_interval, 1000);
    assert_true(cfg.optim.weight_decay == 0.1);
    assert_int_equal(cfg.model.gelu, CONFIG_GELU_ERF);
    assert_non_null(strstr(cfg.notice, "wandb_log"));
}

static void test_a_file_for_characters(void **state)
{
    Config cfg;
    check_no_err(load(&cfg, *state,
                      "\"\"\"A small model.\nof characters = 1\n\"\"\" # so far\n"
                      "out_dir = 'out-char'\n"
                      "always_save_checkpoint = False\n"
                      "dataset = \"chars # 1\"\n"
                      "n_embd = 384\n"
                      "n_head = n_embd // 64\n"
                      "dropout = 0.2\n"
                      "learning_rate = 1e-3\n"
                      "min_lr = learning_rate / 10\n"
                      "beta2 = 0.99\n"
                      "device = 'cpu'\n"
                      "compile = False\n"));
    assert_string_equal(cfg.run.out_dir, "out-char");
    assert_string_equal(cfg.data.dataset, "chars # 1");
    assert_false(cfg.run.always_save_checkpoint);
    assert_int_equal(cfg.model.n_head, 6);
    assert_true(cfg.optim.min_lr == 1e-3 / 10);
    assert_int_equal(cfg.system.device, CONFIG_DEVICE_CPU);
}

static void test_a_file_for_fine_tuning(void **state)
{
    Config cfg;
    check_no_err(load(&cfg, *state,
                      "import time\r\n"
                      "from math import pi\r\n"
                      "wandb_run_name = 'ft-' + str(time.time())\r\n"
                      "init_from = 'gpt2-xl'\r\n"
                      "tokens_per_step = 32_768\r\n"
                      "batch_size = 1\r\n"
                      "gradient_accumulation_steps = tokens_per_step // (batch_size * 1024)\r\n"
                      "decay_lr = False\r\n"
                      "gelu = 'tanh'\r\n"));
    assert_string_equal(cfg.model.init_from, "gpt2-xl");
    assert_int_equal(cfg.batch.gradient_accumulation_steps, 32);
    assert_false(cfg.optim.decay_lr);
    assert_int_equal(cfg.model.gelu, CONFIG_GELU_TANH);
}

static void test_arithmetic_is_pythons(void **state)
{
    static const struct {
        const char *expression, *value;
    } CASE[] = {
        {"2 + 3 * 4", "14"},
        {"(2 + 3) * 4", "20"},
        {"2 ** 3 ** 2", "512"},
        {"-2 ** 2", "-4"},
        {"2 ** -1", "0.5"},
        {"7 // 2", "3"},
        {"-7 // 2", "-4"},
        {"-7 % 3", "2"},
        {"7 % -3", "-2"},
        {"7 / 2", "3.5"},
        {"6 / 2", "3"},
        {"1_000", "1000"},
        {"1e3", "1000"},
        {".5", "0.5"},
        {"5.", "5"},
        {"--1", "1"},
        {"+ 4 - -1", "5"},
        {"7.5 // 2", "3"},
        {"0x1p3", NULL},
        {"1e999", NULL},
        {"1 // 0", NULL},
        {"1 % 0", NULL},
        {"9 ** 999", NULL},
        {"1 +", NULL},
        {"(1", NULL},
        {"1 2", NULL},
        {"1)", NULL},
        {"inf", NULL},
        {"len('x')", NULL},
        {"[1]", NULL},
        {"None", NULL},
        {"'a' + 'b'", NULL},
        {"'a", NULL},
        {"'a\\n'", NULL},
        {"", NULL},
        {"True and False", NULL},
        {"999999999999999999 * 999999999999999999", NULL},
        {"-4294967296 * 2147483648 // -1", NULL},
        {"-4294967296 * 2147483648 % -1", NULL},
        {"-(-4294967296 * 2147483648)", NULL},
        {"-4294967296 * 2147483648 // 2147483648", "-4294967296"},
    };
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        char text[128];
        Ini ini;
        snprintf(text, sizeof text, "learning_rate = %s\n", CASE[i].expression);
        Err err = python_read(&ini, temp_write_text(*state, "x.py", text));
        if (CASE[i].value && err)
            fail_msg("%s: %s", CASE[i].expression, err_message(err));
        if (CASE[i].value && strcmp(ini.entry[0].value, CASE[i].value) != 0)
            fail_msg("%s is %s", CASE[i].expression, ini.entry[0].value);
        if (!CASE[i].value && !err)
            fail_msg("%s is %s", CASE[i].expression, ini.entry[0].value);
        err_free(err);
        ini_free(&ini);
    }
}

static void test_the_last_assignment_counts(void **state)
{
    Config cfg;
    check_no_err(
        load(&cfg, *state, "max_iters = 5000\nlr_decay_iters = max_iters\nmax_iters = 7000\n"));
    assert_int_equal(cfg.optim.max_iters, 7000);
    assert_int_equal(cfg.optim.lr_decay_iters, 5000);
}

static void test_what_is_not_an_assignment(void **state)
{
    static const char *const CASE[][2] = {
        {"batch_size = 4\nif True:\n    batch_size = 8\n", "train.py:2: \"if True:\" is no assign"},
        {"    batch_size = 4\n", "is no assignment"},
        {"batch_size += 4\n", "is no assignment"},
        {"print(1)\n", "is no assignment"},
        {"batch_size == 4\n", "is no assignment"},
        {"2 = 4\n", "is no assignment"},
        {"\n\nbatch_sise = 4\n", "train.py:3: unknown key \"batch_sise\"; did you mean batch_size"},
        {"batch_size = max_iters\n", "train.py:1: max_iters is no number set above"},
        {"batch_size = 'many'\n", "train.py:1"},
        {"n_layer = 1.5\n", "train.py:1"},
        {"'''not closed\n", "is not closed"},
        {"batch_size = \n", "no value after the ="},
    };
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        Config cfg;
        check_err(load(&cfg, *state, CASE[i][0]), ERR_USAGE, CASE[i][1]);
    }
    Config cfg;
    check_err(config_load(&cfg, "/nowhere.py", 0, NULL), ERR_MISSING, "/nowhere.py");
}

static void test_deep_brackets_end(void **state)
{
    char text[4096] = "batch_size = ";
    Config cfg;
    memset(text + strlen(text), '(', 4000);
    check_err(load(&cfg, *state, text), ERR_USAGE, "too many signs and brackets");
}

#define IN_TEMP(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP(test_a_file_for_gpt2),
        IN_TEMP(test_a_file_for_characters),
        IN_TEMP(test_a_file_for_fine_tuning),
        IN_TEMP(test_arithmetic_is_pythons),
        IN_TEMP(test_the_last_assignment_counts),
        IN_TEMP(test_what_is_not_an_assignment),
        IN_TEMP(test_deep_brackets_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
