/* A decoder that keeps keys and values gives the logits of whole forward passes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/decoder.h"
#include "tests/support/check_err.h"
#include "tests/support/tiny_gpt.h"

enum { V = 65, BLOCK = 16, MOST_IDS = 3 * BLOCK };

/* Of the largest logit, in float32. */
static const double TOLERANCE = 1e-5;

/* A model, and a decoder on it. */
typedef struct {
    TinyGpt gpt;
    Decoder decoder;
    void *memory;
} Fixture;

static void allocate(Fixture *f)
{
    Arena *arena = malloc(sizeof *arena);
    assert_non_null(arena);
    arena_init(arena, NULL, 0);
    decoder_layout(&f->decoder, arena);
    size_t n_bytes = arena->peak_bytes;
    check_no_err(device_alloc(&f->gpt.dev, n_bytes, &f->memory));
    arena_init(arena, f->memory, n_bytes);
    decoder_layout(&f->decoder, arena);
    free(arena);
}

static void fixture_open(Fixture *f, DeviceArgs args, DType dtype, GptDims dims)
{
    GptShape shape = tiny_shape(1, BLOCK);
    shape.dtype = dtype;
    shape.head_chunk = 1;
    shape.training = false;
    tiny_open_on(&f->gpt, args, dims, shape);
    check_no_err(decoder_open(&f->decoder, &f->gpt.model));
    allocate(f);
}

static void fixture_close(Fixture *f)
{
    device_free(&f->gpt.dev, f->memory);
    decoder_close(&f->decoder);
    tiny_close(&f->gpt);
}

/* One head, no biases, another activation. */
static GptDims other_dims(void)
{
    GptDims dims = tiny_dims();
    dims.n_layer = 3;
    dims.n_head = 1;
    dims.bias = false;
    dims.gelu = GELU_ERF;
    return dims;
}

static void set_ids(int32_t ids[MOST_IDS])
{
    const GptDims dims = tiny_dims();
    for (int64_t i = 0; i < MOST_IDS; i++)
        ids[i] = tiny_token(&dims, i);
}

static void next_logits(Fixture *f, bool keep, const int32_t *ids, int64_t n_ids, float logits[V])
{
    f->decoder.keep = keep;
    check_no_err(decoder_next(&f->decoder, &f->gpt.dev, ids, n_ids, logits));
}

/* The distance between the kept and the whole pass, which leaves what is kept alone. */
static double distance_after(Fixture *f, const int32_t *ids, int64_t n_ids)
{
    float kept[V], whole[V];
    next_logits(f, true, ids, n_ids, kept);
    next_logits(f, false, ids, n_ids, whole);
    return tiny_distance(kept, whole, V);
}

/* ---- one after the other ------------------------------------------------------------------ */

static void check_growth(Fixture *f, int64_t n_prompt, double tolerance)
{
    int32_t ids[MOST_IDS];
    set_ids(ids);
    for (int64_t n = n_prompt; n <= BLOCK + 4; n++)
        assert_true(distance_after(f, ids, n) <= tolerance);
}

static void a_growing_text_has_the_logits_of_whole_passes(void **state)
{
    (void)state;
    const GptDims dims[] = {tiny_dims(), other_dims()};
    for (int i = 0; i < 4; i++) {
        Fixture f;
        fixture_open(&f, (DeviceArgs){.kind = DEVICE_CPU, .n_threads = 1 + i % 2}, DTYPE_F32,
                     dims[i / 2]);
        check_growth(&f, 1, TOLERANCE);
        check_growth(&f, 9, TOLERANCE); /* another text: shorter than what is kept */
        fixture_close(&f);
    }
}

/* ---- any texts ---------------------------------------------------------------------------- */

/* Texts that share a beginning, or nothing, or outgrow the cache, in an arbitrary order. */
static void what_is_kept_never_leaks_into_another_text(void **state)
{
    (void)state;
    int32_t ids[MOST_IDS], other[MOST_IDS];
    Fixture f;
    fixture_open(&f, (DeviceArgs){.kind = DEVICE_CPU}, DTYPE_F32, tiny_dims());
    set_ids(ids);
    memcpy(other, ids, sizeof ids);
    for (int64_t i = 0; i < 300; i++) {
        int64_t n = 1 + (i * 7919 + i * i) % (BLOCK + 6), changed = (i * 31) % (BLOCK + 6);
        if (i % 3 == 0)
            other[changed] = (other[changed] + 1) % V;
        assert_true(distance_after(&f, i % 5 ? other : ids, n) <= TOLERANCE);
    }
    fixture_close(&f);
}

