/* meta.json: what is accepted decodes every id, and encodes its character to that id. */
#include <stdlib.h>

#include "base/check.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void check_id(const Tokenizer *t, int32_t id)
{
    char text[TOKENIZER_BYTES_PER_ID];
    int32_t *ids, n_text = tokenizer_decode(t, id, text);
    int64_t n_ids;
    Err err = tokenizer_encode(t, text, (size_t)n_text, &ids, &n_ids);
    ASSERT(!err && n_ids == 1 && ids[0] == id, "id %d", id);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    Tokenizer t;
    Err err = tokenizer_load(&t, fuzz_file("meta.json", data, n_bytes));
    if (!err) {
        int32_t *ids = NULL;
        int64_t n_ids;
        for (int32_t id = 0; id < t.vocab_size; id++)
            check_id(&t, id);
        err_free(tokenizer_encode(&t, (const char *)data, n_bytes, &ids, &n_ids));
        free(ids);
    }
    tokenizer_free(&t);
    err_free(err);
    return 0;
}
