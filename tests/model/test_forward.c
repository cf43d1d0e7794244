/* Forward, logits and dropout of the whole model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "tests/support/check_err.h"

#include "model/acts.h"
#include "tests/support/tiny_gpt.h"

enum { B = 3, T = 11, V = 65 };

static double forward_loss(TinyGpt *t, const GptBatch *batch)
{
    tiny_zero(t);
    gpt2_forward(&t->model, &t->dev, batch);
    gpt2_loss(&t->model, &t->dev, batch, 1.0);
    return tiny_loss(t);
}

static void get_logits(TinyGpt *t, const GptBatch *batch, int64_t b, int64_t i, float *logits)
{
    check_no_err(gpt2_logits(&t->model, &t->dev, batch, b, i, logits));
}

static void loss_is_minus_the_log_probability_of_the_targets(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    double got = forward_loss(&t, &batch), want = 0;
    for (int64_t row = 0; row < B * T; row++) {
        float logits[V];
        double sum = 0;
        get_logits(&t, &batch, row / T, row % T, logits);
        for (int i = 0; i < V; i++)
            sum += exp((double)logits[i]);
        if (row != 3) /* ignored */
            want += log(sum) - (double)logits[tiny_token(&t.model.dims, row + 1)];
    }
    assert_true(fabs(got - want) < 1e-6 * want);
    tiny_close(&t);
}

/* One layer's activations serve all layers when nothing is kept for backward. */
static void a_model_for_inference_gives_the_same_loss(void **state)
{
    (void)state;
    GptShape inference = tiny_shape(B, T);
    inference.training = false;
    inference.head_chunk = 4;
    TinyGpt trained;
    tiny_open(&trained, tiny_dims(), tiny_shape(B, T));
    TinyGpt lean;
    tiny_open(&lean, tiny_dims(), inference);
    GptBatch batch = tiny_batch(&trained, 0, B, T), same = tiny_batch(&lean, 0, B, T);
    double want = forward_loss(&trained, &batch);
    assert_true(fabs(forward_loss(&lean, &same) - want) < 1e-6 * want);
    tiny_close(&trained);
    tiny_close(&lean);
}

static void logits_do_not_see_later_tokens(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float before[V], after[V];
    gpt2_forward(&t.model, &t.dev, &batch);
    get_logits(&t, &batch, 0, 5, before);
    const int32_t other = 17;
    device_upload(&t.dev, tensor_range(batch.tokens, 6, 1), &other);
    gpt2_forward(&t.model, &t.dev, &batch);
    get_logits(&t, &batch, 0, 5, after);
    assert_memory_equal(before, after, sizeof before);
    get_logits(&t, &batch, 0, 6, after);
    assert_memory_not_equal(before, after, sizeof before);
    tiny_close(&t);
}

/* ---- dropout ----------------------------------------------------------------------------- */

static GptDims dropping(void)
{
    GptDims dims = tiny_dims();
    dims.dropout = 0.3f;
    return dims;
}

static void without_training_nothing_is_dropped(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, dropping(), tiny_shape(B, T));
    TinyGpt plain;
    tiny_open(&plain, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T), same = tiny_batch(&plain, 0, B, T);
    batch.training = false;
    assert_true(forward_loss(&t, &batch) == forward_loss(&plain, &same));
    tiny_close(&t);
    tiny_close(&plain);
}

static void each_place_of_each_layer_has_its_own_masks(void **state)
{
    (void)state;
    enum { L = 5, PLACES = 3 };
    TinyGpt t;
    tiny_open(&t, dropping(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 40, B, T);
    uint32_t site[L * PLACES + 1];
    int n = 0;
    for (int32_t layer = 0; layer < L; layer++)
        for (int place = DROP_ATTENTION; place <= DROP_FC_PROJ; place++)
            site[n++] = acts_dropout(&t.model, &batch, layer, (DropPlace)place).site;
    site[n++] = acts_dropout(&t.model, &batch, 0, DROP_EMBEDDING).site;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            assert_int_not_equal(site[i], site[j]);
    Dropout drop = acts_dropout(&t.model, &batch, 0, DROP_ATTENTION);
    assert_int_equal(drop.first_sample, 40);
    assert_int_equal(drop.tokens_per_sample, T);
    tiny_close(&t);
}

/* The block input averaged over many masks is the block input without any. */
static void dropout_keeps_the_mean(void **state)
{
    (void)state;
    enum { SEEDS = 500 };
    TinyGpt t;
    tiny_open(&t, dropping(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    int64_t n = B * T * t.model.dims.n_embd;
    Tensor x = tensor_range(t.model.acts->residual, 0, n);
    batch.training = false;
    gpt2_forward(&t.model, &t.dev, &batch);
    float *clean = tiny_read(&t, x);
    batch.training = true;
    double sum = 0, want = 0, squares = 0;
    for (batch.seed = 0; batch.seed < SEEDS; batch.seed++) {
        gpt2_forward(&t.model, &t.dev, &batch);
        float *dropped = tiny_read(&t, x);
        for (int64_t i = 0; i < n; i++)
            sum += (double)dropped[i] * (double)clean[i];
        free(dropped);
    }
    for (int64_t i = 0; i < n; i++) {
        double square = (double)clean[i] * (double)clean[i];
        want += square;
        squares += square * square;
    }
    double sigma = sqrt(squares * 0.3 / 0.7 / SEEDS); /* of sum / SEEDS: masks are independent */
    assert_true(fabs(sum / SEEDS - want) < 4 * sigma);
    free(clean);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_minus_the_log_probability_of_the_targets),
        cmocka_unit_test(a_model_for_inference_gives_the_same_loss),
        cmocka_unit_test(logits_do_not_see_later_tokens),
        cmocka_unit_test(without_training_nothing_is_dropped),
        cmocka_unit_test(each_place_of_each_layer_has_its_own_masks),
        cmocka_unit_test(dropout_keeps_the_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
