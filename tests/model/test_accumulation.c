/* Gradients of many micro-steps add up in float32: 512 of them against the double sum of the same
 * terms, beside what bfloat16 accumulators would have made of them. Printed, as numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check_err.h"
#include "tests/support/tiny_gpt.h"

enum { N_MICRO_STEPS = 512, T = 3 };

typedef struct {
    TinyGpt term, sum; /* the same model twice: zeroed for each micro-step, and never */
    int64_t n;         /* gradients */
    double *exact;     /* the terms' sum */
    uint16_t
        *rounded; /* the terms added to a bfloat16 accumulator, as a product with beta = 1 does */
} Sums;

/* A model as small as can be, for an emulated GPU is slow. */
static void sums_open(Sums *s, DType dtype)
{
    GptDims dims = tiny_dims();
    GptShape shape = tiny_shape(1, T);
    dims.n_layer = 1;
    dims.n_head = 1;
    dims.n_embd = 16;
    shape.recompute = recompute_all(RECOMPUTE_GELU_LN, dims.n_layer);
    shape.dtype = dtype;
    tiny_open(&s->term, dims, shape);
    tiny_open(&s->sum, dims, shape);
    s->n = tensor_count(s->sum.model.grads);
    s->exact = calloc((size_t)s->n, sizeof *s->exact);
    s->rounded = calloc((size_t)s->n, sizeof *s->rounded);
    assert_true(s->exact && s->rounded);
    tiny_zero(&s->sum);
}

static void sums_close(Sums *s)
{
    free(s->exact);
    free(s->rounded);
    tiny_close(&s->sum);
    tiny_close(&s->term);
}

static void micro_step(Sums *s, int64_t sample)
{
    const double scale = 1.0 / (N_MICRO_STEPS * T);
    GptBatch batch = tiny_batch(&s->sum, sample, 1, T);
    gpt2_forward(&s->sum.model, &s->sum.dev, &batch);
    gpt2_backward(&s->sum.model, &s->sum.dev, &batch, scale, NULL, NULL);
    batch = tiny_batch(&s->term, sample, 1, T);
    tiny_zero(&s->term);
    gpt2_forward(&s->term.model, &s->term.dev, &batch);
    gpt2_backward(&s->term.model, &s->term.dev, &batch, scale, NULL, NULL);
    float *term = tiny_read(&s->term, s->term.model.grads);
    for (int64_t i = 0; i < s->n; i++) {
        s->exact[i] += (double)term[i];
        s->rounded[i] = bf16_from_f32(bf16_to_f32(s->rounded[i]) + term[i]);
    }
    free(term);
}

/* The length of the error vector, relative to that of the sum. */
typedef struct {
    double float32, bfloat16;
} Errors;

static Errors errors_of(Sums *s)
{
    double error = 0, rounded_error = 0, length = 0;
    float *sum = tiny_read(&s->sum, s->sum.model.grads);
    for (int64_t i = 0; i < s->n; i++) {
        double e = (double)sum[i] - s->exact[i];
        double r = (double)bf16_to_f32(s->rounded[i]) - s->exact[i];
        error += e * e;
        rounded_error += r * r;
        length += s->exact[i] * s->exact[i];
    }
    free(sum);
    return (Errors){sqrt(error / length), sqrt(rounded_error / length)};
}

static void check_accumulation(DType dtype)
{
    Sums s;
    sums_open(&s, dtype);
    for (int64_t m = 0; m < N_MICRO_STEPS; m++)
        micro_step(&s, m);
    Errors errors = errors_of(&s);
    printf("%d micro-steps, %s on %s: relative error %.1e; of bfloat16 accumulators %.1e\n",
           N_MICRO_STEPS, dtype_name(dtype), device_kind_name(s.sum.dev.kind), errors.float32,
           errors.bfloat16);
    assert_true(errors.float32 < 1e-5);
    assert_true(errors.bfloat16 > 1e-3); /* so the terms are such that it matters */
    sums_close(&s);
}

static void test_gradients_add_up_in_float32(void **state)
{
    (void)state;
    check_accumulation(DTYPE_F32);
}

static void test_gradients_of_16_bit_activations_add_up_in_float32(void **state)
{
    (void)state;
    const char *reason;
    if (!device_available(DEVICE_CUDA, &reason)) {
        printf("skipped: %s\n", reason);
        skip();
    }
    check_accumulation(DTYPE_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_add_up_in_float32),
        cmocka_unit_test(test_gradients_of_16_bit_activations_add_up_in_float32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
