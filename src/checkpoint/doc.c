#include "checkpoint/doc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOC_MAX_BYTES = 16 << 20 };

bool json_ran_out(const json_error_t *error)
{
    return error->line < 0 || json_error_code(error) == json_error_out_of_memory;
}

Err doc_parse(Doc *doc, const char *path, const char *text, size_t n_bytes)
{
    json_error_t where;
    *doc = (Doc){path, json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &where)};
    if (!doc->root && json_ran_out(&where))
        FAIL(ERR_SYSTEM, "%s: out of memory for its %zu bytes of JSON", path, n_bytes);
    if (!doc->root)
        FAIL(ERR_DATA, "%s:%d: the JSON is not valid or has a key twice", path, where.line);
    if (!json_is_object(doc->root)) {
        doc_close(doc);
        FAIL(ERR_DATA, "%s: not a JSON object", path);
    }
    return OK;
}

Err doc_open(Doc *doc, const char *path)
{
    char *text;
    size_t n_bytes;
    *doc = (Doc){0};
    TRY(file_read_text(path, DOC_MAX_BYTES, &text, &n_bytes));
    Err err = doc_parse(doc, path, text, n_bytes);
    free(text);
    return err;
}

void doc_close(Doc *doc)
{
    json_decref(doc->root);
    doc->root = NULL;
}

bool doc_has(const Doc *doc, const char *key)
{
    const json_t *value = json_object_get(doc->root, key);
    return value && !json_is_null(value);
}

static Err find_value(const Doc *doc, const char *key, const json_t **value)
{
    *value = json_object_get(doc->root, key);
    if (!*value)
        FAIL(ERR_DATA, "%s: \"%s\" is missing", doc->path, key);
    return OK;
}

Err doc_i64(const Doc *doc, const char *key, int64_t min, int64_t max, int64_t *value)
{
    const json_t *found;
    TRY(find_value(doc, key, &found));
    if (!json_is_integer(found))
        FAIL(ERR_DATA, "%s: \"%s\" is not an integer", doc->path, key);
    json_int_t number = json_integer_value(found);
    if (number < min || number > max)
        FAIL(ERR_DATA, "%s: \"%s\" is %lld, wanted %lld to %lld", doc->path, key, (long long)number,
             (long long)min, (long long)max);
    *value = number;
    return OK;
}

Err doc_f64(const Doc *doc, const char *key, double *value)
{
    const json_t *found;
    TRY(find_value(doc, key, &found));
    if (!json_is_number(found))
        FAIL(ERR_DATA, "%s: \"%s\" is not a number", doc->path, key);
    *value = json_number_value(found);
    return OK;
}

Err doc_f64_list(const Doc *doc, const char *key, int64_t most, double *values, int64_t *n)
{
    const json_t *found;
    TRY(find_value(doc, key, &found));
    if (!json_is_array(found) || json_array_size(found) > (size_t)most)
        FAIL(ERR_DATA, "%s: \"%s\" is no list of at most %lld numbers", doc->path, key,
             (long long)most);
    *n = (int64_t)json_array_size(found);
    for (int64_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(found, (size_t)i);
        if (!json_is_number(item))
            FAIL(ERR_DATA, "%s: item %lld of \"%s\" is not a number", doc->path, (long long)i, key);
        values[i] = json_number_value(item);
    }
    return OK;
}

Err doc_bool(const Doc *doc, const char *key, bool *value)
{
    const json_t *found;
    TRY(find_value(doc, key, &found));
    if (!json_is_boolean(found))
        FAIL(ERR_DATA, "%s: \"%s\" is neither true nor false", doc->path, key);
    *value = json_is_true(found);
    return OK;
}

Err doc_text(const Doc *doc, const char *key, const char **value)
{
    const json_t *found;
    TRY(find_value(doc, key, &found));
    if (!json_is_string(found))
        FAIL(ERR_DATA, "%s: \"%s\" is not a text", doc->path, key);
    *value = json_string_value(found);
    return OK;
}

Err doc_write_text(const char *path, const char *text, size_t n_bytes, FileDigest *digest)
{
    FileWriter *w;
    TRY(file_create(&w, path));
    Err err = file_write(w, text, n_bytes);
    if (err) {
        file_abandon(w);
        return err;
    }
    return file_close(w, digest);
}

static int put_text(const char *text, size_t n_bytes, void *out)
{
    return fwrite(text, 1, n_bytes, out) == n_bytes ? 0 : -1;
}

/* Not by json_dumps: jansson 2.14 goes on after some of its failed allocations and returns a text
 * with a piece missing. A stream remembers. */
char *doc_print(const json_t *root, size_t flags)
{
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    if (!out)
        return NULL;
    bool whole = json_dump_callback(root, put_text, out, flags) == 0 && fflush(out) == 0;
    whole = whole && !ferror(out);
    if (fclose(out) == 0 && whole)
        return text;
    free(text);
    return NULL;
}

Err doc_write(const char *path, json_t *root, int precision, FileDigest *digest)
{
    char *text = doc_print(root, JSON_INDENT(2) | JSON_REAL_PRECISION((size_t)precision));
    json_decref(root);
    if (!text)
        FAIL(ERR_SYSTEM, "%s: out of memory", path);
    Err err = doc_write_text(path, text, strlen(text), digest);
    free(text);
    return err;
}
