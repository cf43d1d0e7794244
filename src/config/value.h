/* Values: the spellings a setting may have, as text <-> number. Each reader returns false when the
 * text is not such a value as a whole; nothing is guessed and nothing is cut. Numbers may be
 * products: "5*8", "0.9 * 12GiB". */
#ifndef GPT_CONFIG_VALUE_H
#define GPT_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char text[64];
} ValueText; /* by value, so that a printf argument can be value_print_count(n).text */

/* true True yes on 1, false False no off 0; capitals do not matter. */
bool value_read_bool(const char *text, bool *out);
/* A whole number with k, M, G or T = 1000, 10^6, 10^9, 10^12: "64M" is 64,000,000, "1.5k" is
 * 1500. */
bool value_read_count(const char *text, int64_t *out);
/* A finite decimal number: "6e-4". */
bool value_read_real(const char *text, double *out);
/* Bytes with k, M, G or T = 1024, 1024^2, ... with or without B or iB: "11.6GiB", "512M", "4096".
 * Fractions of a byte are dropped. */
bool value_read_bytes(const char *text, int64_t *out);
/* Seconds, or any sum of d, h, m, s and ms: "120", "120s", "23h50m". */
bool value_read_seconds(const char *text, double *out);

/* Text that the reader above turns back into the same value. */
ValueText value_print_count(int64_t value);
ValueText value_print_real(double value);
ValueText value_print_bytes(int64_t value);
ValueText value_print_seconds(double value);

#ifdef __cplusplus
}
#endif
#endif
