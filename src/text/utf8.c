#include "text/utf8.h"

#include <string.h>

enum { FIRST_SURROGATE = 0xD800, LAST_SURROGATE = 0xDFFF };

/* Bytes of the sequence that `lead` begins; 0 when none begins so. */
static size_t sequence_length(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2) /* a continuation byte, or an overlong form of ASCII */
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0)
        return 3;
    return lead < 0xF5 ? 4 : 0;
}

static bool is_scalar(uint32_t c)
{
    return c < UNICODE_CODE_POINTS && (c < FIRST_SURROGATE || c > LAST_SURROGATE);
}

size_t utf8_decode(const char *text, size_t n_bytes, uint32_t *code_point)
{
    static const uint8_t LEAD_BITS[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    static const uint32_t LEAST[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *byte = (const uint8_t *)text;
    size_t length = n_bytes ? sequence_length(byte[0]) : 0;
    if (length == 0 || length > n_bytes)
        return 0;
    uint32_t c = byte[0] & LEAD_BITS[length];
    for (size_t i = 1; i < length; i++) {
        if ((byte[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (byte[i] & 0x3F);
    }
    *code_point = c;
    return c >= LEAST[length] && is_scalar(c) ? length : 0;
}

int32_t utf8_encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int32_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int32_t i = length - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    static const uint8_t LEAD_MARK[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(LEAD_MARK[length] | c);
    return length;
}

/* Can text[0..n_bytes), a lead byte and what follows, become valid by more bytes? It can if the
 * least or the greatest continuation makes it so. */
static bool is_beginning(const char *text, size_t n_bytes)
{
    size_t length = sequence_length((uint8_t)text[0]);
    char whole[UTF8_MAX_BYTES];
    uint32_t c;
    if (length <= n_bytes)
        return false;
    memcpy(whole, text, n_bytes);
    memset(whole + n_bytes, 0x80, length - n_bytes);
    if (utf8_decode(whole, length, &c))
        return true;
    memset(whole + n_bytes, 0xBF, length - n_bytes);
    return utf8_decode(whole, length, &c) != 0;
}

size_t utf8_cut_off(const char *text, size_t n_bytes)
{
    for (size_t n = 1; n < UTF8_MAX_BYTES && n <= n_bytes; n++)
        if (((uint8_t)text[n_bytes - n] & 0xC0) != 0x80)
            return is_beginning(text + n_bytes - n, n) ? n : 0;
    return 0;
}

void utf8_stream_push(Utf8Stream *s, const char *text, size_t n_bytes, char *out, size_t *n_out)
{
    memcpy(out, s->held, s->n_held);
    memcpy(out + s->n_held, text, n_bytes);
    size_t n = s->n_held + n_bytes;
    s->n_held = utf8_cut_off(out, n);
    *n_out = n - s->n_held;
    memcpy(s->held, out + *n_out, s->n_held);
}

void utf8_stream_end(Utf8Stream *s, char *out, size_t *n_out)
{
    memcpy(out, s->held, s->n_held);
    *n_out = s->n_held;
    s->n_held = 0;
}
