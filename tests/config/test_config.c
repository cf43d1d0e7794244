#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/check_err.h"
#include "tests/support/temp.h"

/* Load with up to three overrides; the unused ones are NULL. */
static Err load(Config *cfg, const char *path, const char *a, const char *b, const char *c)
{
    char *const overrides[] = {(char *)a, (char *)b, (char *)c};
    return config_load(cfg, path, !a ? 0 : !b ? 1 : !c ? 2 : 3, overrides);
}

static void load_text(Config *cfg, Temp *t, const char *text)
{
    check_no_err(load(cfg, temp_write_text(t, "x.ini", text), NULL, NULL, NULL));
}

/* ---- defaults ---------------------------------------------------------------------------- */

static void test_defaults_are_nanogpts(void **state)
{
    (void)state;
    Config cfg;
    check_no_err(load(&cfg, NULL, NULL, NULL, NULL));
    assert_int_equal(cfg.model.n_layer, 12);
    assert_int_equal(cfg.model.n_embd, 768);
    assert_int_equal(cfg.model.block_size, 1024);
    assert_false(cfg.model.bias);
    assert_true(cfg.model.vocab_size == CONFIG_AUTO);
    assert_string_equal(cfg.model.init_from, "scratch");
    assert_string_equal(cfg.data.dataset, "openwebtext");
    assert_int_equal(cfg.batch.batch_size, 12);
    assert_int_equal(cfg.batch.gradient_accumulation_steps, 40);
    assert_true(cfg.batch.micro_batch == CONFIG_AUTO);
    assert_true(cfg.optim.learning_rate == 6e-4 && cfg.optim.min_lr == 6e-5);
    assert_true(cfg.optim.beta1 == 0.9 && cfg.optim.beta2 == 0.95 && cfg.optim.eps == 1e-8);
    assert_true(cfg.optim.decay_lr);
    assert_int_equal(cfg.optim.max_iters, 600000);
    assert_int_equal(cfg.run.seed, 1337);
    assert_true(cfg.run.checkpoint_interval == CONFIG_AUTO);
    assert_true(cfg.memory.memory_limit == CONFIG_AUTO);
    assert_true(cfg.fault.init_timeout == 120 && cfg.fault.step_timeout < 0);
    assert_string_equal(cfg.notice, "");
    assert_int_equal(config_step_sequences(&cfg), 480);
}

static void test_defaults_without_a_file(void **state)
{
    (void)state;
    Config a, b;
    memset(&a, 0xAA, sizeof a);
    config_defaults(&a);
    check_no_err(load(&b, NULL, NULL, NULL, NULL));
    assert_memory_equal(&a, &b, sizeof a);
}

/* ---- files ------------------------------------------------------------------------------- */

static void test_nanogpt_spellings(void **state)
{
    Config cfg;
    load_text(&cfg, *state,
              "# config/train_shakespeare_char.py, as nanoGPT has it\n"
              "out_dir = 'out-shakespeare-char'\n"
              "eval_interval = 250 # keep frequent because we'll overfit\n"
              "always_save_checkpoint = False\n"
              "dataset = \"shakespeare_char\"\n"
              "gradient_accumulation_steps = 5 * 8\n"
              "bias = True\n"
              "learning_rate = 1e-3\n"
              "dropout = 0.2\n");
    assert_string_equal(cfg.run.out_dir, "out-shakespeare-char");
    assert_int_equal(cfg.run.eval_interval, 250);
    assert_false(cfg.run.always_save_checkpoint);
    assert_string_equal(cfg.data.dataset, "shakespeare_char");
    assert_int_equal(cfg.batch.gradient_accumulation_steps, 40);
    assert_true(cfg.model.bias);
    assert_true(cfg.optim.learning_rate == 1e-3 && cfg.model.dropout == 0.2);
}

static void test_sections_are_for_readers(void **state)
{
    Config cfg;
    load_text(&cfg, *state, "[run]\nn_layer = 3\n[my experiment]\nn_head = 4\n");
    assert_int_equal(cfg.model.n_layer, 3);
    assert_int_equal(cfg.model.n_head, 4);
}

