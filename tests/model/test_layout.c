#include "model/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/check_err.h"

static GptDims gpt2_small(bool bias, int64_t vocab_size)
{
    return (GptDims){.n_layer = 12,
                     .n_head = 12,
                     .n_embd = 768,
                     .block_size = 1024,
                     .vocab_size = vocab_size,
                     .vocab_padded = (vocab_size + 127) / 128 * 128,
                     .bias = bias};
}

static GptDims odd(bool bias)
{
    return (GptDims){.n_layer = 3,
                     .n_head = 3,
                     .n_embd = 21,
                     .block_size = 17,
                     .vocab_size = 65,
                     .vocab_padded = 128,
                     .bias = bias};
}

static Layout make(const GptDims *dims, int64_t bucket_elements, int64_t pad_elements)
{
    Layout layout;
    check_no_err(layout_make(&layout, dims, bucket_elements, pad_elements));
    return layout;
}

static void names_are_hugging_faces_in_forward_order(void **state)
{
    (void)state;
    static const char *const FIRST[] = {
        "wte.weight",
        "wpe.weight",
        "h.0.ln_1.weight",
        "h.0.ln_1.bias",
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_attn.bias",
        "h.0.attn.c_proj.weight",
        "h.0.attn.c_proj.bias",
        "h.0.ln_2.weight",
        "h.0.ln_2.bias",
        "h.0.mlp.c_fc.weight",
        "h.0.mlp.c_fc.bias",
        "h.0.mlp.c_proj.weight",
        "h.0.mlp.c_proj.bias",
        "h.1.ln_1.weight",
    };
    GptDims dims = odd(true);
    Layout layout = make(&dims, 1, 128);
    assert_int_equal(layout.n_params, 2 + 3 * 12 + 2);
    for (size_t i = 0; i < sizeof FIRST / sizeof *FIRST; i++)
        assert_string_equal(layout.param[i].name, FIRST[i]);
    assert_string_equal(layout.param[layout.n_params - 2].name, "ln_f.weight");
    assert_string_equal(layout.param[layout.n_params - 1].name, "ln_f.bias");
    layout_free(&layout);
}

static void shapes_are_hugging_faces(void **state)
{
    (void)state;
    GptDims dims = odd(true);
    Layout layout = make(&dims, 1, 128);
    const Param *qkv = layout_find(&layout, PARAM_ATTN_W, 1);
    assert_int_equal(qkv->dim[0], 21);
    assert_int_equal(qkv->dim[1], 63);
    const Param *proj = layout_find(&layout, PARAM_FC_PROJ_W, 2);
    assert_int_equal(proj->dim[0], 84);
    assert_int_equal(proj->dim[1], 21);
    const Param *wte = layout_find(&layout, PARAM_WTE, -1);
    assert_int_equal(param_count(wte), 128 * 21);
    assert_int_equal(param_file_count(wte), 65 * 21);
    layout_free(&layout);
}

static void without_bias_there_is_no_bias(void **state)
{
    (void)state;
    GptDims dims = odd(false);
    Layout layout = make(&dims, 1, 128);
    assert_int_equal(layout.n_params, 2 + 3 * 6 + 1);
    assert_null(layout_find(&layout, PARAM_ATTN_B, 0));
    assert_null(layout_find(&layout, PARAM_LN_F_B, -1));
    assert_non_null(layout_find(&layout, PARAM_LN_F_W, -1));
    layout_free(&layout);
}

static void tensors_start_at_64_and_do_not_overlap(void **state)
{
    (void)state;
    GptDims dims = odd(true);
    Layout layout = make(&dims, 1000, 384);
    int64_t end = 0;
    for (int32_t i = 0; i < layout.n_params; i++) {
        const Param *p = &layout.param[i];
        assert_int_equal(p->offset % 64, 0);
        assert_true(p->offset >= end);
        end = p->offset + param_count(p);
    }
    assert_true(end <= layout.count);
    layout_free(&layout);
}

static void check_buckets(const Layout *layout, int64_t bucket_elements, int64_t pad_elements)
{
    int64_t at = 0;
    int32_t param = 0;
    for (int32_t i = 0; i < layout->n_buckets; i++) {
        const Bucket *b = &layout->bucket[i];
        assert_int_equal(b->offset, at);
        assert_int_equal(b->count % pad_elements, 0);
        assert_int_equal(b->first_param, param);
        assert_true(b->n_params > 0);
        if (i >= 2 && i + 1 < layout->n_buckets)
            assert_true(b->count >= bucket_elements);
        for (int32_t j = 0; j < b->n_params; j++, param++) {
            const Param *p = &layout->param[param];
            assert_int_equal(p->bucket, i);
            assert_true(p->offset >= at && p->offset + param_count(p) <= at + b->count);
        }
        at += b->count;
    }
    assert_int_equal(param, layout->n_params);
    assert_int_equal(at, layout->count);
}

