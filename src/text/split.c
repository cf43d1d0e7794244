#include "text/split.h"

#include <stdbool.h>
#include <stdint.h>

#include "text/unicode_class.h"
#include "text/utf8.h"

typedef struct {
    UnicodeClass kind;
    size_t n_bytes;
} Character;

static Character wide_character(const char *text, const char *end)
{
    uint32_t c = 0;
    size_t length = utf8_decode(text, (size_t)(end - text), &c);
    if (length == 0)
        return (Character){CLASS_OTHER, 1};
    return (Character){unicode_class(c), length};
}

/* The character at text < end. */
static inline Character character(const char *text, const char *end)
{
    uint8_t byte = (uint8_t)*text;
    if (byte < 0x80)
        return (Character){(UnicodeClass)UNICODE_CLASS_ASCII[byte], 1};
    return wide_character(text, end);
}

/* Bytes of 's 't 're 've 'm 'll 'd at text, which begins with an apostrophe; 0 when none is there.
 */
static size_t contraction(const char *text, const char *end)
{
    char a = end - text >= 2 ? text[1] : '\0';
    char b = end - text >= 3 ? text[2] : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* Where the run of characters of one kind that goes through `text` ends. */
static inline const char *run_end(const char *text, const char *end, UnicodeClass kind)
{
    while (text < end) {
        Character c = character(text, end);
        if (c.kind != kind)
            break;
        text += c.n_bytes;
    }
    return text;
}

/* A run of white space leaves its last character to what follows it, if anything does and the run
 * is longer than that. */
static const char *space_end(const char *text, const char *end)
{
    const char *at = text, *last = text;
    while (at < end) {
        Character c = character(at, end);
        if (c.kind != CLASS_SPACE)
            return last > text ? last : at;
        last = at;
        at += c.n_bytes;
    }
    return end;
}

size_t split_piece(const char *text, size_t n_bytes)
{
    const char *end = text + n_bytes, *at = text;
    size_t n = *text == '\'' ? contraction(text, end) : 0;
    if (n > 0)
        return n;
    Character c = character(at, end);
    if (*text == ' ' && n_bytes > 1)
        c = character(++at, end);
    if (c.kind == CLASS_SPACE)
        return (size_t)(space_end(text, end) - text);
    return (size_t)(run_end(at + c.n_bytes, end, c.kind) - text);
}

/* ---- cutting a text anywhere ------------------------------------------------------------- */

/* The kind of the character that ends at text[at], 0 < at; text[at] begins a character. */
static UnicodeClass kind_before(const char *text, size_t at)
{
    for (size_t n = 1; n <= UTF8_MAX_BYTES && n <= at; n++) {
        uint8_t byte = (uint8_t)text[at - n];
        if ((byte & 0xC0) == 0x80)
            continue;
        Character c = character(text + at - n, text + at);
        return c.n_bytes == n ? c.kind : CLASS_OTHER;
    }
    return CLASS_OTHER;
}

/* Does a piece end between text[at - 1] and the character at text[at]? White space before it may
 * belong to the same piece, and an apostrophe may begin a contraction. */
static bool is_certain(const char *text, size_t at, size_t n_bytes)
{
    if (((uint8_t)text[at] & 0xC0) == 0x80)
        return false;
    UnicodeClass before = kind_before(text, at);
    if (before == CLASS_SPACE || text[at - 1] == '\'')
        return false;
    return character(text + at, text + n_bytes).kind != before;
}

size_t split_cut(const char *text, size_t n_bytes)
{
    /* The character at a cut must be whole. */
    for (size_t at = n_bytes > UTF8_MAX_BYTES ? n_bytes - UTF8_MAX_BYTES : 0; at > 0; at--)
        if (is_certain(text, at, n_bytes))
            return at;
    return 0;
}
