#include "tests/support/tiny_gpt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check_err.h"

enum { TOKEN_STREAM = 1000, IGNORED_TOKEN = 3 };

GptDims tiny_dims(void)
{
    return (GptDims){.n_layer = 2,
                     .n_head = 3,
                     .n_embd = 24,
                     .block_size = 16,
                     .vocab_size = 65,
                     .vocab_padded = 128,
                     .bias = true,
                     .gelu = GELU_TANH};
}

GptShape tiny_shape(int64_t B, int64_t T)
{
    return (GptShape){.micro_batch = B,
                      .n_tokens = T,
                      .head_chunk = B * T,
                      .dtype = DTYPE_F32,
                      .recompute = recompute_all(RECOMPUTE_NONE, tiny_dims().n_layer),
                      .training = true};
}

/* ---- memory ------------------------------------------------------------------------------ */

/* The model, then what a run needs beside it. Returns the model's share of the bytes. */
static size_t carve(TinyGpt *t, Arena *arena)
{
    const GptShape *shape = &t->model.shape;
    int64_t n_rows = shape->micro_batch * shape->n_tokens;
    OpLimits limits = {.n_rows = n_rows,
                       .block_size = shape->n_tokens,
                       .n_embd = t->model.dims.n_embd,
                       .n_head = t->model.dims.n_head,
                       .vocab_padded = t->model.dims.vocab_padded};
    size_t workspace_bytes = ops_workspace_bytes(t->dev.kind, t->dev.n_threads, &limits);
    gpt2_layout(&t->model, arena);
    size_t model_bytes = arena->used_bytes;
    t->tokens = arena_1d(arena, REGION_DATA, "tokens", DTYPE_I32, n_rows);
    t->targets = arena_1d(arena, REGION_DATA, "targets", DTYPE_I32, n_rows);
    Tensor workspace =
        arena_1d(arena, REGION_WORKSPACE, "workspace", DTYPE_U8, (int64_t)workspace_bytes);
    if (arena->base)
        device_set_workspace(&t->dev, workspace);
    return model_bytes;
}

static void fill_with_nan(TinyGpt *t, size_t n_bytes)
{
    void *ones = malloc(n_bytes);
    assert_non_null(ones);
    memset(ones, 0xff, n_bytes);
    device_upload(&t->dev, tensor_1d(t->memory, DTYPE_U8, (int64_t)n_bytes), ones);
    check_no_err(device_sync(&t->dev));
    free(ones);
}

static void allocate(TinyGpt *t)
{
    Arena *arena = malloc(sizeof *arena);
    assert_non_null(arena);
    arena_init(arena, NULL, 0);
    t->n_bytes = carve(t, arena);
    size_t all = arena->peak_bytes;
    check_no_err(device_alloc(&t->dev, all, &t->memory));
    fill_with_nan(t, all);
    arena_init(arena, t->memory, all);
    carve(t, arena);
    free(arena);
}

static void fill_params(TinyGpt *t)
{
    device_zero(&t->dev, t->model.params);
    for (int32_t i = 0; i < t->layout.n_params; i++) {
        const Param *p = &t->layout.param[i];
        size_t kind_length = strlen(p->name);
        bool is_gain = p->rank == 1 && strcmp(p->name + kind_length - 6, "weight") == 0;
        int64_t n = param_file_count(p);
        float *values = malloc((size_t)n * sizeof *values);
        assert_non_null(values);
        for (int64_t j = 0; j < n; j++)
            values[j] = is_gain ? 1.0f + tiny_noise(i, j) : tiny_noise(i, j) / 2.0f;
        tiny_write(t, tensor_range(t->model.params, p->offset, n), values);
        free(values);
    }
}

void tiny_open(TinyGpt *t, GptDims dims, GptShape shape)
{
    DeviceKind kind = shape.dtype == DTYPE_F32 ? DEVICE_CPU : DEVICE_CUDA;
    tiny_open_on(t, (DeviceArgs){.kind = kind, .n_threads = 1}, dims, shape);
}

