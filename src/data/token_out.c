#include "data/token_out.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_INTS = 256, MAGIC = 20240520, VERSION = 1, NAME_BYTES = 300, SHARD_DIGITS = 6 };

static const char *const SPLIT_NAME[N_SPLITS] = {"train", "val"};

/* One of the two sequences. */
typedef struct {
    FileWriter *file; /* the newest, or NULL */
    int32_t n_files;
    int64_t n_ids, n_in_file;
} Sequence;

struct TokenOut {
    const Staging *staging;
    TokenFormat format;
    const char *name;
    int64_t shard_tokens;
    Sequence sequence[N_SPLITS];
};

/* ---- names ------------------------------------------------------------------------------- */

static Err file_name(const TokenOut *out, CorpusSplit split, int32_t i, char name[NAME_BYTES])
{
    int n = out->format == TOKEN_NANOGPT ? snprintf(name, NAME_BYTES, "%s.bin", SPLIT_NAME[split])
                                         : snprintf(name, NAME_BYTES, "%s_%s_%0*d.bin", out->name,
                                                    SPLIT_NAME[split], SHARD_DIGITS, i);
    if (n < 0 || n >= NAME_BYTES)
        FAIL(ERR_USAGE, "%s: too long a name for a data set", out->name);
    return OK;
}

static bool is_token_file(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".bin") == 0 &&
           (strstr(name, "train") || strstr(name, "val"));
}

/* "_train_000000.bin" at the end, or "_val_...". */
static bool is_shard_name(const char *name, const char *split)
{
    const char *at = strrchr(name, '_');
    size_t n_split = strlen(split);
    if (!at || (size_t)(at - name) < n_split + 1 || at[-(ptrdiff_t)n_split - 1] != '_' ||
        memcmp(at - n_split, split, n_split) != 0)
        return false;
    size_t n_digits = strspn(at + 1, "0123456789");
    return n_digits >= SHARD_DIGITS && strcmp(at + 1 + n_digits, ".bin") == 0;
}

/* Of either format. */
static bool is_own_name(const char *name)
{
    return strcmp(name, "train.bin") == 0 || strcmp(name, "val.bin") == 0 ||
           is_shard_name(name, SPLIT_NAME[SPLIT_TRAIN]) ||
           is_shard_name(name, SPLIT_NAME[SPLIT_VAL]);
}

/* Do something with every token file of the folder. */
static Err each_older(const Staging *staging, Err (*act)(const Staging *, const char *, char *),
                      char *room)
{
    char **name;
    int32_t n_names;
    TRY(dir_list(staging->dir, &name, &n_names));
    Err err = OK;
    for (int32_t i = 0; i < n_names && !err; i++)
        if (is_token_file(name[i]))
            err = act(staging, name[i], room);
    dir_list_free(name, n_names);
    return err;
}

static Err remember(const Staging *staging, const char *name, char *room)
{
    (void)staging;
    snprintf(room, FILE_PATH_BYTES, "%s", name);
    return OK;
}

static Err remember_foreign(const Staging *staging, const char *name, char *room)
{
    return is_own_name(name) ? OK : remember(staging, name, room);
}

static Err remove_own(const Staging *staging, const char *name, char *room)
{
    (void)room;
    return is_own_name(name) ? staging_remove_final(staging, name) : OK;
}

static Err find(const Staging *staging, Err (*act)(const Staging *, const char *, char *),
                char name[FILE_PATH_BYTES])
{
    name[0] = '\0';
    return path_is_dir(staging->dir) ? each_older(staging, act, name) : OK;
}

Err token_out_find_older(const Staging *staging, char name[FILE_PATH_BYTES])
{
    return find(staging, remember, name);
}

Err token_out_find_foreign(const Staging *staging, char name[FILE_PATH_BYTES])
{
    return find(staging, remember_foreign, name);
}

/* ---- writing ----------------------------------------------------------------------------- */

Err token_out_open(TokenOut **result, const Staging *staging, TokenFormat format, const char *name,
                   int64_t shard_tokens)
{
    TokenOut *out = calloc(1, sizeof *out);
    *result = out;
    if (!out)
        FAIL(ERR_SYSTEM, "out of memory");
    *out = (TokenOut){.staging = staging,
                      .format = format,
                      .name = name,
                      .shard_tokens = format == TOKEN_LLMC ? shard_tokens : INT64_MAX};
    return OK;
}

static Err write_header(FileWriter *file, int64_t n_ids)
{
    int32_t header[HEADER_INTS] = {MAGIC, VERSION, (int32_t)n_ids};
    return file_write(file, header, sizeof header);
}

static Err next_file(TokenOut *out, CorpusSplit split)
{
    Sequence *s = &out->sequence[split];
    char name[NAME_BYTES], path[FILE_PATH_BYTES];
    TRY(file_name(out, split, s->n_files, name));
    TRY(staging_temporary(out->staging, name, path));
    TRY(file_create(&s->file, path));
    TRY(file_lock(s->file));
    s->n_files++;
    s->n_in_file = 0;
    return out->format == TOKEN_LLMC ? write_header(s->file, out->shard_tokens) : OK;
}

static Err close_file(Sequence *s)
{
    FileWriter *file = s->file;
    s->file = NULL;
    return file_close(file, NULL);
}

