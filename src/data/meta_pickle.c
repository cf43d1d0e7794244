#include "data/meta_pickle.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer.h"
#include "text/utf8.h"

enum { MAX_DICTS = 3, MIN_PROTOCOL = 2, MAX_PROTOCOL = 5 };

/* Opcodes, by the names of Python's pickletools. */
enum {
    PROTO = 0x80,
    FRAME = 0x95,
    EMPTY_DICT = '}',
    MARK = '(',
    SETITEM = 's',
    SETITEMS = 'u',
    BININT = 'J',
    BININT1 = 'K',
    BININT2 = 'M',
    SHORT_BINUNICODE = 0x8C,
    BINUNICODE = 'X',
    MEMOIZE = 0x94,
    BINPUT = 'q',
    LONG_BINPUT = 'r',
    BINGET = 'h',
    LONG_BINGET = 'j',
    STOP = '.'
};

typedef enum { IS_MARK, IS_NUMBER, IS_TEXT, IS_DICT } Kind;

typedef struct {
    Kind kind;
    int64_t number;   /* or the place of a dict */
    const char *text; /* in the file */
    size_t n_bytes;   /* of text */
} Value;

/* Zero-initialised is empty. */
typedef struct {
    Value *item;
    size_t n, capacity;
} Values;

typedef struct {
    const uint8_t *data;
    size_t n_bytes, at;
    Values stack, memo, dict[MAX_DICTS]; /* a dict: keys and values in turns */
    int32_t n_dicts;
} Reader;

/* ---- values ------------------------------------------------------------------------------ */

static Err push(Values *v, Value value)
{
    if (v->n == v->capacity) {
        size_t capacity = v->capacity ? 2 * v->capacity : 64;
        Value *grown = realloc(v->item, capacity * sizeof *grown);
        if (!grown)
            FAIL(ERR_SYSTEM, "out of memory for a pickle");
        v->item = grown;
        v->capacity = capacity;
    }
    v->item[v->n++] = value;
    return OK;
}

static Err take_bytes(Reader *r, size_t n, const uint8_t **bytes)
{
    if (n > r->n_bytes - r->at)
        FAIL(ERR_DATA, "is cut off at byte %zu", r->n_bytes);
    *bytes = r->data + r->at;
    r->at += n;
    return OK;
}

/* An unsigned little-endian number of n bytes. */
static Err take_number(Reader *r, size_t n, uint64_t *number)
{
    const uint8_t *bytes = NULL;
    TRY(take_bytes(r, n, &bytes));
    *number = 0;
    for (size_t i = n; i > 0; i--)
        *number = *number << 8 | bytes[i - 1];
    return OK;
}

static Err push_number(Reader *r, size_t n)
{
    uint64_t number;
    TRY(take_number(r, n, &number));
    int64_t value = n == 4 ? (int32_t)(uint32_t)number : (int64_t)number;
    return push(&r->stack, (Value){.kind = IS_NUMBER, .number = value});
}

static Err push_text(Reader *r, size_t n_length)
{
    uint64_t n = 0;
    const uint8_t *bytes = NULL;
    TRY(take_number(r, n_length, &n));
    TRY(take_bytes(r, (size_t)n, &bytes));
    return push(&r->stack,
                (Value){.kind = IS_TEXT, .text = (const char *)bytes, .n_bytes = (size_t)n});
}

static Err push_dict(Reader *r)
{
    if (r->n_dicts == MAX_DICTS)
        FAIL(ERR_DATA, "has more than %d dicts", MAX_DICTS);
    return push(&r->stack, (Value){.kind = IS_DICT, .number = r->n_dicts++});
}

/* ---- the memo: what a pickle refers to again, by number ---------------------------------- */

/* Python numbers in order. */
static Err put_memo(Reader *r, uint64_t index)
{
    if (r->stack.n == 0 || index != r->memo.n || r->stack.item[r->stack.n - 1].kind == IS_MARK)
        FAIL(ERR_DATA, "byte %zu: remembers nothing, or out of order", r->at);
    return push(&r->memo, r->stack.item[r->stack.n - 1]);
}

