/* Settings: a file and, each behind a byte 0x1E, words of a command line. What is accepted prints
 * as an INI file that is read back to the same text, and can be set again key by key. Built twice:
 * CONFIG_FILE is run.ini, and run.py for nanoGPT's form (fuzz_python). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/config.h"
#include "tests/fuzz/fuzz.h"

enum { SEPARATOR = 0x1E, MAX_WORDS = 8 };

/* What stands before the first separator is the file. Returns its bytes; the words are cut out of
 * `text`, which has room for one byte more. */
static size_t split(char *text, size_t n_bytes, char *word[MAX_WORDS], int32_t *n_words)
{
    char *at = memchr(text, SEPARATOR, n_bytes);
    size_t n_file = at ? (size_t)(at - text) : n_bytes;
    text[n_bytes] = '\0';
    for (*n_words = 0; at && *n_words < MAX_WORDS; at = strchr(at, SEPARATOR)) {
        *at++ = '\0';
        word[(*n_words)++] = at;
    }
    return n_file;
}

/* NULL when memory is short. */
static char *printed(const Config *cfg, size_t *n_bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, n_bytes);
    if (!out)
        return NULL;
    config_print(cfg, out);
    fclose(out);
    return text;
}

static void set_again(void *again, const char *key, const char *value)
{
    Err err = config_set(again, "visited", key, value);
    ASSERT(!err, "%s", err_message(err));
}

static void must_print_as(const Config *cfg, const char *wanted, const char *what)
{
    size_t n_bytes;
    char *text = printed(cfg, &n_bytes);
    ASSERT(!text || strcmp(text, wanted) == 0, "%s differently", what);
    free(text);
}

static void check_accepted(const Config *cfg)
{
    static Config again;
    size_t n_text;
    ASSERT(config_init_kind(cfg) <= INIT_DIRECTORY && config_step_sequences(cfg) > 0, "derived");
    ASSERT(!config_check(cfg), "checked differently");
    char *text = printed(cfg, &n_text);
    if (!text)
        return;
    Err err = config_load(&again, fuzz_file("again.ini", text, n_text), 0, NULL);
    ASSERT(!err || !fuzz_has_memory(), "%s", err_message(err));
    if (!err)
        must_print_as(&again, text, "read");
    err_free(err);
    config_defaults(&again);
    config_visit(cfg, set_again, &again);
    must_print_as(&again, text, "set");
    fuzz_remove("again.ini");
    free(text);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    static Config cfg;
    static char text[1 << 20];
    char *word[MAX_WORDS];
    int32_t n_words = 0;
    if (n_bytes >= sizeof text)
        return;
    if (n_bytes > 0)
        memcpy(text, data, n_bytes);
    size_t n_file = split(text, n_bytes, word, &n_words);
    Err err = config_load(&cfg, fuzz_file(CONFIG_FILE, data, n_file), n_words, word);
    if (!err && fuzz_is_turn())
        check_accepted(&cfg);
    err_free(err);
}
