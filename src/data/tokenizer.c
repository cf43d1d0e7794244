#include "data/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "data/meta_pickle.h"
#include "text/utf8.h"

enum {
    META_VERSION = 1,
    META_MAX_BYTES = 4 << 20 /* 65536 characters take 1 MiB, written as "\uXXXX\uXXXX" */
};

#define META_FORMAT "gpt_ddp.tokenizer"

static Err not_utf8(const char *text, size_t at)
{
    return ERR_NEW(ERR_DATA,
                   "byte %zu (0x%02X) is not valid UTF-8: convert the text (iconv -t UTF-8), or "
                   "use the byte tokenizer",
                   at, (uint8_t)text[at]);
}

/* ---- building ---------------------------------------------------------------------------- */

/* Fill id_of from code_point. On failure nothing is kept. */
static Err index_code_points(Tokenizer *t)
{
    size_t n = (size_t)t->code_point[t->vocab_size - 1] + 1;
    t->id_of = calloc(n, sizeof *t->id_of);
    if (!t->id_of) {
        tokenizer_free(t);
        FAIL(ERR_SYSTEM, "out of memory for a vocabulary of %zu code points", n);
    }
    for (int32_t id = 0; id < t->vocab_size; id++)
        t->id_of[t->code_point[id]] = (uint16_t)id;
    return OK;
}

/* A tokenizer with room for n code points, still to be filled and indexed. */
static Err char_tokenizer(Tokenizer *t, int32_t n)
{
    uint32_t *code_point = malloc((size_t)n * sizeof *code_point);
    if (!code_point)
        FAIL(ERR_SYSTEM, "out of memory for a vocabulary of %d characters", n);
    *t = (Tokenizer){.kind = TOKENIZER_CHAR, .vocab_size = n, .code_point = code_point};
    return OK;
}

/* seen[c] = whether c is in the text; *n_kinds = how many are. */
static Err find_code_points(const char *text, size_t n_bytes, bool *seen, int32_t *n_kinds)
{
    *n_kinds = 0;
    for (size_t at = 0; at < n_bytes;) {
        uint32_t c;
        size_t length = utf8_decode(text + at, n_bytes - at, &c);
        if (length == 0)
            return not_utf8(text, at);
        *n_kinds += !seen[c];
        seen[c] = true;
        at += length;
    }
    if (*n_kinds == 0)
        FAIL(ERR_DATA, "there is no text in it");
    if (*n_kinds > TOKENIZER_MAX_VOCAB)
        FAIL(ERR_DATA,
             "%d kinds of characters, more than the %d a token file holds: use the byte tokenizer",
             *n_kinds, TOKENIZER_MAX_VOCAB);
    return OK;
}

static Err from_seen(Tokenizer *t, const bool *seen, int32_t n_kinds)
{
    TRY(char_tokenizer(t, n_kinds));
    int32_t id = 0;
    for (uint32_t c = 0; c < UNICODE_CODE_POINTS; c++)
        if (seen[c])
            t->code_point[id++] = c;
    return index_code_points(t);
}

Err tokenizer_from_text(Tokenizer *t, const char *text, size_t n_bytes)
{
    *t = (Tokenizer){0};
    bool *seen = calloc(UNICODE_CODE_POINTS, sizeof *seen);
    if (!seen)
        FAIL(ERR_SYSTEM, "out of memory for the set of characters");
    int32_t n_kinds;
    Err err = find_code_points(text, n_bytes, seen, &n_kinds);
    if (!err)
        err = from_seen(t, seen, n_kinds);
    free(seen);
    return err;
}

void tokenizer_bytes(Tokenizer *t)
{
    *t = (Tokenizer){.kind = TOKENIZER_BYTE, .vocab_size = 256};
}

Err tokenizer_open_bpe(Tokenizer *t, const char *dir)
{
    Bpe *bpe;
    *t = (Tokenizer){0};
    TRY(bpe_open(&bpe, dir));
    *t = (Tokenizer){.kind = TOKENIZER_BPE, .vocab_size = bpe_vocab_size(bpe), .bpe = bpe};
    return OK;
}

void tokenizer_free(Tokenizer *t)
{
    free(t->code_point);
    free(t->id_of);
    bpe_close(t->bpe);
    *t = (Tokenizer){0};
}

