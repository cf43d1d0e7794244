/* Checkpoint directories in a world of one: round trips, damage, choice, replacement, failed saves.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/doc.h"
#include "checkpoint/folder.h"
#include "checkpoint/safetensors.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

static const char *const FILES[] = {"model.safetensors", "optimizer.safetensors",
                                    "config.json",       "generation_config.json",
                                    "trainer.json",      "MANIFEST.json"};
enum { N_FILES = 6 };

typedef struct {
    Temp temp;
    Comm comm;
    Device dev;
    ToyRun run;
} Fixture;

/* A run small enough to damage at every byte: 1 layer, 2 channels. */
static ToyArgs smallest(void)
{
    ToyArgs args = toy_args(true);
    args.dims.n_layer = args.dims.n_head = 1;
    args.dims.n_embd = 2;
    args.dims.block_size = 3;
    args.dims.vocab_size = 5;
    return args;
}

static void open_run(Fixture *f, ToyRun *run, const ToyArgs *args)
{
    toy_open(run, args, &f->comm, &f->dev, f->temp.dir);
}

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    const DeviceArgs cpu = {.kind = DEVICE_CPU, .n_threads = 1};
    const ToyArgs args = smallest();
    temp_make(&f->temp);
    check_no_err(comm_open(&f->comm, false));
    check_no_err(device_open(&f->dev, &cpu));
    open_run(f, &f->run, &args);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    toy_close(&f->run);
    device_close(&f->dev);
    comm_close(&f->comm);
    temp_remove(&f->temp);
    free(f);
    return 0;
}

/* Save the run with the values of fill = step. */
static Err save_step(Fixture *f, int64_t step)
{
    const Progress progress = {.step = step, .best_val_loss = INFINITY};
    toy_fill(&f->run, (uint64_t)step);
    return checkpoint_save(&f->run.state, &progress);
}

static const char *step_dir(Fixture *f, int64_t step)
{
    char name[32];
    snprintf(name, sizeof name, "step_%08lld", (long long)step);
    return temp_path(&f->temp, name);
}

static const char *step_file(Fixture *f, int64_t step, const char *file)
{
    char name[96];
    snprintf(name, sizeof name, "step_%08lld/%s", (long long)step, file);
    return temp_path(&f->temp, name);
}

/* The run's vectors are those of step, after a load from there. */
static void expect_step(Fixture *f, const char *dir, int64_t step)
{
    Progress progress;
    toy_fill(&f->run, 999);
    check_no_err(checkpoint_load(&f->run.state, dir, &progress));
    assert_int_equal(progress.step, step);
    toy_check(&f->run, (uint64_t)step);
}

/* What is written to stderr between the two calls. */
typedef struct {
    FILE *file;
    int saved;
} Capture;

static Capture capture_begin(void)
{
    fflush(stderr);
    Capture c = {tmpfile(), dup(STDERR_FILENO)};
    assert_non_null(c.file);
    assert_true(dup2(fileno(c.file), STDERR_FILENO) >= 0);
    return c;
}

static void capture_end(Capture c, char *text, size_t n_bytes)
{
    fflush(stderr);
    assert_true(dup2(c.saved, STDERR_FILENO) >= 0);
    close(c.saved);
    rewind(c.file);
    text[fread(text, 1, n_bytes - 1, c.file)] = '\0';
    fclose(c.file);
}

enum { SAID_BYTES = 4096 };

/* The step of the directory found, -1 for none. said (SAID_BYTES): what is told about the others.
 */
static int64_t find_step(Fixture *f, char *said)
{
    char dir[FILE_PATH_BYTES];
    bool found;
    Capture capture = capture_begin();
    Err err = checkpoint_find(&f->comm, f->temp.dir, &found, dir);
    capture_end(capture, said, SAID_BYTES);
    check_no_err(err);
    return found ? strtoll(strrchr(dir, '_') + 1, NULL, 10) : -1;
}

/* Found, with nothing said. */
static void expect_found(Fixture *f, int64_t step)
{
    char said[SAID_BYTES];
    assert_int_equal(find_step(f, said), step);
    assert_string_equal(said, "");
}

static int32_t count_names(Fixture *f)
{
    char **name;
    int32_t n;
    check_no_err(dir_list(f->temp.dir, &name, &n));
    dir_list_free(name, n);
    return n;
}

/* ---- round trips ------------------------------------------------------------------------- */

