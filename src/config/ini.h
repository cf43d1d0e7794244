/* Ini: the lines of an INI file as (section, key, value, line number), in file order.
 *
 *     [batch]
 *     batch_size = 64            # a comment: at the start of a line, or after a blank
 *     out_dir = 'runs/a #1'      ; quotes protect blanks, '#' and ';'
 *
 * Our own reader, because libinih does not hand line numbers to its callback, cuts lines at 200
 * bytes, knows no '#' after a value and passes duplicate keys through; a message without a line
 * number is what users of config files complain about. Values are raw text: what they mean is
 * config.c's business. */
#ifndef GPT_CONFIG_INI_H
#define GPT_CONFIG_INI_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Far more than there are keys: what has more is no configuration file. */
enum { INI_MAX_BYTES = 1 << 20, INI_MAX_ENTRIES = 1000 };

typedef struct {
    const char *section, *key; /* section is "" before the first [section] */
    const char *value; /* without comment and surrounding blanks, quotes still on; never empty */
    int32_t line;      /* counted from 1 */
} IniEntry;

/* Zero-initialised is empty. The entries point into text. */
typedef struct {
    IniEntry *entry;
    int32_t n_entries;
    char *text;
} Ini;

/* Read `path`. Keys must be unique over the whole file: a duplicate is refused with both lines.
 * ERR_MISSING when it cannot be read, ERR_USAGE with "path:line: what, and the fix" for everything
 * else. */
Err ini_read(Ini *ini, const char *path);
void ini_free(Ini *ini);

/* The text of a configuration file, malloc'd: at most INI_MAX_BYTES, no NUL in it. ERR_MISSING,
 * ERR_USAGE, ERR_SYSTEM. */
Err ini_read_text(const char *path, char **text, size_t *n_bytes);

#ifdef __cplusplus
}
#endif
#endif
