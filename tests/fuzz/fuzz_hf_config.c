/* config.json: what is accepted has dimensions whose parameters can be counted, and is the same
 * when it is written and read again. */
#include <string.h>

#include "base/check.h"
#include "checkpoint/hf.h"
#include "tests/fuzz/fuzz.h"

static void check_accepted(const GptDims *dims)
{
    GptDims again = *dims;
    ASSERT(dims->n_layer > 0 && dims->n_head > 0 && dims->n_embd % dims->n_head == 0, "dims");
    ASSERT(gpt_param_count(dims, true) > 0, "overflow");
    Err err = hf_config_write("again.json", dims, NULL);
    if (!err)
        err = hf_config_read("again.json", &again);
    ASSERT(!err || !fuzz_has_memory(), "%s", err_message(err));
    err_free(err);
    ASSERT(again.n_layer == dims->n_layer && again.n_head == dims->n_head &&
               again.n_embd == dims->n_embd && again.block_size == dims->block_size &&
               again.vocab_size == dims->vocab_size && again.gelu == dims->gelu,
           "read differently");
    ASSERT(again.dropout == dims->dropout, "dropout %.9g, then %.9g", (double)dims->dropout,
           (double)again.dropout);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    GptDims dims;
    Err err = hf_config_read(fuzz_file("config.json", data, n_bytes), &dims);
    if (!err && fuzz_is_turn())
        check_accepted(&dims);
    err_free(err);
}
