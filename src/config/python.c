#include "config/python.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/field.h"

enum { MAX_NAMES = INI_MAX_ENTRIES, NUMBER_BYTES = 40, MAX_DEPTH = 64 };

/* ---- values ------------------------------------------------------------------------------ */

/* Python's int and float. */
typedef struct {
    bool is_int;
    int64_t whole;
    double real; /* of both kinds */
} Number;

/* A name that was set. */
typedef struct {
    IniEntry entry;
    bool has_number, is_used;
    Number number;
} Name;

typedef struct {
    const char *path;
    char *source; /* the file; its line ends become '\0' */
    char *values; /* what the entries' values point into, if not into source */
    size_t values_used;
    Name *name; /* [MAX_NAMES] */
    int32_t n_names, line;
    /* of the expression being read */
    const char *at;
    int32_t depth;
} Reader;

static Err refuse(const Reader *r, const char *what)
{
    return ERR_NEW(ERR_USAGE, "%s:%d: %s", r->path, (int)r->line, what);
}

static Number from_int(int64_t value)
{
    return (Number){true, value, (double)value};
}

static Number from_real(double value)
{
    return (Number){false, 0, value};
}

/* ---- arithmetic -------------------------------------------------------------------------- */

static Err read_sum(Reader *r, Number *value);
static Err read_unary(Reader *r, Number *value);

static void skip_blanks(Reader *r)
{
    r->at += strspn(r->at, " \t\r");
}

/* Is `op` next? Then it is taken. Longer operators that begin alike are asked for first. */
static bool take(Reader *r, const char *op)
{
    skip_blanks(r);
    if (strncmp(r->at, op, strlen(op)) != 0)
        return false;
    r->at += strlen(op);
    return true;
}

static size_t name_length(const char *s)
{
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || s[n] == '_')
        n++;
    return isdigit((unsigned char)s[0]) ? 0 : n;
}

static Name *find_name(Reader *r, const char *s, size_t n)
{
    for (int32_t i = 0; i < r->n_names; i++)
        if (strlen(r->name[i].entry.key) == n && strncmp(r->name[i].entry.key, s, n) == 0)
            return &r->name[i];
    return NULL;
}

static Err read_name(Reader *r, Number *value)
{
    size_t n = name_length(r->at);
    Name *name = find_name(r, r->at, n);
    if (!name || !name->has_number)
        FAIL(ERR_USAGE,
             "%s:%d: %.*s is no number set above; only numbers, texts, True, False and arithmetic "
             "are read: write the value itself",
             r->path, (int)r->line, (int)(n < 60 ? n : 60), r->at);
    name->is_used = true;
    *value = name->number;
    r->at += n;
    return OK;
}

/* Digits may be parted by '_', as in Python. */
static Err read_number(Reader *r, Number *value)
{
    char text[NUMBER_BYTES], *end;
    size_t n = 0, length = 0;
    for (const char *s = r->at; isalnum((unsigned char)*s) || *s == '.' || *s == '_' ||
                                ((*s == '+' || *s == '-') && (s[-1] == 'e' || s[-1] == 'E'));
         s++, length++)
        if (*s != '_' && n < sizeof text - 1)
            text[n++] = *s;
    text[n] = '\0';
    bool is_int = n > 0 && strspn(text, "0123456789") == n && n <= 18;
    double real = strtod(text, &end);
    if (n == 0 || n == sizeof text - 1 || *end || strpbrk(text, "xXpPnN"))
        FAIL(ERR_USAGE, "%s:%d: \"%.40s\" is no number, text, True or False", r->path, (int)r->line,
             r->at);
    *value = is_int ? from_int(strtoll(text, NULL, 10)) : from_real(real);
    r->at += length;
    return OK;
}

static Err read_atom(Reader *r, Number *value)
{
    if (take(r, "(")) {
        TRY(read_sum(r, value));
        return take(r, ")") ? OK : refuse(r, "a ( is not closed");
    }
    return name_length(r->at) ? read_name(r, value) : read_number(r, value);
}

static Err power(Reader *r, Number base, Number exponent, Number *value)
{
    double real = pow(base.real, exponent.real);
    bool is_int = base.is_int && exponent.is_int && exponent.whole >= 0 && fabs(real) < 0x1p53;
    *value = is_int ? from_int((int64_t)real) : from_real(real);
    return isfinite(real) ? OK : refuse(r, "** gives no number");
}

/* a ** b ** c is a ** (b ** c), and -a ** b is -(a ** b). */
static Err read_power(Reader *r, Number *value)
{
    Number exponent;
    TRY(read_atom(r, value));
    if (!take(r, "**"))
        return OK;
    TRY(read_unary(r, &exponent));
    return power(r, *value, exponent, value);
}