/* A last token that is asked for again is computed again, from what is kept. */
static void the_same_text_has_the_same_logits(void **state)
{
    (void)state;
    int32_t ids[MOST_IDS];
    float first[V], again[V];
    Fixture f;
    fixture_open(&f, (DeviceArgs){.kind = DEVICE_CPU}, DTYPE_F32, tiny_dims());
    set_ids(ids);
    for (int64_t n = 1; n <= BLOCK; n++)
        next_logits(&f, true, ids, n, first);
    next_logits(&f, true, ids, BLOCK, again);
    assert_memory_equal(first, again, sizeof first);
    fixture_close(&f);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    int32_t ids[MOST_IDS];
    Fixture one, two;
    fixture_open(&one, (DeviceArgs){.kind = DEVICE_CPU, .n_threads = 1}, DTYPE_F32, tiny_dims());
    fixture_open(&two, (DeviceArgs){.kind = DEVICE_CPU, .n_threads = 2}, DTYPE_F32, tiny_dims());
    set_ids(ids);
    for (int64_t n = 5; n <= BLOCK + 2; n++) {
        float a[V], b[V];
        next_logits(&one, true, ids, n, a);
        next_logits(&two, true, ids, n, b);
        assert_memory_equal(a, b, sizeof a);
    }
    fixture_close(&one);
    fixture_close(&two);
}

/* ---- on a GPU ------------------------------------------------------------------------------ */

static void skip_without_gpu(void)
{
    const char *reason = NULL;
    if (!device_available(DEVICE_CUDA, &reason)) {
        print_message("skipped: %s\n", reason);
        skip();
    }
}

static void a_gpu_gives_the_logits_of_whole_passes_in_float32(void **state)
{
    (void)state;
    skip_without_gpu();
    Fixture f;
    fixture_open(&f, (DeviceArgs){.kind = DEVICE_CUDA}, DTYPE_F32, tiny_dims());
    check_growth(&f, 7, TOLERANCE);
    fixture_close(&f);
}

/* The float32 model gets the other's parameters, which it holds exactly. */
static void copy_params(TinyGpt *to, TinyGpt *from)
{
    int64_t n = from->layout.count;
    uint16_t *bits = malloc((size_t)n * sizeof *bits);
    float *values = malloc((size_t)n * sizeof *values);
    assert_true(bits && values);
    device_download(&from->dev, bits, from->model.params);
    check_no_err(device_sync(&from->dev));
    for (int64_t i = 0; i < n; i++)
        values[i] = bf16_to_f32(bits[i]);
    tiny_write(to, to->model.params, values);
    free(bits);
    free(values);
}

/* Roundings of activations to 16 bits are many times the difference of two orders of a sum: kept
 * and whole passes are as far from float32 as each other. */
static void in_bfloat16_it_is_as_near_to_float32_as_whole_passes(void **state)
{
    (void)state;
    skip_without_gpu();
    int32_t ids[MOST_IDS];
    double kept_error = 0, whole_error = 0;
    Fixture f, exact;
    fixture_open(&f, (DeviceArgs){.kind = DEVICE_CUDA}, DTYPE_BF16, tiny_dims());
    fixture_open(&exact, (DeviceArgs){.kind = DEVICE_CPU}, DTYPE_F32, tiny_dims());
    copy_params(&exact.gpt, &f.gpt);
    set_ids(ids);
    for (int64_t n = 4; n <= BLOCK; n++) {
        float wanted[V], kept[V], whole[V];
        next_logits(&exact, false, ids, n, wanted);
        next_logits(&f, true, ids, n, kept);
        next_logits(&f, false, ids, n, whole);
        kept_error += tiny_distance(kept, wanted, V);
        whole_error += tiny_distance(whole, wanted, V);
    }
    print_message("mean error of the largest logit: %.1e kept, %.1e whole\n",
                  kept_error / (BLOCK - 3), whole_error / (BLOCK - 3));
    assert_true(kept_error <= 1.5 * whole_error && kept_error > 0);
    fixture_close(&f);
    fixture_close(&exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_growing_text_has_the_logits_of_whole_passes),
        cmocka_unit_test(what_is_kept_never_leaks_into_another_text),
        cmocka_unit_test(the_same_text_has_the_same_logits),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(a_gpu_gives_the_logits_of_whole_passes_in_float32),
        cmocka_unit_test(in_bfloat16_it_is_as_near_to_float32_as_whole_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
