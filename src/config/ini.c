#include "config/ini.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* One pass over the text, cutting it up in place. */
typedef struct {
    Ini *ini;
    const char *path, *section;
    int32_t line, capacity;
} Reader;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool is_comment(char c)
{
    return c == '#' || c == ';';
}

static char *skip_blanks(char *s)
{
    while (is_blank(*s))
        s++;
    return s;
}

static void cut_blanks(char *begin, char *end)
{
    while (end > begin && is_blank(end[-1]))
        end--;
    *end = '\0';
}

/* The end of a value that opens with a quote: after the first same quote that nothing but blanks
 * and a comment follow. NULL when there is none. */
static char *quoted_end(char *value)
{
    for (char *at = value + 1; (at = strchr(at, *value)) != NULL; at++) {
        const char *rest = skip_blanks(at + 1);
        if (!*rest || (is_comment(*rest) && rest > at + 1))
            return at + 1;
    }
    return NULL;
}

/* Ends at a comment, which starts the value or follows a blank. */
static char *plain_end(char *value)
{
    char *at = value;
    while (*at && !(is_comment(*at) && (at == value || is_blank(at[-1]))))
        at++;
    return at;
}

static Err read_section(Reader *r, char *s)
{
    char *name = skip_blanks(s + 1), *end = strchr(name, ']');
    if (!end)
        FAIL(ERR_USAGE, "%s:%d: \"%.80s\" has no closing ]; write [section]", r->path, (int)r->line,
             s);
    const char *rest = skip_blanks(end + 1);
    if (*rest && !is_comment(*rest))
        FAIL(ERR_USAGE, "%s:%d: \"%.80s\" after the ]; put it on a line of its own", r->path,
             (int)r->line, rest);
    cut_blanks(name, end);
    r->section = name;
    return OK;
}

static Err refuse_duplicate(const Reader *r, const char *key)
{
    for (int32_t i = 0; i < r->ini->n_entries; i++)
        if (strcmp(r->ini->entry[i].key, key) == 0)
            FAIL(ERR_USAGE, "%s:%d: %s was already set on line %d; remove one of the two", r->path,
                 (int)r->line, key, (int)r->ini->entry[i].line);
    return OK;
}

static Err append(Reader *r, IniEntry entry)
{
    Ini *ini = r->ini;
    if (ini->n_entries == INI_MAX_ENTRIES)
        FAIL(ERR_USAGE, "%s:%d: more than %d settings: not a configuration file", r->path,
             (int)r->line, INI_MAX_ENTRIES);
    if (ini->n_entries == r->capacity) {
        int32_t capacity = r->capacity ? 2 * r->capacity : 64;
        IniEntry *grown = realloc(ini->entry, (size_t)capacity * sizeof *grown);
        if (!grown)
            FAIL(ERR_SYSTEM, "%s: out of memory for %d settings", r->path, (int)capacity);
        ini->entry = grown;
        r->capacity = capacity;
    }
    ini->entry[ini->n_entries++] = entry;
    return OK;
}

static Err read_setting(Reader *r, char *s)
{
    char *equals = strchr(s, '=');
    if (!equals || equals == s)
        FAIL(ERR_USAGE,
             "%s:%d: \"%.80s\" is no [section], no comment and no setting; write key = value",
             r->path, (int)r->line, s);
    char *value = skip_blanks(equals + 1);
    bool quoted = *value == '\'' || *value == '"';
    char *end = quoted ? quoted_end(value) : plain_end(value);
    if (!end)
        FAIL(ERR_USAGE, "%s:%d: the quote that opens %.80s is not closed", r->path, (int)r->line,
             value);
    cut_blanks(s, equals);
    cut_blanks(value, end);
    if (!*value)
        FAIL(ERR_USAGE, "%s:%d: %.80s has no value; give it one or remove the line", r->path,
             (int)r->line, s);
    TRY(refuse_duplicate(r, s));
    return append(r, (IniEntry){r->section, s, value, r->line});
}

static Err read_line(Reader *r, char *line)
{
    char *s = skip_blanks(line);
    cut_blanks(s, s + strlen(s));
    if (!*s || is_comment(*s))
        return OK;
    return *s == '[' ? read_section(r, s) : read_setting(r, s);
}

static Err read_lines(Reader *r, char *text)
{
    if (strncmp(text, "\xEF\xBB\xBF", 3) == 0)
        text += 3; /* the byte-order mark some editors write */
    while (text) {
        char *end = strchr(text, '\n');
        if (end)
            *end = '\0';
        r->line++;
        TRY(read_line(r, text));
        text = end ? end + 1 : NULL;
    }
    return OK;
}

Err ini_read_text(const char *path, char **text, size_t *n_bytes)
{
    Err err = file_read_text(path, INI_MAX_BYTES, text, n_bytes);
    if (err_code(err) == ERR_DATA) {
        err_free(err);
        FAIL(ERR_USAGE, "%s is larger than %d bytes: not a configuration file", path,
             INI_MAX_BYTES);
    }
    TRY(err);
    if (strlen(*text) == *n_bytes)
        return OK;
    free(*text);
    *text = NULL;
    FAIL(ERR_USAGE, "%s holds a NUL byte: not a configuration file", path);
}

Err ini_read(Ini *ini, const char *path)
{
    size_t n_bytes = 0;
    *ini = (Ini){0};
    TRY(ini_read_text(path, &ini->text, &n_bytes));
    Reader reader = {.ini = ini, .path = path, .section = ""};
    Err err = read_lines(&reader, ini->text);
    if (err)
        ini_free(ini);
    return err;
}

void ini_free(Ini *ini)
{
    free(ini->entry);
    free(ini->text);
    *ini = (Ini){0};
}
