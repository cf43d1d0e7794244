/* Against PyTorch in float64: losses, every gradient tensor, and three AdamW updates. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checkpoint/safetensors.h"
#include "tests/support/check_err.h"
#include "tests/support/tiny_gpt.h"

/* float32 against float64 over sums of about a thousand terms; the promise is 1e-4. */
static const double GRADIENT_TOLERANCE = 1e-5, LOSS_TOLERANCE = 1e-6;
enum { N_UPDATES = 3 };

typedef struct {
    const char *file;
    GptDims dims;
    int64_t B, T;
} Golden;

static const Golden BIAS_TANH = {
    .file = "gpt2_bias_tanh.safetensors",
    .dims = {.n_layer = 3,
             .n_head = 3,
             .n_embd = 24,
             .block_size = 40,
             .vocab_size = 131,
             .vocab_padded = 256,
             .bias = true,
             .gelu = GELU_TANH},
    .B = 3,
    .T = 33,
};
static const Golden NOBIAS_ERF = {
    .file = "gpt2_nobias_erf.safetensors",
    .dims = {.n_layer = 2,
             .n_head = 3,
             .n_embd = 21,
             .block_size = 7,
             .vocab_size = 65,
             .vocab_padded = 128,
             .bias = false,
             .gelu = GELU_ERF},
    .B = 2,
    .T = 7,
};

typedef struct {
    const Golden *golden;
    SafeFile file;
    TinyGpt gpt;
} Fixture;

static void open_fixture(Fixture *f, const Golden *golden, Recompute recompute)
{
    char path[4096];
    const char *source = getenv("GPT_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/%s", source ? source : ".", golden->file);
    check_no_err(safe_open(&f->file, path));
    GptShape shape = tiny_shape(golden->B, golden->T);
    shape.recompute = recompute_all(recompute, golden->dims.n_layer);
    shape.head_chunk = 5;
    tiny_open(&f->gpt, golden->dims, shape);
    f->golden = golden;
}

static void close_fixture(Fixture *f)
{
    tiny_close(&f->gpt);
    safe_close(&f->file);
}

/* The golden tensor of that name as floats; the caller frees. */
static float *golden_values(const Fixture *f, const char *name, int64_t n)
{
    const SafeTensor *t = safe_find(&f->file, name);
    assert_non_null(t);
    assert_int_equal(t->n_bytes, (size_t)n * sizeof(float));
    float *values = malloc(t->n_bytes);
    assert_non_null(values);
    safe_read_f32(&f->file, t, 0, n, values);
    return values;
}

static void check_gradient(Fixture *f, const Param *p)
{
    char name[64];
    snprintf(name, sizeof name, "grad.%s", p->name);
    int64_t n = param_file_count(p);
    float *want = golden_values(f, name, n);
    float *got = tiny_read(&f->gpt, tensor_range(f->gpt.model.grads, p->offset, n));
    double distance = tiny_distance(got, want, n);
    if (!(distance < GRADIENT_TOLERANCE))
        fail_msg("%s: off by %g of its largest element", name, distance);
    free(want);
    free(got);
}

static void gradients_match(const Golden *golden, Recompute recompute)
{
    Fixture f;
    open_fixture(&f, golden, recompute);
    GptBatch batch = tiny_batch(&f.gpt, 0, golden->B, golden->T);
    free(tiny_gradients(&f.gpt, &batch));
    assert_int_equal(f.file.n_tensors, f.gpt.layout.n_params + 1);
    for (int32_t i = 0; i < f.gpt.layout.n_params; i++)
        check_gradient(&f, &f.gpt.layout.param[i]);
    close_fixture(&f);
}

static void gradients_match_with_bias_and_tanh(void **state)
{
    (void)state;
    gradients_match(&BIAS_TANH, RECOMPUTE_NONE);
}

static void gradients_match_without_bias_with_erf(void **state)
{
    (void)state;
    gradients_match(&NOBIAS_ERF, RECOMPUTE_GELU_LN);
}

/* ---- three updates ----------------------------------------------------------------------- */

/* moments (2 * layout.count) f32: m, then v. */
static void update(TinyGpt *t, Tensor moments, int64_t step)
{
    for (int32_t i = 0; i < t->layout.n_params; i++) {
        const Param *p = &t->layout.param[i];
        int64_t n = param_count(p);
        op_adamw(&t->dev, &(AdamwArgs){
                              .param = tensor_range(t->model.params, p->offset, n),
                              .m = tensor_range(moments, p->offset, n),
                              .v = tensor_range(moments, t->layout.count + p->offset, n),
                              .grad = tensor_range(t->model.grads, p->offset, n),
                              .grad_scale = 1,
                              .lr = 1e-2,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .weight_decay = p->decay ? 0.1 : 0,
                              .step = step,
                          });
    }
}

static void losses_match(const Golden *golden)
{
    Fixture f;
    open_fixture(&f, golden, RECOMPUTE_GELU_LN);
    float *want = golden_values(&f, "losses", N_UPDATES + 1);
    Tensor moments = tensor_1d(NULL, DTYPE_F32, 2 * f.gpt.layout.count);
    check_no_err(device_alloc(&f.gpt.dev, tensor_bytes(moments), &moments.data));
    device_zero(&f.gpt.dev, moments);
    GptBatch batch = tiny_batch(&f.gpt, 0, golden->B, golden->T);
    for (int64_t i = 0; i <= N_UPDATES; i++) {
        free(tiny_gradients(&f.gpt, &batch));
        double loss = tiny_loss(&f.gpt);
        if (!(fabs(loss - (double)want[i]) < LOSS_TOLERANCE * (double)want[i]))
            fail_msg("after %d updates: loss %.8f, wanted %.8f", (int)i, loss, (double)want[i]);
        update(&f.gpt, moments, i + 1);
    }
    free(want);
    device_free(&f.gpt.dev, moments.data);
    close_fixture(&f);
}

static void losses_match_with_bias_and_tanh(void **state)
{
    (void)state;
    losses_match(&BIAS_TANH);
}

static void losses_match_without_bias_with_erf(void **state)
{
    (void)state;
    losses_match(&NOBIAS_ERF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match_with_bias_and_tanh),
        cmocka_unit_test(gradients_match_without_bias_with_erf),
        cmocka_unit_test(losses_match_with_bias_and_tanh),
        cmocka_unit_test(losses_match_without_bias_with_erf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