static void test_values_come_back(void **state)
{
    Fixture *f = *state;
    for (int kind = 0; kind < 6; kind++) {
        static const DType DTYPES[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
        ToyRun from, to;
        ToyArgs args = toy_args(kind % 2);
        args.dtype = DTYPES[kind / 2];
        Progress progress = {.step = kind, .best_val_loss = INFINITY};
        open_run(f, &from, &args);
        open_run(f, &to, &args);
        toy_fill(&from, 5);
        check_no_err(checkpoint_save(&from.state, &progress));
        check_no_err(checkpoint_load(&to.state, step_dir(f, kind), &progress));
        toy_check(&to, 5);
        toy_close(&from);
        toy_close(&to);
    }
}

/* Slices longer than the staging go in pieces. 700 * 48 floats are twice the 64 KiB. */
static void test_tensors_larger_than_the_staging(void **state)
{
    Fixture *f = *state;
    ToyRun run;
    ToyArgs args = toy_args(false);
    args.dims.n_embd = 48;
    args.dims.vocab_size = 700;
    args.dims.vocab_padded = 768;
    Progress progress = {.best_val_loss = INFINITY};
    open_run(f, &run, &args);
    toy_fill(&run, 5);
    check_no_err(checkpoint_save(&run.state, &progress));
    toy_fill(&run, 6);
    check_no_err(checkpoint_load(&run.state, step_dir(f, 0), &progress));
    toy_check(&run, 5);
    toy_close(&run);
}

static void test_progress_comes_back(void **state)
{
    static const Progress CASE[] = {
        {0, 0, INFINITY, 0, 0, {0, 0}, {0}, -1},
        {2000,
         960000,
         1.0 / 3,
         4,
         1996,
         {65536, 1999},
         {2, {0.1, -1.0 / 3}, {5e-324, 700}, 3, 9},
         1900},
        {99999999, INT64_C(1) << 42, 5e-324, 1, 7, {1, 0}, {0, {0}, {0}, 0, 1}, -1},
        {100000000,
         7,
         1.8857000000000002,
         0,
         100000000,
         {0, 0},
         {1, {-0.0}, {1}, 0, 0},
         100000000}};
    Fixture *f = *state;
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        Progress got;
        check_no_err(checkpoint_save(&f->run.state, &CASE[i]));
        check_no_err(checkpoint_load(&f->run.state, step_dir(f, CASE[i].step), &got));
        assert_int_equal(got.step, CASE[i].step);
        assert_int_equal(got.n_sequences, CASE[i].n_sequences);
        assert_int_equal(got.n_bad_steps, CASE[i].n_bad_steps);
        assert_int_equal(got.n_updates, CASE[i].n_updates);
        assert_true(got.loss_scale.scale == CASE[i].loss_scale.scale);
        assert_int_equal(got.loss_scale.n_good, CASE[i].loss_scale.n_good);
        assert_true(got.best_val_loss == CASE[i].best_val_loss);
        assert_memory_equal(&got.outliers, &CASE[i].outliers, sizeof got.outliers);
        assert_int_equal(got.best_step, CASE[i].best_step);
    }
}

typedef struct {
    const json_t *config;
    size_t n;
} Settings;

static void check_setting(void *arg, const char *key, const char *value)
{
    Settings *settings = arg;
    assert_string_equal(json_string_value(json_object_get(settings->config, key)), value);
    settings->n++;
}

static void test_every_setting_is_kept(void **state)
{
    Fixture *f = *state;
    Doc doc;
    snprintf(f->run.cfg.data.dataset, sizeof f->run.cfg.data.dataset, "caf\xc3\xa9 \"x\"\\");
    check_no_err(save_step(f, 1));
    check_no_err(doc_open(&doc, step_file(f, 1, "trainer.json")));
    Settings settings = {json_object_get(doc.root, "config"), 0};
    config_visit(&f->run.cfg, check_setting, &settings);
    assert_int_equal(settings.n, json_object_size(settings.config));
    assert_true(settings.n > 40);
    int64_t tokens, vocab;
    check_no_err(doc_i64(&doc, "tokens", 0, 0, &tokens));
    check_no_err(doc_i64(&doc, "vocab_size", 5, 5, &vocab));
    doc_close(&doc);
}

/* A path may hold any byte; JSON may not. The checkpoint matters more than the spelling. */
static void test_settings_that_are_not_utf8(void **state)
{
    Fixture *f = *state;
    snprintf(f->run.cfg.data.dataset, sizeof f->run.cfg.data.dataset, "caf\xe9");
    check_no_err(save_step(f, 1));
    Doc doc;
    check_no_err(doc_open(&doc, step_file(f, 1, "trainer.json")));
    const json_t *config = json_object_get(doc.root, "config");
    assert_string_equal(json_string_value(json_object_get(config, "dataset")), "caf?");
    doc_close(&doc);
    expect_step(f, step_dir(f, 1), 1);
}

static void test_read_dims(void **state)
{
    Fixture *f = *state;
    for (int bias = 0; bias < 2; bias++) {
        ToyRun run;
        ToyArgs args = toy_args(bias);
        args.dims.gelu = bias ? GELU_ERF : GELU_TANH;
        GptDims got;
        open_run(f, &run, &args);
        toy_fill(&run, 1);
        check_no_err(checkpoint_save(&run.state, &(Progress){.best_val_loss = 1}));
        toy_close(&run);
        check_no_err(checkpoint_read_dims(step_dir(f, 0), &got));
        assert_int_equal(got.bias, bias);
        assert_int_equal(got.gelu, args.dims.gelu);
        assert_int_equal(got.n_layer, args.dims.n_layer);
        assert_int_equal(got.vocab_size, args.dims.vocab_size);
        assert_true(got.dropout == args.dims.dropout);
    }
}

static void check_text(Fixture *f, int64_t step, const char *name, const char *expected)
{
    char *text;
    check_no_err(file_read_text(step_file(f, step, name), 100, &text, NULL));
    assert_string_equal(text, expected);
    free(text);
}

