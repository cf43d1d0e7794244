#include "data/corpus.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/file.h"
#include "data/source.h"
#include "text/split.h"
#include "text/utf8.h"

enum { MOST_FOLDERS = 64 /* inside each other */ };

/* A folder, and the one around it; NULL: there is none that was looked into. */
typedef struct Folder {
    const char *path;
    uint64_t device, inode;
    int32_t depth;
    const struct Folder *around;
} Folder;

/* ---- which files ------------------------------------------------------------------------- */

static bool ends_in(const char *text, size_t n, const char *end)
{
    size_t n_end = strlen(end);
    return n > n_end && memcmp(text + n - n_end, end, n_end) == 0;
}

/* Bytes of a name without .gz or .zst. */
static size_t unpacked_name(const char *name)
{
    size_t n = strlen(name);
    return ends_in(name, n, ".gz") ? n - 3 : ends_in(name, n, ".zst") ? n - 4 : n;
}

bool corpus_is_lines_name(const char *name)
{
    return ends_in(name, unpacked_name(name), ".jsonl");
}

static bool is_text_name(const char *name)
{
    return ends_in(name, unpacked_name(name), ".txt");
}

/* Before hours of work on other files, which an error in the midst of it would undo. */
static Err check_head(const char *path)
{
    char head[SOURCE_HEAD_BYTES];
    size_t n;
    Source *source = NULL;
    TRY(source_open(&source, path));
    Err err = source_read(source, head, sizeof head, &n);
    source_close(source);
    return err ? err : source_check_text(path, head, n);
}

/* Is it there, can it be read, and is it a text? A stream is not looked at: to open a pipe and
 * close it again ends who writes into it. */
static Err look_at_file(CorpusFile *file)
{
    FileReader *reader;
    file->is_stream = strcmp(file->path, "-") == 0 || path_is_stream(file->path);
    if (file->is_stream)
        return OK;
    TRY(file_open(&reader, file->path));
    file->n_bytes = file_reader_bytes(reader);
    file->written_ns = file_reader_written_ns(reader);
    file_reader_close(reader);
    return check_head(file->path);
}

static Err add_file(Corpus *c, const char *path, bool is_lines)
{
    CorpusFile *grown = realloc(c->file, ((size_t)c->n_files + 1) * sizeof *grown);
    if (grown)
        c->file = grown;
    char *copy = strdup(path);
    if (!grown || !copy) {
        free(copy);
        FAIL(ERR_SYSTEM, "out of memory for a list of %d files", c->n_files);
    }
    c->file[c->n_files++] = (CorpusFile){.path = copy, .is_lines = is_lines};
    return look_at_file(&c->file[c->n_files - 1]);
}

/* merges.txt is part of a tokenizer where its vocabulary is beside it: no text of the corpus. */
static Err is_tokenizer_file(const char *dir, const char *name, bool *is)
{
    char path[FILE_PATH_BYTES];
    *is = false;
    if (strcmp(name, "merges.txt") != 0)
        return OK;
    TRY(path_join(path, dir, "vocab.json"));
    *is = path_exists(path);
    return OK;
}

/* Of a name in a folder. */
static Err is_document_file(const char *dir, const char *name, const char *path, bool *is)
{
    bool of_tokenizer = false;
    *is = false;
    TRY(is_tokenizer_file(dir, name, &of_tokenizer));
    *is = !of_tokenizer && !path_is_stream(path) &&
          (corpus_is_lines_name(name) || is_text_name(name));
    return OK;
}

static Err add_folder(Corpus *c, const char *dir, const Folder *around);

/* A hidden one (".git", what editors and file managers leave) is nobody's text, and not counted. */
static Err add_entry(Corpus *c, const Folder *folder, const char *name)
{
    char path[FILE_PATH_BYTES];
    bool counts = false;
    if (name[0] == '.')
        return OK;
    TRY(path_join(path, folder->path, name));
    if (path_is_dir(path))
        return add_folder(c, path, folder);
    TRY(is_document_file(folder->path, name, path, &counts));
    if (counts)
        return add_file(c, path, corpus_is_lines_name(name));
    if (c->n_passed_over++ == 0)
        snprintf(c->first_passed_over, sizeof c->first_passed_over, "%s", path);
    return OK;
}

/* *folder = dir, when it is not one of those around it, which a link can bring about. */
static Err enter_folder(const char *dir, const Folder *around, Folder *folder)
{
    *folder = (Folder){.path = dir, .depth = around ? around->depth + 1 : 0, .around = around};
    if (folder->depth == MOST_FOLDERS)
        FAIL(ERR_MISSING, "%s: more than %d folders inside each other", dir, MOST_FOLDERS);
    if (!path_identity(dir, &folder->device, &folder->inode))
        FAIL(ERR_MISSING, "%s: cannot be looked at", dir);
    for (const Folder *f = around; f; f = f->around)
        if (f->device == folder->device && f->inode == folder->inode)
            FAIL(ERR_MISSING, "%s: a link back to %s: its texts would be taken again and again",
                 dir, f->path);
    return OK;
}

