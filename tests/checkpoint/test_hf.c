/* Hugging Face directories: config.json, and the tensors' names in all the spellings there are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/hf.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

typedef struct {
    Temp temp;
    Comm comm;
    Device dev;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    const DeviceArgs args = {.kind = DEVICE_CPU, .n_threads = 1};
    temp_make(&f->temp);
    check_no_err(comm_open(&f->comm, false));
    check_no_err(device_open(&f->dev, &args));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    device_close(&f->dev);
    comm_close(&f->comm);
    temp_remove(&f->temp);
    free(f);
    return 0;
}

/* ---- config.json ------------------------------------------------------------------------- */

static void test_config_comes_back(void **state)
{
    Fixture *f = *state;
    for (int erf = 0; erf < 2; erf++) {
        GptDims dims = toy_dims(true), got;
        dims.gelu = erf ? GELU_ERF : GELU_TANH;
        remove(temp_path(&f->temp, "config.json"));
        check_no_err(hf_config_write(f->temp.path, &dims, NULL));
        check_no_err(hf_config_read(f->temp.path, &got));
        assert_int_equal(got.n_layer, dims.n_layer);
        assert_int_equal(got.n_head, dims.n_head);
        assert_int_equal(got.n_embd, dims.n_embd);
        assert_int_equal(got.block_size, dims.block_size);
        assert_int_equal(got.vocab_size, dims.vocab_size);
        assert_int_equal(got.vocab_padded, dims.vocab_padded);
        assert_int_equal(got.gelu, dims.gelu);
        assert_true(got.dropout == dims.dropout);
        assert_true(got.bias);
    }
}

static bool config_says(Fixture *f, const GptDims *dims, const char *line)
{
    char *text;
    remove(temp_path(&f->temp, "config.json"));
    check_no_err(hf_config_write(f->temp.path, dims, NULL));
    check_no_err(file_read_text(f->temp.path, 10000, &text, NULL));
    bool found = strstr(text, line) != NULL;
    free(text);
    return found;
}

static void test_config_is_what_transformers_reads(void **state)
{
    GptDims dims = toy_dims(true);
    assert_true(config_says(*state, &dims, "\"model_type\": \"gpt2\""));
    assert_true(config_says(*state, &dims, "\"GPT2LMHeadModel\""));
    assert_true(config_says(*state, &dims, "\"activation_function\": \"gelu_new\""));
    assert_true(config_says(*state, &dims, "\"vocab_size\": 65,"));
    assert_true(config_says(*state, &dims, "\"attn_pdrop\": 0.1,"));
    assert_true(config_says(*state, &dims, "\"layer_norm_epsilon\": 1e-5,"));
    assert_true(config_says(*state, &dims, "\"eos_token_id\": null"));
    dims.gelu = GELU_ERF;
    dims.vocab_size = 50257;
    assert_true(config_says(*state, &dims, "\"activation_function\": \"gelu\""));
    assert_true(config_says(*state, &dims, "\"eos_token_id\": 50256"));
}

/* What openai-community/gpt2 holds, shortened: no n_inner, old keys, n_ctx. */
#define GPT2(more)                                                                                 \
    "{\"model_type\":\"gpt2\",\"n_ctx\":1024,\"n_embd\":768,\"n_head\":12,\"n_layer\":12,"         \
    "\"n_positions\":1024,\"summary_type\":\"cls_index\",\"vocab_size\":50257" more "}"

static void test_reads_the_published_config(void **state)
{
    Fixture *f = *state;
    GptDims dims;
    check_no_err(hf_config_read(
        temp_write_text(&f->temp, "config.json",
                        GPT2(",\"activation_function\":\"gelu_new\",\"resid_pdrop\":0.1")),
        &dims));
    assert_int_equal(dims.n_layer, 12);
    assert_int_equal(dims.vocab_padded, 50304);
    assert_int_equal(dims.gelu, GELU_TANH);
}