void tiny_open_on(TinyGpt *t, DeviceArgs args, GptDims dims, GptShape shape)
{
    *t = (TinyGpt){0};
    check_no_err(device_open(&t->dev, &args));
    check_no_err(layout_make(&t->layout, &dims, 1000, 384));
    check_no_err(gpt2_open(&t->model, &dims, &shape, &t->layout));
    allocate(t);
    fill_params(t);
}

void tiny_close(TinyGpt *t)
{
    device_free(&t->dev, t->memory);
    gpt2_close(&t->model);
    layout_free(&t->layout);
    device_close(&t->dev);
}

/* ---- contents ---------------------------------------------------------------------------- */

float tiny_noise(int64_t stream, int64_t index)
{
    uint32_t x = (uint32_t)(index + 1) * 2654435761u + (uint32_t)stream * 40503u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return (float)(x >> 16) / 65536.0f - 0.5f;
}

int32_t tiny_token(const GptDims *dims, int64_t index)
{
    return (int32_t)(((double)tiny_noise(TOKEN_STREAM, index) + 0.5) * (double)dims->vocab_size);
}

GptBatch tiny_batch(TinyGpt *t, int64_t first, int64_t B, int64_t T)
{
    int64_t n = B * T;
    int32_t *ids = malloc((size_t)(n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (int64_t i = 0; i <= n; i++)
        ids[i] = tiny_token(&t->model.dims, first * T + i);
    Tensor tokens = tensor_as_2d(tensor_range(t->tokens, 0, n), B, T);
    Tensor targets = tensor_as_2d(tensor_range(t->targets, 0, n), B, T);
    device_upload(&t->dev, tokens, ids);
    check_no_err(device_sync(&t->dev));
    if (first == 0 && n > IGNORED_TOKEN)
        ids[IGNORED_TOKEN + 1] = -1;
    device_upload(&t->dev, targets, ids + 1);
    check_no_err(device_sync(&t->dev));
    free(ids);
    return (GptBatch){
        .tokens = tokens, .targets = targets, .first_sample = first, .seed = 7, .training = true};
}

void tiny_zero(TinyGpt *t)
{
    if (t->model.shape.training)
        device_zero(&t->dev, t->model.grads);
    device_zero(&t->dev, t->model.loss_total);
}

double tiny_loss(TinyGpt *t)
{
    double loss = NAN;
    device_download(&t->dev, &loss, t->model.loss_total);
    check_no_err(device_sync(&t->dev));
    return loss;
}

float *tiny_read(TinyGpt *t, Tensor x)
{
    assert_int_equal(x.dtype, DTYPE_F32);
    float *values = malloc(tensor_bytes(x));
    assert_non_null(values);
    device_download(&t->dev, values, x);
    check_no_err(device_sync(&t->dev));
    return values;
}

static void write_bf16(TinyGpt *t, Tensor x, const float *values)
{
    int64_t n = tensor_count(x);
    uint16_t *bits = malloc((size_t)n * sizeof *bits);
    assert_non_null(bits);
    for (int64_t i = 0; i < n; i++)
        bits[i] = bf16_from_f32(values[i]);
    device_upload(&t->dev, x, bits);
    check_no_err(device_sync(&t->dev));
    free(bits);
}

void tiny_write(TinyGpt *t, Tensor x, const float *values)
{
    if (x.dtype == DTYPE_BF16) {
        write_bf16(t, x, values);
        return;
    }
    device_upload(&t->dev, x, values);
    check_no_err(device_sync(&t->dev));
}

float *tiny_gradients(TinyGpt *t, const GptBatch *batch)
{
    tiny_zero(t);
    gpt2_forward(&t->model, &t->dev, batch);
    gpt2_backward(&t->model, &t->dev, batch, 1.0 / (double)tensor_count(batch->tokens), NULL, NULL);
    return tiny_read(t, t->model.grads);
}

double tiny_distance(const float *a, const float *b, int64_t n)
{
    double error = 0.0, largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        error = fmax(error, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
        if (isnan(a[i]) || isnan(b[i]))
            return INFINITY;
    }
    return error == 0.0 ? 0.0 : error / largest;
}