static Err add_folder(Corpus *c, const char *dir, const Folder *around)
{
    char **name;
    int32_t n_names;
    Folder folder;
    TRY(enter_folder(dir, around, &folder));
    TRY(dir_list(dir, &name, &n_names));
    Err err = OK;
    for (int32_t i = 0; i < n_names && !err; i++)
        err = add_entry(c, &folder, name[i]);
    dir_list_free(name, n_names);
    return err;
}

static Err add_input(Corpus *c, const char *path, bool stdin_is_lines)
{
    if (strcmp(path, "-") == 0)
        return add_file(c, path, stdin_is_lines);
    return path_is_dir(path) ? add_folder(c, path, NULL)
                             : add_file(c, path, corpus_is_lines_name(path));
}

/* The sum of what is stored, or 0 when a stream is among it. */
static size_t stored_bytes(const Corpus *c)
{
    size_t n = 0;
    for (int32_t i = 0; i < c->n_files; i++) {
        if (c->file[i].is_stream)
            return 0;
        n += c->file[i].n_bytes;
    }
    return n;
}

Err corpus_list(Corpus *c, const char *const *input, int32_t n_inputs, bool stdin_is_lines)
{
    Err err = OK;
    *c = (Corpus){0};
    for (int32_t i = 0; i < n_inputs && !err; i++)
        err = add_input(c, input[i], stdin_is_lines);
    if (!err && c->n_files == 0)
        err = ERR_NEW(ERR_MISSING,
                      "%s: holds no .txt or .jsonl, plain or as .gz or .zst (%d other files)",
                      input[0], c->n_passed_over);
    if (err)
        corpus_free(c);
    else
        c->n_bytes = stored_bytes(c);
    return err;
}

void corpus_free(Corpus *c)
{
    for (int32_t i = 0; i < c->n_files; i++)
        free(c->file[i].path);
    free(c->file);
    *c = (Corpus){0};
}

CorpusSplit corpus_split(const char *text, size_t n_bytes, double val_fraction)
{
    size_t n = n_bytes < CORPUS_HASHED_BYTES ? n_bytes : CORPUS_HASHED_BYTES;
    double unit = (double)(XXH3_64bits(text, n) >> 11) * 0x1p-53;
    return unit < val_fraction ? SPLIT_VAL : SPLIT_TRAIN;
}

/* ---- reading ----------------------------------------------------------------------------- */

struct CorpusReader {
    const Corpus *corpus;
    double val_fraction;
    int32_t at;       /* the file */
    Source *source;   /* of it; NULL: not yet open */
    size_t n_stored;  /* of the files before it */
    size_t n_read;    /* of the file, unpacked */
    bool at_end;      /* of the file: what is carried is all that is left */
    bool in_document; /* a text, of which there was a batch */
    CorpusSplit split;
    int64_t line; /* the number of the next */
    char *carry;  /* read, and not yet given out */
    size_t n_carry, carry_capacity;
    bool tail;
    int64_t n_chars; /* tail: of the document for SPLIT_TRAIN, still to come */
};

static Err reserve(char **data, size_t *capacity, size_t n_bytes)
{
    if (*capacity >= n_bytes)
        return OK;
    char *grown = realloc(*data, n_bytes);
    if (!grown)
        FAIL(ERR_SYSTEM, "out of memory for a batch of %zu bytes", n_bytes);
    *data = grown;
    *capacity = n_bytes;
    return OK;
}

static bool begins_char(char byte)
{
    return ((uint8_t)byte & 0xC0) != 0x80;
}

static int64_t count_chars(const char *text, size_t n_bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n += begins_char(text[i]);
    return n;
}

/* Where the character `index` begins; n_bytes when there are fewer. */
static size_t find_char(const char *text, size_t n_bytes, int64_t index)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (begins_char(text[i]) && index-- == 0)
            return i;
    return n_bytes;
}

static Err count_source(Source *source, char *buffer, int64_t *n_chars)
{
    size_t n;
    *n_chars = 0;
    do {
        TRY(source_read(source, buffer, CORPUS_BATCH_BYTES, &n));
        *n_chars += count_chars(buffer, n);
    } while (n > 0);
    return OK;
}

