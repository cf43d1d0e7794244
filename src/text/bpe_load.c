#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "text/bpe.h"
#include "text/bpe_short.h"
#include "text/bpe_table.h"
#include "text/utf8.h"

/* The files write a token in an alphabet of 256 printable characters, one per byte: bytes 33-126,
 * 161-172 and 174-255 stand for themselves as code points, the other 68, in order, for U+0100 to
 * U+0143. Source: bytes_to_unicode of GPT-2's encoder.py. */
enum { ALPHABET = 0x144, NOT_IN_ALPHABET = -1, FIRST_REPLACEMENT = 0x100 };

typedef struct {
    const char *vocab_path, *merges_path;
    int16_t byte_of[ALPHABET]; /* by code point; or NOT_IN_ALPHABET */
    bool *is_made;             /* [vocab_size] single bytes, and what a merge makes */
    Bpe *bpe;
} Reader;

/* ---- the tables -------------------------------------------------------------------------- */

uint32_t bpe_token_slot(const Bpe *bpe, const char *text, size_t n_bytes)
{
    uint32_t i = (uint32_t)XXH3_64bits(text, n_bytes) & bpe->token_mask;
    for (int32_t id; (id = bpe->token_slot[i]) != BPE_NO_TOKEN; i = (i + 1) & bpe->token_mask)
        if (bpe_token_bytes(bpe, id) == n_bytes &&
            memcmp(bpe->text + bpe->text_at[id], text, n_bytes) == 0)
            break;
    return i;
}

int32_t bpe_find(const Bpe *bpe, const char *text, size_t n_bytes)
{
    return bpe->token_slot[bpe_token_slot(bpe, text, n_bytes)];
}

/* The least power of two that leaves a table of n entries half empty. */
static uint32_t table_slots(size_t n)
{
    uint32_t slots = 2;
    while (slots < 2 * n)
        slots *= 2;
    return slots;
}

static Err make_token_table(Bpe *bpe, size_t n_text)
{
    uint32_t n = table_slots((size_t)bpe->vocab_size);
    bpe->token_mask = n - 1;
    bpe->text = malloc(n_text + 1);
    bpe->text_at = malloc(((size_t)bpe->vocab_size + 1) * sizeof *bpe->text_at);
    bpe->token_slot = malloc(n * sizeof *bpe->token_slot);
    bpe->is_whole = calloc((size_t)bpe->vocab_size, sizeof *bpe->is_whole);
    if (!bpe->text || !bpe->text_at || !bpe->token_slot || !bpe->is_whole)
        FAIL(ERR_SYSTEM, "out of memory for a vocabulary of %d tokens", bpe->vocab_size);
    for (uint32_t i = 0; i < n; i++)
        bpe->token_slot[i] = BPE_NO_TOKEN;
    return OK;
}

static Err make_merge_table(Bpe *bpe, size_t n_merges)
{
    uint32_t n = table_slots(n_merges);
    bpe->merge_mask = n - 1;
    bpe->merge_shift = 64 - __builtin_ctz(n);
    bpe->merge = malloc(n * sizeof *bpe->merge);
    if (!bpe->merge)
        FAIL(ERR_SYSTEM, "out of memory for %zu merges", n_merges);
    memset(bpe->merge, 0xFF, n * sizeof *bpe->merge); /* BPE_NO_PAIR, BPE_NO_MERGE */
    return OK;
}

void bpe_close(Bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->text);
    free(bpe->text_at);
    free(bpe->token_slot);
    free(bpe->is_whole);
    free(bpe->merge);
    free(bpe);
}

/* ---- the alphabet ------------------------------------------------------------------------ */

