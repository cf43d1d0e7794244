/* Bpe: the tokens of any bytes are those of a plain reading of the algorithm, and decode to them;
 * nanoGPT's own token files. tests/text/compare_tiktoken.py compares with tiktoken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tests/support/check_err.h"
#include "tests/support/shared_data.h"
#include "tests/support/toy_bpe.h"
#include "text/bpe_long.h"
#include "text/bpe_table.h"
#include "text/split.h"

enum { MOST_BYTES = 1 << 12 };

/* A vocabulary, one encoder, and room for tokens. */
typedef struct {
    Bpe *bpe;
    BpeEncoder *encoder;
    uint16_t ids[MOST_BYTES];
} Fixture;

static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->bpe = toy_bpe_open();
    check_no_err(bpe_encoder_open(&f->encoder, f->bpe));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    bpe_encoder_close(f->encoder);
    bpe_close(f->bpe);
    free(f);
    return 0;
}

static int64_t encode(Fixture *f, const char *text, size_t n_bytes)
{
    int64_t n_ids;
    check_no_err(bpe_encode(f->encoder, text, n_bytes, f->ids, &n_ids));
    return n_ids;
}

static void check_decodes_to(const Bpe *bpe, const uint16_t *ids, int64_t n_ids, const char *text,
                             size_t n_bytes)
{
    size_t at = 0;
    for (int64_t i = 0; i < n_ids; i++) {
        size_t n;
        const char *token = bpe_text(bpe, ids[i], &n);
        assert_true(at + n <= n_bytes);
        assert_memory_equal(token, text + at, n);
        at += n;
    }
    assert_int_equal(at, n_bytes);
}

/* The tokens of one piece, as the algorithm is told: look at every pair again for each merge. */
static int64_t plain_piece(const Bpe *bpe, const char *piece, size_t n_bytes, uint16_t *ids)
{
    size_t n = n_bytes;
    for (size_t i = 0; i < n; i++)
        ids[i] = bpe->byte_id[(uint8_t)piece[i]];
    for (;;) {
        uint32_t least = BPE_NO_MERGE;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t merge = bpe_merge(bpe, ids[i], ids[i + 1]);
            at = merge < least ? i : at;
            least = merge < least ? merge : least;
        }
        if (least == BPE_NO_MERGE)
            return (int64_t)n;
        ids[at] = (uint16_t)least;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static int64_t plain_text(const Bpe *bpe, const char *text, size_t n_bytes, uint16_t *ids)
{
    int64_t n_ids = 0;
    for (size_t at = 0, length; at < n_bytes; at += length) {
        length = split_piece(text + at, n_bytes - at);
        n_ids += plain_piece(bpe, text + at, length, ids + n_ids);
    }
    return n_ids;
}

/* n_bytes of words, some of them with merges, or of random bytes. */
static void random_text(uint64_t seed, size_t n_bytes, char *text)
{
    static const char WORDS[] = "it was the best of times everything before us aaaaaaaaaaaaaa "
                                "1000 ==== -------- \xC3\xBC"
                                "ber Stra\xC3\x9F"
                                "e don't we're ";
    for (size_t i = 0; i < n_bytes;) {
        uint64_t at = rng_below(seed, RNG_SAMPLER, 1, i, sizeof WORDS - 1);
        bool is_word = rng_below(seed, RNG_SAMPLER, 2, i, 4) > 0;
        size_t n = is_word ? 9 : 1;
        for (size_t k = 0; k < n && i < n_bytes; k++, i++)
            text[i] = is_word ? WORDS[(at + k) % (sizeof WORDS - 1)]
                              : (char)rng_below(seed, RNG_SAMPLER, 3, i, 256);
    }
}

/* ---- encoding ---------------------------------------------------------------------------- */

static void test_known_tokens(void **state)
{
    Fixture *f = *state;
    static const char TEXT[] = " was the!";
    int64_t n_ids = encode(f, TEXT, sizeof TEXT - 1);
    size_t n;
    assert_int_equal(n_ids, 3);
    assert_memory_equal(bpe_text(f->bpe, f->ids[0], &n), " was", 4);
    assert_int_equal(n, 4);
    assert_int_equal(f->ids[2], '!' - 33); /* the first of the alphabet */
    assert_int_equal(bpe_vocab_size(f->bpe), TOY_BPE_VOCAB);
}

static void test_random_texts_as_the_algorithm_is_told(void **state)
{
    Fixture *f = *state;
    for (uint64_t seed = 0; seed < 500; seed++) {
        char text[400];
        uint16_t expected[sizeof text];
        size_t n_bytes = rng_below(seed, RNG_SAMPLER, 0, 0, sizeof text);
        random_text(seed, n_bytes, text);
        int64_t n_ids = encode(f, text, n_bytes);
        assert_int_equal(n_ids, plain_text(f->bpe, text, n_bytes, expected));
        assert_memory_equal(f->ids, expected, (size_t)n_ids * sizeof *expected);
        check_decodes_to(f->bpe, f->ids, n_ids, text, n_bytes);
    }
}

/* Every text of one and two bytes, at the end of memory that may be read. */
static void test_short_texts_are_read_no_further(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < 65536; i++) {
        char *text = malloc(2);
        text[0] = (char)i;
        text[1] = (char)(i >> 8);
        check_decodes_to(f->bpe, f->ids, encode(f, text, 2), text, 2);
        free(text);
    }
    assert_int_equal(encode(f, "", 0), 0);
}