static void buckets_cover_and_cut_evenly(void **state)
{
    (void)state;
    static const int64_t PADS[] = {128, 384, 640, 896};
    static const int64_t SIZES[] = {1, 1000, 5000, 1 << 30};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            GptDims dims = odd(i % 2 == 0);
            Layout layout = make(&dims, SIZES[i], PADS[j]);
            check_buckets(&layout, SIZES[i], PADS[j]);
            layout_free(&layout);
        }
}

static void embeddings_have_buckets_of_their_own(void **state)
{
    (void)state;
    GptDims dims = odd(true);
    Layout layout = make(&dims, 1 << 30, 128);
    assert_int_equal(layout.n_buckets, 3);
    assert_int_equal(layout.bucket[0].n_params, 1);
    assert_int_equal(layout.bucket[1].n_params, 1);
    assert_int_equal(layout.param[0].kind, PARAM_WTE);
    assert_int_equal(layout.param[1].kind, PARAM_WPE);
    layout_free(&layout);
}

/* OpenAI's published counts, and nanoGPT's printout of its default model (123.59M without wpe). */
static void parameter_counts_are_gpt2s(void **state)
{
    (void)state;
    GptDims openai = gpt2_small(true, 50257), nanogpt = gpt2_small(false, 50304);
    assert_int_equal(gpt_param_count(&openai, true), 124439808);
    assert_int_equal(gpt_param_count(&nanogpt, true), 124373760);
    assert_int_equal(gpt_param_count(&nanogpt, false), 124373760 - 1024 * 768);
}

static void decay_groups_are_nanogpts(void **state)
{
    (void)state;
    GptDims dims = gpt2_small(false, 50304);
    Layout layout = make(&dims, 1 << 20, 128);
    int64_t n_decay = 0, n_other = 0, decay = 0, other = 0;
    for (int32_t i = 0; i < layout.n_params; i++) {
        const Param *p = &layout.param[i];
        *(p->decay ? &n_decay : &n_other) += 1;
        *(p->decay ? &decay : &other) += param_file_count(p);
    }
    assert_int_equal(n_decay, 50);
    assert_int_equal(decay, 124354560);
    assert_int_equal(n_other, 25);
    assert_int_equal(other, 19200);
    layout_free(&layout);
}

static void flops_count_causal_attention(void **state)
{
    (void)state;
    GptDims dims = gpt2_small(false, 50304);
    double want = 6.0 * 123587328.0 + 6.0 * 12 * 768 * 1024;
    assert_true(gpt_flop_per_token(&dims) == want);
}

static void dims_come_from_the_config(void **state)
{
    (void)state;
    static const Config CFG = {.model = {.n_layer = 3,
                                         .n_head = 5,
                                         .n_embd = 40,
                                         .block_size = 9,
                                         .bias = true,
                                         .dropout = 0.25,
                                         .gelu = CONFIG_GELU_ERF}};
    GptDims dims = gpt_dims(&CFG, 129);
    assert_int_equal(dims.n_layer, 3);
    assert_int_equal(dims.n_head, 5);
    assert_int_equal(dims.n_embd, 40);
    assert_int_equal(dims.block_size, 9);
    assert_int_equal(dims.vocab_size, 129);
    assert_int_equal(dims.vocab_padded, 256);
    assert_true(dims.bias);
    assert_int_equal(dims.gelu, GELU_ERF);
    assert_true(dims.dropout == 0.25f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_hugging_faces_in_forward_order),
        cmocka_unit_test(shapes_are_hugging_faces),
        cmocka_unit_test(without_bias_there_is_no_bias),
        cmocka_unit_test(tensors_start_at_64_and_do_not_overlap),
        cmocka_unit_test(buckets_cover_and_cut_evenly),
        cmocka_unit_test(embeddings_have_buckets_of_their_own),
        cmocka_unit_test(parameter_counts_are_gpt2s),
        cmocka_unit_test(decay_groups_are_nanogpts),
        cmocka_unit_test(flops_count_causal_attention),
        cmocka_unit_test(dims_come_from_the_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