static void test_units_and_words(void **state)
{
    Config cfg;
    load_text(&cfg, *state,
              "memory_limit = 11.6GiB\nmax_iters = 20k\nlr_decay_iters = 20k\nmicro_batch = Auto\n"
              "gelu = ERF\ndevice = cuda\ndtype = bfloat16\ncomm = nccl\n");
    assert_true(cfg.memory.memory_limit == INT64_C(12455405158));
    assert_int_equal(cfg.optim.max_iters, 20000);
    assert_true(cfg.batch.micro_batch == CONFIG_AUTO);
    assert_int_equal(cfg.model.gelu, CONFIG_GELU_ERF);
    assert_int_equal(cfg.system.device, CONFIG_DEVICE_CUDA);
    assert_int_equal(cfg.system.dtype, CONFIG_DTYPE_BF16);
    assert_int_equal(cfg.system.comm, CONFIG_COMM_NCCL);
}

static void test_paths_may_hold_blanks(void **state)
{
    Config cfg;
    load_text(&cfg, *state, "out_dir = my runs/first try  # a comment\ndata_dir = '/a b #1/c'\n");
    assert_string_equal(cfg.run.out_dir, "my runs/first try");
    assert_string_equal(cfg.data.data_dir, "/a b #1/c");
}

static void test_keys_without_meaning_are_named_once(void **state)
{
    Temp *t = *state;
    Config cfg;
    temp_write_text(t, "x.ini",
                    "compile = False\nbackend = 'nccl'\nwandb_log = True\n"
                    "wandb_project = owt\nwandb_run_name = 'gpt2 #1'\n");
    check_no_err(load(&cfg, t->path, "--compile=True", "--wandb_log=", NULL));
    assert_string_equal(cfg.notice, "nanoGPT keys without meaning here, ignored: compile, backend, "
                                    "wandb_log, wandb_project, wandb_run_name");
}

/* nanoGPT's finetune_shakespeare: a constant rate below the min_lr that nobody uses. */
static void test_unused_settings_do_not_contradict(void **state)
{
    Config cfg;
    load_text(&cfg, *state, "learning_rate = 3e-5\ndecay_lr = False\n");
    load_text(&cfg, *state, "learning_rate = 3e-5\nlr_schedule = constant\nlr_decay_iters = 10\n");
    load_text(&cfg, *state, "checkpoint_interval = 7\n");
}

/* ---- overrides --------------------------------------------------------------------------- */

static void test_override_spellings(void **state)
{
    (void)state;
    Config cfg;
    check_no_err(load(&cfg, NULL, "--batch_size=3", "n_layer=4", "--optim.beta2=0.99"));
    assert_int_equal(cfg.batch.batch_size, 3);
    assert_int_equal(cfg.model.n_layer, 4);
    assert_true(cfg.optim.beta2 == 0.99);
}

static void test_override_beats_file_and_last_wins(void **state)
{
    Temp *t = *state;
    Config cfg;
    temp_write_text(t, "x.ini", "batch_size = 5\nn_layer = 7\n");
    check_no_err(load(&cfg, t->path, "--batch_size=6", "--batch_size=8", NULL));
    assert_int_equal(cfg.batch.batch_size, 8);
    assert_int_equal(cfg.model.n_layer, 7);
}

static void test_override_value_may_hold_equal_signs(void **state)
{
    (void)state;
    Config cfg;
    check_no_err(load(&cfg, NULL, "--out_dir=runs/lr=6e-4,b=12", "dataset='a = b'", NULL));
    assert_string_equal(cfg.run.out_dir, "runs/lr=6e-4,b=12");
    assert_string_equal(cfg.data.dataset, "a = b");
}

static void test_what_is_given_is_known(void **state)
{
    Config cfg;
    const char *path = temp_write_text(*state, "given.ini", "n_layer = 12\n");
    check_no_err(load(&cfg, path, "--n_embd=96", NULL, NULL));
    assert_true(config_is_given(&cfg, "n_layer")); /* the default, and yet given */
    assert_true(config_is_given(&cfg, "n_embd"));
    assert_false(config_is_given(&cfg, "n_head"));
}