/* Also after the folder that it came from is gone. */
static void test_the_tokenizer_goes_along(void **state)
{
    Fixture *f = *state;
    TokenizerFiles files;
    check_no_err(dir_make(temp_path(&f->temp, "data")));
    temp_write_text(&f->temp, "data/meta.json", "{\"kind\":\"x\"}");
    temp_write_text(&f->temp, "data/meta.pkl", "of no use");
    check_no_err(tokenizer_files_read(&files, temp_path(&f->temp, "data")));
    check_no_err(dir_remove(temp_path(&f->temp, "data")));
    f->run.state.tokenizer = &files;
    check_no_err(save_step(f, 1));
    check_text(f, 1, "meta.json", "{\"kind\":\"x\"}");
    assert_false(path_exists(step_file(f, 1, "meta.pkl")));
    temp_write_text(&f->temp, "step_00000001/meta.json", "{\"kind\":\"y\"}");
    check_err(checkpoint_verify(step_dir(f, 1)), ERR_DATA, "meta.json: damaged: bytes 0 to 11");
    tokenizer_files_free(&files);
}

static void test_a_vocabulary_gets_the_names_of_hugging_face(void **state)
{
    Fixture *f = *state;
    TokenizerFiles files;
    check_no_err(dir_make(temp_path(&f->temp, "openai")));
    temp_write_text(&f->temp, "openai/encoder.json", "{}");
    temp_write_text(&f->temp, "openai/vocab.bpe", "a b");
    temp_write_text(&f->temp, "openai/tokenizer.json", "[]");
    check_no_err(tokenizer_files_read(&files, temp_path(&f->temp, "openai")));
    assert_true(tokenizer_files_any(&files));
    f->run.state.tokenizer = &files;
    check_no_err(save_step(f, 1));
    check_text(f, 1, "vocab.json", "{}");
    check_text(f, 1, "merges.txt", "a b");
    check_text(f, 1, "tokenizer.json", "[]");
    check_no_err(checkpoint_verify(step_dir(f, 1)));
    tokenizer_files_free(&files);
}

static void test_a_folder_without_a_tokenizer(void **state)
{
    Fixture *f = *state;
    TokenizerFiles files;
    check_no_err(tokenizer_files_read(&files, f->temp.dir));
    assert_false(tokenizer_files_any(&files));
}

/* Padding to a vocabulary of 128 stays at home; a bias-free model shows zero biases. */
static void test_files_hold_what_the_world_knows(void **state)
{
    Fixture *f = *state;
    ToyRun run;
    ToyArgs args = toy_args(false);
    SafeFile file;
    open_run(f, &run, &args);
    toy_fill(&run, 1);
    check_no_err(checkpoint_save(&run.state, &(Progress){.best_val_loss = 1}));
    check_no_err(safe_open(&file, step_file(f, 0, "model.safetensors")));
    assert_int_equal(safe_find(&file, "wte.weight")->dim[0], 65);
    assert_int_equal(safe_find(&file, "wpe.weight")->dim[0], 10);
    assert_int_equal(file.n_tensors, 2 + 2 * 12 + 2); /* as GPT2LMHeadModel's */
    const SafeTensor *bias = safe_find(&file, "h.1.attn.c_attn.bias");
    assert_int_equal(bias->dim[0], 72);
    for (int64_t i = 0; i < 72; i++) {
        float value;
        safe_read_f32(&file, bias, i, 1, &value);
        assert_true(value == 0);
    }
    safe_close(&file);
    check_no_err(safe_open(&file, step_file(f, 0, "optimizer.safetensors")));
    assert_int_equal(file.n_tensors, 2 * run.layout.n_params);
    assert_non_null(safe_find(&file, "exp_avg_sq.h.1.mlp.c_proj.weight"));
    safe_close(&file);
    toy_close(&run);
}

/* ---- what does not fit ------------------------------------------------------------------- */

static void test_refuses_another_shape(void **state)
{
    static const struct {
        const char *message;
        GptDims change; /* fields that differ */
    } CASE[] = {
        {"n_layer is 2 in the checkpoint, 3 in this run", {.n_layer = 3}},
        {"n_head is 3 in the checkpoint, 4 in this run", {.n_head = 4}},
        {"n_embd is 24 in the checkpoint, 48 in this run", {.n_embd = 48}},
        {"block_size is 10 in the checkpoint, 11 in this run", {.block_size = 11}},
        {"vocab_size is 65 in the checkpoint, 66 in this run", {.vocab_size = 66}},
        {"gelu is tanh in the checkpoint, erf in this run", {.gelu = GELU_ERF}},
        {"bias is true in the checkpoint, false in this run", {.bias = false}},
    };
    Fixture *f = *state;
    ToyRun from;
    ToyArgs args = toy_args(true);
    Progress progress = {.best_val_loss = 1};
    open_run(f, &from, &args);
    toy_fill(&from, 1);
    check_no_err(checkpoint_save(&from.state, &progress));
    toy_close(&from);
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        const GptDims *change = &CASE[i].change;
        ToyArgs other = args;
        ToyRun to;
        other.dims.n_layer = change->n_layer ? change->n_layer : args.dims.n_layer;
        other.dims.n_head = change->n_head ? change->n_head : args.dims.n_head;
        other.dims.n_embd = change->n_embd ? change->n_embd : args.dims.n_embd;
        other.dims.block_size = change->block_size ? change->block_size : args.dims.block_size;
        other.dims.vocab_size = change->vocab_size ? change->vocab_size : args.dims.vocab_size;
        other.dims.gelu = change->gelu;
        other.dims.bias = strncmp(CASE[i].message, "bias", 4) != 0;
        open_run(f, &to, &other);
        check_err(checkpoint_load(&to.state, step_dir(f, 0), &progress), ERR_DATA, CASE[i].message);
        toy_close(&to);
    }
}

