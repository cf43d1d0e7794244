/* Properties of the whole model's backward that hold whatever the numbers are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/tiny_gpt.h"

enum { B = 4, T = 13 };

/* The same terms added in another order: float32's 2^-24 times sqrt of about a hundred additions.
 */
static const double ROUNDING = 2e-6;

static GptDims dropping(void)
{
    GptDims dims = tiny_dims();
    dims.dropout = 0.2f;
    return dims;
}

/* ---- finite differences ------------------------------------------------------------------ */

static double loss_at(TinyGpt *t, const GptBatch *batch)
{
    tiny_zero(t);
    gpt2_forward(&t->model, &t->dev, batch);
    gpt2_loss(&t->model, &t->dev, batch, 1.0 / (double)tensor_count(batch->tokens));
    return tiny_loss(t);
}

/* The loss with param += step * direction. */
static double loss_along(TinyGpt *t, const GptBatch *batch, Tensor param, const float *direction,
                         double step)
{
    int64_t n = tensor_count(param);
    float *old = tiny_read(t, param), *moved = tiny_read(t, param);
    for (int64_t i = 0; i < n; i++)
        moved[i] = (float)((double)old[i] + step * (double)direction[i]);
    tiny_write(t, param, moved);
    double loss = loss_at(t, batch);
    tiny_write(t, param, old);
    free(old);
    free(moved);
    return loss;
}

/* Along its own gradient a tensor's loss must grow by |gradient|^2. Two step lengths cancel the
 * cubic term. */
static void check_slope(TinyGpt *t, const GptBatch *batch, const Param *p, const float *gradient)
{
    int64_t n = param_count(p);
    Tensor param = tensor_range(t->model.params, p->offset, n);
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)gradient[i] * (double)gradient[i];
    double h = 0.02 / sqrt(squares), slope[2];
    for (int k = 0; k < 2; k++, h *= 2)
        slope[k] =
            (loss_along(t, batch, param, gradient, h) - loss_along(t, batch, param, gradient, -h)) /
            (2 * h);
    double got = (4 * slope[0] - slope[1]) / 3;
    if (!(fabs(got - squares) < 1e-3 * squares))
        fail_msg("%s: slope %.9g, gradient says %.9g", p->name, got, squares);
}

