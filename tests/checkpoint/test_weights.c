/* Model directories of several files, with more positions than the model, or not to be read. */
#include "checkpoint/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

enum { FILL = 5 };

typedef struct {
    Temp temp;
    Comm comm;
    Device dev;
    ToyRun from;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    const DeviceArgs args = {.kind = DEVICE_CPU, .n_threads = 1};
    const ToyArgs toy = toy_args(true);
    temp_make(&f->temp);
    check_no_err(comm_open(&f->comm, false));
    check_no_err(device_open(&f->dev, &args));
    toy_open(&f->from, &toy, &f->comm, &f->dev, f->temp.dir);
    toy_fill(&f->from, FILL);
    check_no_err(hf_config_write(temp_path(&f->temp, "config.json"), &f->from.model.dims, NULL));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    toy_close(&f->from);
    device_close(&f->dev);
    comm_close(&f->comm);
    temp_remove(&f->temp);
    free(f);
    return 0;
}

/* A file of the parameters [begin, end), and lm_head when wanted. */
static void write_part(Fixture *f, const char *name, int32_t begin, int32_t end, bool head)
{
    enum { MOST = 64 };
    SafeTensor tensor[MOST];
    const float *params = f->from.model.params.data;
    const Layout *layout = &f->from.layout;
    int32_t n = end - begin;
    SafeWriter *w;
    for (int32_t i = 0; i < n; i++)
        tensor[i] = hf_tensor(&layout->param[begin + i], "transformer.");
    if (head) {
        tensor[n] = hf_tensor(&layout->param[0], "");
        snprintf(tensor[n].name, sizeof tensor[n].name, "lm_head.weight");
    }
    check_no_err(safe_create(&w, temp_path(&f->temp, name), tensor, n + head));
    for (int32_t i = 0; i < n + head; i++) {
        const Param *p = &layout->param[i < n ? begin + i : 0];
        check_no_err(safe_write(w, params + p->offset, tensor[i].n_bytes));
    }
    check_no_err(safe_finish(w, NULL));
}

/* The index of a split at parameter `at`: the first is in a, the others in b. */
static void write_index(Fixture *f, int32_t at, const char *a, const char *b)
{
    FILE *out = fopen(temp_path(&f->temp, "model.safetensors.index.json"), "w");
    assert_non_null(out);
    fprintf(out, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (int32_t i = 0; i < f->from.layout.n_params; i++)
        fprintf(out, "%s\"transformer.%s\": \"%s\"", i ? ", " : "", f->from.layout.param[i].name,
                i < at ? a : b);
    fprintf(out, "}}");
    assert_int_equal(fclose(out), 0);
}

static Err load(Fixture *f, int64_t block_size, ToyRun *run)
{
    ToyArgs args = toy_args(true);
    args.dims.block_size = block_size;
    toy_open(run, &args, &f->comm, &f->dev, f->temp.dir);
    return checkpoint_load_weights(f->temp.dir, &run->model, NULL, &f->dev);
}

static void expect_loaded(Fixture *f, int64_t block_size)
{
    ToyRun run;
    check_no_err(load(f, block_size, &run));
    toy_check_params(&run, FILL);
    toy_close(&run);
}

static void expect_refused(Fixture *f, ErrCode code, const char *message)
{
    ToyRun run;
    check_err(load(f, f->from.model.dims.block_size, &run), code, message);
    toy_close(&run);
}

enum { SPLIT = 9 };
static const char A[] = "model-00001-of-00002.safetensors",
                  B[] = "model-00002-of-00002.safetensors";

static void write_two(Fixture *f, bool head)
{
    write_part(f, A, 0, SPLIT, false);
    write_part(f, B, SPLIT, f->from.layout.n_params, head);
    write_index(f, SPLIT, A, B);
}

static void test_several_files_are_one_model(void **state)
{
    Fixture *f = *state;
    write_two(f, true); /* a tied head in another file than the embedding */
    expect_loaded(f, f->from.model.dims.block_size);
}

static void test_the_first_positions_are_taken(void **state)
{
    Fixture *f = *state;
    ToyRun run;
    write_two(f, false);
    expect_loaded(f, 7);
    expect_loaded(f, 1);
    check_err(load(f, 11, &run), ERR_DATA, "block_size is 10 in the checkpoint, 11 in this run");
    toy_close(&run);
}

static void test_an_index_stays_in_its_directory(void **state)
{
    static const char *const NAME[] = {"../model.safetensors", "/model.safetensors",
                                       "a/model.safetensors",  "model.bin",
                                       ".safetensors",         ""};
    Fixture *f = *state;
    write_part(f, A, 0, SPLIT, false);
    for (size_t i = 0; i < sizeof NAME / sizeof *NAME; i++) {
        write_index(f, SPLIT, A, NAME[i]);
        expect_refused(f, ERR_DATA, "is not the name of a safetensors file beside it");
    }
}

static void test_an_index_must_be_true(void **state)
{
    Fixture *f = *state;
    write_two(f, false);
    write_index(f, SPLIT + 1, A, B);
    expect_refused(f, ERR_DATA, "is not in");
    write_index(f, SPLIT, A, "model-00003-of-00002.safetensors");
    expect_refused(f, ERR_MISSING, "model-00003-of-00002.safetensors");
    temp_write_text(&f->temp, "model.safetensors.index.json", "{}");
    expect_refused(f, ERR_DATA, "\"weight_map\" is not an object");
    temp_write_text(&f->temp, "model.safetensors.index.json", "{\"weight_map\": {\"x\": 1}}");
    expect_refused(f, ERR_DATA, "\"weight_map\" is not an object of file names");
}

static void test_tensors_of_several_files_are_looked_at_together(void **state)
{
    Fixture *f = *state;
    write_part(f, A, 0, SPLIT + 1, false);
    write_part(f, B, SPLIT, f->from.layout.n_params, false);
    write_index(f, SPLIT, A, B);
    expect_refused(f, ERR_DATA, "are the same");
    remove(temp_path(&f->temp, B));
    write_index(f, f->from.layout.n_params, A, A);
    expect_refused(f, ERR_DATA, "is not in");
}

static void test_pickled_weights_are_not_read(void **state)
{
    Fixture *f = *state;
    expect_refused(f, ERR_MISSING, "has neither model.safetensors nor");
    temp_write_text(&f->temp, "pytorch_model.bin", "x");
    expect_refused(f, ERR_MISSING, "load and save it once with transformers");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_several_files_are_one_model),
        TEST(test_the_first_positions_are_taken),
        TEST(test_an_index_stays_in_its_directory),
        TEST(test_an_index_must_be_true),
        TEST(test_tensors_of_several_files_are_looked_at_together),
        TEST(test_pickled_weights_are_not_read),
    };
    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
