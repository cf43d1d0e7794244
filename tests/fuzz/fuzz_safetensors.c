/* Safetensors: every tensor of an accepted file lies within it and can be read; then the tensors
 * are matched with a GPT-2 of the corpus' shape, with biases and without, and written again. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "checkpoint/hf.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_PARAMS = 32 };

static void read_tensor(const SafeFile *file, const SafeTensor *t)
{
    float piece[64];
    ASSERT(t->offset <= file->map.n_bytes && t->n_bytes <= file->map.n_bytes - t->offset, "%s",
           t->name);
    ASSERT(safe_find(file, t->name), "%s is not found", t->name);
    if (t->dtype == DTYPE_U8)
        return;
    int64_t count = (int64_t)(t->n_bytes / dtype_bytes(t->dtype)), n = count < 64 ? count : 64;
    safe_read_f32(file, t, 0, n, piece);
    safe_read_f32(file, t, count - n, n, piece);
}

static void match(WeightFile *file, bool bias)
{
    const GptDims dims = {.n_layer = 1,
                          .n_head = 1,
                          .n_embd = 2,
                          .block_size = 2,
                          .vocab_size = 3,
                          .vocab_padded = 128,
                          .bias = bias};
    Layout layout;
    Err err = layout_make(&layout, &dims, 1000, 64);
    ASSERT(!err || !fuzz_has_memory(), "%s", err_message(err));
    if (!err) {
        const Weights weights = {1, file};
        Weight found[MAX_PARAMS];
        ASSERT(layout.n_params <= MAX_PARAMS, "%d", layout.n_params);
        err = hf_match(&weights, "file", &dims, &layout, found);
        layout_free(&layout);
    }
    err_free(err);
}

/* Declared and streamed again, the tensors have the same place among the data. */
static void check_written(const SafeFile *file)
{
    SafeWriter *w = NULL;
    SafeFile again = {0};
    SafeTensor *tensor = malloc(((size_t)file->n_tensors + 1) * sizeof *tensor);
    if (!tensor)
        return;
    memcpy(tensor, file->tensor, (size_t)file->n_tensors * sizeof *tensor);
    Err err = safe_create(&w, "again.safetensors", tensor, file->n_tensors);
    for (int32_t i = 0; i < file->n_tensors && !err; i++)
        err = safe_write(w, file->map.data + file->tensor[i].offset, file->tensor[i].n_bytes);
    if (err)
        safe_abandon(w);
    else
        err = safe_finish(w, NULL);
    if (!err)
        err = safe_open(&again, "again.safetensors");
    ASSERT(!err || !fuzz_has_memory(), "%s", err_message(err));
    for (int32_t i = 0; i < again.n_tensors; i++) {
        ASSERT(again.tensor[i].offset == tensor[i].offset, "%s", tensor[i].name);
        ASSERT(strcmp(again.tensor[i].name, tensor[i].name) == 0, "%s", tensor[i].name);
    }
    safe_close(&again);
    free(tensor);
    err_free(err);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    char path[] = "model.safetensors";
    WeightFile file = {.path = path};
    Err err = safe_open(&file.safe, fuzz_file(path, data, n_bytes));
    if (!err) {
        for (int32_t i = 0; i < file.safe.n_tensors; i++)
            read_tensor(&file.safe, &file.safe.tensor[i]);
        match(&file, true);
        match(&file, false);
        if (fuzz_is_turn())
            check_written(&file.safe);
        safe_close(&file.safe);
    }
    err_free(err);
}
