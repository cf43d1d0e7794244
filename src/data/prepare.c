#include "data/prepare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/status_line.h"
#include "data/source.h"
#include "data/staging.h"

enum { CHUNK_TOKENS = 1 << 14 };

/* The results, and a text from standard input. In the order in which they are published. */
typedef enum { FILE_VAL, FILE_META, FILE_TRAIN, FILE_SPOOL, N_FILES } PrepareFile;

static const char *const FILE_NAME[N_FILES] = {"val.bin", "meta.json", "train.bin", "input"};

typedef struct {
    const PrepareArgs *args;
    Staging staging;
    char temporary[N_FILES][FILE_PATH_BYTES];
    FileMap text;
    StatusLine line;
} Preparation;

static Err name_files(Preparation *p)
{
    TRY(staging_init(&p->staging, p->args->out_dir));
    for (int i = 0; i < N_FILES; i++)
        TRY(staging_temporary(&p->staging, FILE_NAME[i], p->temporary[i]));
    return OK;
}

/* ---- the text ---------------------------------------------------------------------------- */

static Err copy_stream(FILE *in, FileWriter *out)
{
    char buffer[CHUNK_TOKENS];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, in)) > 0)
        TRY(file_write(out, buffer, n));
    if (ferror(in))
        FAIL(ERR_MISSING, "standard input cannot be read: %s", strerror(errno));
    return OK;
}

/* Standard input in a file: it is needed twice, and its length before its first token. */
static Err spool(Preparation *p)
{
    FileWriter *out = NULL;
    TRY(staging_make_room(&p->staging));
    TRY(file_create(&out, p->temporary[FILE_SPOOL]));
    Err err = copy_stream(stdin, out);
    if (err) {
        file_abandon(out);
        return err;
    }
    return file_close(out, NULL);
}

static bool from_stdin(const PrepareArgs *args)
{
    return strcmp(args->input, "-") == 0;
}

static const char *input_name(const PrepareArgs *args)
{
    return from_stdin(args) ? "standard input" : args->input;
}

static Err map_text(Preparation *p)
{
    if (from_stdin(p->args)) {
        TRY(spool(p));
        TRY(file_map(&p->text, p->temporary[FILE_SPOOL]));
        TRY(staging_discard(&p->staging,
                            FILE_NAME[FILE_SPOOL])); /* the mapping keeps it until it is released */
    } else {
        TRY(file_map(&p->text, p->args->input));
    }
    if (p->text.n_bytes == 0)
        FAIL(ERR_DATA, "%s is empty", input_name(p->args));
    return OK;
}

/* ---- tokens ------------------------------------------------------------------------------ */

static Err make_tokenizer(Preparation *p, Tokenizer *t)
{
    if (p->args->kind == TOKENIZER_BYTE) {
        tokenizer_bytes(t);
        return OK;
    }
    const char *text = (const char *)p->text.data;
    TRY(source_check_text(input_name(p->args), text, p->text.n_bytes));
    status_line_show(&p->line, -1, "finding characters");
    Err err = tokenizer_from_text(t, text, p->text.n_bytes);
    return err_prefix(err, "%s", input_name(p->args));
}

/* nanoGPT's split: the first int(n * 0.9) characters train. */
static Err split(const Preparation *p, PrepareResult *result)
{
    double share = 1.0 - p->args->val_fraction;
    result->n_bytes = (int64_t)p->text.n_bytes;
    result->n_chars =
        tokenizer_count(&result->tokenizer, (const char *)p->text.data, p->text.n_bytes);
    result->n_train = (int64_t)((double)result->n_chars * share);
    result->n_val = result->n_chars - result->n_train;
    if (result->n_train < 1 || result->n_val < 1)
        FAIL(ERR_DATA,
             "%s: %" PRId64 " tokens leave %" PRId64 " to train and %" PRId64
             " to validate: give more text, or another val_fraction",
             input_name(p->args), result->n_chars, result->n_train, result->n_val);
    return OK;
}

