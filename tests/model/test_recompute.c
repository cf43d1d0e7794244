/* Recompute levels: what each keeps, and that no mix changes a bit of a gradient. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/tiny_gpt.h"

enum { L = 5, B = 3, T = 13 };

/* ---- a mix ----------------------------------------------------------------------------------- */

static void levels_come_in_order_of_what_they_keep(void **state)
{
    (void)state;
    RecomputeMix mix = {
        .n_at = {[RECOMPUTE_GELU_LN] = 2, [RECOMPUTE_FFN] = 1, [RECOMPUTE_BLOCK] = 3}};
    const Recompute at[] = {RECOMPUTE_GELU_LN, RECOMPUTE_GELU_LN, RECOMPUTE_FFN,
                            RECOMPUTE_BLOCK,   RECOMPUTE_BLOCK,   RECOMPUTE_BLOCK};
    assert_int_equal(recompute_n_layers(&mix), 6);
    for (int32_t layer = 0; layer < 6; layer++)
        assert_int_equal(recompute_at(&mix, layer), at[layer]);
    assert_int_equal(recompute_n_below(&mix, RECOMPUTE_GELU_LN), 0);
    assert_int_equal(recompute_n_below(&mix, RECOMPUTE_FFN), 2);
    assert_int_equal(recompute_n_below(&mix, RECOMPUTE_QKV), 3);
    assert_int_equal(recompute_n_below(&mix, RECOMPUTE_BLOCK), 3);
}

static void a_mix_is_spelled_as_users_read_it(void **state)
{
    (void)state;
    RecomputeMix one = recompute_all(RECOMPUTE_QKV, 12);
    RecomputeMix two = {.n_at = {[RECOMPUTE_GELU_LN] = 3, [RECOMPUTE_FFN] = 9}};
    RecomputeMix all = {.n_at = {1000000, 1000000, 1000000, 1000000, 1000000}};
    assert_string_equal(recompute_text(&one).text, "qkv");
    assert_string_equal(recompute_text(&two).text, "gelu_ln x 3, ffn x 9");
    assert_string_equal(recompute_text(&all).text, "none x 1000000, gelu_ln x 1000000, "
                                                   "ffn x 1000000, qkv x 1000000, block x 1000000");
}

/* GPT-2 124M: 16 C^2 + 2 T C of a block's 72 C^2 + 7 T C, in 11 of 12 blocks; the head's 6 V C
 * beside them. */