/* ---- text <-> ids ------------------------------------------------------------------------ */

int64_t tokenizer_count(const Tokenizer *t, const char *text, size_t n_bytes)
{
    if (t->kind == TOKENIZER_BYTE)
        return (int64_t)n_bytes;
    int64_t n = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n += ((uint8_t)text[i] & 0xC0) != 0x80;
    return n;
}

/* What a terminal would obey. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

/* One character at text[*at], which is moved behind it. */
static Err encode_char(const Tokenizer *t, const char *text, size_t n_bytes, size_t *at,
                       int32_t *id)
{
    uint32_t c;
    size_t length = utf8_decode(text + *at, n_bytes - *at, &c);
    if (length == 0)
        return not_utf8(text, *at);
    bool in_table = c <= t->code_point[t->vocab_size - 1];
    *id = in_table ? t->id_of[c] : 0;
    if (t->code_point[*id] != c)
        FAIL(ERR_DATA, "the character \"%.*s\" (U+%04X) at byte %zu is not in the vocabulary",
             is_control(c) ? 0 : (int)length, text + *at, c, *at);
    *at += length;
    return OK;
}

Err tokenizer_encode_part(const Tokenizer *t, const char *text, size_t n_bytes, size_t *at,
                          int32_t *ids, int64_t capacity, int64_t *n_ids)
{
    int64_t n = 0;
    ASSERT(t->kind != TOKENIZER_BPE, "BPE cannot begin anywhere in a text");
    for (; n < capacity && *at < n_bytes; n++) {
        if (t->kind == TOKENIZER_BYTE)
            ids[n] = (uint8_t)text[(*at)++];
        else
            TRY(encode_char(t, text, n_bytes, at, &ids[n]));
    }
    *n_ids = n;
    return OK;
}

static Err encode_special(const Bpe *bpe, const char *text, size_t n_bytes, uint16_t *ids,
                          int64_t *n_ids)
{
    BpeEncoder *e;
    TRY(bpe_encoder_open(&e, bpe));
    Err err = bpe_encode_special(e, text, n_bytes, ids, n_ids);
    bpe_encoder_close(e);
    return err;
}

/* ids has room for n_bytes. */
static Err encode_bpe(const Bpe *bpe, const char *text, size_t n_bytes, int32_t *ids,
                      int64_t *n_ids)
{
    uint16_t *id = malloc((n_bytes + 1) * sizeof *id);
    if (!id)
        FAIL(ERR_SYSTEM, "out of memory for the tokens of %zu bytes of text", n_bytes);
    Err err = encode_special(bpe, text, n_bytes, id, n_ids);
    for (int64_t i = 0; i < *n_ids && !err; i++)
        ids[i] = id[i];
    free(id);
    return err;
}

static Err encode_whole(const Tokenizer *t, const char *text, size_t n_bytes, int32_t *ids,
                        int64_t *n_ids)
{
    size_t at = 0;
    if (t->kind == TOKENIZER_BPE)
        return encode_bpe(t->bpe, text, n_bytes, ids, n_ids);
    return tokenizer_encode_part(t, text, n_bytes, &at, ids, (int64_t)n_bytes, n_ids);
}

Err tokenizer_encode(const Tokenizer *t, const char *text, size_t n_bytes, int32_t **ids,
                     int64_t *n_ids)
{
    /* Each id takes at least one byte, so this is enough for invalid text too. */
    *ids = malloc((n_bytes + 1) * sizeof **ids);
    *n_ids = 0;
    if (!*ids)
        FAIL(ERR_SYSTEM, "out of memory for the tokens of %zu bytes of text", n_bytes);
    Err err = encode_whole(t, text, n_bytes, *ids, n_ids);
    if (err) {
        free(*ids);
        *ids = NULL;
    }
    return err;
}

int32_t tokenizer_decode(const Tokenizer *t, int32_t id, char *out)
{
    ASSERT(id >= 0 && id < t->vocab_size, "id %d of %d", id, t->vocab_size);
    ASSERT(t->kind != TOKENIZER_BPE, "the bytes of such a token may be many");
    if (t->kind == TOKENIZER_CHAR)
        return utf8_encode(t->code_point[id], out);
    out[0] = (char)id;
    return 1;
}

