/* UTF-8, strictly: shortest forms of Unicode scalar values. Source: Unicode 15, table 3-7. */
#ifndef GPT_TEXT_UTF8_H
#define GPT_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { UTF8_MAX_BYTES = 4, UNICODE_CODE_POINTS = 0x110000 };

/* Decode the code point that text[0..n_bytes) begins with; returns its bytes, or 0 when there is
 * none: no text, or bytes that are not valid UTF-8. */
size_t utf8_decode(const char *text, size_t n_bytes, uint32_t *code_point);

/* The bytes of a code point into out (UTF8_MAX_BYTES); returns how many. */
int32_t utf8_encode(uint32_t code_point, char *out);

/* How many bytes at the end of a text are the beginning of a character that is cut off: 0 to 3.
 * Bytes that no continuation can make valid do not count. */
size_t utf8_cut_off(const char *text, size_t n_bytes);

/* A text that arrives in pieces, given on in whole characters. Zero-initialised is empty. */
typedef struct {
    char held[UTF8_MAX_BYTES];
    size_t n_held;
} Utf8Stream;

/* Take n_bytes more; *n_out bytes are ready in out (n_bytes + UTF8_MAX_BYTES). The bytes that come
 * out are those that went in, valid or not, but for those of a last character not yet whole. */
void utf8_stream_push(Utf8Stream *s, const char *text, size_t n_bytes, char *out, size_t *n_out);
/* What is still held, at the end of the text, into out (UTF8_MAX_BYTES). */
void utf8_stream_end(Utf8Stream *s, char *out, size_t *n_out);

#ifdef __cplusplus
}
#endif
#endif