#define WITH_OUTLIERS                                                                              \
    "{\"version\":1,\"bias\":true,\"step\":1,\"n_sequences\":1,\"n_bad_steps\":0,\"outliers\":"

/* Whole files that say something else than they should: the manifest is no proof of sense. */
static void test_refuses_senseless_files(void **state)
{
    static const struct {
        const char *file, *text, *message;
    } CASE[] = {
        {"trainer.json", "{}", "\"version\" is missing"},
        {"trainer.json", "{\"version\":2}", "\"version\" is 2"},
        {"trainer.json", "{\"version\":1}", "\"bias\" is missing"},
        {"trainer.json", "{\"version\":1,\"bias\":true}", "\"step\" is missing"},
        {"trainer.json", "{\"version\":1,\"bias\":true,\"step\":-1}", "\"step\" is -1"},
        {"trainer.json", "{\"version\":1,\"bias\":true,\"step\":1.5}",
         "\"step\" is not an integer"},
        {"trainer.json", "{\"version\":1,\"bias\":true,\"step\":99999999999999999}",
         "\"step\" is 9"},
        {"trainer.json",
         "{\"version\":1,\"bias\":true,\"step\":1,\"n_sequences\":1,\"n_bad_steps\":0,"
         "\"best_val_loss\":\"x\"}",
         "\"best_val_loss\" is not a number"},
        {"trainer.json",
         "{\"version\":1,\"bias\":true,\"step\":1,\"n_sequences\":1,\"n_bad_steps\":0,"
         "\"best_step\":2}",
         "\"best_step\" is 2"},
        {"trainer.json", WITH_OUTLIERS "7}", "\"outliers\" is not an object"},
        {"trainer.json", WITH_OUTLIERS "{}}", "\"in_row\" is missing"},
        {"trainer.json", WITH_OUTLIERS "{\"in_row\":0,\"skipped\":0,\"log_loss\":1}}",
         "\"log_loss\" is no list"},
        {"trainer.json", WITH_OUTLIERS "{\"in_row\":0,\"skipped\":0,\"log_loss\":[1,true]}}",
         "item 1 of \"log_loss\" is not a number"},
        {"trainer.json",
         WITH_OUTLIERS "{\"in_row\":0,\"skipped\":0,\"log_loss\":[1],\"log_norm\":[]}}",
         "1 losses and 0 norms"},
        {"trainer.json",
         WITH_OUTLIERS "{\"in_row\":0,\"skipped\":0,\"log_loss\":[1],\"log_norm\":[1e9]}}",
         "holds 1e+09"},
        {"optimizer.safetensors", "short", "too few"},
        {"model.safetensors", "", "too few"},
    };
    Fixture *f = *state;
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        Progress progress;
        check_no_err(save_step(f, 1));
        char name[96];
        snprintf(name, sizeof name, "step_00000001/%s", CASE[i].file);
        temp_write_text(&f->temp, name, CASE[i].text);
        check_err(checkpoint_load(&f->run.state, step_dir(f, 1), &progress), ERR_DATA,
                  CASE[i].message);
    }
}

/* dir/optimizer.safetensors with these tensors, all zero. */
static void write_optimizer(Fixture *f, SafeTensor *tensor, int32_t n)
{
    SafeWriter *w;
    const float zero = 0;
    remove(step_file(f, 1, "optimizer.safetensors"));
    check_no_err(safe_create(&w, f->temp.path, tensor, n));
    for (int32_t i = 0; i < n; i++)
        for (size_t b = 0; b < tensor[i].n_bytes; b += sizeof zero)
            check_no_err(safe_write(w, &zero, sizeof zero));
    check_no_err(safe_finish(w, NULL));
}

static void test_refuses_another_optimizer(void **state)
{
    Fixture *f = *state;
    SafeFile file;
    SafeTensor tensor[64];
    Progress progress;
    check_no_err(save_step(f, 1));
    check_no_err(safe_open(&file, step_file(f, 1, "optimizer.safetensors")));
    int32_t n = file.n_tensors;
    assert_true(n < 64);
    memcpy(tensor, file.tensor, (size_t)n * sizeof *tensor);
    safe_close(&file);
    write_optimizer(f, tensor + 1, n - 1);
    check_err(checkpoint_load(&f->run.state, step_dir(f, 1), &progress), ERR_DATA,
              "tensor exp_avg.wte.weight is missing");
    write_optimizer(f, tensor, n - 1);
    check_err(checkpoint_load(&f->run.state, step_dir(f, 1), &progress), ERR_DATA,
              "tensor exp_avg_sq.ln_f.bias is missing");
    tensor[n] = (SafeTensor){.name = "more", .dtype = DTYPE_F32, .rank = 1, .dim = {1, 1, 1, 1}};
    write_optimizer(f, tensor, n + 1);
    check_err(checkpoint_load(&f->run.state, step_dir(f, 1), &progress), ERR_DATA,
              "tensors, wanted");
    tensor[1].dim[0]++;
    write_optimizer(f, tensor, n);
    check_err(checkpoint_load(&f->run.state, step_dir(f, 1), &progress), ERR_DATA,
              "exp_avg.wpe.weight: dimension 0 is 4, wanted 3");
}