static void test_set_names_its_place(void **state)
{
    (void)state;
    Config cfg;
    config_defaults(&cfg);
    check_no_err(config_set(&cfg, "trainer.json", "n_layer", "5"));
    assert_int_equal(cfg.model.n_layer, 5);
    check_err(config_set(&cfg, "trainer.json", "n_layer", "0"), ERR_USAGE,
              "trainer.json: n_layer = 0 is out of bounds");
    check_err(config_set(&cfg, NULL, "n_layer", "0"), ERR_USAGE, "n_layer = 0 is out of bounds");
    assert_int_equal(cfg.model.n_layer, 5);
}

static void test_check_without_a_place(void **state)
{
    (void)state;
    Config cfg;
    config_defaults(&cfg);
    check_no_err(config_check(&cfg));
    cfg.model.n_head = 7;
    check_err(config_check(&cfg), ERR_USAGE, "n_embd = 768 is not divisible by n_head = 7");
}

/* ---- every key --------------------------------------------------------------------------- */

/* Another value for each key, such that all of them together pass the checks, and how it prints.
 * The three time-outs may only be spelled differently for now. */
static const struct {
    const char *section, *key, *value, *printed;
} OTHER[] = {
    {"model", "n_layer", "3", "3"},
    {"model", "n_head", "6", "6"},
    {"model", "n_embd", "2*192", "384"},
    {"model", "block_size", "256", "256"},
    {"model", "bias", "True", "true"},
    {"model", "dropout", "0.2", "0.2"},
    {"model", "gelu", "erf", "erf"},
    {"model", "vocab_size", "65", "65"},
    {"model", "init_from", "my models/gpt2", "my models/gpt2"},
    {"data", "dataset", "'shards/*.bin'", "shards/*.bin"},
    {"data", "data_dir", "/data #2", "\"/data #2\""},
    {"data", "sampling", "shuffled", "shuffled"},
    {"batch", "batch_size", "64", "64"},
    {"batch", "gradient_accumulation_steps", "5*8*2", "80"},
    {"batch", "micro_batch", "4", "4"},
    {"optim", "learning_rate", "0.00123456789", "0.00123456789"},
    {"optim", "min_lr", "1e-5", "1e-05"},
    {"optim", "warmup_iters", "100", "100"},
    {"optim", "lr_decay_iters", "5k", "5000"},
    {"optim", "decay_lr", "off", "false"},
    {"optim", "lr_schedule", "wsd", "wsd"},
    {"optim", "max_iters", "1M", "1000000"},
    {"optim", "weight_decay", "0.01", "0.01"},
    {"optim", "beta1", "0.85", "0.85"},
    {"optim", "beta2", "0.99", "0.99"},
    {"optim", "eps", "1e-6", "1e-06"},
    {"optim", "grad_clip", "0", "0"},
    {"run", "out_dir", "it's here", "\"it's here\""},
    {"run", "eval_interval", "250", "250"},
    {"run", "eval_iters", "20", "20"},
    {"run", "eval_only", "1", "true"},
    {"run", "eval_hellaswag", "/data/hellaswag val.jsonl", "/data/hellaswag val.jsonl"},
    {"run", "hellaswag_interval", "250", "250"},
    {"run", "hellaswag_items", "1000", "1000"},
    {"run", "sample_interval", "500", "500"},
    {"run", "sample_prompt", "ROMEO: it's", "\"ROMEO: it's\""},
    {"run", "sample_tokens", "20", "20"},
    {"run", "log_interval", "10", "10"},
    {"run", "tensorboard", "off", "false"},
    {"run", "always_save_checkpoint", "no", "false"},
    {"run", "checkpoint_interval", "500", "500"},
    {"run", "checkpoint_time", "1h", "3600s"},
    {"run", "keep_checkpoints", "2", "2"},
    {"run", "keep_every", "1000", "1000"},
    {"run", "async_save", "false", "false"},
    {"run", "stop_after", "1h30m", "5400s"},
    {"run", "seed", "9007199254740991", "9007199254740991"},
    {"system", "device", "cpu", "cpu"},
    {"system", "dtype", "float32", "float32"},
    {"system", "comm", "mpi", "mpi"},
    {"system", "zero_stage", "Auto", "auto"},
    {"system", "grad_reduce", "all_reduce", "all_reduce"},
    {"system", "comm_dtype", "FLOAT32", "float32"},
    {"system", "bucket_mb", "1", "1"},
    {"memory", "memory_limit", "1.5GiB", "1536MiB"},
    {"memory", "recompute", "gelu_ln", "gelu_ln"},
    {"memory", "head_chunk", "1k", "1000"},
    {"memory", "offload", "none", "none"},
    {"memory", "master", "float32", "float32"},
    {"fault", "init_timeout", "2m", "120s"},
    {"fault", "step_timeout", "AUTO", "auto"},
    {"fault", "save_timeout", "10m", "600s"},
    {"fault", "max_bad_steps", "9", "9"},
    {"fault", "skip_outlier_z", "6", "6"},
    {"fault", "replica_check_interval", "50", "50"},
};