/* nanoGPT's split: the first int(n * 0.9) characters train. */
static Err find_tail(CorpusReader *r)
{
    const CorpusFile *file = r->corpus->file;
    Source *source = NULL;
    int64_t n = 0;
    if (r->corpus->n_files != 1 || file->is_lines || file->is_stream)
        FAIL(ERR_USAGE, "a split by place is for one text in a file");
    TRY(reserve(&r->carry, &r->carry_capacity, CORPUS_BATCH_BYTES));
    TRY(source_open(&source, file->path));
    Err err = count_source(source, r->carry, &n);
    source_close(source);
    r->n_chars = (int64_t)((double)n * (1.0 - r->val_fraction));
    return err;
}

Err corpus_reader_open(CorpusReader **out, const Corpus *c, double val_fraction, bool tail)
{
    CorpusReader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        FAIL(ERR_SYSTEM, "out of memory");
    *r = (CorpusReader){.corpus = c, .val_fraction = val_fraction, .tail = tail};
    Err err = tail ? find_tail(r) : OK;
    if (err)
        corpus_reader_close(r);
    else
        *out = r;
    return err;
}

void corpus_reader_close(CorpusReader *r)
{
    if (!r)
        return;
    source_close(r->source);
    free(r->carry);
    free(r);
}

size_t corpus_stored(const CorpusReader *r)
{
    return r->n_stored + (r->source ? source_stored(r->source) : 0);
}

/* Of a stream, at whose first bytes nobody could look before. */
static Err check_stream(const CorpusReader *r, const char *head, size_t n_bytes)
{
    const CorpusFile *file = &r->corpus->file[r->at];
    if (!file->is_stream || r->n_read > 0)
        return OK;
    return source_check_text(strcmp(file->path, "-") == 0 ? "standard input" : file->path, head,
                             n_bytes);
}

/* The batch grows to `limit` bytes, or to the end of the file. */
static Err fill(CorpusReader *r, CorpusBatch *batch, size_t limit)
{
    size_t n;
    if (limit < r->n_carry)
        limit = r->n_carry;
    TRY(reserve(&batch->data, &batch->capacity, limit));
    if (r->n_carry > 0)
        memcpy(batch->data + batch->n_bytes, r->carry, r->n_carry);
    batch->n_bytes += r->n_carry;
    r->n_carry = 0;
    if (r->at_end || batch->n_bytes == limit)
        return OK;
    TRY(source_read(r->source, batch->data + batch->n_bytes, limit - batch->n_bytes, &n));
    TRY(check_stream(r, batch->data + batch->n_bytes, n));
    r->at_end = n < limit - batch->n_bytes;
    r->n_read += n;
    batch->n_bytes += n;
    return OK;
}

/* The batch keeps its first `cut` bytes; the next one gets the others. */
static Err carry_rest(CorpusReader *r, CorpusBatch *batch, size_t cut)
{
    size_t n = batch->n_bytes - cut;
    TRY(reserve(&r->carry, &r->carry_capacity, n));
    if (n > 0)
        memcpy(r->carry, batch->data + cut, n);
    r->n_carry = n;
    batch->n_bytes = cut;
    return OK;
}

static void end_file(CorpusReader *r)
{
    r->n_stored += source_stored(r->source);
    source_close(r->source);
    r->source = NULL;
    r->at++;
}

/* ---- texts ------------------------------------------------------------------------------- */

/* Where to cut a batch of a text; 0: only when there is more of it. *ends: its document does. */
static size_t cut_text(CorpusReader *r, const CorpusBatch *batch, bool *ends)
{
    size_t n = batch->n_bytes;
    if (r->tail && r->split == SPLIT_TRAIN) {
        n = find_char(batch->data, n, r->n_chars);
        *ends = n < batch->n_bytes || r->at_end;
    } else {
        *ends = r->at_end;
    }
    return *ends ? n : split_cut(batch->data, n);
}

static void begin_document(CorpusReader *r, const CorpusBatch *batch)
{
    if (!r->tail)
        r->split = corpus_split(batch->data, batch->n_bytes, r->val_fraction);
    r->in_document = true;
}

/* After a batch of a text is cut. */
static void end_batch(CorpusReader *r, const CorpusBatch *batch)
{
    bool is_first = r->tail && r->split == SPLIT_TRAIN;
    if (is_first)
        r->n_chars -= count_chars(batch->data, batch->n_bytes);
    if (!batch->ends)
        return;
    r->in_document = false;
    r->split = SPLIT_VAL; /* of the tail; otherwise the next document decides */
    if (!is_first)
        end_file(r);
}