/* ---- damage ------------------------------------------------------------------------------ */

/* One bit of each byte of every file; of the two large ones, of each 7th. */
static void test_every_flipped_byte_is_found(void **state)
{
    Fixture *f = *state;
    check_no_err(save_step(f, 1));
    for (int k = 0; k < N_FILES; k++) {
        FILE *file = fopen(step_file(f, 1, FILES[k]), "r+b");
        assert_non_null(file);
        setbuf(file, NULL);
        assert_int_equal(fseek(file, 0, SEEK_END), 0);
        const long n = ftell(file), stride = k < 2 ? 7 : 1;
        for (long at = 0; at < n; at += stride) {
            fseek(file, at, SEEK_SET);
            int byte = fgetc(file);
            fseek(file, at, SEEK_SET);
            fputc(byte ^ 1 << at % 8, file);
            Err err = checkpoint_verify(step_dir(f, 1));
            if (!err)
                fail_msg("%s: a flipped bit in byte %ld was not found", FILES[k], at);
            check_err(err, ERR_DATA, FILES[k]);
            fseek(file, at, SEEK_SET);
            fputc(byte, file);
        }
        fclose(file);
    }
    check_no_err(checkpoint_verify(step_dir(f, 1)));
}

static void test_every_truncation_is_found(void **state)
{
    Fixture *f = *state;
    check_no_err(save_step(f, 1));
    for (int k = 0; k < N_FILES; k++) {
        struct stat info;
        char *text;
        size_t n;
        assert_int_equal(stat(step_file(f, 1, FILES[k]), &info), 0);
        check_no_err(file_read_text(f->temp.path, (size_t)info.st_size, &text, &n));
        for (size_t cut = n; cut-- > 0; cut -= k < 2 && cut > 40 ? 37 : 0) {
            assert_int_equal(truncate(step_file(f, 1, FILES[k]), (off_t)cut), 0);
            check_err(checkpoint_verify(step_dir(f, 1)), ERR_DATA, FILES[k]);
        }
        char name[96];
        snprintf(name, sizeof name, "step_00000001/%s", FILES[k]);
        temp_write(&f->temp, name, text, n + 1); /* one byte too many */
        check_err(checkpoint_verify(step_dir(f, 1)), ERR_DATA, FILES[k]);
        temp_write(&f->temp, name, text, n);
        free(text);
        check_no_err(checkpoint_verify(step_dir(f, 1)));
    }
}

static void test_every_missing_file_is_found(void **state)
{
    Fixture *f = *state;
    for (int k = 0; k < N_FILES; k++) {
        check_no_err(save_step(f, 1));
        assert_int_equal(unlink(step_file(f, 1, FILES[k])), 0);
        check_err(checkpoint_verify(step_dir(f, 1)), ERR_MISSING, FILES[k]);
    }
    check_err(checkpoint_verify(step_dir(f, 77)), ERR_MISSING, "step_00000077");
}

/* ---- which one is used ------------------------------------------------------------------- */

static void test_nothing_to_find(void **state)
{
    Fixture *f = *state;
    bool found = true;
    char dir[FILE_PATH_BYTES];
    expect_found(f, -1);
    check_no_err(checkpoint_find(&f->comm, temp_path(&f->temp, "not/there"), &found, dir));
    assert_false(found);
}

static void test_finds_the_newest_by_number(void **state)
{
    Fixture *f = *state;
    const int64_t STEPS[] = {5, 100000000, 99999999, 20};
    for (int i = 0; i < 4; i++)
        check_no_err(save_step(f, STEPS[i]));
    expect_found(f, 100000000);
    expect_step(f, step_dir(f, 100000000), 100000000);
}

static void test_names_that_are_not_checkpoints(void **state)
{
    static const char *const OTHER[] = {
        "step_9",        "step_0000000x",           "step_", "step_00000009x", "xstep_00000009",
        "metrics.jsonl", "step_0000000000000000009"};
    Fixture *f = *state;
    check_no_err(save_step(f, 1));
    for (size_t i = 0; i < sizeof OTHER / sizeof *OTHER; i++)
        temp_write_text(&f->temp, OTHER[i], "not ours");
    expect_found(f, 1);
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 1}));
    assert_int_equal(count_names(f), 1 + sizeof OTHER / sizeof *OTHER);
}

