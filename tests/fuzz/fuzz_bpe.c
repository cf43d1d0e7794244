/* vocab.json and merges.txt, with a zero byte between them; without one: merges.txt beside a small
 * vocabulary. What is accepted encodes any bytes and decodes to them. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "tests/fuzz/fuzz.h"
#include "text/bpe.h"
#include "text/utf8.h"

enum { VOCAB_BYTES = 8192 };

/* The 256 bytes and a few more tokens; returns the length. */
static size_t small_vocab(char vocab[VOCAB_BYTES])
{
    static const char MORE[] = "\"aa\":256,\"ab\":257,\"aaa\":258,\"aab\":259,\"aaaa\":260,"
                               "\"abab\":261,\"\\u0120a\":262,\"<|endoftext|>\":263}";
    char *at = vocab + sprintf(vocab, "{");
    int id = 0;
    for (uint32_t c = 33; c < 0x144; c++) {
        char text[UTF8_MAX_BYTES];
        if ((c >= 127 && c < 161) || c == 173)
            continue;
        int length = utf8_encode(c, text);
        const char *escape = c == '"' || c == '\\' ? "\\" : "";
        at += sprintf(at, "\"%s%.*s\":%d,", escape, length, text, id++);
    }
    ASSERT(id == 256, "%d letters", id);
    return (size_t)(at - vocab) + (size_t)sprintf(at, "%s", MORE);
}

/* What small_vocab writes is parsed once: that would be three quarters of an execution. */
json_t *__real_json_loadb(const char *text, size_t n_bytes, size_t flags, json_error_t *error);

json_t *__wrap_json_loadb(const char *text, size_t n_bytes, size_t flags, json_error_t *error)
{
    static json_t *small;
    static char vocab[VOCAB_BYTES];
    static size_t n_vocab;
    if (!small) {
        n_vocab = small_vocab(vocab);
        small = __real_json_loadb(vocab, n_vocab, flags, error);
    }
    bool is_small = n_bytes == n_vocab && memcmp(text, vocab, n_vocab) == 0;
    return is_small ? json_incref(small) : __real_json_loadb(text, n_bytes, flags, error);
}

static void write_files(const uint8_t *data, size_t n_bytes)
{
    static char vocab[VOCAB_BYTES];
    static size_t n_vocab;
    const uint8_t *zero = n_bytes ? memchr(data, 0, n_bytes) : NULL;
    if (zero) {
        fuzz_file("./vocab.json", data, (size_t)(zero - data));
        fuzz_file("./merges.txt", zero + 1, n_bytes - (size_t)(zero - data) - 1);
    } else {
        n_vocab = n_vocab ? n_vocab : small_vocab(vocab);
        fuzz_file("./vocab.json", vocab, n_vocab);
        fuzz_file("./merges.txt", data, n_bytes);
    }
}

static void check_round_trip(const Bpe *bpe, const char *text, size_t n_bytes)
{
    BpeEncoder *e;
    uint16_t *ids = malloc((n_bytes + 1) * sizeof *ids);
    int64_t n_ids = 0;
    size_t at = 0, n;
    Err err = bpe_encoder_open(&e, bpe);
    if (!err && ids)
        err = bpe_encode(e, text, n_bytes, ids, &n_ids);
    ASSERT(!err || !fuzz_has_memory(), "%s", err_message(err));
    for (int64_t i = 0; i < n_ids; i++, at += n) {
        const char *token = bpe_text(bpe, ids[i], &n);
        ASSERT(at + n <= n_bytes && memcmp(token, text + at, n) == 0, "token %d", (int)i);
    }
    ASSERT(at == n_bytes || !fuzz_has_memory(), "%zu of %zu bytes", at, n_bytes);
    bpe_encoder_close(e);
    err_free(err);
    free(ids);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    Bpe *bpe;
    write_files(data, n_bytes);
    Err err = bpe_open(&bpe, ".");
    if (!err && fuzz_is_turn())
        check_round_trip(bpe, (const char *)data, n_bytes);
    bpe_close(bpe);
    err_free(err);
}
