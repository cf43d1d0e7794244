/* meta.pkl: what is accepted is a vocabulary of characters in order, each encoded as its id. */
#include "base/check.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void check_ids(const Tokenizer *t)
{
    ASSERT(t->kind == TOKENIZER_CHAR && t->vocab_size > 0, "kind %d", (int)t->kind);
    for (int32_t i = 1; i < t->vocab_size; i++)
        ASSERT(t->code_point[i - 1] < t->code_point[i], "id %d is out of order", i);
    for (int32_t i = 0; i < t->vocab_size; i++)
        ASSERT(t->id_of[t->code_point[i]] == i, "id %d", i);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    Tokenizer t;
    Err err = tokenizer_load(&t, fuzz_file("meta.pkl", data, n_bytes));
    if (!err)
        check_ids(&t);
    tokenizer_free(&t);
    err_free(err);
}