const char *tokenizer_text(const Tokenizer *t, int32_t id, char *spare, size_t *n_bytes)
{
    if (t->kind == TOKENIZER_BPE)
        return bpe_text(t->bpe, id, n_bytes);
    *n_bytes = (size_t)tokenizer_decode(t, id, spare);
    return spare;
}

/* ---- writing meta.json ------------------------------------------------------------------- */

static json_t *itos_json(const Tokenizer *t)
{
    json_t *itos = json_array();
    for (int32_t id = 0; id < t->vocab_size; id++) {
        char text[TOKENIZER_BYTES_PER_ID];
        int32_t length = tokenizer_decode(t, id, text);
        if (json_array_append_new(itos, json_stringn(text, (size_t)length)) != 0) {
            json_decref(itos);
            return NULL;
        }
    }
    return itos;
}

static const char *const KIND_NAME[] = {
    [TOKENIZER_CHAR] = "char", [TOKENIZER_BYTE] = "byte", [TOKENIZER_BPE] = "gpt2"};

/* The text of meta.json, malloc'd; NULL when memory is short. */
static char *meta_text(const Tokenizer *t)
{
    bool chars = t->kind == TOKENIZER_CHAR;
    json_t *root = json_pack("{s:s, s:i, s:s, s:i}", "format", META_FORMAT, "version", META_VERSION,
                             "kind", KIND_NAME[t->kind], "vocab_size", (int)t->vocab_size);
    int failed = chars ? json_object_set_new(root, "itos", itos_json(t)) : 0;
    char *text = failed ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

Err tokenizer_save(const Tokenizer *t, const char *path)
{
    char *text = meta_text(t);
    if (!text)
        FAIL(ERR_SYSTEM, "out of memory for %s", path);
    Err err = file_publish(path, text, strlen(text));
    free(text);
    return err;
}

/* ---- reading meta.json ------------------------------------------------------------------- */

/* Is `key` in the NULL-ended list? */
static bool in_list(const char *const *list, const char *key)
{
    while (*list && strcmp(*list, key) != 0)
        list++;
    return *list != NULL;
}

/* format, version and no key that this version does not know. */
static Err check_envelope(json_t *root)
{
    static const char *const KEYS[] = {"format", "version", "kind", "vocab_size", "itos", NULL};
    const char *format = json_string_value(json_object_get(root, "format"));
    if (!format || strcmp(format, META_FORMAT) != 0)
        FAIL(ERR_DATA, "not a tokenizer: \"format\" should be \"" META_FORMAT "\"");
    json_t *version = json_object_get(root, "version");
    if (!json_is_integer(version) || json_integer_value(version) != META_VERSION)
        FAIL(ERR_DATA, "\"version\" should be %d", META_VERSION);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!in_list(KEYS, key))
            FAIL(ERR_DATA, "unknown key \"%.40s\"", key);
    }
    return OK;
}

static Err read_vocab_size(json_t *root, int32_t *vocab_size)
{
    json_t *value = json_object_get(root, "vocab_size");
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > TOKENIZER_MAX_VOCAB)
        FAIL(ERR_DATA, "\"vocab_size\" should be a whole number from 1 to %d", TOKENIZER_MAX_VOCAB);
    *vocab_size = (int32_t)n;
    return OK;
}

/* Entry id of itos: a string of one code point, above the one before it. */
static Err read_code_point(json_t *itos, int32_t id, uint32_t *code_point)
{
    json_t *entry = json_array_get(itos, (size_t)id);
    const char *text = json_string_value(entry);
    size_t n_bytes = json_string_length(entry);
    if (!text || n_bytes == 0 || utf8_decode(text, n_bytes, &code_point[id]) != n_bytes)
        FAIL(ERR_DATA, "\"itos\" entry %d should be a string of one character", id);
    if (id > 0 && code_point[id] <= code_point[id - 1])
        FAIL(ERR_DATA, "\"itos\" entry %d (U+%04X) should come after U+%04X: sorted, each once", id,
             code_point[id], code_point[id - 1]);
    return OK;
}

static Err read_char(Tokenizer *t, json_t *root, int32_t vocab_size)
{
    json_t *itos = json_object_get(root, "itos");
    if (!json_is_array(itos) || json_array_size(itos) != (size_t)vocab_size)
        FAIL(ERR_DATA, "\"itos\" should be a list of %d characters (vocab_size)", vocab_size);
    TRY(char_tokenizer(t, vocab_size));
    for (int32_t id = 0; id < vocab_size; id++) {
        Err err = read_code_point(itos, id, t->code_point);
        if (err) {
            tokenizer_free(t);
            return err;
        }
    }
    return index_code_points(t);
}