static void test_damaged_ones_are_named_and_passed_over(void **state)
{
    Fixture *f = *state;
    char said[SAID_BYTES];
    for (int64_t step = 1; step <= 3; step++)
        check_no_err(save_step(f, step));
    assert_int_equal(truncate(step_file(f, 3, "model.safetensors"), 1000), 0);
    assert_int_equal(unlink(step_file(f, 2, "MANIFEST.json")), 0);
    assert_int_equal(find_step(f, said), 1);
    assert_non_null(strstr(said, "step_00000003 is passed over: "));
    assert_non_null(strstr(said, "step_00000003/model.safetensors: damaged: bytes 1000 to"));
    assert_non_null(strstr(said, "step_00000002/MANIFEST.json"));
    expect_step(f, step_dir(f, 1), 1);
}

static void test_all_damaged_is_nothing_found(void **state)
{
    Fixture *f = *state;
    char said[SAID_BYTES];
    check_no_err(save_step(f, 1));
    temp_write_text(&f->temp, "step_00000001/config.json", "{}");
    assert_int_equal(find_step(f, said), -1);
}

/* Damaged or set aside, a directory of that name is what a new run would run into. */
static void test_newest_by_name_need_not_be_whole(void **state)
{
    Fixture *f = *state;
    bool found = true;
    char dir[FILE_PATH_BYTES], from[FILE_PATH_BYTES];
    check_no_err(checkpoint_newest(f->temp.dir, &found, dir));
    assert_false(found);
    check_no_err(save_step(f, 1));
    temp_write_text(&f->temp, "step_00000001/config.json", "{}");
    check_no_err(checkpoint_newest(f->temp.dir, &found, dir));
    assert_true(found);
    assert_string_equal(dir, step_dir(f, 1));
    check_no_err(save_step(f, 2));
    snprintf(from, sizeof from, "%s", step_dir(f, 2));
    check_no_err(path_rename(from, temp_path(&f->temp, ".old_step_00000002")));
    check_no_err(checkpoint_newest(f->temp.dir, &found, dir));
    assert_string_equal(dir, temp_path(&f->temp, ".old_step_00000002"));
}

/* ---- replacing, and what a crash leaves -------------------------------------------------- */

static void test_same_step_is_replaced(void **state)
{
    Fixture *f = *state;
    const Progress progress = {.step = 3, .best_val_loss = 1};
    check_no_err(save_step(f, 3));
    toy_fill(&f->run, 44);
    check_no_err(checkpoint_save(&f->run.state, &progress));
    toy_fill(&f->run, 1);
    Progress got;
    check_no_err(checkpoint_load(&f->run.state, step_dir(f, 3), &got));
    toy_check(&f->run, 44);
    check_no_err(checkpoint_verify(step_dir(f, 3)));
    assert_int_equal(count_names(f), 1);
}

static void test_half_written_directory_is_ignored_then_removed(void **state)
{
    Fixture *f = *state;
    check_no_err(save_step(f, 1));
    check_no_err(save_step(f, 2));
    char from[FILE_PATH_BYTES];
    snprintf(from, sizeof from, "%s", step_dir(f, 2));
    check_no_err(path_rename(from, temp_path(&f->temp, ".tmp_step_00000002")));
    expect_found(f, 1);
    check_no_err(save_step(f, 3));
    assert_false(path_exists(temp_path(&f->temp, ".tmp_step_00000002")));
    assert_int_equal(count_names(f), 2);
}

static void plant_link(Fixture *f, const char *name, const char *target)
{
    assert_int_equal(symlink(target, temp_path(&f->temp, name)), 0);
}

/* Where a save works somebody has put links to a directory of his, and to a file in it. */
static void test_nothing_is_written_through_links(void **state)
{
    static const char MINE[] = "mine";
    Fixture *f = *state;
    Temp outside;
    char target[FILE_PATH_BYTES];
    temp_make(&outside);
    snprintf(target, sizeof target, "%s", temp_write_text(&outside, "model.safetensors", MINE));
    plant_link(f, ".tmp_step_00000001", outside.dir);
    check_no_err(save_step(f, 1)); /* the link itself goes */
    temp_make_dir(&f->temp, ".tmp_step_00000001");
    plant_link(f, ".tmp_step_00000001/model.safetensors", target);
    check_no_err(save_step(f, 1));
    plant_link(f, "step_00000002", outside.dir);
    err_free(save_step(f, 2)); /* the link is replaced, or in the way */
    expect_found(f, path_exists(temp_path(&f->temp, "step_00000002/MANIFEST.json")) ? 2 : 1);
    assert_int_equal(temp_count(&outside, ""), 1);
    assert_true(temp_equals(&outside, "model.safetensors", MINE, strlen(MINE)));
    temp_remove(&outside);
}

/* The archive that a link points to is gone: the link goes as a directory in its place would. */
static void test_a_link_to_nothing_is_replaced(void **state)
{
    Fixture *f = *state;
    plant_link(f, "step_00000002", "/none/step_00000002");
    check_no_err(save_step(f, 2));
    expect_found(f, 2);
    assert_int_equal(count_names(f), 1);
}

