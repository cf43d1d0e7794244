#!/usr/bin/env python3
"""Write src/text/unicode_class.c: what GPT-2's pattern calls a letter, a number and white space.

    pip install unicodedata2==16.0.0 && tests/text/make_unicode_class.py

The version must be that of tiktoken's regular expressions: compare_tiktoken.py looks at every code point.
"""
import pathlib
import unicodedata2 as unicodedata

VERSION = "16.0.0"
OTHER, LETTER, NUMBER, SPACE = range(4)  # UnicodeClass
# The property White_Space.
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
PAGE = 256  # code points


def class_of(c):
    if c in SPACES:
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(unicodedata.category(chr(c))[0], OTHER)


def packed(page):
    return bytes(sum(page[i + j] << 2 * j for j in range(4)) for i in range(0, PAGE, 4))


def rows(values, width=20):
    for i in range(0, len(values), width):
        yield "    " + ", ".join(str(v) for v in values[i:i + width]) + ",\n"


def main():
    if unicodedata.unidata_version != VERSION:
        raise SystemExit(f"Unicode {unicodedata.unidata_version}, wanted {VERSION}")
    classes = [class_of(c) for c in range(0x110000)]
    last = max(c for c in range(0x110000) if classes[c] != OTHER)
    pages, index = [], []
    for start in range(0, last + 1, PAGE):
        page = packed(classes[start:start + PAGE])
        if page not in pages:
            pages.append(page)
        index.append(pages.index(page))
    path = pathlib.Path(__file__).parents[2] / "src/text/unicode_class.c"
    with open(path, "w") as out:
        out.write(f"/* Written by tests/text/make_unicode_class.py from Unicode {VERSION}. */\n"
                  '#include "text/unicode_class.h"\n\n// clang-format off\n')
        out.write(f"const int32_t UNICODE_CLASS_PAGES = {len(index)};\n\n")
        out.write("const uint8_t UNICODE_CLASS_ASCII[128] = {\n")
        out.writelines(rows(classes[:128], 32))
        out.write("};\n\nconst uint8_t UNICODE_CLASS_PAGE[] = {\n")
        out.writelines(rows(index))
        out.write(f"}};\n\nconst uint8_t UNICODE_CLASS[][{PAGE // 4}] = {{\n")
        for page in pages:
            out.write("    {\n")
            out.writelines(rows(page, 16))
            out.write("    },\n")
        out.write("};\n")


main()