static bool stands_for_itself(int byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

static void make_alphabet(int16_t byte_of[ALPHABET])
{
    int replacement = FIRST_REPLACEMENT;
    memset(byte_of, 0xFF, ALPHABET * sizeof *byte_of); /* NOT_IN_ALPHABET */
    for (int byte = 0; byte < 256; byte++)
        byte_of[stands_for_itself(byte) ? byte : replacement++] = (int16_t)byte;
}

/* bytes (room for n_bytes) = what a token says in the alphabet; false when it says something else,
 * or nothing. */
static bool read_token(const Reader *r, const char *text, size_t n_bytes, char *bytes, size_t *n)
{
    uint32_t c;
    *n = 0;
    for (size_t at = 0, length; at < n_bytes; at += length) {
        length = utf8_decode(text + at, n_bytes - at, &c);
        if (length == 0 || c >= ALPHABET || r->byte_of[c] == NOT_IN_ALPHABET)
            return false;
        bytes[(*n)++] = (char)r->byte_of[c];
    }
    return *n > 0;
}

/* ---- vocab.json -------------------------------------------------------------------------- */

/* key[id], n_bytes[id] of every token, borrowed from `root`; *n_text in all. */
static Err order_tokens(const Reader *r, json_t *root, const char **key, size_t *n_text)
{
    size_t n = json_object_size(root);
    *n_text = 0;
    for (void *i = json_object_iter(root); i; i = json_object_iter_next(root, i)) {
        json_t *value = json_object_iter_value(i);
        const char *text = json_object_iter_key(i);
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= (json_int_t)n)
            FAIL(ERR_DATA, "%s: the id of \"%.40s\" should be a whole number from 0 to %zu",
                 r->vocab_path, text, n - 1);
        if (key[id])
            FAIL(ERR_DATA, "%s: \"%.40s\" and \"%.40s\" have the same id %d", r->vocab_path,
                 key[id], text, (int)id);
        key[id] = text;
        *n_text += strlen(text);
    }
    return OK;
}

static Err add_token(Reader *r, int32_t id, const char *key)
{
    Bpe *bpe = r->bpe;
    char *text = bpe->text + bpe->text_at[id];
    size_t n;
    if (!read_token(r, key, strlen(key), text, &n))
        FAIL(ERR_DATA, "%s: the token \"%.40s\" is not written in GPT-2's alphabet of bytes",
             r->vocab_path, key);
    bpe->text_at[id + 1] = bpe->text_at[id] + (uint32_t)n;
    bpe->token_slot[bpe_token_slot(bpe, text, n)] = id; /* keys differ, and so do these */
    return OK;
}

static Err add_tokens(Reader *r, json_t *root)
{
    size_t n_text;
    r->bpe->vocab_size = (int32_t)json_object_size(root);
    const char **key = calloc((size_t)r->bpe->vocab_size, sizeof *key);
    if (!key)
        FAIL(ERR_SYSTEM, "out of memory for a vocabulary of %d tokens", r->bpe->vocab_size);
    Err err = order_tokens(r, root, key, &n_text);
    if (!err)
        err = make_token_table(r->bpe, n_text);
    if (!err)
        r->bpe->text_at[0] = 0;
    for (int32_t id = 0; id < r->bpe->vocab_size && !err; id++)
        err = add_token(r, id, key[id]);
    free(key);
    return err;
}

static Err find_bytes(Reader *r)
{
    Bpe *bpe = r->bpe;
    r->is_made = calloc((size_t)bpe->vocab_size, sizeof *r->is_made);
    if (!r->is_made)
        FAIL(ERR_SYSTEM, "out of memory for a vocabulary of %d tokens", bpe->vocab_size);
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        int32_t id = bpe_find(bpe, &text, 1);
        if (id == BPE_NO_TOKEN)
            FAIL(ERR_DATA, "%s: has no token for the byte 0x%02X", r->vocab_path, byte);
        bpe->byte_id[byte] = (uint16_t)id;
        r->is_made[id] = true;
    }
    bpe->end_of_text = bpe_find(bpe, BPE_END_OF_TEXT, sizeof BPE_END_OF_TEXT - 1);
    return OK;
}

static Err read_vocab_json(Reader *r, json_t *root)
{
    if (!json_is_object(root))
        FAIL(ERR_DATA, "%s: should be an object of tokens and their ids", r->vocab_path);
    if (json_object_size(root) < 256 || json_object_size(root) > BPE_MAX_VOCAB)
        FAIL(ERR_DATA, "%s: has %zu tokens, should be 256 to %d", r->vocab_path,
             json_object_size(root), BPE_MAX_VOCAB);
    TRY(add_tokens(r, root));
    return find_bytes(r);
}

static Err read_vocab(Reader *r)
{
    char *text;
    size_t n_bytes;
    json_error_t error;
    TRY(file_read_text(r->vocab_path, BPE_MAX_FILE_BYTES, &text, &n_bytes));
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!root)
        FAIL(ERR_DATA, "%s:%d: %s", r->vocab_path, error.line, error.text);
    Err err = read_vocab_json(r, root);
    json_decref(root);
    return err;
}