static Err put_memo_at(Reader *r, size_t n)
{
    uint64_t index = 0;
    TRY(take_number(r, n, &index));
    return put_memo(r, index);
}

static Err get_memo(Reader *r, size_t n)
{
    uint64_t index = 0;
    TRY(take_number(r, n, &index));
    if (index >= r->memo.n)
        FAIL(ERR_DATA, "byte %zu: refers to what is not there", r->at);
    return push(&r->stack, r->memo.item[index]);
}

/* ---- dicts ------------------------------------------------------------------------------- */

/* The values from `first` on are keys and values of the dict before them, or before the mark. */
static Err set_items(Reader *r, size_t first, size_t dict_at)
{
    Values *stack = &r->stack;
    if ((stack->n - first) % 2 || stack->item[dict_at].kind != IS_DICT)
        FAIL(ERR_DATA, "byte %zu: no dict, or a key without a value", r->at);
    Values *dict = &r->dict[stack->item[dict_at].number];
    for (size_t i = first; i < stack->n; i++)
        TRY(push(dict, stack->item[i]));
    stack->n = dict_at + 1;
    return OK;
}

static Err set_item(Reader *r)
{
    if (r->stack.n < 3)
        FAIL(ERR_DATA, "byte %zu: no dict, or a key without a value", r->at);
    return set_items(r, r->stack.n - 2, r->stack.n - 3);
}

static Err set_marked(Reader *r)
{
    size_t first = r->stack.n;
    while (first > 0 && r->stack.item[first - 1].kind != IS_MARK)
        first--;
    if (first < 2)
        FAIL(ERR_DATA, "byte %zu: no dict before a mark", r->at);
    return set_items(r, first, first - 2);
}

/* ---- the language ------------------------------------------------------------------------ */

static Err check_protocol(Reader *r)
{
    uint64_t code = 0, version = 0;
    TRY(take_number(r, 1, &code));
    TRY(take_number(r, 1, &version));
    if (code != PROTO || version < MIN_PROTOCOL || version > MAX_PROTOCOL)
        FAIL(ERR_DATA, "is no pickle of protocol %d to %d", MIN_PROTOCOL, MAX_PROTOCOL);
    return OK;
}

static Err step(Reader *r, uint64_t code)
{
    uint64_t ignored;
    switch (code) {
    case FRAME:
        return take_number(r, 8, &ignored);
    case EMPTY_DICT:
        return push_dict(r);
    case MARK:
        return push(&r->stack, (Value){.kind = IS_MARK});
    case SETITEM:
        return set_item(r);
    case SETITEMS:
        return set_marked(r);
    case BININT:
        return push_number(r, 4);
    case BININT1:
        return push_number(r, 1);
    case BININT2:
        return push_number(r, 2);
    case SHORT_BINUNICODE:
        return push_text(r, 1);
    case BINUNICODE:
        return push_text(r, 4);
    case MEMOIZE:
        return put_memo(r, r->memo.n);
    case BINPUT:
        return put_memo_at(r, 1);
    case LONG_BINPUT:
        return put_memo_at(r, 4);
    case BINGET:
        return get_memo(r, 1);
    case LONG_BINGET:
        return get_memo(r, 4);
    default:
        FAIL(ERR_DATA, "byte %zu: 0x%02X has no place in a vocabulary of characters", r->at - 1,
             (unsigned)code);
    }
}

static Err run(Reader *r)
{
    uint64_t code = 0;
    TRY(check_protocol(r));
    for (;;) {
        TRY(take_number(r, 1, &code));
        if (code == STOP)
            break;
        TRY(step(r, code));
    }
    if (r->at != r->n_bytes || r->stack.n != 1 || r->stack.item[0].kind != IS_DICT)
        FAIL(ERR_DATA, "is not one dict");
    return OK;
}

/* ---- the shape --------------------------------------------------------------------------- */

