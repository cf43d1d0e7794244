/* meta.json: what is accepted decodes every id, encodes its character to that id, and is the same
 * when it is written and read again. An input that begins with TEXT is a text to make a vocabulary
 * of. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void check_ids(const Tokenizer *t)
{
    int32_t ids[TOKENIZER_BYTES_PER_ID];
    for (int32_t id = 0; id < t->vocab_size; id++) {
        char text[TOKENIZER_BYTES_PER_ID];
        size_t at = 0, n_text = (size_t)tokenizer_decode(t, id, text);
        int64_t n_ids;
        Err err = tokenizer_encode_part(t, text, n_text, &at, ids, TOKENIZER_BYTES_PER_ID, &n_ids);
        ASSERT(!err && n_ids == 1 && ids[0] == id, "id %d", id);
        ASSERT(tokenizer_count(t, text, n_text) == 1, "count of id %d", id);
    }
}

static void check_written(const Tokenizer *t)
{
    Tokenizer again = {0};
    Err err = tokenizer_save(t, "again.json");
    if (!err)
        err = tokenizer_load(&again, "again.json");
    if (fuzz_has_memory()) {
        ASSERT(!err, "%s", err_message(err));
        ASSERT(again.kind == t->kind && again.vocab_size == t->vocab_size, "read differently");
        ASSERT(t->kind != TOKENIZER_CHAR ||
                   memcmp(again.code_point, t->code_point,
                          (size_t)t->vocab_size * sizeof *t->code_point) == 0,
               "characters read differently");
    }
    tokenizer_free(&again);
    err_free(err);
}

static Err read_input(Tokenizer *t, const uint8_t *data, size_t n_bytes)
{
    *t = (Tokenizer){0};
    if (n_bytes < 4 || memcmp(data, "TEXT", 4) != 0)
        return tokenizer_load(t, fuzz_file("meta.json", data, n_bytes));
    return fuzz_is_turn() ? tokenizer_from_text(t, (const char *)data + 4, n_bytes - 4)
                          : ERR_NEW(ERR_DATA, "not this time");
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    Tokenizer t;
    Err err = read_input(&t, data, n_bytes);
    if (!err) {
        int32_t *ids = NULL;
        int64_t n_ids;
        check_ids(&t);
        err_free(tokenizer_encode(&t, (const char *)data, n_bytes, &ids, &n_ids));
        free(ids);
        check_written(&t);
    }
    tokenizer_free(&t);
    err_free(err);
}