static void check_slopes(GptDims dims)
{
    TinyGpt t;
    tiny_open(&t, dims, tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float *gradients = tiny_gradients(&t, &batch);
    for (int32_t i = 0; i < t.layout.n_params; i++)
        check_slope(&t, &batch, &t.layout.param[i], gradients + t.layout.param[i].offset);
    free(gradients);
    tiny_close(&t);
}

static void every_tensor_has_the_slope_its_gradient_says(void **state)
{
    (void)state;
    check_slopes(tiny_dims());
}

static void so_it_has_with_dropout(void **state)
{
    (void)state;
    check_slopes(dropping());
}

/* ---- how the work is cut ----------------------------------------------------------------- */

static void loss_is_the_same_with_and_without_gradients(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    double loss = loss_at(&t, &batch);
    free(tiny_gradients(&t, &batch));
    assert_true(loss == tiny_loss(&t));
    tiny_close(&t);
}

/* Gradients and loss of samples 0 ... B-1 in micro-batches of m. */
static float *in_micro_batches(TinyGpt *t, int64_t m)
{
    tiny_zero(t);
    for (int64_t first = 0; first < B; first += m) {
        GptBatch batch = tiny_batch(t, first, m, T);
        gpt2_forward(&t->model, &t->dev, &batch);
        gpt2_backward(&t->model, &t->dev, &batch, 1.0 / (B * T), NULL, NULL);
    }
    return tiny_read(t, t->model.grads);
}

static void check_micro_batches(GptDims dims)
{
    TinyGpt t;
    tiny_open(&t, dims, tiny_shape(B, T));
    float *whole = in_micro_batches(&t, B);
    double loss = tiny_loss(&t);
    for (int64_t m = 1; m < B; m *= 2) {
        float *cut = in_micro_batches(&t, m);
        assert_true(fabs(tiny_loss(&t) - loss) < ROUNDING * loss);
        assert_true(tiny_distance(cut, whole, t.layout.count) < ROUNDING);
        free(cut);
    }
    free(whole);
    tiny_close(&t);
}

static void micro_batches_add_up(void **state)
{
    (void)state;
    check_micro_batches(tiny_dims());
}

/* Only when the masks are functions of the global sample. */
static void micro_batches_add_up_with_dropout(void **state)
{
    (void)state;
    check_micro_batches(dropping());
}

static void head_chunks_change_only_rounding(void **state)
{
    (void)state;
    static const int64_t CHUNKS[] = {1, 7, 13, 51};
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float *whole = tiny_gradients(&t, &batch);
    double loss = tiny_loss(&t);
    for (size_t i = 0; i < sizeof CHUNKS / sizeof *CHUNKS; i++) {
        t.model.shape.head_chunk = CHUNKS[i];
        float *cut = tiny_gradients(&t, &batch);
        assert_true(fabs(tiny_loss(&t) - loss) < ROUNDING * loss);
        assert_true(tiny_distance(cut, whole, t.layout.count) < ROUNDING);
        free(cut);
    }
    free(whole);
    tiny_close(&t);
}

/* A micro-batch smaller than the model was laid out for, in both dimensions. */
static void a_larger_shape_changes_nothing(void **state)
{
    (void)state;
    TinyGpt fits;
    tiny_open(&fits, dropping(), tiny_shape(2, 9));
    TinyGpt large;
    tiny_open(&large, dropping(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&fits, 0, 2, 9), same = tiny_batch(&large, 0, 2, 9);
    float *want = tiny_gradients(&fits, &batch), *got = tiny_gradients(&large, &same);
    assert_true(tiny_loss(&fits) == tiny_loss(&large));
    assert_true(tiny_distance(got, want, fits.layout.count) < ROUNDING);
    free(want);
    free(got);
    tiny_close(&fits);
    tiny_close(&large);
}

static void gradients_are_added(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float *once = tiny_gradients(&t, &batch);
    double loss = tiny_loss(&t);
    gpt2_forward(&t.model, &t.dev, &batch);
    gpt2_backward(&t.model, &t.dev, &batch, 1.0 / (B * T), NULL, NULL);
    float *twice = tiny_read(&t, t.model.grads);
    for (int64_t i = 0; i < t.layout.count; i++)
        once[i] *= 2.0f;
    assert_true(tiny_distance(twice, once, t.layout.count) < ROUNDING);
    assert_true(tiny_loss(&t) == 2.0 * loss);
    free(once);
    free(twice);
    tiny_close(&t);
}

static void repeating_gives_the_same_bits(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, dropping(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float *first = tiny_gradients(&t, &batch), *second = tiny_gradients(&t, &batch);
    assert_memory_equal(first, second, tensor_bytes(t.model.grads));
    free(first);
    free(second);
    tiny_close(&t);
}

/* ---- what must stay zero ----------------------------------------------------------------- */

static void padded_rows_and_unused_positions_get_no_gradient(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float *gradients = tiny_gradients(&t, &batch);
    int64_t C = t.model.dims.n_embd;
    const Param *wte = layout_find(&t.layout, PARAM_WTE, -1);
    for (int64_t i = param_file_count(wte); i < param_count(wte); i++)
        assert_true(gradients[wte->offset + i] == 0.0f);
    const Param *wpe = layout_find(&t.layout, PARAM_WPE, -1);
    for (int64_t i = T * C; i < param_count(wpe); i++)
        assert_true(gradients[wpe->offset + i] == 0.0f);
    free(gradients);
    tiny_close(&t);
}

static void padding_of_the_flat_vectors_stays_zero(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    GptBatch batch = tiny_batch(&t, 0, B, T);
    float *flat[2] = {tiny_gradients(&t, &batch), tiny_read(&t, t.model.params)};
    for (int k = 0; k < 2; k++) {
        for (int32_t i = 0; i < t.layout.n_params; i++) {
            const Param *p = &t.layout.param[i];
            memset(flat[k] + p->offset, 0, (size_t)param_count(p) * sizeof(float));
        }
        for (int64_t i = 0; i < t.layout.count; i++)
            assert_true(flat[k][i] == 0.0f);
        free(flat[k]);
    }
    tiny_close(&t);
}

static void an_ignored_batch_has_no_loss_and_no_gradient(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(1, 3));
    GptBatch batch = tiny_batch(&t, 0, 1, 3);
    const int32_t ignored[3] = {-1, -1, -1};
    device_upload(&t.dev, batch.targets, ignored);
    float *gradients = tiny_gradients(&t, &batch);
    assert_true(tiny_loss(&t) == 0.0);
    for (int64_t i = 0; i < t.layout.count; i++)
        assert_true(gradients[i] == 0.0f);
    free(gradients);
    tiny_close(&t);
}

/* ---- when buckets are final -------------------------------------------------------------- */

typedef struct {
    TinyGpt *t;
    int32_t n_calls, order[64];
    float *at_call[64]; /* each bucket's gradient when it was called ready */
} Readiness;

static void note_ready(void *arg, int32_t bucket)
{
    Readiness *r = arg;
    const Bucket *b = &r->t->layout.bucket[bucket];
    assert_true(r->n_calls < 64);
    r->order[r->n_calls] = bucket;
    r->at_call[r->n_calls++] =
        tiny_read(r->t, tensor_range(r->t->model.grads, b->offset, b->count));
}

static void run_noting(TinyGpt *t, Readiness *r)
{
    GptBatch batch = tiny_batch(t, 0, B, T);
    *r = (Readiness){.t = t};
    tiny_zero(t);
    gpt2_forward(&t->model, &t->dev, &batch);
    gpt2_backward(&t->model, &t->dev, &batch, 1.0 / (B * T), note_ready, r);
}

static void a_ready_bucket_does_not_change_any_more(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    Readiness r;
    run_noting(&t, &r);
    assert_int_equal(r.n_calls, t.layout.n_buckets);
    for (int32_t i = 0; i < r.n_calls; i++) {
        const Bucket *b = &t.layout.bucket[r.order[i]];
        float *last = tiny_read(&t, tensor_range(t.model.grads, b->offset, b->count));
        assert_memory_equal(r.at_call[i], last, (size_t)b->count * sizeof(float));
        free(last);
        free(r.at_call[i]);
    }
    tiny_close(&t);
}

static void each_bucket_is_ready_once_and_the_embeddings_last(void **state)
{
    (void)state;
    TinyGpt t;
    tiny_open(&t, tiny_dims(), tiny_shape(B, T));
    Readiness r;
    run_noting(&t, &r);
    assert_true(t.layout.n_buckets > 5);
    assert_int_equal(r.n_calls, t.layout.n_buckets);
    for (int32_t i = 0; i < r.n_calls; i++) {
        assert_int_equal(r.order[i], r.n_calls - 1 - i); /* 1 is wpe, 0 is wte */
        free(r.at_call[i]);
    }
    tiny_close(&t);
}

/* ---- gradients in places taken by turns --------------------------------------------------- */

typedef struct {
    TinyGpt *t;
    float *flat;     /* what was taken out, where it belongs */
    int32_t waiting; /* this bucket is ready and still in its place */
} Collected;

static void take_out(Collected *c, int32_t bucket)
{
    const Bucket *b = &c->t->layout.bucket[bucket];
    float *values = tiny_read(c->t, c->t->model.grad_bucket[bucket]);
    memcpy(c->flat + b->offset, values, (size_t)b->count * sizeof(float));
    free(values);
    device_zero(&c->t->dev, c->t->model.grad_bucket[bucket]);
}

/* As a reducer does: a bucket stays in its place until the next one is ready, and leaves zeros. */
static void take_out_late(void *arg, int32_t bucket)
{
    Collected *c = arg;
    if (bucket + 1 < c->t->layout.n_buckets)
        take_out(c, c->waiting);
    c->waiting = bucket;
}

static void four_places_give_the_gradients_of_as_many_as_buckets(void **state)
{
    (void)state;
    TinyGpt whole, places;
    GptShape shape = tiny_shape(B, T);
    tiny_open(&whole, tiny_dims(), shape);
    shape.bucket_grads = true;
    tiny_open(&places, tiny_dims(), shape);
    size_t n_bytes = tensor_bytes(whole.model.grads);
    assert_true(tensor_bytes(places.model.grads) < n_bytes);
    Collected c = {.t = &places, .flat = malloc(n_bytes)};
    assert_non_null(c.flat);
    tiny_zero(&places);
    for (int64_t first = 0; first < 2 * B;
         first += B) { /* the places are zero again after a pass */
        GptBatch batch = tiny_batch(&places, first, B, T);
        memset(c.flat, 0xff, n_bytes);
        gpt2_forward(&places.model, &places.dev, &batch);
        gpt2_backward(&places.model, &places.dev, &batch, 1.0 / (B * T), take_out_late, &c);
        take_out(&c, c.waiting);
        batch = tiny_batch(&whole, first, B, T);
        float *wanted = tiny_gradients(&whole, &batch);
        assert_memory_equal(c.flat, wanted, n_bytes);
        free(wanted);
    }
    free(c.flat);
    tiny_close(&places);
    tiny_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_has_the_slope_its_gradient_says),
        cmocka_unit_test(so_it_has_with_dropout),
        cmocka_unit_test(loss_is_the_same_with_and_without_gradients),
        cmocka_unit_test(micro_batches_add_up),
        cmocka_unit_test(micro_batches_add_up_with_dropout),
        cmocka_unit_test(head_chunks_change_only_rounding),
        cmocka_unit_test(a_larger_shape_changes_nothing),
        cmocka_unit_test(gradients_are_added),
        cmocka_unit_test(repeating_gives_the_same_bits),
        cmocka_unit_test(padded_rows_and_unused_positions_get_no_gradient),
        cmocka_unit_test(padding_of_the_flat_vectors_stays_zero),
        cmocka_unit_test(an_ignored_batch_has_no_loss_and_no_gradient),
        cmocka_unit_test(a_ready_bucket_does_not_change_any_more),
        cmocka_unit_test(each_bucket_is_ready_once_and_the_embeddings_last),
        cmocka_unit_test(four_places_give_the_gradients_of_as_many_as_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
