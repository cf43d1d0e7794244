#include "data/source.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/file.h"

enum { STORED_BYTES = 1 << 18, GZIP_WINDOW = 15 + 16 /* the largest, with gzip's header */ };

typedef enum { PLAIN, GZIP, ZSTANDARD } Packing;

/* What no text begins with: `bytes`, from byte `at` on. */
typedef struct {
    size_t at, n_bytes;
    const char *bytes, *kind, *advice;
} Signature;

#define UNPACK_ADVICE "unpack it first"
#define SUFFIX_ADVICE "unpack it first; only --tokenizer does, of names that end in .gz or .zst"
#define UTF16_ADVICE  "make it UTF-8 first: iconv -f UTF-16 -t UTF-8"
#define UTF32_ADVICE  "make it UTF-8 first: iconv -f UTF-32 -t UTF-8"

static const Signature SIGNATURE[] = {
    {0, 4, "\xFF\xFE\0\0", "UTF-32", UTF32_ADVICE}, /* before UTF-16, whose mark begins it */
    {0, 4, "\0\0\xFE\xFF", "UTF-32", UTF32_ADVICE},
    {0, 2, "\xFF\xFE", "UTF-16", UTF16_ADVICE},
    {0, 2, "\xFE\xFF", "UTF-16", UTF16_ADVICE},
    {0, 2, "\x1F\x8B", "a gzip archive", SUFFIX_ADVICE},
    {0, 4, "\x28\xB5\x2F\xFD", "a Zstandard archive", SUFFIX_ADVICE},
    {4, 6, "1AY&SY", "a bzip2 archive", UNPACK_ADVICE}, /* behind "BZh" and a digit */
    {0, 6, "\xFD\x37zXZ\0", "an xz archive", UNPACK_ADVICE},
    {0, 4, "PK\3\4", "a zip archive", UNPACK_ADVICE},
    {0, 5, "PAR1\x15", "a Parquet file", "write its texts as JSON lines first"},
    {0, 5, "%PDF-", "a PDF file", "take the text out of it first, as with pdftotext"},
};

struct Source {
    Packing packing;
    FileReader *file;
    z_stream gzip;
    ZSTD_DStream *zstd;
    bool is_open;        /* within a member of a .gz or a frame of a .zst; there is one at least */
    bool at_end;         /* of the file */
    size_t n_stored, at; /* bytes in `stored`, and of those unpacked */
    size_t n_read;       /* of the file */
    uint8_t *stored;     /* [STORED_BYTES] */
    char path[FILE_PATH_BYTES];
};

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && strcmp(text + n - n_end, end) == 0;
}

static Err start_unpacking(Source *s)
{
    s->stored = malloc(STORED_BYTES);
    bool ok = s->stored != NULL;
    if (s->packing == GZIP)
        ok = ok && inflateInit2(&s->gzip, GZIP_WINDOW) == Z_OK;
    else
        ok = ok && (s->zstd = ZSTD_createDStream()) != NULL;
    if (!ok)
        FAIL(ERR_SYSTEM, "%s: out of memory", s->path);
    s->is_open = true;
    return OK;
}

Err source_open(Source **out, const char *path)
{
    Source *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        FAIL(ERR_SYSTEM, "%s: out of memory", path);
    s->packing = ends_in(path, ".gz") ? GZIP : ends_in(path, ".zst") ? ZSTANDARD : PLAIN;
    Err err = path_join(s->path, "", path);
    if (!err)
        err = file_open(&s->file, path);
    if (!err && s->packing != PLAIN)
        err = start_unpacking(s);
    if (err)
        source_close(s);
    else
        *out = s;
    return err;
}

void source_close(Source *s)
{
    if (!s)
        return;
    if (s->packing == GZIP)
        (void)inflateEnd(&s->gzip); /* says no more than that a member was not read to its end */
    ZSTD_freeDStream(s->zstd);
    file_reader_close(s->file);
    free(s->stored);
    free(s);
}

size_t source_stored(const Source *s)
{
    return s->n_read - (s->n_stored - s->at);
}

