#include "launch/text_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"
#include "checkpoint/names.h"
#include "launch/bind.h"

/* ---- which directory --------------------------------------------------------------------- */

static Err holds_file(const char *dir, const char *name, bool *holds)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, name));
    *holds = path_exists(path);
    return OK;
}

/* A model directory is taken as it is, and checked when it has a manifest. */
static Err find_dir(TextModel *t, const char *path)
{
    bool is_model = false, has_manifest = false, found = false;
    if (!path_is_dir(path))
        FAIL(ERR_MISSING, "%s: no such directory", path);
    TRY(holds_file(path, CONFIG_NAME, &is_model));
    TRY(holds_file(path, MANIFEST_NAME, &has_manifest));
    if (is_model) {
        snprintf(t->dir, sizeof t->dir, "%s", path); /* fits: a name behind it did */
        return has_manifest ? checkpoint_verify(path) : OK;
    }
    TRY(checkpoint_find(&t->comm, path, &found, t->dir));
    if (!found)
        FAIL(ERR_MISSING,
             "%s: neither a model directory (with %s) nor an out_dir with a checkpoint", path,
             CONFIG_NAME);
    return OK;
}

/* ---- the model --------------------------------------------------------------------------- */

/* meta.json, nanoGPT's meta.pkl, or the files of a BPE vocabulary as other programs leave them. */
static Err find_tokenizer(TextModel *t)
{
    const char *vocab, *merges;
    char path[FILE_PATH_BYTES];
    static const char *const NAME[] = {META_NAME, PICKLE_NAME};
    for (int i = 0; i < 2; i++) {
        TRY(path_join(path, t->dir, NAME[i]));
        if (path_exists(path))
            return tokenizer_load(&t->tokenizer, path);
    }
    Err err = bpe_find_files(t->dir, &vocab, &merges);
    if (!err)
        return tokenizer_open_bpe(&t->tokenizer, t->dir);
    err_free(err);
    FAIL(ERR_MISSING,
         "%s has no %s, and no vocab.json and merges.txt: without the tokenizer its tokens have no "
         "text",
         t->dir, META_NAME);
}

static Err open_tokenizer(TextModel *t, const GptDims *dims)
{
    TRY(find_tokenizer(t));
    t->n_vocab = t->tokenizer.vocab_size;
    if (t->n_vocab > dims->vocab_size)
        FAIL(ERR_DATA, "%s: its tokenizer knows %" PRId64 " tokens, the model %" PRId64, t->dir,
             t->n_vocab, dims->vocab_size);
    return OK;
}

static void carve(TextModel *t, Arena *arena)
{
    const GptDims *dims = &t->model.dims;
    OpLimits limits = {.n_rows = dims->block_size,
                       .block_size = dims->block_size,
                       .n_embd = dims->n_embd,
                       .n_head = dims->n_head,
                       .vocab_padded = dims->vocab_padded};
    size_t n_bytes = ops_workspace_bytes(t->dev.kind, t->dev.n_threads, &limits);
    gpt2_layout(&t->model, arena);
    t->tokens = arena_1d(arena, REGION_DATA, "tokens", DTYPE_I32, dims->block_size);
    device_set_workspace(
        &t->dev, arena_1d(arena, REGION_WORKSPACE, "op workspace", DTYPE_U8, (int64_t)n_bytes));
}

static Err allocate(TextModel *t)
{
    Arena *arena = malloc(sizeof *arena);
    if (!arena)
        FAIL(ERR_SYSTEM, "out of memory for the table of regions");
    arena_init(arena, NULL, 0);
    carve(t, arena);
    size_t n_bytes = arena->peak_bytes;
    Err err = device_alloc(&t->dev, n_bytes, &t->memory);
    if (!err) {
        arena_init(arena, t->memory, n_bytes);
        carve(t, arena);
    }
    free(arena);
    return err;
}

static Err open_device(TextModel *t, int32_t n_threads)
{
    if (n_threads == 0)
        TRY(bind_threads(&t->comm, &n_threads));
    return device_open(&t->dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = n_threads});
}

static Err open_model(TextModel *t, const GptDims *dims)
{
    GptShape shape = {.micro_batch = 1,
                      .n_tokens = dims->block_size,
                      .head_chunk = 1,
                      .dtype = DTYPE_F32,
                      .training = false};
    TRY(layout_make(&t->layout, dims, 1, 128));
    TRY(gpt2_open(&t->model, dims, &shape, &t->layout));
    TRY(allocate(t));
    return checkpoint_load_weights(t->dir, &t->model, NULL, &t->dev);
}

Err text_model_open(TextModel *t, const char *path, int32_t n_threads)
{
    GptDims dims;
    *t = (TextModel){0};
    TRY(comm_open(&t->comm, false));
    TRY(find_dir(t, path));
    TRY(checkpoint_read_dims(t->dir, &dims));
    TRY(open_tokenizer(t, &dims));
    TRY(open_device(t, n_threads));
    return open_model(t, &dims);
}

void text_model_close(TextModel *t)
{
    if (t->memory)
        device_free(&t->dev, t->memory);
    gpt2_close(&t->model);
    layout_free(&t->layout);
    device_close(&t->dev);
    tokenizer_free(&t->tokenizer);
    comm_close(&t->comm);
    *t = (TextModel){0};
}

Err text_model_next(TextModel *t, const int32_t *ids, int64_t n_ids, float *logits)
{
    int64_t T = n_ids < t->model.dims.block_size ? n_ids : t->model.dims.block_size;
    Tensor tokens = tensor_as_2d(tensor_range(t->tokens, 0, T), 1, T);
    GptBatch batch = {.tokens = tokens, .targets = tensor_none()};
    device_upload(&t->dev, tokens, ids + n_ids - T);
    gpt2_forward(&t->model, &t->dev, &batch);
    return gpt2_logits(&t->model, &t->dev, &batch, 0, T - 1, logits);
}
