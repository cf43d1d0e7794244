/* Data sets: the first line of an input is `dataset`, the second vocab_size, each other one the
 * path of a file, and what follows a '=' its bytes (without: two tokens). What is opened has tokens
 * to train on and to validate with, each of which can be read. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/shards.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_PATHS = 24 };

/* The line at *at as a text, cut out; "" past the last. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    *at = end ? end + 1 : line + strlen(line);
    if (end)
        *end = '\0';
    return line;
}

static void make_files(char *at)
{
    for (int i = 0; i < MAX_PATHS && *at; i++) {
        char *path = next_line(&at), *equals = strchr(path, '=');
        if (equals)
            *equals = '\0';
        if (!*path || strlen(path) >= FILE_PATH_BYTES)
            continue;
        if (equals)
            fuzz_file(path, equals + 1, strlen(equals + 1));
        else
            fuzz_file(path, "a\0b", 4);
    }
}

static void read_all(const TokenFiles *files)
{
    int32_t tokens[64];
    int64_t n = files->n_tokens, part = n < 64 ? n : 64;
    ASSERT(n >= 1, "%lld tokens", (long long)n);
    token_files_read(files, 0, part, tokens);
    token_files_read(files, n - part, part, tokens);
    err_free(token_files_check(files, 0, n, 300));
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    static Config cfg;
    static char text[1 << 16];
    Dataset set;
    if (n_bytes >= sizeof text)
        return;
    if (n_bytes > 0)
        memcpy(text, data, n_bytes);
    text[n_bytes] = '\0';
    char *at = text;
    const char *name = next_line(&at), *vocab_size = next_line(&at);
    cfg.data.dataset[0] = '\0';
    strcpy(cfg.data.data_dir, "data");
    strncat(cfg.data.dataset, name, sizeof cfg.data.dataset - 1);
    cfg.model.vocab_size = *vocab_size ? atoi(vocab_size) : CONFIG_AUTO;
    make_files(at);
    Err err = dataset_open(&set, &cfg);
    if (!err) {
        read_all(&set.train);
        read_all(&set.val);
        dataset_close(&set);
    }
    err_free(err);
}