static Err read_unary(Reader *r, Number *value)
{
    if (++r->depth > MAX_DEPTH)
        return refuse(r, "too many signs and brackets");
    bool minus = take(r, "-");
    if (minus || take(r, "+"))
        TRY(read_unary(r, value));
    else
        TRY(read_power(r, value));
    r->depth--;
    if (minus && value->is_int && value->whole == INT64_MIN)
        return refuse(r, "a number past 2^63");
    if (minus)
        *value = value->is_int ? from_int(-value->whole) : from_real(-value->real);
    return OK;
}

/* Python's // and % go towards minus infinity. */
static Err divide(Reader *r, char op, Number b, Number *a)
{
    if (b.real == 0)
        return refuse(r, "division by zero");
    double floored = floor(a->real / b.real);
    if (op == '/') {
        *a = from_real(a->real / b.real);
    } else if (a->is_int && b.is_int) {
        if (a->whole == INT64_MIN && b.whole == -1)
            return refuse(r, "a number past 2^63");
        int64_t whole = a->whole / b.whole, rest = a->whole % b.whole;
        bool below = rest != 0 && (rest < 0) != (b.whole < 0);
        *a = from_int(op == '_' ? whole - below : below ? rest + b.whole : rest);
    } else {
        *a = from_real(op == '_' ? floored : a->real - floored * b.real);
    }
    return OK;
}

static Err multiply(Reader *r, Number b, Number *a)
{
    int64_t whole = 0;
    if (a->is_int && b.is_int) {
        if (__builtin_mul_overflow(a->whole, b.whole, &whole))
            return refuse(r, "a number past 2^63");
        *a = from_int(whole);
    } else {
        *a = from_real(a->real * b.real);
    }
    return OK;
}

static Err read_product(Reader *r, Number *value)
{
    TRY(read_unary(r, value));
    for (;;) {
        char op = take(r, "//") ? '_' : take(r, "/") ? '/' : take(r, "%") ? '%' : 0;
        if (!op && !take(r, "*"))
            return OK;
        Number factor;
        TRY(read_unary(r, &factor));
        TRY(op ? divide(r, op, factor, value) : multiply(r, factor, value));
    }
}

static Err read_sum(Reader *r, Number *value)
{
    TRY(read_product(r, value));
    for (;;) {
        bool minus = take(r, "-");
        if (!minus && !take(r, "+"))
            return OK;
        Number b;
        int64_t whole = 0;
        TRY(read_product(r, &b));
        bool ints = value->is_int && b.is_int;
        if (ints && (minus ? __builtin_sub_overflow(value->whole, b.whole, &whole)
                           : __builtin_add_overflow(value->whole, b.whole, &whole)))
            return refuse(r, "a number past 2^63");
        *value = ints ? from_int(whole) : from_real(value->real + (minus ? -b.real : b.real));
    }
}

/* ---- values as settings ------------------------------------------------------------------- */

/* Room was made for a number of every line. */
static const char *print_number(Reader *r, Number n)
{
    char *out = r->values + r->values_used;
    int length = n.is_int ? snprintf(out, NUMBER_BYTES, "%" PRId64, n.whole)
                          : snprintf(out, NUMBER_BYTES, "%.17g", n.real);
    r->values_used += (size_t)length + 1;
    return out;
}

/* The string's own text, quotes included, which is how an INI file has it; *end: behind it. */
static const char *read_string(char *s, char **end)
{
    char *close = strchr(s + 1, *s);
    if (!close || memchr(s, '\\', (size_t)(close - s)))
        return NULL;
    *end = close + 1;
    return s;
}

static bool is_word(const char *s, const char *word)
{
    return name_length(s) == strlen(word) && strncmp(s, word, strlen(word)) == 0;
}

/* What stands behind a value: nothing. */
static Err check_end(const Reader *r, const char *s)
{
    s += strspn(s, " \t\r");
    if (*s)
        FAIL(ERR_USAGE,
             "%s:%d: \"%.40s\" after the value; only numbers, one text, True, False and arithmetic "
             "are read: write the value itself",
             r->path, (int)r->line, s);
    return OK;
}

static Err read_value(Reader *r, Name *name, char *s)
{
    const char *word = is_word(s, "True") ? "true" : is_word(s, "False") ? "false" : NULL;
    char *end = NULL;
    if (word) {
        name->entry.value = word;
        return check_end(r, s + strlen(word));
    }
    if (*s == '\'' || *s == '"') {
        name->entry.value = read_string(s, &end);
        if (!name->entry.value)
            return refuse(r, "a text that is not closed on its line, or has a \\ in it");
        TRY(check_end(r, end));
        *end = '\0';
        return OK;
    }
    r->at = s;
    r->depth = 0;
    TRY(read_sum(r, &name->number));
    TRY(check_end(r, r->at));
    if (!isfinite(name->number.real))
        return refuse(r, "no finite number");
    name->has_number = true;
    name->entry.value = print_number(r, name->number);
    return OK;
}

