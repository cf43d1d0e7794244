#include "config/value.h"

#include <ctype.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool value_read_bool(const char *text, bool *out)
{
    static const char *const YES[] = {"true", "yes", "on", "1"}, *const NO[] = {"false", "no",
                                                                                "off", "0"};
    for (int i = 0; i < 4; i++) {
        bool yes = strcasecmp(text, YES[i]) == 0;
        if (yes || strcasecmp(text, NO[i]) == 0) {
            *out = yes;
            return true;
        }
    }
    return false;
}

static const char *skip_spaces(const char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    return s;
}

/* strtod reads more than decimal numbers ("inf", "0x1p3"): only let it see what looks like one. */
static bool read_decimal(const char **at, double *out)
{
    const char *s = *at + (**at == '-' || **at == '+');
    if (!isdigit((unsigned char)s[0]) && !(s[0] == '.' && isdigit((unsigned char)s[1])))
        return false;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        return false;
    char *end;
    *out = strtod(*at, &end);
    *at = end;
    return isfinite(*out);
}

/* The multiplier of a suffix at *at, which is moved past it; 1 when there is none. */
typedef double (*SuffixReader)(const char **at);

static double read_power(const char **at, double step)
{
    static const char LETTER[] = "kmgt";
    const char *found = **at ? strchr(LETTER, tolower((unsigned char)**at)) : NULL;
    if (!found)
        return 1.0;
    (*at)++;
    return pow(step, (double)(found - LETTER + 1));
}

static double no_suffix(const char **at)
{
    (void)at;
    return 1.0;
}

static double count_suffix(const char **at)
{
    return read_power(at, 1000.0);
}

static double bytes_suffix(const char **at)
{
    const char *s = *at = skip_spaces(*at);
    double power = read_power(at, 1024.0);
    if (*at > s && **at == 'i' && tolower((unsigned char)(*at)[1]) == 'b')
        *at += 2;
    else if (tolower((unsigned char)**at) == 'b')
        *at += 1;
    return power;
}

static bool read_product(const char *text, SuffixReader suffix, double *out)
{
    const char *at = skip_spaces(text);
    double product = 1.0;
    for (;;) {
        double factor;
        if (!read_decimal(&at, &factor))
            return false;
        product *= factor * suffix(&at);
        at = skip_spaces(at);
        if (!*at)
            break;
        if (*at != '*')
            return false;
        at = skip_spaces(at + 1);
    }
    *out = product;
    return isfinite(product);
}

/* Digits alone are read exactly; a double would round them past 2^53. */
static bool read_digits(const char *text, int64_t *out)
{
    const char *s = text + (*text == '-' || *text == '+');
    int64_t value = 0;
    if (!*s)
        return false;
    for (; *s; s++) {
        if (!isdigit((unsigned char)*s) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *s - '0', &value))
            return false;
    }
    *out = *text == '-' ? -value : value;
    return true;
}

bool value_read_count(const char *text, int64_t *out)
{
    double value;
    if (read_digits(text, out))
        return true;
    if (!read_product(text, count_suffix, &value) || fabs(value) > 0x1p53)
        return false;
    if (fabs(value - rint(value)) > 4 * DBL_EPSILON * fabs(value))
        return false; /* a fraction; the slack is for products such as 1.1M, a bit off in binary */
    *out = (int64_t)rint(value);
    return true;
}

bool value_read_real(const char *text, double *out)
{
    return read_product(text, no_suffix, out);
}

bool value_read_bytes(const char *text, int64_t *out)
{
    double value;
    if (!read_product(text, bytes_suffix, &value) || fabs(value) > 0x1p53)
        return false;
    *out = (int64_t)value;
    return true;
}

static double second_suffix(const char **at)
{
    static const struct {
        const char *name;
        double seconds;
    } UNIT[] = {{"ms", 1e-3}, {"s", 1.0}, {"m", 60.0}, {"h", 3600.0}, {"d", 86400.0}};
    for (size_t i = 0; i < sizeof UNIT / sizeof *UNIT; i++) {
        size_t n = strlen(UNIT[i].name);
        if (strncmp(*at, UNIT[i].name, n) == 0) {
            *at += n;
            return UNIT[i].seconds;
        }
    }
    return 0.0;
}

bool value_read_seconds(const char *text, double *out)
{
    if (value_read_real(text, out))
        return true;
    const char *at = skip_spaces(text);
    *out = 0;
    if (!*at)
        return false;
    while (*at) {
        double value;
        if (!read_decimal(&at, &value))
            return false;
        double unit = second_suffix(&at);
        if (unit == 0)
            return false;
        *out += value * unit;
        at = skip_spaces(at);
    }
    return isfinite(*out);
}

ValueText value_print_count(int64_t value)
{
    ValueText out;
    snprintf(out.text, sizeof out.text, "%" PRId64, value);
    return out;
}

ValueText value_print_real(double value)
{
    ValueText out;
    if (value == rint(value) && fabs(value) < 1e15) {
        snprintf(out.text, sizeof out.text, "%.0f", value); /* 100, which %.1g calls 1e+02 */
        return out;
    }
    int digits = 0;
    do
        snprintf(out.text, sizeof out.text, "%.*g", ++digits, value);
    while (digits < DBL_DECIMAL_DIG && strtod(out.text, NULL) != value);
    return out;
}

ValueText value_print_bytes(int64_t value)
{
    static const char *const UNIT[] = {"", "KiB", "MiB", "GiB", "TiB"};
    ValueText out;
    int unit = 0;
    for (; unit < 4 && value != 0 && value % 1024 == 0; unit++)
        value /= 1024;
    snprintf(out.text, sizeof out.text, "%" PRId64 "%s", value, UNIT[unit]);
    return out;
}

ValueText value_print_seconds(double value)
{
    ValueText out = value_print_real(value);
    strcat(out.text, "s");
    return out;
}