static void test_refuses_what_it_cannot_compute(void **state)
{
    static const struct {
        const char *text, *message;
    } CASE[] = {
        {"[]", "not a JSON object"},
        {"{\"a\":1,\"a\":1}", "twice"},
        {"{}", "\"model_type\" is missing"},
        {"{\"model_type\":\"llama\"}", "not gpt2"},
        {"{\"model_type\":\"gpt2\"}", "\"n_layer\" is missing"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":\"12\"}", "\"n_layer\" is not an integer"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":12.5}", "\"n_layer\" is not an integer"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":0}", "\"n_layer\" is 0, wanted 1 to"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":1000000}", "\"n_layer\" is 1000000"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":10,\"n_head\":3,\"n_positions\":4,"
         "\"vocab_size\":5}",
         "not a multiple of n_head"},
        {GPT2(",\"activation_function\":\"relu\""), "activation_function"},
        {GPT2(",\"activation_function\":3"), "\"activation_function\" is not a text"},
        {GPT2(",\"layer_norm_epsilon\":1e-6"), "layer_norm_epsilon"},
        {GPT2(",\"layer_norm_epsilon\":\"x\""), "\"layer_norm_epsilon\" is not a number"},
        {GPT2(",\"n_inner\":1000"), "\"n_inner\" is 1000, wanted 3072"},
        {GPT2(",\"scale_attn_weights\":false"), "\"scale_attn_weights\" is false"},
        {GPT2(",\"scale_attn_by_inverse_layer_idx\":true"), "inverse_layer_idx\" is true"},
        {GPT2(",\"add_cross_attention\":true"), "\"add_cross_attention\" is true"},
        {GPT2(",\"tie_word_embeddings\":false"), "\"tie_word_embeddings\" is false"},
        {GPT2(",\"tie_word_embeddings\":1"), "neither true nor false"},
        {GPT2(",\"resid_pdrop\":1.0"), "\"resid_pdrop\" is 1"},
        {GPT2(",\"resid_pdrop\":-0.5"), "\"resid_pdrop\" is -0.5"},
    };
    Fixture *f = *state;
    GptDims dims;
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++)
        check_err(hf_config_read(temp_write_text(&f->temp, "config.json", CASE[i].text), &dims),
                  ERR_DATA, CASE[i].message);
}

/* ---- weights under other names ----------------------------------------------------------- */

/* What a foreign model.safetensors is made of: the tensors of a toy run, renamed, and more. */
typedef struct {
    const char *prefix;    /* before each name */
    bool half;             /* float16 rather than float32 */
    const char *leave_out; /* this tensor is missing */
    SafeTensor extra;      /* appended when it has a name */
    bool extra_is_wte;     /* with the values of wte, else `fill` */
    float fill;
} Foreign;

enum { MAX_TENSORS = 64 };

static void write_values(SafeWriter *w, const SafeTensor *t, const ToyRun *run, const Param *p,
                         float fill)
{
    int64_t n = 1;
    for (int32_t d = 0; d < t->rank; d++)
        n *= t->dim[d];
    for (int64_t i = 0; i < n; i++) {
        float value = p ? ((const float *)run->model.params.data)[p->offset + i] : fill;
        uint16_t half = f16_from_f32(value);
        if (t->dtype == DTYPE_F32)
            check_no_err(safe_write(w, &value, sizeof value));
        else
            check_no_err(safe_write(w, &half, dtype_bytes(t->dtype)));
    }
}

static void write_foreign(Fixture *f, const ToyRun *run, const Foreign *foreign)
{
    SafeTensor tensor[MAX_TENSORS];
    const Param *source[MAX_TENSORS];
    int32_t n = 0;
    for (int32_t i = 0; i < run->layout.n_params; i++) {
        const Param *p = &run->layout.param[i];
        if (foreign->leave_out && strcmp(p->name, foreign->leave_out) == 0)
            continue;
        tensor[n] = hf_tensor(p, foreign->prefix);
        tensor[n].dtype = foreign->half ? DTYPE_F16 : DTYPE_F32;
        source[n++] = p;
    }
    if (foreign->extra.name[0]) {
        tensor[n] = foreign->extra;
        source[n++] = foreign->extra_is_wte ? &run->layout.param[0] : NULL;
    }
    SafeWriter *w;
    remove(temp_path(&f->temp, "model.safetensors"));
    check_no_err(safe_create(&w, f->temp.path, tensor, n));
    for (int32_t i = 0; i < n; i++)
        write_values(w, &tensor[i], run, source[i], foreign->fill);
    check_no_err(safe_finish(w, NULL));
    remove(temp_path(&f->temp, "config.json"));
    check_no_err(hf_config_write(f->temp.path, &run->model.dims, NULL));
}