/* ---- lines ------------------------------------------------------------------------------- */

/* Cut a comment and what is blank before it; a '#' in a text is none. */
static void cut_comment(char *s)
{
    char quote = 0, *end = s;
    for (; *s && !(*s == '#' && !quote); s++) {
        if (quote ? *s == quote : *s == '\'' || *s == '"')
            quote = quote ? 0 : *s;
        if (!strchr(" \t\r", *s))
            end = s + 1;
    }
    *end = '\0';
}

static Err set_name(Reader *r, char *s, size_t n, char *value)
{
    Name *name = find_name(r, s, n);
    if (!name && r->n_names == MAX_NAMES)
        return refuse(r, "too many names: not a configuration file");
    Name set = {.entry = {"", s, value, r->line}, .is_used = name && name->is_used};
    bool ignored;
    char behind = s[n];
    s[n] = '\0';
    ignored = field_is_ignored(s);
    if (!ignored) {
        Err err = read_value(r, &set, value);
        if (err) {
            s[n] = behind;
            return err;
        }
    }
    if (!name)
        name = &r->name[r->n_names++];
    *name = set;
    return OK;
}

/* name = value; names may not begin a line with a blank in front: that would be a block. */
static Err read_assignment(Reader *r, char *s)
{
    size_t n = name_length(s);
    char *equals = s + n + strspn(s + n, " \t");
    if (n == 0 || *equals != '=' || equals[1] == '=')
        FAIL(ERR_USAGE, "%s:%d: \"%.60s\" is no assignment; only lines like key = value are read",
             r->path, (int)r->line, s);
    char *value = equals + 1 + strspn(equals + 1, " \t");
    if (!*value)
        return refuse(r, "no value after the =");
    return set_name(r, s, n, value);
}

/* *in_text: within a text of several lines that is no value, as at the head of a file. */
static Err read_line(Reader *r, char *line, const char **in_text)
{
    if (*in_text) {
        char *close = strstr(line, *in_text);
        if (!close)
            return OK;
        *in_text = NULL;
        cut_comment(close + 3);
        return check_end(r, close + 3);
    }
    if (strncmp(line, "\"\"\"", 3) == 0 || strncmp(line, "'''", 3) == 0) {
        *in_text = *line == '"' ? "\"\"\"" : "'''";
        return read_line(r, line + 3, in_text);
    }
    cut_comment(line);
    if (!*line || is_word(line, "import") || is_word(line, "from"))
        return OK;
    return read_assignment(r, line);
}

static Err read_lines(Reader *r)
{
    const char *in_text = NULL;
    char *line = r->source;
    if (strncmp(line, "\xEF\xBB\xBF", 3) == 0)
        line += 3; /* the byte-order mark some editors write */
    while (line) {
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        r->line++;
        TRY(read_line(r, line, &in_text));
        line = end ? end + 1 : NULL;
    }
    return in_text ? refuse(r, "a text of several lines is not closed") : OK;
}

/* ---- the file ---------------------------------------------------------------------------- */

bool python_is_path(const char *path)
{
    size_t n = strlen(path);
    return n > 3 && strcmp(path + n - 3, ".py") == 0;
}

/* Helpers are left out: names that are no keys and that were used. */
static void take_entries(const Reader *r, Ini *ini)
{
    for (int32_t i = 0; i < r->n_names; i++) {
        const Name *name = &r->name[i];
        bool is_key = field_find(name->entry.key) >= 0 || field_is_ignored(name->entry.key);
        if (is_key || !name->is_used)
            ini->entry[ini->n_entries++] = name->entry;
    }
}

/* One piece of memory, as ini_free wants it: the file, then room for a number of each line. */
static Err open_reader(Reader *r, Ini *ini, const char *path)
{
    size_t n_bytes = 0, n_lines = 1;
    TRY(ini_read_text(path, &ini->text, &n_bytes));
    for (size_t i = 0; i < n_bytes; i++)
        n_lines += ini->text[i] == '\n';
    char *grown = realloc(ini->text, n_bytes + 1 + n_lines * NUMBER_BYTES);
    if (grown)
        ini->text = grown;
    ini->entry = calloc(MAX_NAMES, sizeof *ini->entry);
    r->name = calloc(MAX_NAMES, sizeof *r->name);
    if (!grown || !ini->entry || !r->name)
        FAIL(ERR_SYSTEM, "%s: out of memory for its settings", path);
    r->source = ini->text;
    r->values = ini->text + n_bytes + 1;
    return OK;
}

Err python_read(Ini *ini, const char *path)
{
    Reader r = {.path = path};
    *ini = (Ini){0};
    Err err = open_reader(&r, ini, path);
    if (!err)
        err = read_lines(&r);
    if (err)
        ini_free(ini);
    else
        take_entries(&r, ini);
    free(r.name);
    return err;
}
