/* Field: one row of the table of settings, and what can be done with a row: find it by key, read a
 * value into a Config, print it back, tell what it accepts. The table itself is in field.c;
 * config.h is the interface for everybody else. */
#ifndef GPT_CONFIG_FIELD_H
#define GPT_CONFIG_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { AS_BOOL, AS_COUNT, AS_REAL, AS_BYTES, AS_SECONDS, AS_CHOICE, AS_TEXT } FieldType;

typedef struct {
    const char *section, *key;
    FieldType type;
    size_t offset;            /* of the member in Config; its C type follows from `type` */
    const char *default_text; /* read like a user's value; "auto" in a numeric field allows auto */
    double low, high;         /* numeric: smallest and largest value */
    bool below_high;          /* high itself is out of bounds */
    const char *unit;
    const char *choices; /* AS_CHOICE: the words in the order of the enum, between blanks */
    const char *help;
    bool takes_auto; /* numeric: though it is not the default */
} Field;

enum {
    FIELD_KEY_BYTES = 64,                     /* longest key or choice */
    FIELD_RANGE_BYTES = 160,                  /* longest field_range */
    FIELD_VALUE_BYTES = CONFIG_TEXT_BYTES + 2 /* longest printed value: a text in quotes */
};

/* The table: sections together, keys unique. */
int32_t field_count(void);
const Field *field_at(int32_t i);

int32_t field_find(const char *key); /* its index, or -1 */

/* nanoGPT keys that are accepted and mean nothing here; NULL past the last. */
const char *field_ignored_at(int32_t i);
bool field_is_ignored(const char *key);

/* The known key most like `key`; NULL when none is near enough to be meant. */
const char *field_nearest_key(const char *key);

/* Read `value` (without blanks and quotes around it, without control characters) into the field's
 * member. ERR_USAGE with "<where>key = value is ...; use ...": `where` ends in ": " or is "". On
 * error cfg is unchanged. */
Err field_read(const Field *f, Config *cfg, const char *where, const char *value);

/* out (FIELD_VALUE_BYTES) = the value as field_read takes it; a text is quoted where an INI file
 * needs it. */
void field_print(const Field *f, const Config *cfg, char *out);

/* out (FIELD_RANGE_BYTES) = what the field accepts: "1 to 1000", "0 or more, below 1", "tanh,
 * erf". */
void field_range(const Field *f, char *out);

/* The position of `word` in " one two three ", or -1; capitals do not matter. */
int32_t words_find(const char *words, const char *word);

#ifdef __cplusplus
}
#endif
#endif