Err token_out_write(TokenOut *out, CorpusSplit split, const uint16_t *ids, int64_t n_ids)
{
    Sequence *s = &out->sequence[split];
    while (n_ids > 0) {
        if (!s->file)
            TRY(next_file(out, split));
        int64_t room = out->shard_tokens - s->n_in_file, n = n_ids < room ? n_ids : room;
        TRY(file_write(s->file, ids, (size_t)n * sizeof *ids));
        s->n_in_file += n;
        s->n_ids += n;
        ids += n;
        n_ids -= n;
        if (s->n_in_file == out->shard_tokens)
            TRY(close_file(s));
    }
    return OK;
}

Err token_out_sync(TokenOut *out, TokenPlace place[N_SPLITS])
{
    for (int i = 0; i < N_SPLITS; i++) {
        const Sequence *s = &out->sequence[i];
        if (s->file)
            TRY(file_sync(s->file));
        place[i] = (TokenPlace){s->n_files, s->file != NULL, s->n_ids, s->n_in_file};
    }
    return OK;
}

static size_t header_bytes(const TokenOut *out)
{
    return out->format == TOKEN_LLMC ? HEADER_INTS * sizeof(int32_t) : 0;
}

static Err check_there(const TokenOut *out, CorpusSplit split, int32_t n_files)
{
    char name[NAME_BYTES], path[FILE_PATH_BYTES];
    for (int32_t i = 0; i < n_files; i++) {
        TRY(file_name(out, split, i, name));
        TRY(staging_temporary(out->staging, name, path));
        if (!path_exists(path))
            FAIL(ERR_WRITE, "%s is not there", path);
    }
    return OK;
}

static Err resume_sequence(TokenOut *out, CorpusSplit split, const TokenPlace *place)
{
    Sequence *s = &out->sequence[split];
    char name[NAME_BYTES], path[FILE_PATH_BYTES];
    s->n_files = place->n_files;
    s->n_ids = place->n_ids;
    s->n_in_file = place->n_in_file;
    TRY(check_there(out, split, s->n_files));
    if (!place->is_open)
        return OK;
    TRY(file_name(out, split, s->n_files - 1, name));
    TRY(staging_temporary(out->staging, name, path));
    return file_resume(&s->file, path, header_bytes(out) + (size_t)s->n_in_file * sizeof(uint16_t));
}

Err token_out_resume(TokenOut *out, const TokenPlace place[N_SPLITS])
{
    TRY(resume_sequence(out, SPLIT_TRAIN, &place[SPLIT_TRAIN]));
    return resume_sequence(out, SPLIT_VAL, &place[SPLIT_VAL]);
}

static Err copy_shard(FileWriter *to, const FileMap *from, int64_t n_ids)
{
    size_t n_header = HEADER_INTS * sizeof(int32_t);
    TRY(write_header(to, n_ids));
    return file_write(to, from->data + n_header, from->n_bytes - n_header);
}

/* A shard that is not full was begun with the count of a full one: write it again. */
static Err write_last_shard(const TokenOut *out, const char *name, int64_t n_ids)
{
    char path[FILE_PATH_BYTES];
    FileMap old = {0};
    FileWriter *file = NULL;
    TRY(staging_temporary(out->staging, name, path));
    TRY(file_map(&old, path));
    Err err = staging_discard(out->staging, name);
    if (!err)
        err = file_create(&file, path);
    if (!err)
        err = copy_shard(file, &old, n_ids);
    if (err)
        file_abandon(file);
    else
        err = file_close(file, NULL);
    file_unmap(&old);
    return err;
}

static Err finish_sequence(TokenOut *out, CorpusSplit split)
{
    Sequence *s = &out->sequence[split];
    char name[NAME_BYTES];
    if (!s->file)
        return OK;
    TRY(close_file(s));
    TRY(file_name(out, split, s->n_files - 1, name));
    return out->format == TOKEN_LLMC ? write_last_shard(out, name, s->n_in_file) : OK;
}

Err token_out_finish(TokenOut *out)
{
    TRY(finish_sequence(out, SPLIT_TRAIN));
    return finish_sequence(out, SPLIT_VAL);
}

static Err publish_sequence(TokenOut *out, CorpusSplit split)
{
    Sequence *s = &out->sequence[split];
    char name[NAME_BYTES];
    for (; s->n_files > 0; s->n_files--) {
        TRY(file_name(out, split, s->n_files - 1, name));
        TRY(staging_publish(out->staging, name));
    }
    return OK;
}

Err token_out_remove_older(TokenOut *out)
{
    TRY(each_older(out->staging, remove_own, NULL));
    return dir_sync(out->staging->dir);
}

Err token_out_publish(TokenOut *out)
{
    TRY(publish_sequence(out, SPLIT_TRAIN));
    return publish_sequence(out, SPLIT_VAL);
}

void token_out_close(TokenOut *out)
{
    char name[NAME_BYTES];
    if (!out)
        return;
    for (int split = 0; split < N_SPLITS; split++) {
        Sequence *s = &out->sequence[split];
        file_abandon(s->file);
        for (; s->n_files > 0; s->n_files--) {
            err_free(file_name(out, (CorpusSplit)split, s->n_files - 1, name));
            err_free(staging_discard(out->staging, name)); /* the first error is on its way */
        }
    }
    free(out);
}

int64_t token_out_tokens(const TokenOut *out, CorpusSplit split)
{
    return out->sequence[split].n_ids;
}

int32_t token_out_files(const TokenOut *out, CorpusSplit split)
{
    return out->sequence[split].n_files;
}
