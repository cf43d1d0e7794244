#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/bpe_long.h"
#include "text/bpe_short.h"
#include "text/bpe_table.h"
#include "text/split.h"

enum {
    KEY_BYTES = 16,
    WORD_TOKENS = 6,
    WORD_BITS = 15,
};

/* A piece of at most KEY_BYTES and its tokens; 32 bytes. */
typedef struct {
    uint64_t key[2]; /* its bytes, then zeros */
    uint16_t token[WORD_TOKENS];
    uint8_t n_bytes; /* 0: empty */
    uint8_t n_tokens;
} Word;

struct BpeEncoder {
    const Bpe *bpe;
    Word *word; /* [1 << WORD_BITS], by the hash of the key: the newest piece there */
    BpeLong longer;
};

int32_t bpe_vocab_size(const Bpe *bpe)
{
    return bpe->vocab_size;
}

int32_t bpe_end_of_text(const Bpe *bpe)
{
    return bpe->end_of_text;
}

const char *bpe_text(const Bpe *bpe, int32_t id, size_t *n_bytes)
{
    ASSERT(id >= 0 && id < bpe->vocab_size, "id %d of %d", id, bpe->vocab_size);
    *n_bytes = bpe_token_bytes(bpe, id);
    return bpe->text + bpe->text_at[id];
}

Err bpe_encoder_open(BpeEncoder **out, const Bpe *bpe)
{
    BpeEncoder *e = calloc(1, sizeof *e);
    *out = NULL;
    if (e)
        e->word = aligned_alloc(sizeof(Word), sizeof(Word) << WORD_BITS);
    if (!e || !e->word) {
        bpe_encoder_close(e);
        FAIL(ERR_SYSTEM, "out of memory for an encoder");
    }
    memset(e->word, 0, sizeof(Word) << WORD_BITS);
    e->bpe = bpe;
    Err err = bpe_long_reserve(&e->longer, BPE_WINDOW_BYTES);
    if (err) {
        bpe_encoder_close(e);
        return err;
    }
    *out = e;
    return OK;
}

void bpe_encoder_close(BpeEncoder *e)
{
    if (!e)
        return;
    bpe_long_free(&e->longer);
    free(e->word);
    free(e);
}

/* ---- one piece --------------------------------------------------------------------------- */

/* The bytes of a short piece, then zeros; `n_after` may be read from `piece` on. */
static inline void make_key(const char *piece, size_t n_bytes, size_t n_after, uint64_t key[2])
{
    if (n_after >= KEY_BYTES) {
        size_t n_low = n_bytes < 8 ? n_bytes : 8, n_high = n_bytes - n_low;
        memcpy(key, piece, KEY_BYTES);
        key[0] &= UINT64_MAX >> (64 - 8 * n_low);
        key[1] &= n_high ? UINT64_MAX >> (64 - 8 * n_high) : 0;
    } else {
        key[0] = key[1] = 0;
        memcpy(key, piece, n_bytes);
    }
}

static inline Word *word_slot(const BpeEncoder *e, const uint64_t key[2])
{
    uint64_t hash = (key[0] ^ key[1] * 0xFF51AFD7ED558CCDu) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
    return &e->word[hash >> (64 - WORD_BITS)];
}

/* ids = the tokens of a piece of 2 to BPE_SHORT_BYTES bytes; returns how many. Most that the table
 * of words lacks are tokens. */
static int32_t encode_short(const Bpe *bpe, const char *piece, size_t n_bytes, uint16_t *ids)
{
    int32_t id = bpe_find(bpe, piece, n_bytes);
    if (id == BPE_NO_TOKEN || !bpe->is_whole[id])
        return bpe_short_encode(bpe, piece, (int32_t)n_bytes, ids);
    ids[0] = (uint16_t)id;
    return 1;
}

/* ids = the tokens of a piece of 2 to KEY_BYTES bytes that the table of words lacks; it is entered
 * there when its tokens fit. */
static int32_t encode_new(const BpeEncoder *e, const char *piece, size_t n_bytes,
                          const uint64_t key[2], Word *word, uint16_t *ids)
{
    int32_t n = encode_short(e->bpe, piece, n_bytes, ids);
    if (n > WORD_TOKENS)
        return n;
    *word = (Word){.key = {key[0], key[1]}, .n_bytes = (uint8_t)n_bytes, .n_tokens = (uint8_t)n};
    memcpy(word->token, ids, (size_t)n * sizeof *ids);
    return n;
}

/* ids = the tokens of a piece of 2 to KEY_BYTES bytes; returns how many. */
static inline int32_t encode_word(const BpeEncoder *e, const char *piece, size_t n_bytes,
                                  size_t n_after, uint16_t *ids)
{
    uint64_t key[2];
    make_key(piece, n_bytes, n_after, key);
    Word *word = word_slot(e, key);
    if (word->key[0] != key[0] || word->key[1] != key[1] || word->n_bytes != n_bytes)
        return encode_new(e, piece, n_bytes, key, word, ids);
    int32_t n = word->n_tokens;
    for (int32_t i = 0; i < n; i++)
        ids[i] = word->token[i];
    return n;
}

/* ---- texts ------------------------------------------------------------------------------- */

static Err encode_piece(BpeEncoder *e, const char *piece, size_t n_bytes, size_t n_after,
                        uint16_t *ids, size_t *n_ids)
{
    if (n_bytes == 1) {
        ids[0] = e->bpe->byte_id[(uint8_t)*piece];
        *n_ids = 1;
    } else if (n_bytes <= KEY_BYTES) {
        *n_ids = (size_t)encode_word(e, piece, n_bytes, n_after, ids);
    } else if (n_bytes <= BPE_SHORT_BYTES) {
        *n_ids = (size_t)encode_short(e->bpe, piece, n_bytes, ids);
    } else {
        TRY(bpe_long_encode(&e->longer, e->bpe, piece, n_bytes, BPE_WINDOW_BYTES, ids, n_ids));
    }
    return OK;
}

Err bpe_encode(BpeEncoder *e, const char *text, size_t n_bytes, uint16_t *ids, int64_t *n_ids)
{
    uint16_t *out = ids;
    *n_ids = 0;
    for (size_t at = 0; at < n_bytes;) {
        size_t n_piece = split_piece(text + at, n_bytes - at), n = 0;
        TRY(encode_piece(e, text + at, n_piece, n_bytes - at, out, &n));
        out += n;
        at += n_piece;
    }
    *n_ids = out - ids;
    return OK;
}

/* Where the next BPE_END_OF_TEXT begins, or n_bytes. */
static size_t find_special(const Bpe *bpe, const char *text, size_t n_bytes)
{
    static const char SPECIAL[] = BPE_END_OF_TEXT;
    const char *found = NULL;
    if (bpe->end_of_text != BPE_NO_TOKEN)
        found = memmem(text, n_bytes, SPECIAL, sizeof SPECIAL - 1);
    return found ? (size_t)(found - text) : n_bytes;
}

Err bpe_encode_special(BpeEncoder *e, const char *text, size_t n_bytes, uint16_t *ids,
                       int64_t *n_ids)
{
    int64_t n = 0;
    *n_ids = 0;
    for (size_t at = 0; at < n_bytes;) {
        size_t n_text = find_special(e->bpe, text + at, n_bytes - at);
        TRY(bpe_encode(e, text + at, n_text, ids + *n_ids, &n));
        *n_ids += n;
        at += n_text;
        if (at < n_bytes) {
            ids[(*n_ids)++] = (uint16_t)e->bpe->end_of_text;
            at += sizeof BPE_END_OF_TEXT - 1;
        }
    }
    return OK;
}