/* ---- merges.txt -------------------------------------------------------------------------- */

typedef struct {
    const char *text;
    size_t n_bytes;
    size_t number; /* from 1 */
} Line;

/* The next line of text[*at ..), without its end; false when there is none. */
static bool next_line(const char *text, size_t n_bytes, size_t *at, Line *line)
{
    if (*at >= n_bytes)
        return false;
    const char *end = memchr(text + *at, '\n', n_bytes - *at);
    size_t length = end ? (size_t)(end - text) - *at : n_bytes - *at;
    *line = (Line){text + *at, length, line->number + 1};
    *at += length + 1;
    if (length > 0 && line->text[length - 1] == '\r')
        line->n_bytes--;
    return true;
}

/* One side of a merge. */
static Err read_side(const Reader *r, const Line *line, const char *text, size_t n_bytes,
                     char *bytes, size_t *n, int32_t *id)
{
    *id = BPE_NO_TOKEN;
    if (read_token(r, text, n_bytes, bytes, n))
        *id = bpe_find(r->bpe, bytes, *n);
    if (*id == BPE_NO_TOKEN)
        FAIL(ERR_DATA, "%s:%zu: \"%.*s\" is not in the vocabulary", r->merges_path, line->number,
             n_bytes < 40 ? (int)n_bytes : 40, text);
    return OK;
}

static Err add_merge(Reader *r, const Line *line, int32_t left, int32_t right, int32_t made,
                     uint32_t rank)
{
    uint32_t pair = (uint32_t)left << 16 | (uint32_t)right;
    BpeMerge *slot = bpe_merge_slot(r->bpe, pair);
    if (slot->merge != BPE_NO_MERGE)
        FAIL(ERR_DATA, "%s:%zu: the same merge was given before", r->merges_path, line->number);
    *slot = (BpeMerge){pair, rank << 16 | (uint32_t)made};
    r->is_made[made] = true;
    return OK;
}

/* "left right". `bytes` has room for the line. */
static Err read_merge(Reader *r, const Line *line, uint32_t rank, char *bytes)
{
    const char *space = memchr(line->text, ' ', line->n_bytes);
    size_t n_left, n_right, n_first = space ? (size_t)(space - line->text) : 0;
    int32_t left, right, made;
    if (!space)
        FAIL(ERR_DATA, "%s:%zu: should be two tokens with a space between them", r->merges_path,
             line->number);
    TRY(read_side(r, line, line->text, n_first, bytes, &n_left, &left));
    TRY(read_side(r, line, space + 1, line->n_bytes - n_first - 1, bytes + n_left, &n_right,
                  &right));
    made = bpe_find(r->bpe, bytes, n_left + n_right);
    if (made == BPE_NO_TOKEN)
        FAIL(ERR_DATA, "%s:%zu: makes a token that is not in the vocabulary", r->merges_path,
             line->number);
    return add_merge(r, line, left, right, made, rank);
}

static size_t count_lines(const char *text, size_t n_bytes)
{
    size_t n = 0, at = 0;
    Line line = {0};
    while (next_line(text, n_bytes, &at, &line))
        n++;
    return n;
}

static bool is_version(const Line *line)
{
    static const char VERSION[] = "#version";
    return line->number == 1 && line->n_bytes >= sizeof VERSION - 1 &&
           memcmp(line->text, VERSION, sizeof VERSION - 1) == 0;
}

static Err add_merges(Reader *r, const char *text, size_t n_bytes, char *bytes)
{
    size_t at = 0;
    uint32_t rank = 0;
    Line line = {0};
    while (next_line(text, n_bytes, &at, &line))
        if (!is_version(&line))
            TRY(read_merge(r, &line, rank++, bytes));
    return OK;
}

static Err read_merge_lines(Reader *r, const char *text, size_t n_bytes)
{
    size_t n_lines = count_lines(text, n_bytes);
    if (n_lines > BPE_MAX_MERGES)
        FAIL(ERR_DATA, "%s: has %zu lines, more than %d", r->merges_path, n_lines, BPE_MAX_MERGES);
    TRY(make_merge_table(r->bpe, n_lines));
    char *bytes = malloc(n_bytes + 1);
    if (!bytes)
        FAIL(ERR_SYSTEM, "out of memory for %zu merges", n_lines);
    Err err = add_merges(r, text, n_bytes, bytes);
    free(bytes);
    return err;
}