/* Pieces of every length around those at which the way of encoding changes. */
static void test_every_length_of_a_piece(void **state)
{
    Fixture *f = *state;
    char text[300];
    uint16_t expected[sizeof text];
    for (size_t n_bytes = 1; n_bytes <= sizeof text; n_bytes++) {
        for (size_t i = 0; i < n_bytes; i++)
            text[i] = "aaaetthwsb"[rng_below(n_bytes, RNG_SAMPLER, 0, i, 10)];
        int64_t n_ids = encode(f, text, n_bytes);
        assert_int_equal(n_ids, plain_piece(f->bpe, text, n_bytes, expected));
        assert_memory_equal(f->ids, expected, (size_t)n_ids * sizeof *expected);
    }
}

/* The same text again and again, with others between: what the encoder remembers is right. */
static void test_tokens_do_not_depend_on_what_came_before(void **state)
{
    Fixture *f = *state;
    char text[MOST_BYTES];
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint16_t fresh[MOST_BYTES];
        BpeEncoder *e;
        int64_t n, n_ids;
        random_text(seed, sizeof text, text);
        check_no_err(bpe_encoder_open(&e, f->bpe));
        check_no_err(bpe_encode(e, text, sizeof text, fresh, &n));
        bpe_encoder_close(e);
        n_ids = encode(f, text, sizeof text);
        assert_int_equal(n_ids, n);
        assert_memory_equal(f->ids, fresh, (size_t)n * sizeof *fresh);
    }
}

/* ---- long pieces ------------------------------------------------------------------------- */

static void test_windows_of_any_length_give_the_same(void **state)
{
    Fixture *f = *state;
    BpeLong l = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        char text[600];
        uint16_t expected[sizeof text];
        size_t n_ids, n_letters = 1 + rng_below(seed, RNG_SAMPLER, 0, 0, 10);
        size_t window = 2 + rng_below(seed, RNG_SAMPLER, 1, 0, 80);
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = "aethwsb=- "[rng_below(seed, RNG_SAMPLER, 2, i, n_letters)];
        check_no_err(bpe_long_encode(&l, f->bpe, text, sizeof text, window, f->ids, &n_ids));
        assert_int_equal(n_ids, plain_piece(f->bpe, text, sizeof text, expected));
        assert_memory_equal(f->ids, expected, n_ids * sizeof *expected);
    }
    bpe_long_free(&l);
}

/* Quadratic time would be hours. */
static void test_long_runs_take_no_longer_than_texts(void **state)
{
    Fixture *f = *state;
    static const char *const UNIT[] = {"a", " ", "=", "\xE4\xBA\xAC", "\x80", "ab"};
    size_t n_bytes = 1 << 20;
    char *text = malloc(n_bytes);
    uint16_t *ids = malloc(n_bytes * sizeof *ids);
    for (size_t i = 0; i < sizeof UNIT / sizeof *UNIT; i++) {
        int64_t n_ids;
        for (size_t at = 0; at < n_bytes; at++)
            text[at] = UNIT[i][at % strlen(UNIT[i])];
        check_no_err(bpe_encode(f->encoder, text, n_bytes, ids, &n_ids));
        check_decodes_to(f->bpe, ids, n_ids, text, n_bytes);
    }
    free(ids);
    free(text);
}

/* ---- the end of a text ------------------------------------------------------------------- */

#define TWO_TEXTS "us" BPE_END_OF_TEXT BPE_END_OF_TEXT " us<|endoftext|"

