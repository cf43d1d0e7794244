#include "launch/text_model.h"

#include <inttypes.h>

#include "checkpoint/checkpoint.h"
#include "kernels/carve.h"
#include "launch/bind.h"
#include "launch/model_dir.h"

/* ---- the tokenizer ----------------------------------------------------------------------- */

static Err open_tokenizer(TextModel *t, const char *dir, const GptDims *dims)
{
    Err err = tokenizer_open_dir(&t->tokenizer, dir);
    if (err_code(err) == ERR_MISSING)
        return err_prefix(err, "--tokenizer=DIR names another folder");
    TRY(err);
    t->n_vocab = t->tokenizer.vocab_size;
    if (t->n_vocab > dims->vocab_size)
        FAIL(ERR_DATA, "%s: its tokenizer knows %" PRId64 " tokens, the model %" PRId64, dir,
             t->n_vocab, dims->vocab_size);
    return OK;
}

/* ---- the device -------------------------------------------------------------------------- */

static DeviceKind choose_kind(ConfigDevice device)
{
    const char *reason;
    if (device == CONFIG_DEVICE_AUTO)
        return device_available(DEVICE_CUDA, &reason) ? DEVICE_CUDA : DEVICE_CPU;
    return device == CONFIG_DEVICE_CUDA ? DEVICE_CUDA : DEVICE_CPU;
}

static Err open_device(TextModel *t, const TextModelArgs *args)
{
    DeviceArgs device = {.kind = choose_kind(args->device), .n_threads = args->n_threads};
    if (device.n_threads == 0)
        TRY(bind_threads(&t->comm, &device.n_threads));
    return device_open(&t->dev, &device);
}

static Err choose_gpu_dtype(TextModel *t, ConfigDtype wanted, DType *dtype)
{
    DeviceInfo info;
    TRY(device_info(&t->dev, &info));
    if (wanted == CONFIG_DTYPE_AUTO)
        *dtype = info.storage_dtype;
    else
        *dtype = wanted == CONFIG_DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F16;
    if (*dtype == DTYPE_BF16 && info.storage_dtype != DTYPE_BF16)
        FAIL(ERR_USAGE, "bfloat16: %s has compute capability %d.%d, bfloat16 needs 8.0", info.name,
             info.compute_capability / 10, info.compute_capability % 10);
    return OK;
}

static Err choose_dtype(TextModel *t, ConfigDtype wanted, DType *dtype)
{
    *dtype = DTYPE_F32;
    if (wanted == CONFIG_DTYPE_F32)
        return OK;
    if (!device_is_host(&t->dev))
        return choose_gpu_dtype(t, wanted, dtype);
    if (wanted != CONFIG_DTYPE_AUTO)
        FAIL(ERR_USAGE, "the CPU computes in float32 only");
    return OK;
}

/* ---- the model --------------------------------------------------------------------------- */

static void carve(void *model, Arena *arena)
{
    TextModel *t = model;
    const GptDims *dims = &t->model.dims;
    OpLimits limits = {.n_rows = dims->block_size,
                       .block_size = dims->block_size,
                       .n_embd = dims->n_embd,
                       .n_head = dims->n_head,
                       .vocab_padded = dims->vocab_padded};
    size_t n_bytes = ops_workspace_bytes(t->dev.kind, t->dev.n_threads, &limits);
    gpt2_layout(&t->model, arena);
    decoder_layout(&t->decoder, arena);
    device_set_workspace(
        &t->dev, arena_1d(arena, REGION_WORKSPACE, "op workspace", DTYPE_U8, (int64_t)n_bytes));
}

static Err open_model(TextModel *t, const GptDims *dims, DType dtype)
{
    GptShape shape = {.micro_batch = 1,
                      .n_tokens = dims->block_size,
                      .head_chunk = 1,
                      .dtype = dtype,
                      .training = false};
    TRY(layout_make(&t->layout, dims, 1, 128));
    TRY(gpt2_open(&t->model, dims, &shape, &t->layout));
    TRY(decoder_open(&t->decoder, &t->model));
    TRY(device_carve(&t->dev, CARVE_DEVICE, carve, t, &t->memory, NULL));
    return checkpoint_load_weights(t->dir, &t->model, NULL, &t->dev);
}

Err text_model_open(TextModel *t, const TextModelArgs *args)
{
    GptDims dims;
    DType dtype = DTYPE_F32;
    *t = (TextModel){0};
    TRY(comm_open(&t->comm, false));
    TRY(model_dir_find(&t->comm, args->path, t->dir));
    TRY(checkpoint_read_dims(t->dir, &dims));
    TRY(open_tokenizer(t, args->tokenizer ? args->tokenizer : t->dir, &dims));
    TRY(open_device(t, args));
    TRY(choose_dtype(t, args->dtype, &dtype));
    return open_model(t, &dims, dtype);
}

void text_model_close(TextModel *t)
{
    if (t->memory)
        device_free(&t->dev, t->memory);
    decoder_close(&t->decoder);
    gpt2_close(&t->model);
    layout_free(&t->layout);
    device_close(&t->dev);
    tokenizer_free(&t->tokenizer);
    comm_close(&t->comm);
    *t = (TextModel){0};
}

Err text_model_next(TextModel *t, const int32_t *ids, int64_t n_ids, float *logits)
{
    return decoder_next(&t->decoder, &t->dev, ids, n_ids, logits);
}