static Err read_merges(Reader *r)
{
    char *text;
    size_t n_bytes;
    TRY(file_read_text(r->merges_path, BPE_MAX_FILE_BYTES, &text, &n_bytes));
    Err err = read_merge_lines(r, text, n_bytes);
    free(text);
    return err;
}

/* ---- both -------------------------------------------------------------------------------- */

/* "<...>" or "[...]": how special tokens are written. */
static bool looks_special(const char *text, size_t n_bytes)
{
    char first = text[0], last = text[n_bytes - 1];
    return n_bytes > 2 && ((first == '<' && last == '>') || (first == '[' && last == ']'));
}

/* A token that no merge makes says that the merges are cut off, or another vocabulary's. */
static Err check_made(const Reader *r)
{
    int32_t n = 0, first = 0;
    for (int32_t id = r->bpe->vocab_size - 1; id >= 0; id--) {
        size_t n_bytes;
        const char *text = bpe_text(r->bpe, id, &n_bytes);
        if (r->is_made[id] || looks_special(text, n_bytes))
            continue;
        n++;
        first = id;
    }
    if (n > 0)
        FAIL(ERR_DATA,
             "%s: no merge makes %d of the tokens of %s, the first with id %d: it is cut off, or "
             "of another vocabulary",
             r->merges_path, n, r->vocab_path, first);
    return OK;
}

static void find_whole(Bpe *bpe)
{
    uint16_t ids[BPE_SHORT_BYTES];
    for (int32_t id = 0; id < bpe->vocab_size; id++) {
        size_t n_bytes;
        const char *text = bpe_text(bpe, id, &n_bytes);
        bpe->is_whole[id] = n_bytes <= BPE_SHORT_BYTES &&
                            bpe_short_encode(bpe, text, (int32_t)n_bytes, ids) == 1 && ids[0] == id;
    }
}

static Err read_files(Reader *r)
{
    make_alphabet(r->byte_of);
    TRY(read_vocab(r));
    TRY(read_merges(r));
    TRY(check_made(r));
    find_whole(r->bpe);
    return OK;
}

Err bpe_open_files(Bpe **bpe, const char *vocab_path, const char *merges_path)
{
    Reader r = {.vocab_path = vocab_path, .merges_path = merges_path};
    *bpe = NULL;
    r.bpe = calloc(1, sizeof *r.bpe);
    if (!r.bpe)
        FAIL(ERR_SYSTEM, "out of memory for a tokenizer");
    Err err = read_files(&r);
    free(r.is_made);
    if (err) {
        bpe_close(r.bpe);
        return err;
    }
    *bpe = r.bpe;
    return OK;
}

/* ---- a folder ---------------------------------------------------------------------------- */

static Err is_in(const char *dir, const char *name, bool *found)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, name));
    *found = path_exists(path);
    return OK;
}

Err bpe_find_files(const char *dir, const char **vocab_name, const char **merges_name)
{
    static const char *const PAIR[][2] = {{"vocab.json", "merges.txt"},
                                          {"encoder.json", "vocab.bpe"}};
    bool has_fast;
    for (int i = 0; i < 2; i++) {
        bool has_vocab, has_merges;
        *vocab_name = PAIR[i][0];
        *merges_name = PAIR[i][1];
        TRY(is_in(dir, *vocab_name, &has_vocab));
        TRY(is_in(dir, *merges_name, &has_merges));
        if (has_vocab && has_merges)
            return OK;
        if (has_vocab || has_merges)
            FAIL(ERR_MISSING, "%s: has %s, but no %s", dir, PAIR[i][!has_vocab],
                 PAIR[i][has_vocab]);
    }
    TRY(is_in(dir, "tokenizer.json", &has_fast));
    FAIL(ERR_MISSING, "%s: has neither vocab.json and merges.txt nor encoder.json and vocab.bpe%s",
         dir,
         has_fast ? "; its tokenizer.json is not read: put vocab.json and merges.txt beside it"
                  : "");
}

Err bpe_open(Bpe **bpe, const char *dir)
{
    const char *vocab_name, *merges_name;
    char vocab[FILE_PATH_BYTES], merges[FILE_PATH_BYTES];
    *bpe = NULL;
    TRY(bpe_find_files(dir, &vocab_name, &merges_name));
    TRY(path_join(vocab, dir, vocab_name));
    TRY(path_join(merges, dir, merges_name));
    return bpe_open_files(bpe, vocab, merges);
}
