/* The four kinds of characters that GPT-2's pattern knows: \p{L}, \p{N}, \s and the rest. Unicode
 * 16.0, as tiktoken's regular expressions. The tables hold two bits per code point, in pages of 256
 * that are stored once each; what lies behind the last page is CLASS_OTHER. */
#ifndef GPT_TEXT_UNICODE_CLASS_H
#define GPT_TEXT_UNICODE_CLASS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE } UnicodeClass;

extern const int32_t UNICODE_CLASS_PAGES;
extern const uint8_t UNICODE_CLASS_ASCII[128];
extern const uint8_t UNICODE_CLASS_PAGE[]; /* [UNICODE_CLASS_PAGES] rows of UNICODE_CLASS */
extern const uint8_t UNICODE_CLASS[][64];

static inline UnicodeClass unicode_class(uint32_t code_point)
{
    uint32_t page = code_point >> 8;
    if (page >= (uint32_t)UNICODE_CLASS_PAGES)
        return CLASS_OTHER;
    uint8_t four = UNICODE_CLASS[UNICODE_CLASS_PAGE[page]][code_point >> 2 & 63];
    return (UnicodeClass)(four >> 2 * (code_point & 3) & 3);
}

#ifdef __cplusplus
}
#endif
#endif