enum { N_OTHER = sizeof OTHER / sizeof *OTHER };

typedef struct {
    int n;
    const char *key;  /* looked for */
    char value[2048]; /* its value */
    char rest[65536]; /* key=value of all others */
} Seen;

static void see(void *arg, const char *key, const char *value)
{
    Seen *seen = arg;
    if (seen->key && strcmp(key, seen->key) == 0) {
        snprintf(seen->value, sizeof seen->value, "%s", value);
    } else {
        size_t used = strlen(seen->rest);
        snprintf(seen->rest + used, sizeof seen->rest - used, "%s=%s\n", key, value);
    }
    seen->n++;
}

/* The settings as visited, `key` apart from the others. */
static const Seen *look(Seen *seen, const Config *cfg, const char *key)
{
    memset(seen, 0, sizeof *seen);
    seen->key = key;
    config_visit(cfg, see, seen);
    return seen;
}

static void test_every_key_is_in_the_table_above(void **state)
{
    (void)state;
    static Seen seen;
    Config cfg;
    config_defaults(&cfg);
    assert_int_equal(look(&seen, &cfg, NULL)->n, N_OTHER);
    for (int i = 0; i < N_OTHER; i++)
        assert_int_not_equal(look(&seen, &cfg, OTHER[i].key)->value[0], '\0');
}

/* Each key, spelled --section.key=value, changes its own setting and no other. */
static void test_every_key_can_be_overridden(void **state)
{
    (void)state;
    static Seen before, after;
    for (int i = 0; i < N_OTHER; i++) {
        char argument[256];
        Config cfg, defaults;
        config_defaults(&defaults);
        snprintf(argument, sizeof argument, "--%s.%s=%s", OTHER[i].section, OTHER[i].key,
                 OTHER[i].value);
        check_no_err(load(&cfg, NULL, argument, NULL, NULL));
        look(&before, &defaults, OTHER[i].key);
        look(&after, &cfg, OTHER[i].key);
        assert_string_equal(after.value, OTHER[i].printed);
        assert_string_equal(after.rest, before.rest);
    }
}

/* ---- echo -------------------------------------------------------------------------------- */

static void check_round_trip(Temp *t, const Config *cfg)
{
    Config again;
    FILE *out = fopen(temp_path(t, "echo.ini"), "w");
    config_print(cfg, out);
    assert_int_equal(fclose(out), 0);
    check_no_err(config_load(&again, t->path, 0, NULL));
    memcpy(again.given, cfg->given, sizeof again.given);
    assert_memory_equal(cfg, &again, sizeof again);
}

static void test_defaults_round_trip(void **state)
{
    Config cfg;
    config_defaults(&cfg);
    check_round_trip(*state, &cfg);
}

static void test_other_values_round_trip(void **state)
{
    Config cfg;
    config_defaults(&cfg);
    for (int i = 0; i < N_OTHER; i++)
        check_no_err(config_set(&cfg, "test", OTHER[i].key, OTHER[i].value));
    check_no_err(config_check(&cfg));
    check_round_trip(*state, &cfg);
}

static void test_awkward_texts_round_trip(void **state)
{
    const char *const awkward[] = {"a b",
                                   "x # y",
                                   "#",
                                   ";",
                                   "a=b",
                                   "it's",
                                   "say \"x\"",
                                   "\"'x'\"",
                                   "'\"x\"'",
                                   "' lead'",
                                   "'trail '",
                                   "[x]",
                                   "\xC3\xA9t\xC3\xA9",
                                   "a;b#c",
                                   "'''",
                                   "\"",
                                   "x' # y",
                                   "auto"};
    for (size_t i = 0; i < sizeof awkward / sizeof *awkward; i++) {
        Config cfg;
        config_defaults(&cfg);
        check_no_err(config_set(&cfg, "test", "out_dir", awkward[i]));
        check_round_trip(*state, &cfg);
    }
}