/* More of the file, when what there was has been unpacked. */
static Err refill(Source *s)
{
    if (s->at < s->n_stored || s->at_end)
        return OK;
    TRY(file_read(s->file, s->stored, STORED_BYTES, &s->n_stored));
    s->at = 0;
    s->n_read += s->n_stored;
    s->at_end = s->n_stored == 0;
    return OK;
}

static Err unpack_gzip(Source *s, char *data, size_t capacity, size_t *n_bytes)
{
    if (!s->is_open && inflateReset(&s->gzip) != Z_OK)
        FAIL(ERR_SYSTEM, "%s: zlib cannot begin", s->path);
    s->is_open = true;
    s->gzip.next_in = s->stored + s->at;
    s->gzip.avail_in = (uInt)(s->n_stored - s->at);
    s->gzip.next_out = (Bytef *)data;
    s->gzip.avail_out = capacity < STORED_BYTES ? (uInt)capacity : STORED_BYTES;
    size_t room = s->gzip.avail_out;
    int status = inflate(&s->gzip, Z_NO_FLUSH);
    s->at = s->n_stored - s->gzip.avail_in;
    *n_bytes = room - s->gzip.avail_out;
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        FAIL(ERR_DATA, "%s: damaged near byte %zu (%s)", s->path, source_stored(s),
             s->gzip.msg ? s->gzip.msg : "not a .gz file");
    s->is_open = status != Z_STREAM_END;
    return OK;
}

static Err unpack_zstd(Source *s, char *data, size_t capacity, size_t *n_bytes)
{
    ZSTD_inBuffer in = {s->stored, s->n_stored, s->at};
    ZSTD_outBuffer out = {data, capacity, 0};
    size_t status = ZSTD_decompressStream(s->zstd, &out, &in);
    s->at = in.pos;
    *n_bytes = out.pos;
    if (ZSTD_getErrorCode(status) == ZSTD_error_frameParameter_windowTooLarge)
        FAIL(ERR_DATA,
             "%s: needs more memory to unpack than 128 MiB (zstd --long): unpack it first",
             s->path);
    if (ZSTD_isError(status))
        FAIL(ERR_DATA, "%s: damaged near byte %zu (%s)", s->path, source_stored(s),
             ZSTD_getErrorName(status));
    s->is_open = status != 0;
    return OK;
}

/* Some bytes, at least one before the end; *n_bytes 0 is the end. */
static Err unpack(Source *s, char *data, size_t capacity, size_t *n_bytes)
{
    for (*n_bytes = 0; *n_bytes == 0;) {
        TRY(refill(s));
        if (s->at_end && !s->is_open)
            return OK;
        if (s->packing == GZIP)
            TRY(unpack_gzip(s, data, capacity, n_bytes));
        else
            TRY(unpack_zstd(s, data, capacity, n_bytes));
        if (s->at_end && s->is_open && *n_bytes == 0) /* nothing was held back either */
            FAIL(ERR_DATA, "%s: is cut off after %zu bytes", s->path, s->n_read);
    }
    return OK;
}

Err source_read(Source *s, char *data, size_t capacity, size_t *n_bytes)
{
    size_t n = 0;
    *n_bytes = 0;
    if (s->packing == PLAIN) {
        TRY(file_read(s->file, data, capacity, n_bytes));
        s->n_read += *n_bytes;
        return OK;
    }
    do {
        TRY(unpack(s, data + *n_bytes, capacity - *n_bytes, &n));
        *n_bytes += n;
    } while (n > 0 && *n_bytes < capacity);
    return OK;
}

Err source_check_text(const char *name, const char *head, size_t n_bytes)
{
    for (size_t i = 0; i < sizeof SIGNATURE / sizeof *SIGNATURE; i++) {
        const Signature *s = &SIGNATURE[i];
        if (n_bytes >= s->at + s->n_bytes && memcmp(head + s->at, s->bytes, s->n_bytes) == 0)
            FAIL(ERR_DATA, "%s: begins as %s, not as UTF-8 text: %s", name, s->kind, s->advice);
    }
    return OK;
}
