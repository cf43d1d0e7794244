/* config.json: what is accepted has dimensions whose parameters can be counted. */
#include "base/check.h"
#include "checkpoint/hf.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    GptDims dims;
    Err err = hf_config_read(fuzz_file("config.json", data, n_bytes), &dims);
    if (!err) {
        ASSERT(dims.n_layer > 0 && dims.n_head > 0 && dims.n_embd % dims.n_head == 0, "dims");
        ASSERT(gpt_param_count(&dims, true) > 0, "overflow");
    }
    err_free(err);
    return 0;
}