static Err read_byte(Tokenizer *t, json_t *root, int32_t vocab_size)
{
    if (vocab_size != 256 || json_object_get(root, "itos"))
        FAIL(ERR_DATA, "kind \"byte\" has vocab_size 256 and no \"itos\"");
    tokenizer_bytes(t);
    return OK;
}

/* The vocabulary's files are beside meta.json, `path`. */
static Err read_bpe(Tokenizer *t, json_t *root, int32_t vocab_size, const char *path)
{
    char dir[FILE_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    if (json_object_get(root, "itos"))
        FAIL(ERR_DATA, "kind \"gpt2\" has no \"itos\"");
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    TRY(tokenizer_open_bpe(t, dir[0] ? dir : "/"));
    if (t->vocab_size == vocab_size)
        return OK;
    Err err = ERR_NEW(ERR_DATA, "\"vocab_size\" is %d, the vocabulary beside it has %d tokens",
                      vocab_size, t->vocab_size);
    tokenizer_free(t);
    return err;
}

static Err read_meta(Tokenizer *t, json_t *root, const char *path)
{
    TRY(check_envelope(root));
    const char *kind = json_string_value(json_object_get(root, "kind"));
    int32_t vocab_size = 0;
    TRY(read_vocab_size(root, &vocab_size));
    if (kind && strcmp(kind, "char") == 0)
        return read_char(t, root, vocab_size);
    if (kind && strcmp(kind, "byte") == 0)
        return read_byte(t, root, vocab_size);
    if (kind && strcmp(kind, "gpt2") == 0)
        return read_bpe(t, root, vocab_size, path);
    FAIL(ERR_DATA, "\"kind\" should be \"char\", \"byte\" or \"gpt2\"");
}

static Err load_json(Tokenizer *t, const char *path)
{
    char *text;
    size_t n_bytes;
    TRY(file_read_text(path, META_MAX_BYTES, &text, &n_bytes));
    json_error_t fault;
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
    free(text);
    if (!root)
        FAIL(ERR_DATA, "%s:%d: %s; write it again with gpt_prepare", path, fault.line, fault.text);
    Err err = err_prefix(read_meta(t, root, path), "%s", path);
    json_decref(root);
    return err;
}

static Err read_pickle(Tokenizer *t, const FileMap *file)
{
    uint32_t *code_point;
    int32_t n;
    if (file->n_bytes > META_MAX_BYTES)
        FAIL(ERR_DATA, "is larger than %d bytes", META_MAX_BYTES);
    TRY(meta_pickle_read(file->data, file->n_bytes, &code_point, &n));
    *t = (Tokenizer){.kind = TOKENIZER_CHAR, .vocab_size = n, .code_point = code_point};
    return index_code_points(t);
}

static Err load_pickle(Tokenizer *t, const char *path)
{
    FileMap file;
    TRY(file_map(&file, path));
    Err err = err_prefix(read_pickle(t, &file), "%s", path);
    file_unmap(&file);
    return err;
}

Err tokenizer_load(Tokenizer *t, const char *path)
{
    size_t n = strlen(path);
    *t = (Tokenizer){0};
    return n > 4 && strcmp(path + n - 4, ".pkl") == 0 ? load_pickle(t, path) : load_json(t, path);
}

Err tokenizer_open_dir(Tokenizer *t, const char *dir)
{
    static const char *const NAME[] = {"meta.json", "meta.pkl"};
    const char *vocab, *merges;
    char path[FILE_PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        TRY(path_join(path, dir, NAME[i]));
        if (path_exists(path))
            return tokenizer_load(t, path);
    }
    Err err = bpe_find_files(dir, &vocab, &merges);
    if (!err)
        return tokenizer_open_bpe(t, dir);
    err_free(err);
    TRY(path_join(path, dir, "tokenizer.json"));
    FAIL(
        ERR_MISSING,
        "%s has no meta.json, and no vocab.json and merges.txt%s: without the tokenizer its tokens "
        "have no text",
        dir, path_exists(path) ? " (its tokenizer.json is not read)" : "");
}
