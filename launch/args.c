#include "launch/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 24 };

static char folded(char c)
{
    return c == '_' ? '-' : c;
}

/* Is word "name" or "name=..."? Then *value is what follows '=', or NULL. */
static bool name_matches(const char *name, const char *word, const char **value)
{
    size_t i = 0;
    for (; name[i] != '\0'; i++)
        if (folded(word[i]) != folded(name[i]))
            return false;
    if (word[i] != '\0' && word[i] != '=')
        return false;
    *value = word[i] == '=' ? word + i + 1 : NULL;
    return true;
}

static Flag *find_flag(Flag *flag, int32_t n_flags, const char *word, const char **value)
{
    if (word[0] != '-' || word[1] != '-')
        return NULL;
    for (int32_t i = 0; i < n_flags; i++)
        if (name_matches(flag[i].name, word + 2, value))
            return &flag[i];
    return NULL;
}

static bool value_is_optional(const Flag *flag)
{
    return flag->value && flag->value[0] == '[';
}

Err args_take(Flag *flag, int32_t n_flags, int argc, char **argv, char **rest, int32_t *n_rest)
{
    *n_rest = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = NULL;
        Flag *hit = find_flag(flag, n_flags, argv[i], &value);
        if (!hit) {
            rest[(*n_rest)++] = argv[i];
            continue;
        }
        if (hit->text)
            FAIL(ERR_USAGE, "--%s was given twice", hit->name);
        if (!hit->value && value)
            FAIL(ERR_USAGE, "--%s takes no value", hit->name);
        bool needs_value = hit->value && !value && !value_is_optional(hit);
        bool next_is_value = i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0;
        if (needs_value && next_is_value)
            value = argv[++i];
        if (needs_value && !value)
            FAIL(ERR_USAGE, "--%s needs a value: --%s=%s", hit->name, hit->name, hit->value);
        hit->text = value ? value : "";
    }
    return OK;
}

void args_name(const char *word, char *name)
{
    const char *begin = word + strspn(word, "-");
    snprintf(name, ARGS_NAME_BYTES, "%.*s", (int)strcspn(begin, "="), begin);
}

void args_try(const Flag *flag, int32_t n_flags, Nearest *nearest)
{
    for (int32_t i = 0; i < n_flags; i++)
        nearest_try(nearest, flag[i].name);
}

static Err refuse_flag(const Flag *flag, int32_t n_flags, const char *word)
{
    char name[ARGS_NAME_BYTES];
    args_name(word, name);
    Nearest nearest = nearest_begin(name);
    args_try(flag, n_flags, &nearest);
    if (nearest.known)
        FAIL(ERR_USAGE, "unknown argument %s; did you mean --%s?", word, nearest.known);
    FAIL(ERR_USAGE, "unknown argument %s; --help lists what there is", word);
}

Err args_refuse_rest(const Flag *flag, int32_t n_flags, char *const *rest, int32_t n_rest,
                     int32_t n_allowed)
{
    for (int32_t i = 0; i < n_rest; i++) {
        bool looks_like_flag = rest[i][0] == '-' && rest[i][1] != '\0';
        if (looks_like_flag)
            return refuse_flag(flag, n_flags, rest[i]);
        if (i >= n_allowed && n_allowed == 1)
            FAIL(ERR_USAGE, "unknown argument %s: one directory is taken, here %s", rest[i],
                 rest[0]);
        if (i >= n_allowed)
            FAIL(ERR_USAGE, "unknown argument %s; --help lists what there is", rest[i]);
    }
    return OK;
}

Err args_integer(const Flag *flag, int64_t low, int64_t high, int64_t *value)
{
    if (!flag->text)
        return OK;
    char *end;
    errno = 0;
    long long parsed = strtoll(flag->text, &end, 10);
    if (end == flag->text || *end != '\0')
        FAIL(ERR_USAGE, "--%s=%s: not a whole number", flag->name, flag->text);
    if (errno || parsed < low || parsed > high)
        FAIL(ERR_USAGE, "--%s=%s: must be from %lld to %lld", flag->name, flag->text,
             (long long)low, (long long)high);
    *value = parsed;
    return OK;
}

static Err parse_number(const Flag *flag, double *parsed)
{
    char *end;
    *parsed = strtod(flag->text, &end);
    if (end == flag->text || *end != '\0')
        FAIL(ERR_USAGE, "--%s=%s: not a number", flag->name, flag->text);
    return OK;
}

Err args_number(const Flag *flag, double low, double high, double *value)
{
    double parsed;
    if (!flag->text)
        return OK;
    TRY(parse_number(flag, &parsed));
    if (!(parsed >= low && parsed <= high))
        FAIL(ERR_USAGE, "--%s=%s: must be from %g to %g", flag->name, flag->text, low, high);
    *value = parsed;
    return OK;
}

Err args_fraction(const Flag *flag, double *value)
{
    double parsed;
    if (!flag->text)
        return OK;
    TRY(parse_number(flag, &parsed));
    if (!(parsed > 0 && parsed < 1))
        FAIL(ERR_USAGE, "--%s=%s: must be above 0 and below 1", flag->name, flag->text);
    *value = parsed;
    return OK;
}

/* "a, b or c" */
static void list_words(char *out, size_t n_bytes, const char *const *words)
{
    size_t used = 0;
    for (int i = 0; words[i] && used < n_bytes; i++) {
        const char *between = i == 0 ? "" : words[i + 1] ? ", " : " or ";
        int n = snprintf(out + used, n_bytes - used, "%s%s", between, words[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

Err args_choice(const Flag *flag, const char *const *words, int32_t *which)
{
    char list[256] = "";
    for (int32_t i = 0; flag->text && words[i]; i++) {
        if (strcmp(flag->text, words[i]) == 0) {
            *which = i;
            return OK;
        }
    }
    list_words(list, sizeof list, words);
    if (flag->text)
        FAIL(ERR_USAGE, "--%s=%s: should be %s", flag->name, flag->text, list);
    return OK;
}

void args_help(const Flag *flag, int32_t n_flags, FILE *out)
{
    for (int32_t i = 0; i < n_flags; i++) {
        bool has_sign = flag[i].value && !value_is_optional(&flag[i]);
        int used = fprintf(out, "  --%s%s%s", flag[i].name, has_sign ? "=" : "",
                           flag[i].value ? flag[i].value : "");
        fprintf(out, "%*s%s\n", used < HELP_COLUMN ? HELP_COLUMN - used : 1, "", flag[i].help);
    }
}