static void its_cost_is_that_of_the_products_done_again(void **state)
{
    (void)state;
    const GptDims dims = {.n_layer = 12, .n_embd = 768, .block_size = 1024};
    const double C = 768, TOKENS = 1024, V = 50304;
    const double step = 12 * (72 * C * C + 7 * TOKENS * C) + 6 * V * C;
    RecomputeMix block = recompute_all(RECOMPUTE_BLOCK, 12);
    RecomputeMix mixed = {.n_at = {[RECOMPUTE_GELU_LN] = 3, [RECOMPUTE_FFN] = 9}};
    RecomputeMix cheap = recompute_all(RECOMPUTE_GELU_LN, 12);
    assert_true(recompute_flop_per_token(&block, &dims) == 11 * (16 * C * C + 2 * TOKENS * C));
    assert_true(recompute_flop_per_token(&mixed, &dims) == 8 * 8 * C * C);
    assert_true(recompute_flop_per_token(&cheap, &dims) == 0);
    assert_true(recompute_flop_per_token(&block, &dims) / step < 0.165);
    assert_true(recompute_flop_per_token(&block, &dims) / step > 0.145);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Bytes of the activations, scratch and head of a model of n_layer blocks. */
static size_t activation_bytes(int32_t n_layer, Recompute level)
{
    GptDims dims = tiny_dims();
    GptShape shape = tiny_shape(B, T);
    Layout layout;
    GPT2 model;
    Arena *arena = malloc(sizeof *arena);
    assert_non_null(arena);
    dims.n_layer = n_layer;
    shape.head_chunk = 1; /* logits fit under `wide` */
    shape.recompute = recompute_all(level, n_layer);
    assert_null(layout_make(&layout, &dims, 1000, 384));
    assert_null(gpt2_open(&model, &dims, &shape, &layout));
    arena_init(arena, NULL, 0);
    gpt2_layout(&model, arena);
    size_t n_bytes = arena->peak_bytes - tensor_bytes(model.params) - tensor_bytes(model.grads);
    gpt2_close(&model);
    layout_free(&layout);
    free(arena);
    return n_bytes;
}

/* What one more block takes: buffers of (N,C), statistics of two norms and of attention's rows. */
static void a_block_keeps_what_its_level_says(void **state)
{
    static const int64_t buffers[] = {16, 10, 6, 3, 1};
    (void)state;
    for (int32_t level = 0; level < N_RECOMPUTES; level++) {
        const int64_t N = (int64_t)B * T, C = tiny_dims().n_embd, H = tiny_dims().n_head;
        int64_t statistics = level == RECOMPUTE_BLOCK ? 0 : 4 + H;
        int64_t floats = N * (buffers[level] * C + statistics);
        size_t more =
            activation_bytes(20, (Recompute)level) - activation_bytes(10, (Recompute)level);
        int64_t padding = 10 * (int64_t)sizeof(float) * floats - (int64_t)more;
        assert_in_range(labs((long)padding), 0, 12 * ARENA_ALIGN_BYTES);
    }
}

/* ---- bits ------------------------------------------------------------------------------------ */

/* Gradients of two micro-batches, the second of them smaller. */
static float *gradients_with(GptDims dims, DType dtype, RecomputeMix mix, size_t *n_bytes)
{
    GptShape shape = tiny_shape(B, T);
    shape.dtype = dtype;
    shape.recompute = mix;
    TinyGpt t;
    tiny_open(&t, dims, shape);
    GptBatch batch = tiny_batch(&t, 0, B, T);
    free(tiny_gradients(&t, &batch));
    batch = tiny_batch(&t, B, B - 1, T - 2);
    gpt2_forward(&t.model, &t.dev, &batch);
    gpt2_backward(&t.model, &t.dev, &batch, 0.01, NULL, NULL);
    float *gradients = tiny_read(&t, t.model.grads);
    *n_bytes = tensor_bytes(t.model.grads);
    tiny_close(&t);
    return gradients;
}

static GptDims variant_dims(int variant)
{
    GptDims dims = tiny_dims();
    dims.n_layer = L;
    dims.dropout = variant & 1 ? 0.2f : 0;
    dims.gelu = variant & 2 ? GELU_ERF : GELU_TANH;
    dims.bias = variant & 2;
    return dims;
}

static void same_bits_as_keeping_all(GptDims dims, DType dtype, RecomputeMix mix)
{
    size_t n_bytes;
    float *kept = gradients_with(dims, dtype, recompute_all(RECOMPUTE_NONE, L), &n_bytes);
    float *again = gradients_with(dims, dtype, mix, &n_bytes);
    assert_memory_equal(kept, again, n_bytes);
    free(kept);
    free(again);
}

static void every_level_gives_the_same_bits(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++)
        for (int32_t level = RECOMPUTE_GELU_LN; level < N_RECOMPUTES; level++)
            same_bits_as_keeping_all(variant_dims(variant), DTYPE_F32,
                                     recompute_all((Recompute)level, L));
}

/* Any two levels together, and all five. */
static void every_mix_gives_the_same_bits(void **state)
{
    (void)state;
    same_bits_as_keeping_all(variant_dims(1), DTYPE_F32, (RecomputeMix){.n_at = {1, 1, 1, 1, 1}});
    for (int32_t less = 0; less < N_RECOMPUTES; less++)
        for (int32_t more = less + 1; more < N_RECOMPUTES; more++) {
            RecomputeMix mix = {0};
            mix.n_at[less] = 1 + (less + more) % (L - 1);
            mix.n_at[more] = L - mix.n_at[less];
            for (int variant = 0; variant < 4; variant++)
                same_bits_as_keeping_all(variant_dims(variant), DTYPE_F32, mix);
        }
}

static void a_gpu_gives_the_same_bits_too(void **state)
{
    const char *reason = NULL;
    (void)state;
    if (!device_available(DEVICE_CUDA, &reason)) {
        print_message("skipped: %s\n", reason);
        skip();
    }
    for (int variant = 0; variant < 4; variant += 3) {
        GptDims dims = variant_dims(variant);
        for (int32_t level = RECOMPUTE_GELU_LN; level < N_RECOMPUTES; level++)
            same_bits_as_keeping_all(dims, DTYPE_BF16, recompute_all((Recompute)level, L));
        same_bits_as_keeping_all(dims, DTYPE_BF16, (RecomputeMix){.n_at = {1, 1, 1, 1, 1}});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_come_in_order_of_what_they_keep),
        cmocka_unit_test(a_mix_is_spelled_as_users_read_it),
        cmocka_unit_test(its_cost_is_that_of_the_products_done_again),
        cmocka_unit_test(a_block_keeps_what_its_level_says),
        cmocka_unit_test(every_level_gives_the_same_bits),
        cmocka_unit_test(every_mix_gives_the_same_bits),
        cmocka_unit_test(a_gpu_gives_the_same_bits_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