/* What a crash, a network file system or a person leaves there is no reason not to save. */
static void test_leavings_that_stay_do_not_stop_a_save(void **state)
{
    Fixture *f = *state;
    temp_make_dir(&f->temp, ".tmp_step_00000001");
    temp_make_dir(&f->temp, ".tmp_step_00000001/notes"); /* as what cannot be unlinked */
    temp_make_dir(&f->temp, ".tmp_step_00000005");
    check_no_err(save_step(f, 2));
    expect_found(f, 2);
    assert_true(path_exists(temp_path(&f->temp, ".tmp_step_00000001/notes")));
    assert_false(path_exists(temp_path(&f->temp, ".tmp_step_00000005")));
    check_err(save_step(f, 1), ERR_WRITE, ".tmp_step_00000001/notes");
}

/* A checkpoint was moved to an archive, with a link in its place. */
static void test_pruning_removes_a_link_and_not_what_it_points_to(void **state)
{
    Fixture *f = *state;
    Temp archive;
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    temp_make(&archive);
    check_no_err(save_step(f, 1));
    snprintf(from, sizeof from, "%s", step_dir(f, 1));
    snprintf(to, sizeof to, "%s", temp_path(&archive, "step_00000001"));
    check_no_err(path_rename(from, to));
    plant_link(f, "step_00000001", to);
    check_no_err(save_step(f, 2));
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 1}));
    assert_int_equal(count_names(f), 1);
    check_no_err(checkpoint_verify(to));
    check_no_err(save_step(f, 3));
    temp_remove(&archive);
}

/* The crash came between the two renames: the old directory of that step is the newest whole one.
 */
static void test_directory_set_aside_counts_until_it_is_replaced(void **state)
{
    Fixture *f = *state;
    check_no_err(save_step(f, 1));
    check_no_err(save_step(f, 2));
    char from[FILE_PATH_BYTES], aside[FILE_PATH_BYTES];
    snprintf(from, sizeof from, "%s", step_dir(f, 2));
    snprintf(aside, sizeof aside, "%s", temp_path(&f->temp, ".old_step_00000002"));
    check_no_err(path_rename(from, aside));
    expect_found(f, 2);
    expect_step(f, aside, 2);
    check_no_err(save_step(f, 3)); /* no step_00000002 yet: it stays */
    assert_true(path_exists(aside));
    check_no_err(save_step(f, 2));
    assert_false(path_exists(aside));
    expect_step(f, step_dir(f, 2), 2);
}

/* ---- how many are kept ------------------------------------------------------------------- */

static void test_prune_keeps_the_newest(void **state)
{
    Fixture *f = *state;
    for (int64_t step = 1; step <= 5; step++)
        check_no_err(save_step(f, step));
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 0}));
    assert_int_equal(count_names(f), 5);
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 7}));
    assert_int_equal(count_names(f), 5);
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 3}));
    assert_int_equal(count_names(f), 3);
    assert_true(path_exists(step_dir(f, 3)));
    assert_false(path_exists(step_dir(f, 2)));
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 1}));
    assert_int_equal(count_names(f), 1);
    expect_step(f, step_dir(f, 5), 5);
}

/* What it says on stderr is in `said`. */
static void prune_to_one(Fixture *f, char *said)
{
    Capture capture = capture_begin();
    Err err = checkpoint_prune(&f->comm, f->temp.dir, (CheckpointKeep){.newest = 1});
    capture_end(capture, said, SAID_BYTES);
    check_no_err(err);
}

/* A run that went on from an older one saves before it comes to the damaged one again. */
static void test_prune_does_not_count_what_is_damaged(void **state)
{
    Fixture *f = *state;
    char said[SAID_BYTES];
    for (int64_t step = 1; step <= 3; step++)
        check_no_err(save_step(f, step));
    temp_write_text(&f->temp, "step_00000003/config.json", "{}");
    prune_to_one(f, said);
    assert_non_null(strstr(said, "step_00000003 is damaged and counts for nothing: "));
    assert_int_equal(count_names(f), 2);
    expect_step(f, step_dir(f, 2), 2);
    assert_true(path_exists(step_dir(f, 3)));
}

static void test_prune_keeps_all_when_none_is_whole(void **state)
{
    Fixture *f = *state;
    char said[SAID_BYTES];
    check_no_err(save_step(f, 1));
    check_no_err(save_step(f, 2));
    temp_write_text(&f->temp, "step_00000001/config.json", "{}");
    temp_write_text(&f->temp, "step_00000002/config.json", "{}");
    prune_to_one(f, said);
    assert_int_equal(count_names(f), 2);
}

static void prune_to_one_and_the_best(Fixture *f)
{
    const CheckpointKeep keep = {.newest = 1, .best = true};
    check_no_err(checkpoint_prune(&f->comm, f->temp.dir, keep));
}

/* Evaluated at 2 and at 4; 3, 5 and 6 were saved without an evaluation and know of a loss all the
 * same. */
static void save_six(Fixture *f)
{
    static const Progress CASE[] = {
        {.step = 1, .best_val_loss = INFINITY, .best_step = -1},
        {.step = 2, .best_val_loss = 3, .best_step = 2},
        {.step = 3, .best_val_loss = 3, .best_step = 2},
        {.step = 4, .best_val_loss = 2, .best_step = 4},
        {.step = 5, .best_val_loss = 1, .best_step = 4}, /* as if the save at 4 had failed */
        {.step = 6, .best_val_loss = 1, .best_step = -1},
    };
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++)
        check_no_err(checkpoint_save(&f->run.state, &CASE[i]));
}