enum { FILL = 7 };

/* Write a directory from one toy run and load its weights into another, which is returned open. */
static Err load_foreign(Fixture *f, bool bias, bool into_bias, const Foreign *foreign, ToyRun *to)
{
    ToyRun from;
    ToyArgs args = toy_args(bias), to_args = toy_args(into_bias);
    toy_open(&from, &args, &f->comm, &f->dev, f->temp.dir);
    toy_open(to, &to_args, &f->comm, &f->dev, f->temp.dir);
    toy_fill(&from, FILL);
    write_foreign(f, &from, foreign);
    toy_close(&from);
    return checkpoint_load_weights(f->temp.dir, &to->model, NULL, &f->dev);
}

static void expect_loaded(Fixture *f, bool bias, const Foreign *foreign)
{
    ToyRun run;
    check_no_err(load_foreign(f, bias, bias, foreign, &run));
    toy_check_params(&run, FILL);
    toy_close(&run);
}

static void expect_refused(Fixture *f, bool bias, const Foreign *foreign, const char *message)
{
    ToyRun run;
    check_err(load_foreign(f, bias, bias, foreign, &run), ERR_DATA, message);
    toy_close(&run);
}

static SafeTensor extra(const char *name, DType dtype, int32_t rank, int64_t rows, int64_t cols)
{
    SafeTensor t = {.dtype = dtype, .rank = rank, .dim = {rows, cols, 1, 1}};
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

static void test_names_with_and_without_prefix(void **state)
{
    expect_loaded(*state, true, &(Foreign){.prefix = ""});
    expect_loaded(*state, true, &(Foreign){.prefix = "transformer."});
    expect_loaded(*state, false, &(Foreign){.prefix = "transformer."});
}

static void test_masks_are_left_alone(void **state)
{
    static const char *const NAME[] = {"h.1.attn.bias", "h.0.attn.masked_bias"};
    for (int i = 0; i < 2; i++) {
        SafeTensor t = extra(NAME[i], DTYPE_F32, 2, 10, 10);
        expect_loaded(*state, true, &(Foreign){.prefix = "", .extra = t});
        t.dtype = DTYPE_U8;
        expect_loaded(*state, true, &(Foreign){.prefix = "", .extra = t});
    }
    SafeTensor t = extra("transformer.h.0.attn.bias", DTYPE_U8, 2, 10, 10);
    expect_loaded(*state, true, &(Foreign){.prefix = "transformer.", .extra = t});
}

static void test_tied_head_is_the_embedding(void **state)
{
    SafeTensor t = extra("lm_head.weight", DTYPE_F32, 2, 65, 24);
    expect_loaded(*state, true,
                  &(Foreign){.prefix = "transformer.", .extra = t, .extra_is_wte = true});
    expect_refused(*state, true, &(Foreign){.prefix = "transformer.", .extra = t, .fill = 1},
                   "tensor lm_head.weight: it differs from wte.weight");
}

static void test_refuses_unknown_missing_and_double_tensors(void **state)
{
    SafeTensor t = extra("h.0.attn.rotary", DTYPE_F32, 1, 4, 1);
    expect_refused(*state, true, &(Foreign){.prefix = "", .extra = t},
                   "tensor h.0.attn.rotary: no such tensor");
    expect_refused(*state, true, &(Foreign){.prefix = "", .leave_out = "h.1.ln_2.weight"},
                   "tensor h.1.ln_2.weight is missing");
    t = extra("transformer.wpe.weight", DTYPE_F32, 2, 10, 24);
    expect_refused(*state, true, &(Foreign){.prefix = "", .extra = t},
                   "tensors wpe.weight and transformer.wpe.weight are the same");
    t = extra("h.2.ln_1.weight", DTYPE_F32, 1, 24, 1);
    expect_refused(*state, true, &(Foreign){.prefix = "", .extra = t}, "in a GPT-2 of 2 layers");
}

static void test_refuses_wrong_shapes_by_dimension(void **state)
{
    const char *left_out = "h.0.attn.c_attn.weight";
    Foreign foreign = {.prefix = "", .leave_out = left_out};
    foreign.extra = extra(left_out, DTYPE_F32, 2, 72, 24); /* torch's Linear, not Conv1D */
    expect_refused(*state, true, &foreign, "dimension 0 is 72, wanted 24");
    foreign.extra = extra(left_out, DTYPE_F32, 2, 24, 71);
    expect_refused(*state, true, &foreign, "dimension 1 is 71, wanted 72");
    foreign.extra = extra(left_out, DTYPE_F32, 1, 1728, 1);
    expect_refused(*state, true, &foreign, "1 dimensions, wanted 2");
    foreign.extra = extra(left_out, DTYPE_U8, 2, 24, 72);
    expect_refused(*state, true, &foreign, "its dtype is not a float");
}

/* Zero biases are how bias = false is said; others would be lost. */
static void test_zero_biases_fit_a_model_without(void **state)
{
    Foreign foreign = {.prefix = "", .extra = extra("h.1.mlp.c_fc.bias", DTYPE_F32, 1, 96, 1)};
    expect_loaded(*state, false, &foreign);
    foreign.fill = 0.5f;
    expect_refused(*state, false, &foreign, "h.1.mlp.c_fc.bias: element 0 is 0.5");
    foreign.extra.dim[0] = 95;
    expect_refused(*state, false, &foreign, "dimension 0 is 95, wanted 96");
}

static void test_float16_weights_are_read(void **state)
{
    Fixture *f = *state;
    ToyRun run, reference;
    ToyArgs args = toy_args(true);
    check_no_err(load_foreign(f, true, true, &(Foreign){.prefix = "", .half = true}, &run));
    toy_open(&reference, &args, &f->comm, &f->dev, f->temp.dir);
    toy_fill(&reference, FILL);
    const float *got = run.model.params.data, *wanted = reference.model.params.data;
    for (int64_t i = 0; i < run.layout.count; i++)
        if (got[i] != f16_to_f32(f16_from_f32(wanted[i])))
            fail_msg("element %lld: %g of %g", (long long)i, (double)got[i], (double)wanted[i]);
    toy_close(&reference);
    toy_close(&run);
}

/* A model that has biases may start from one without: they are zero there. */
static void test_weights_without_bias_start_a_model_with(void **state)
{
    Fixture *f = *state;
    ToyRun run;
    check_err(load_foreign(f, false, true, &(Foreign){.prefix = ""}, &run), ERR_DATA,
              "h.0.ln_1.bias is missing"); /* but our own files spell the zeros out */
    toy_close(&run);
    ToyRun from;
    ToyArgs args = toy_args(false), with = toy_args(true);
    char dir[FILE_PATH_BYTES];
    toy_open(&from, &args, &f->comm, &f->dev, f->temp.dir);
    toy_fill(&from, FILL);
    check_no_err(checkpoint_save(&from.state, &(Progress){.best_val_loss = INFINITY}));
    toy_open(&run, &with, &f->comm, &f->dev, f->temp.dir);
    check_no_err(path_join(dir, f->temp.dir, "step_00000000"));
    check_no_err(checkpoint_load_weights(dir, &run.model, NULL, &f->dev));
    const Param *bias = layout_find(&run.layout, PARAM_FC_B, 1);
    for (int64_t i = 0; i < param_count(bias); i++)
        assert_true(((const float *)run.model.params.data)[bias->offset + i] == 0);
    toy_close(&run);
    toy_close(&from);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_config_comes_back),
        TEST(test_config_is_what_transformers_reads),
        TEST(test_reads_the_published_config),
        TEST(test_refuses_what_it_cannot_compute),
        TEST(test_names_with_and_without_prefix),
        TEST(test_masks_are_left_alone),
        TEST(test_tied_head_is_the_embedding),
        TEST(test_refuses_unknown_missing_and_double_tensors),
        TEST(test_refuses_wrong_shapes_by_dimension),
        TEST(test_zero_biases_fit_a_model_without),
        TEST(test_float16_weights_are_read),
        TEST(test_weights_without_bias_start_a_model_with),
    };
    return cmocka_run_group_tests_name("hf", tests, NULL, NULL);
}