static void test_longest_text_round_trips(void **state)
{
    char text[CONFIG_TEXT_BYTES + 1];
    Config cfg;
    config_defaults(&cfg);
    memset(text, '#', sizeof text);
    text[CONFIG_TEXT_BYTES - 1] = '\0';
    check_no_err(config_set(&cfg, "test", "dataset", text));
    check_round_trip(*state, &cfg);
    text[CONFIG_TEXT_BYTES - 1] = '#';
    text[CONFIG_TEXT_BYTES] = '\0';
    check_err(config_set(&cfg, "test", "dataset", text), ERR_USAGE,
              "test: dataset is longer than 1023 bytes; use a shorter path");
}

/* What config_visit hands out can be set again: trainer.json relies on it. */
static void set_again(void *arg, const char *key, const char *value)
{
    check_no_err(config_set(arg, "visit", key, value));
}

static void test_visited_values_can_be_set(void **state)
{
    (void)state;
    Config cfg, again;
    config_defaults(&cfg);
    config_defaults(&again);
    for (int i = 0; i < N_OTHER; i++)
        check_no_err(config_set(&cfg, "test", OTHER[i].key, OTHER[i].value));
    config_visit(&cfg, set_again, &again);
    memcpy(again.given, cfg.given, sizeof again.given);
    assert_memory_equal(&cfg, &again, sizeof cfg);
}

static void test_help_names_every_key(void **state)
{
    Temp *t = *state;
    char *help = NULL;
    FILE *out = fopen(temp_path(t, "help"), "w");
    config_help(out);
    assert_int_equal(fclose(out), 0);
    check_no_err(file_read_text(t->path, 1 << 20, &help, NULL));
    for (int i = 0; i < N_OTHER; i++) {
        char line[80];
        snprintf(line, sizeof line, "\n  %s = ", OTHER[i].key);
        if (!strstr(help, line))
            fail_msg("--help does not name %s", OTHER[i].key);
    }
    for (const char *line = help; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    free(help);
}

/* ---- derived ----------------------------------------------------------------------------- */

static void test_init_kinds(void **state)
{
    (void)state;
    const struct {
        const char *text;
        ConfigInit kind;
    } want[] = {{"scratch", INIT_SCRATCH},
                {"resume", INIT_RESUME},
                {"auto", INIT_AUTO},
                {"out/step_00002000", INIT_DIRECTORY}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        Config cfg;
        config_defaults(&cfg);
        check_no_err(config_set(&cfg, "", "init_from", want[i].text));
        assert_int_equal(config_init_kind(&cfg), want[i].kind);
    }
}

#define IN_TEMP(test) cmocka_unit_test_setup_teardown(test, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_nanogpts),
        cmocka_unit_test(test_defaults_without_a_file),
        IN_TEMP(test_nanogpt_spellings),
        IN_TEMP(test_sections_are_for_readers),
        IN_TEMP(test_units_and_words),
        IN_TEMP(test_paths_may_hold_blanks),
        IN_TEMP(test_keys_without_meaning_are_named_once),
        IN_TEMP(test_unused_settings_do_not_contradict),
        cmocka_unit_test(test_override_spellings),
        IN_TEMP(test_override_beats_file_and_last_wins),
        cmocka_unit_test(test_override_value_may_hold_equal_signs),
        IN_TEMP(test_what_is_given_is_known),
        cmocka_unit_test(test_set_names_its_place),
        cmocka_unit_test(test_check_without_a_place),
        cmocka_unit_test(test_every_key_is_in_the_table_above),
        cmocka_unit_test(test_every_key_can_be_overridden),
        IN_TEMP(test_defaults_round_trip),
        IN_TEMP(test_other_values_round_trip),
        IN_TEMP(test_awkward_texts_round_trip),
        IN_TEMP(test_longest_text_round_trips),
        cmocka_unit_test(test_visited_values_can_be_set),
        IN_TEMP(test_help_names_every_key),
        cmocka_unit_test(test_init_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