static Err next_text(CorpusReader *r, CorpusBatch *batch)
{
    size_t cut = 0, limit = CORPUS_BATCH_BYTES;
    batch->begins = !r->in_document;
    for (;; limit *= 2) {
        TRY(fill(r, batch, limit));
        if (!r->in_document)
            begin_document(r, batch);
        cut = cut_text(r, batch, &batch->ends);
        if (cut > 0 || batch->ends)
            break;
        batch->is_cut = limit >= CORPUS_MAX_BATCH_BYTES;
        if (!batch->is_cut)
            continue;
        cut = batch->n_bytes - utf8_cut_off(batch->data, batch->n_bytes);
        break;
    }
    batch->split = r->split;
    TRY(carry_rest(r, batch, cut));
    end_batch(r, batch);
    return OK;
}

/* ---- lines ------------------------------------------------------------------------------- */

static size_t behind_last_line(const CorpusBatch *batch)
{
    const char *end = batch->n_bytes ? memrchr(batch->data, '\n', batch->n_bytes) : NULL;
    return end ? (size_t)(end - batch->data) + 1 : 0;
}

static int64_t count_lines(const char *text, size_t n_bytes)
{
    int64_t n = 0;
    const char *end = text + n_bytes;
    for (const char *at = text; at < end && (at = memchr(at, '\n', (size_t)(end - at))); at++)
        n++;
    return n;
}

/* The rest of a line that is too long is read and dropped; what follows it is left in the batch. */
static Err pass_over_line(CorpusReader *r, CorpusBatch *batch)
{
    const char *end = NULL;
    batch->long_line = r->line++;
    while (!end && !r->at_end) {
        batch->n_bytes = 0;
        TRY(fill(r, batch, CORPUS_BATCH_BYTES));
        end = memchr(batch->data, '\n', batch->n_bytes);
    }
    size_t n = end ? (size_t)(end - batch->data) + 1 : batch->n_bytes;
    memmove(batch->data, batch->data + n, batch->n_bytes - n);
    batch->n_bytes -= n;
    return OK;
}

static Err next_lines(CorpusReader *r, CorpusBatch *batch)
{
    size_t cut = 0;
    for (size_t limit = CORPUS_BATCH_BYTES; cut == 0; limit *= 2) {
        TRY(fill(r, batch, limit));
        cut = r->at_end ? batch->n_bytes : behind_last_line(batch);
        if (r->at_end || (cut == 0 && limit >= CORPUS_MAX_BATCH_BYTES))
            break;
    }
    if (cut == 0 && !r->at_end) {
        TRY(pass_over_line(r, batch));
        cut = r->at_end ? batch->n_bytes : behind_last_line(batch);
    }
    TRY(carry_rest(r, batch, cut));
    batch->first_line = r->line;
    r->line += count_lines(batch->data, batch->n_bytes);
    if (r->at_end && r->n_carry == 0)
        end_file(r);
    return OK;
}

static Err open_file(CorpusReader *r)
{
    TRY(source_open(&r->source, r->corpus->file[r->at].path));
    r->at_end = false;
    r->n_read = 0;
    r->line = 1;
    return OK;
}

static CorpusPlace place_of(const CorpusReader *r)
{
    return (CorpusPlace){.file = r->at,
                         .at = r->source ? r->n_read - r->n_carry : 0,
                         .line = r->line,
                         .n_chars = r->n_chars,
                         .in_document = r->in_document,
                         .split = r->split};
}

static Err skip(CorpusReader *r, size_t n_bytes)
{
    TRY(reserve(&r->carry, &r->carry_capacity, CORPUS_BATCH_BYTES));
    while (r->n_read < n_bytes) {
        size_t left = n_bytes - r->n_read, n;
        TRY(source_read(r->source, r->carry, left < CORPUS_BATCH_BYTES ? left : CORPUS_BATCH_BYTES,
                        &n));
        if (n == 0)
            FAIL(ERR_DATA, "%s: is shorter than it was", r->corpus->file[r->at].path);
        r->n_read += n;
    }
    return OK;
}

Err corpus_seek(CorpusReader *r, const CorpusPlace *place)
{
    ASSERT(!r->source && place->file <= r->corpus->n_files, "file %d", place->file);
    for (; r->at < place->file; r->at++)
        r->n_stored += r->corpus->file[r->at].n_bytes;
    if (place->at > 0) {
        TRY(open_file(r));
        TRY(skip(r, place->at));
    }
    r->line = place->line;
    r->n_chars = place->n_chars;
    r->in_document = place->in_document;
    r->split = place->split;
    return OK;
}

Err corpus_next(CorpusReader *r, CorpusBatch *batch, bool *more)
{
    const CorpusFile *file = r->corpus->file + r->at;
    *batch = (CorpusBatch){.data = batch->data, .capacity = batch->capacity, .file = file};
    *more = r->at < r->corpus->n_files;
    if (!*more)
        return OK;
    if (!r->source)
        TRY(open_file(r));
    Err err = file->is_lines ? next_lines(r, batch) : next_text(r, batch);
    batch->end = place_of(r);
    return err;
}
