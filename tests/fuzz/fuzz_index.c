/* model.safetensors.index.json, beside two files of a tensor each and one that is damaged: every
 * file opened lies in the directory. An input that begins with DIR is a file without meaning in the
 * place of what directories may hold. */
#include <string.h>

#include "base/check.h"
#include "checkpoint/weights.h"
#include "tests/fuzz/fuzz.h"

enum { HEADER_BYTES = 56, MAX_BYTES = 8 + HEADER_BYTES + 4 };

/* One tensor `name`, a letter, of one float32. */
static void put_file(const char *path, char name, uint8_t bytes[MAX_BYTES])
{
    static const char HEADER[] = "{\"?\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    memset(bytes, 0, MAX_BYTES);
    memset(bytes + 8, ' ', HEADER_BYTES);
    bytes[0] = HEADER_BYTES;
    memcpy(bytes + 8, HEADER, sizeof HEADER - 1);
    bytes[8 + 2] = (uint8_t)name;
    fuzz_file(path, bytes, MAX_BYTES);
}

static void check_accepted(const Weights *weights)
{
    for (int32_t i = 0; i < weights->n_files; i++) {
        const WeightFile *file = &weights->file[i];
        const Weight weight = {file, &file->safe.tensor[0]};
        float value;
        ASSERT(strncmp(file->path, "dir/", 4) == 0 && !strchr(file->path + 4, '/'), "%s",
               file->path);
        weight_read_f32(&weight, 0, 1, &value);
        ASSERT(value == 0, "%g", (double)value);
    }
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    static uint8_t a[MAX_BYTES], b[MAX_BYTES];
    static const char *const PLACE[] = {"dir/pytorch_model.bin", "dir/model.safetensors"};
    Weights weights;
    if (n_bytes > 3 && memcmp(data, "DIR", 3) == 0) {
        fuzz_file(PLACE[data[3] & 1], data, n_bytes);
    } else {
        put_file("dir/a.safetensors", 'a', a);
        put_file("dir/b.safetensors", 'b', b);
        fuzz_file("dir/bad.safetensors", "", 0);
        fuzz_file("dir/model.safetensors.index.json", data, n_bytes);
    }
    Err err = weights_open(&weights, "dir");
    if (!err)
        check_accepted(&weights);
    weights_close(&weights);
    err_free(err);
}
