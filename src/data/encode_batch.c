#include "data/encode_batch.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EOT_TOKENS = 2 /* more than the bytes of a batch, at most: before a text, or behind it */ };

/* Every token takes a byte of the batch at least; that of the end of a text has JSON's brackets. */
static Err make_room(Encoded *out, size_t n_bytes)
{
    size_t capacity = n_bytes + EOT_TOKENS;
    if (out->capacity >= capacity)
        return OK;
    encoded_free(out);
    for (int i = 0; i < N_SPLITS; i++)
        out->ids[i] = malloc(capacity * sizeof *out->ids[i]);
    out->capacity = capacity;
    if (!out->ids[SPLIT_TRAIN] || !out->ids[SPLIT_VAL])
        FAIL(ERR_SYSTEM, "out of memory for the tokens of %zu bytes", n_bytes);
    return OK;
}

void encoded_free(Encoded *out)
{
    for (int i = 0; i < N_SPLITS; i++)
        free(out->ids[i]);
    *out = (Encoded){0};
}

static void put_eot(const EncodeRules *rules, CorpusSplit split, Encoded *out)
{
    out->ids[split][out->n_ids[split]++] = (uint16_t)bpe_end_of_text(rules->bpe);
}

static Err put_text(BpeEncoder *e, CorpusSplit split, const char *text, size_t n_bytes,
                    Encoded *out)
{
    int64_t n;
    TRY(bpe_encode(e, text, n_bytes, out->ids[split] + out->n_ids[split], &n));
    out->n_ids[split] += n;
    out->n_bytes += n_bytes;
    return OK;
}

/* ---- JSON lines -------------------------------------------------------------------------- */

static void bad_line(Encoded *out, int64_t line, const char *why)
{
    if (out->n_bad++ > 0)
        return;
    out->first_bad = line;
    snprintf(out->why, sizeof out->why, "%s", why);
}

static Err put_document(const EncodeRules *rules, BpeEncoder *e, const char *text, size_t n_bytes,
                        Encoded *out)
{
    CorpusSplit split = corpus_split(text, n_bytes, rules->val_fraction);
    if (rules->eot == EOT_PREPEND)
        put_eot(rules, split, out);
    TRY(put_text(e, split, text, n_bytes, out));
    if (rules->eot == EOT_APPEND)
        put_eot(rules, split, out);
    out->n_documents[split]++;
    return OK;
}

static Err put_json(const EncodeRules *rules, BpeEncoder *e, const json_t *root, int64_t line,
                    Encoded *out)
{
    const json_t *value = json_object_get(root, rules->text_key);
    char why[ENCODE_WHY_BYTES];
    if (json_is_string(value))
        return put_document(rules, e, json_string_value(value), json_string_length(value), out);
    snprintf(why, sizeof why, "no text under \"%.60s\"", rules->text_key);
    bad_line(out, line, why);
    return OK;
}

static bool is_blank(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (!strchr(" \t\r", text[i]) || text[i] == '\0')
            return false;
    return true;
}

static Err put_line(const EncodeRules *rules, BpeEncoder *e, const char *text, size_t n_bytes,
                    int64_t line, Encoded *out)
{
    json_error_t error;
    if (is_blank(text, n_bytes))
        return OK;
    /* Of whole numbers only the text is looked at: ids beyond 64 bits are no reason to stumble. */
    json_t *root = json_loadb(text, n_bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (!root) {
        bad_line(out, line, error.text);
        return OK;
    }
    Err err = put_json(rules, e, root, line, out);
    json_decref(root);
    return err;
}

static Err put_lines(const EncodeRules *rules, BpeEncoder *e, const CorpusBatch *batch,
                     Encoded *out)
{
    const char *at = batch->data, *end = batch->data + batch->n_bytes;
    if (batch->long_line > 0)
        bad_line(out, batch->long_line, "the line is longer than 64 MiB");
    for (int64_t line = batch->first_line; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n_bytes = (size_t)((stop ? stop : end) - at);
        TRY(put_line(rules, e, at, n_bytes, line, out));
        at += n_bytes + 1;
    }
    return OK;
}

/* ---- batches ----------------------------------------------------------------------------- */

static Err put_part(const EncodeRules *rules, BpeEncoder *e, const CorpusBatch *batch, Encoded *out)
{
    if (batch->begins && rules->eot == EOT_PREPEND)
        put_eot(rules, batch->split, out);
    TRY(put_text(e, batch->split, batch->data, batch->n_bytes, out));
    if (batch->ends && rules->eot == EOT_APPEND)
        put_eot(rules, batch->split, out);
    out->n_documents[batch->split] += batch->begins;
    return OK;
}

Err encode_batch(const EncodeRules *rules, BpeEncoder *e, const CorpusBatch *batch, Encoded *out)
{
    TRY(make_room(out, batch->n_bytes));
    *out =
        (Encoded){.ids = {out->ids[SPLIT_TRAIN], out->ids[SPLIT_VAL]}, .capacity = out->capacity};
    return batch->file->is_lines ? put_lines(rules, e, batch, out) : put_part(rules, e, batch, out);
}