static void test_the_best_is_one_that_was_evaluated(void **state)
{
    Fixture *f = *state;
    save_six(f);
    prune_to_one_and_the_best(f);
    assert_int_equal(count_names(f), 2);
    assert_true(path_exists(step_dir(f, 4)));
    assert_true(path_exists(step_dir(f, 6)));
}

/* The newest is whole, but its record is of another version, say. */
static void test_the_best_is_known_without_the_newest_record(void **state)
{
    Fixture *f = *state;
    save_six(f);
    assert_int_equal(unlink(step_file(f, 6, "trainer.json")), 0);
    assert_int_equal(truncate(step_file(f, 4, "trainer.json"), 10), 0);
    check_no_err(folder_prune(f->temp.dir, &(CheckpointKeep){.newest = 1, .best = true}, 6));
    assert_int_equal(count_names(f), 2);
    assert_true(path_exists(step_dir(f, 2)));
    assert_true(path_exists(step_dir(f, 6)));
}

/* ---- saves that fail --------------------------------------------------------------------- */

static void test_out_dir_that_cannot_be_made(void **state)
{
    Fixture *f = *state;
    const char *in_a_file = temp_write_text(&f->temp, "file", "x");
    snprintf(f->run.cfg.run.out_dir, sizeof f->run.cfg.run.out_dir, "%s/out", in_a_file);
    check_err(save_step(f, 1), ERR_WRITE, "/file: ");
    snprintf(f->run.cfg.run.out_dir, sizeof f->run.cfg.run.out_dir, "/proc/none");
    check_err(save_step(f, 1), ERR_WRITE, "/proc/none");
}

static void limit_file_bytes(rlim_t n_bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = n_bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A disk that is full after any number of bytes, in any of the files: older checkpoints and the
 * directory of the same step stay as they were, nothing half-written stays, and the next save
 * succeeds. */
static void test_full_disk_costs_nothing_but_the_save(void **state)
{
    Fixture *f = *state;
    struct stat info;
    signal(SIGXFSZ, SIG_IGN);
    check_no_err(save_step(f, 1));
    check_no_err(save_step(f, 2));
    off_t largest = 0;
    for (int k = 0; k < N_FILES; k++) {
        assert_int_equal(stat(step_file(f, 2, FILES[k]), &info), 0);
        largest = info.st_size > largest ? info.st_size : largest;
    }
    for (off_t limit = 0; limit < largest; limit += 1 + largest / 50) {
        const Progress same = {.step = 2, .best_val_loss = 1}, next = {.step = 3};
        toy_fill(&f->run, 50);
        limit_file_bytes((rlim_t)limit);
        Err replacing = checkpoint_save(&f->run.state, &same);
        Err err = checkpoint_save(&f->run.state, &next);
        limit_file_bytes(RLIM_INFINITY);
        check_err(replacing, ERR_WRITE, "cannot write");
        check_err(err, ERR_WRITE, "cannot write");
        assert_int_equal(count_names(f), 2);
        expect_step(f, step_dir(f, 2), 2);
        check_no_err(checkpoint_verify(step_dir(f, 2)));
        check_no_err(checkpoint_verify(step_dir(f, 1)));
    }
    check_no_err(save_step(f, 3));
    expect_found(f, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values_come_back),
        TEST(test_tensors_larger_than_the_staging),
        TEST(test_progress_comes_back),
        TEST(test_every_setting_is_kept),
        TEST(test_settings_that_are_not_utf8),
        TEST(test_read_dims),
        TEST(test_the_tokenizer_goes_along),
        TEST(test_a_vocabulary_gets_the_names_of_hugging_face),
        TEST(test_a_folder_without_a_tokenizer),
        TEST(test_files_hold_what_the_world_knows),
        TEST(test_refuses_another_shape),
        TEST(test_refuses_senseless_files),
        TEST(test_refuses_another_optimizer),
        TEST(test_every_flipped_byte_is_found),
        TEST(test_every_truncation_is_found),
        TEST(test_every_missing_file_is_found),
        TEST(test_nothing_to_find),
        TEST(test_finds_the_newest_by_number),
        TEST(test_names_that_are_not_checkpoints),
        TEST(test_damaged_ones_are_named_and_passed_over),
        TEST(test_all_damaged_is_nothing_found),
        TEST(test_newest_by_name_need_not_be_whole),
        TEST(test_same_step_is_replaced),
        TEST(test_half_written_directory_is_ignored_then_removed),
        TEST(test_nothing_is_written_through_links),
        TEST(test_a_link_to_nothing_is_replaced),
        TEST(test_leavings_that_stay_do_not_stop_a_save),
        TEST(test_pruning_removes_a_link_and_not_what_it_points_to),
        TEST(test_directory_set_aside_counts_until_it_is_replaced),
        TEST(test_prune_keeps_the_newest),
        TEST(test_prune_does_not_count_what_is_damaged),
        TEST(test_prune_keeps_all_when_none_is_whole),
        TEST(test_the_best_is_one_that_was_evaluated),
        TEST(test_the_best_is_known_without_the_newest_record),
        TEST(test_out_dir_that_cannot_be_made),
        TEST(test_full_disk_costs_nothing_but_the_save),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