static void test_end_of_text_is_text(void **state)
{
    Fixture *f = *state;
    int64_t n_ids = encode(f, TWO_TEXTS, sizeof TWO_TEXTS - 1);
    for (int64_t i = 0; i < n_ids; i++)
        assert_int_not_equal(f->ids[i], TOY_BPE_VOCAB - 1);
    check_decodes_to(f->bpe, f->ids, n_ids, TWO_TEXTS, sizeof TWO_TEXTS - 1);
}

static void test_end_of_text_is_a_token_when_asked_for(void **state)
{
    Fixture *f = *state;
    int64_t n_ids, at = 0;
    uint16_t expected[MOST_BYTES];
    assert_int_equal(bpe_end_of_text(f->bpe), TOY_BPE_VOCAB - 1);
    check_no_err(bpe_encode_special(f->encoder, TWO_TEXTS, sizeof TWO_TEXTS - 1, expected, &n_ids));
    check_decodes_to(f->bpe, expected, n_ids, TWO_TEXTS, sizeof TWO_TEXTS - 1);
    int64_t n_us = encode(f, "us", 2);
    assert_memory_equal(expected, f->ids, (size_t)n_us * sizeof *expected);
    at += n_us;
    assert_int_equal(expected[at++], TOY_BPE_VOCAB - 1);
    assert_int_equal(expected[at++], TOY_BPE_VOCAB - 1);
    int64_t n_rest = encode(f, " us<|endoftext|", 15);
    assert_int_equal(at + n_rest, n_ids);
    assert_memory_equal(expected + at, f->ids, (size_t)n_rest * sizeof *expected);
}

/* ---- nanoGPT's token files --------------------------------------------------------------- */

static Bpe *open_gpt2(void)
{
    const char *dir = getenv("GPT_SHARED_DATA");
    char vocab[FILE_PATH_BYTES], merges[FILE_PATH_BYTES];
    Bpe *bpe;
    check_no_err(path_join(vocab, dir, "gpt2_encoder.json"));
    check_no_err(path_join(merges, dir, "gpt2_vocab.bpe"));
    check_no_err(bpe_open_files(&bpe, vocab, merges));
    return bpe;
}

static void check_golden(const Bpe *bpe, const char *text, size_t n_bytes, const char *name)
{
    FileMap golden = shared_file(name);
    uint16_t *ids = malloc(n_bytes * sizeof *ids);
    BpeEncoder *e;
    int64_t n_ids;
    check_no_err(bpe_encoder_open(&e, bpe));
    check_no_err(bpe_encode(e, text, n_bytes, ids, &n_ids));
    assert_int_equal((size_t)n_ids * sizeof *ids, golden.n_bytes);
    assert_memory_equal(ids, golden.data, golden.n_bytes);
    check_decodes_to(bpe, ids, n_ids, text, n_bytes);
    bpe_encoder_close(e);
    free(ids);
    file_unmap(&golden);
}

static void test_tokens_are_nanogpts(void **state)
{
    (void)state;
    FileMap text = shared_file("tinyshakespeare_input.txt"), vocab = shared_file("gpt2_vocab.bpe");
    size_t n_train = (size_t)((double)text.n_bytes * 0.9);
    Bpe *bpe = open_gpt2();
    assert_int_equal(bpe_vocab_size(bpe), 50257);
    assert_int_equal(bpe_end_of_text(bpe), 50256);
    check_golden(bpe, (const char *)text.data, n_train, "shakespeare_bpe_train.bin");
    check_golden(bpe, (const char *)text.data + n_train, text.n_bytes - n_train,
                 "shakespeare_bpe_val.bin");
    bpe_close(bpe);
    file_unmap(&vocab);
    file_unmap(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_tokens),
        cmocka_unit_test(test_random_texts_as_the_algorithm_is_told),
        cmocka_unit_test(test_short_texts_are_read_no_further),
        cmocka_unit_test(test_every_length_of_a_piece),
        cmocka_unit_test(test_tokens_do_not_depend_on_what_came_before),
        cmocka_unit_test(test_windows_of_any_length_give_the_same),
        cmocka_unit_test(test_long_runs_take_no_longer_than_texts),
        cmocka_unit_test(test_end_of_text_is_text),
        cmocka_unit_test(test_end_of_text_is_a_token_when_asked_for),
        cmocka_unit_test(test_tokens_are_nanogpts),
    };
    return cmocka_run_group_tests_name("bpe", tests, setup, teardown);
}