/* The value of a key of the whole, which comes once and is of this kind. */
static Err find(const Reader *r, const char *key, Kind kind, Value *value)
{
    const Values *root = &r->dict[r->stack.item[0].number];
    int32_t n = 0;
    for (size_t i = 0; i < root->n; i += 2) {
        const Value *k = &root->item[i];
        if (k->kind != IS_TEXT || k->n_bytes != strlen(key) ||
            memcmp(k->text, key, k->n_bytes) != 0)
            continue;
        *value = root->item[i + 1];
        n++;
    }
    if (n != 1 || value->kind != kind)
        FAIL(ERR_DATA,
             "should be {\"vocab_size\": n, \"itos\": {...}, \"stoi\": {...}}: \"%s\" is "
             "missing or of another kind",
             key);
    return OK;
}

/* An id and its character, as either dict has them. */
static Err read_pair(const Value *id, const Value *text, int32_t n, uint32_t *code_point)
{
    if (id->kind != IS_NUMBER || id->number < 0 || id->number >= n)
        FAIL(ERR_DATA, "has an id that is no whole number from 0 to %d", n - 1);
    if (text->kind != IS_TEXT || text->n_bytes == 0 ||
        utf8_decode(text->text, text->n_bytes, code_point) != text->n_bytes)
        FAIL(ERR_DATA, "id %d is not of one character", (int)id->number);
    return OK;
}

static Err read_itos(const Values *itos, int32_t n, uint32_t *code_point)
{
    for (int32_t i = 0; i < n; i++) {
        TRY(read_pair(&itos->item[2 * i], &itos->item[2 * i + 1], n, &code_point[i]));
        if (itos->item[2 * i].number != i)
            FAIL(ERR_DATA, "\"itos\" should name the ids in order, %d after %d", i, i - 1);
        if (i > 0 && code_point[i] <= code_point[i - 1])
            FAIL(ERR_DATA, "the character of id %d (U+%04X) should come after U+%04X", i,
                 code_point[i], code_point[i - 1]);
    }
    return OK;
}

/* Both are in order, so that each character is there once. */
static Err check_stoi(const Values *stoi, int32_t n, const uint32_t *code_point)
{
    uint32_t c = 0;
    for (int32_t i = 0; i < n; i++) {
        TRY(read_pair(&stoi->item[2 * i + 1], &stoi->item[2 * i], n, &c));
        if (stoi->item[2 * i + 1].number != i || c != code_point[i])
            FAIL(ERR_DATA, "\"itos\" and \"stoi\" differ at id %d", i);
    }
    return OK;
}

static Err read_shape(const Reader *r, uint32_t **code_point, int32_t *n)
{
    Value size = {0}, itos = {0}, stoi = {0};
    TRY(find(r, "vocab_size", IS_NUMBER, &size));
    TRY(find(r, "itos", IS_DICT, &itos));
    TRY(find(r, "stoi", IS_DICT, &stoi));
    if (r->dict[r->stack.item[0].number].n != 6)
        FAIL(ERR_DATA, "should have the keys vocab_size, itos and stoi, and no other");
    if (size.number < 1 || size.number > TOKENIZER_MAX_VOCAB)
        FAIL(ERR_DATA, "\"vocab_size\" should be from 1 to %d", TOKENIZER_MAX_VOCAB);
    *n = (int32_t)size.number;
    if (r->dict[itos.number].n != 2 * (size_t)*n || r->dict[stoi.number].n != 2 * (size_t)*n)
        FAIL(ERR_DATA, "\"itos\" and \"stoi\" should have %d entries each (vocab_size)", *n);
    *code_point = malloc((size_t)*n * sizeof **code_point);
    if (!*code_point)
        FAIL(ERR_SYSTEM, "out of memory for a vocabulary of %d characters", *n);
    TRY(read_itos(&r->dict[itos.number], *n, *code_point));
    return check_stoi(&r->dict[stoi.number], *n, *code_point);
}

Err meta_pickle_read(const uint8_t *data, size_t n_bytes, uint32_t **code_point, int32_t *n)
{
    Reader r = {.data = data, .n_bytes = n_bytes};
    *code_point = NULL;
    Err err = run(&r);
    if (!err)
        err = read_shape(&r, code_point, n);
    if (err) {
        free(*code_point);
        *code_point = NULL;
    }
    free(r.stack.item);
    free(r.memo.item);
    for (int i = 0; i < MAX_DICTS; i++)
        free(r.dict[i].item);
    return err;
}