/* n_tokens tokens of the text from byte *at on, as token files hold them. */
static Err write_chunk(const Preparation *p, const Tokenizer *t, size_t *at, int64_t n_tokens,
                       FileWriter *out)
{
    int32_t id[CHUNK_TOKENS];
    uint16_t token[CHUNK_TOKENS];
    int64_t n;
    TRY(tokenizer_encode_part(t, (const char *)p->text.data, p->text.n_bytes, at, id, n_tokens,
                              &n));
    if (n != n_tokens)
        FAIL(ERR_DATA, "%s: changed while it was read: run again when it is complete",
             input_name(p->args));
    for (int64_t i = 0; i < n; i++)
        token[i] = (uint16_t)id[i];
    return file_write(out, token, (size_t)n * sizeof *token);
}

static Err write_tokens(Preparation *p, const Tokenizer *t, size_t *at, int64_t n_tokens,
                        FileWriter *out)
{
    while (n_tokens > 0) {
        int64_t n = n_tokens < CHUNK_TOKENS ? n_tokens : CHUNK_TOKENS;
        TRY(write_chunk(p, t, at, n, out));
        n_tokens -= n;
        status_line_show(&p->line, (double)*at / (double)p->text.n_bytes, "encoding");
    }
    return OK;
}

/* The next n_tokens of the text, complete and on disk under a temporary name. */
static Err write_token_file(Preparation *p, const Tokenizer *t, size_t *at, int64_t n_tokens,
                            PrepareFile file)
{
    FileWriter *out = NULL;
    TRY(file_create(&out, p->temporary[file]));
    Err err = write_tokens(p, t, at, n_tokens, out);
    if (err) {
        file_abandon(out);
        return err;
    }
    return file_close(out, NULL);
}

/* ---- all of it --------------------------------------------------------------------------- */

static Err write_all(Preparation *p, const PrepareResult *result)
{
    const Tokenizer *t = &result->tokenizer;
    size_t at = 0;
    TRY(staging_make_room(&p->staging));
    TRY(write_token_file(p, t, &at, result->n_train, FILE_TRAIN));
    TRY(write_token_file(p, t, &at, result->n_val, FILE_VAL));
    return tokenizer_save(t, p->temporary[FILE_META]);
}

/* See prepare_text. Processes that have the old files mapped keep them. */
static Err publish(const Preparation *p)
{
    TRY(staging_remove_final(&p->staging, FILE_NAME[FILE_TRAIN]));
    TRY(dir_sync(p->args->out_dir));
    for (int i = FILE_VAL; i <= FILE_TRAIN; i++)
        TRY(staging_publish(&p->staging, FILE_NAME[i]));
    return OK;
}

static Err prepare(Preparation *p, PrepareResult *result)
{
    TRY(name_files(p));
    TRY(map_text(p));
    TRY(make_tokenizer(p, &result->tokenizer));
    TRY(split(p, result));
    TRY(write_all(p, result));
    return publish(p);
}

static void clean_up(Preparation *p, bool failed)
{
    status_line_clear(&p->line);
    file_unmap(&p->text);
    for (int i = 0; i < N_FILES; i++)
        err_free(staging_discard(&p->staging,
                                 FILE_NAME[i])); /* the first error matters, and it is on its way */
    if (failed)
        staging_leave(&p->staging);
    free(p);
}

Err prepare_text(const PrepareArgs *args, PrepareResult *result)
{
    *result = (PrepareResult){0};
    if (!(args->val_fraction > 0.0 && args->val_fraction < 1.0))
        FAIL(ERR_USAGE, "val_fraction is %g: it should be above 0 and below 1", args->val_fraction);
    Preparation *p = calloc(1, sizeof *p);
    if (!p)
        FAIL(ERR_SYSTEM, "out of memory");
    p->args = args;
    p->line = status_line_begin(args->progress, 0);
    Err err = prepare(p, result);
    clean_up(p, err != OK);
    if (err)
        tokenizer_free(&result->tokenizer);
    return err;
}
