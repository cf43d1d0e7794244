/* Safetensors: every tensor of an accepted file lies within it and can be read; then the tensors
 * are matched with a GPT-2 of the corpus' shape, with biases and without. */
#include <stdlib.h>

#include "base/check.h"
#include "checkpoint/hf.h"
#include "tests/fuzz/fuzz.h"

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
    ASSERT(!err, "%s", err_message(err));
    const Weights weights = {1, file};
    Weight *found = calloc((size_t)layout.n_params, sizeof *found);
    ASSERT(found, "no memory");
    err_free(hf_match(&weights, "file", &dims, &layout, found));
    free(found);
    layout_free(&layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    char path[] = "model.safetensors";
    WeightFile file = {.path = path};
    Err err = safe_open(&file.safe, fuzz_file(path, data, n_bytes));
    if (!err) {
        for (int32_t i = 0; i < file.safe.n_tensors; i++)
            read_tensor(&file.safe, &file.safe.tensor[i]);
        match(&file, true);
        match(&file, false);
        safe_close(&file.safe);
    }
    err_free(err);
    return 0;
}
