#include "checkpoint/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/check.h"
#include "checkpoint/doc.h"

enum { FORMAT_VERSION = 1, HEX_DIGITS = 16, MAX_BYTES = 256 << 20 };

static const char END[] = "\"\n}\n";

FileDigest *manifest_add(Manifest *manifest, const char *name)
{
    ASSERT(manifest->n_files < MANIFEST_MAX_FILES, "%s is one file too many", name);
    ManifestFile *file = &manifest->file[manifest->n_files++];
    ASSERT(strlen(name) < sizeof file->name, "%s is too long", name);
    memcpy(file->name, name, strlen(name) + 1);
    return &file->digest;
}

void manifest_free(Manifest *manifest)
{
    for (int32_t i = 0; i < manifest->n_files; i++)
        file_digest_free(&manifest->file[i].digest);
    *manifest = (Manifest){0};
}

/* ---- writing ----------------------------------------------------------------------------- */

static void print_file(FILE *out, const ManifestFile *file)
{
    fprintf(out, "    {\"name\": \"%s\", \"bytes\": %zu, \"xxh3_64\": [", file->name,
            file->digest.n_bytes);
    for (int64_t i = 0; i < file->digest.n_blocks; i++)
        fprintf(out, "%s\"%016" PRIx64 "\"", i ? ", " : "", file->digest.block_hash[i]);
    fprintf(out, "]}");
}

static void print_manifest(FILE *out, const Manifest *manifest)
{
    fprintf(out, "{\n  \"version\": %d,\n  \"block_bytes\": %d,\n  \"files\": [\n", FORMAT_VERSION,
            FILE_BLOCK_BYTES);
    for (int32_t i = 0; i < manifest->n_files; i++) {
        print_file(out, &manifest->file[i]);
        fputs(i + 1 < manifest->n_files ? ",\n" : "\n", out);
    }
    fprintf(out, "  ],\n  \"checksum\": \"");
}

Err manifest_write(const Manifest *manifest, const char *dir)
{
    char path[FILE_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0, n_summed = 0;
    TRY(path_join(path, dir, MANIFEST_NAME));
    FILE *out = open_memstream(&text, &n_bytes);
    bool good = out != NULL;
    if (good) {
        print_manifest(out, manifest);
        good = fflush(out) == 0;
        n_summed = n_bytes;
        fprintf(out, "%016" PRIx64 "%s", good ? (uint64_t)XXH3_64bits(text, n_summed) : 0, END);
        good = good && !ferror(out);
        /* glibc's fclose says 0 also when the text is gone for want of memory */
        good = fclose(out) == 0 && good && text;
    }
    Err err = good ? doc_write_text(path, text, n_bytes, NULL)
                   : ERR_NEW(ERR_SYSTEM, "%s: out of memory", path);
    free(text);
    return err;
}

/* ---- reading ----------------------------------------------------------------------------- */

static Err check_own_sum(const char *path, const char *text, size_t n_bytes)
{
    size_t tail = HEX_DIGITS + sizeof END - 1;
    char wanted[HEX_DIGITS + sizeof END];
    if (n_bytes < tail)
        FAIL(ERR_DATA, "%s: damaged: %zu bytes are too few", path, n_bytes);
    snprintf(wanted, sizeof wanted, "%016" PRIx64 "%s", (uint64_t)XXH3_64bits(text, n_bytes - tail),
             END);
    if (memcmp(wanted, text + n_bytes - tail, tail) != 0)
        FAIL(ERR_DATA, "%s: damaged: bytes 0 to %zu do not have the checksum written at their end",
             path, n_bytes - 1);
    return OK;
}

static bool read_hex(const json_t *value, uint64_t *hash)
{
    const char *text = json_string_value(value);
    if (!text || strlen(text) != HEX_DIGITS || strspn(text, "0123456789abcdef") != HEX_DIGITS)
        return false;
    *hash = strtoull(text, NULL, 16);
    return true;
}

/* Names are opened and printed: in the directory, no hidden file, nothing a terminal obeys. */
static bool plain_name(const char *name)
{
    static const char PLAIN[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return name && *name && *name != '.' && strlen(name) < sizeof((ManifestFile *)0)->name &&
           strspn(name, PLAIN) == strlen(name);
}

static Err read_entry(Manifest *manifest, const char *path, json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const json_t *bytes = json_object_get(entry, "bytes"),
                 *hashes = json_object_get(entry, "xxh3_64");
    if (!plain_name(name) || !json_is_integer(bytes) || json_integer_value(bytes) < 0 ||
        manifest->n_files == MANIFEST_MAX_FILES)
        FAIL(ERR_DATA, "%s: entry %d of \"files\" is not a file's name and size", path,
             manifest->n_files);
    FileDigest *digest = manifest_add(manifest, name);
    digest->n_bytes = (size_t)json_integer_value(bytes);
    size_t n_blocks = json_array_size(hashes);
    digest->n_blocks = (int64_t)n_blocks;
    if (n_blocks != digest->n_bytes / FILE_BLOCK_BYTES + (digest->n_bytes % FILE_BLOCK_BYTES != 0))
        FAIL(ERR_DATA, "%s: %s: %zu checksums do not cover %zu bytes", path, name, n_blocks,
             digest->n_bytes);
    digest->block_hash = calloc(n_blocks + 1, sizeof *digest->block_hash);
    if (!digest->block_hash)
        FAIL(ERR_SYSTEM, "%s: out of memory for %zu checksums", path, n_blocks);
    for (size_t i = 0; i < n_blocks; i++)
        if (!read_hex(json_array_get(hashes, i), &digest->block_hash[i]))
            FAIL(ERR_DATA, "%s: %s: checksum %zu is not %d hexadecimal digits", path, name, i,
                 HEX_DIGITS);
    return OK;
}

static Err read_entries(Manifest *manifest, const Doc *doc)
{
    int64_t ignored;
    size_t i;
    json_t *entry, *files = json_object_get(doc->root, "files");
    TRY(doc_i64(doc, "version", FORMAT_VERSION, FORMAT_VERSION, &ignored));
    TRY(doc_i64(doc, "block_bytes", FILE_BLOCK_BYTES, FILE_BLOCK_BYTES, &ignored));
    if (!json_is_array(files))
        FAIL(ERR_DATA, "%s: \"files\" is not an array", doc->path);
    json_array_foreach(files, i, entry) TRY(read_entry(manifest, doc->path, entry));
    return OK;
}

/* Does it print as the text it was read from? */
static bool prints_as(const Manifest *manifest, const char *text, size_t n_text)
{
    char *again = NULL;
    size_t n_again = 0;
    FILE *out = open_memstream(&again, &n_again);
    if (!out)
        return false;
    print_manifest(out, manifest);
    bool same = fclose(out) == 0 && again && n_again == n_text - (HEX_DIGITS + sizeof END - 1);
    same = same && memcmp(again, text, n_again) == 0;
    free(again);
    return same;
}

/* The text has its checksum, so it is what was written. When memory is short jansson tells it as a
 * fault of the text, or cuts strings and says nothing: no reason to pass a checkpoint over. */
static Err parse_summed(Manifest *manifest, const char *path, const char *text, size_t n_bytes)
{
    Doc doc = {0};
    Err err = doc_parse(&doc, path, text, n_bytes);
    if (!err)
        err = read_entries(manifest, &doc);
    doc_close(&doc);
    if (!err && prints_as(manifest, text, n_bytes))
        return OK;
    err_free(err);
    FAIL(ERR_SYSTEM,
         "%s: its checksum is right, but it was not read: memory is short, or this "
         "program did not write it",
         path);
}

Err manifest_read(Manifest *manifest, const char *dir)
{
    Err err;
    char path[FILE_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    *manifest = (Manifest){0};
    TRY(path_join(path, dir, MANIFEST_NAME));
    TRY_GOTO(err, done, file_read_text(path, MAX_BYTES, &text, &n_bytes));
    TRY_GOTO(err, done, check_own_sum(path, text, n_bytes));
    TRY_GOTO(err, done, parse_summed(manifest, path, text, n_bytes));
done:
    free(text);
    if (err)
        manifest_free(manifest);
    return err;
}

/* The first run of blocks that differ, as a byte range, of every stride-th. */
static Err compare_blocks(const char *path, const FileDigest *wanted, const FileDigest *found,
                          int64_t stride)
{
    int64_t first = 0;
    while (first < wanted->n_blocks && wanted->block_hash[first] == found->block_hash[first])
        first += stride;
    if (first >= wanted->n_blocks)
        return OK;
    int64_t end = first + 1;
    while (end < wanted->n_blocks && stride == 1 &&
           wanted->block_hash[end] != found->block_hash[end])
        end++;
    size_t end_byte = (size_t)end * FILE_BLOCK_BYTES;
    FAIL(ERR_DATA, "%s: damaged: bytes %zu to %zu do not have their checksum", path,
         (size_t)first * FILE_BLOCK_BYTES,
         (end_byte < wanted->n_bytes ? end_byte : wanted->n_bytes) - 1);
}

static Err check_file(const ManifestFile *file, const char *dir, int64_t stride, size_t *n_read)
{
    char path[FILE_PATH_BYTES];
    FileDigest found = {0};
    TRY(path_join(path, dir, file->name));
    TRY(file_digest_sample(path, stride, &found, n_read));
    Err err = OK;
    if (found.n_bytes < file->digest.n_bytes)
        err = ERR_NEW(ERR_DATA, "%s: damaged: bytes %zu to %zu are missing", path, found.n_bytes,
                      file->digest.n_bytes - 1);
    else if (found.n_bytes > file->digest.n_bytes)
        err = ERR_NEW(ERR_DATA, "%s: damaged: bytes %zu to %zu are too many", path,
                      file->digest.n_bytes, found.n_bytes - 1);
    else
        err = compare_blocks(path, &file->digest, &found, stride);
    file_digest_free(&found);
    return err;
}

size_t manifest_bytes(const Manifest *manifest)
{
    size_t sum = 0;
    for (int32_t i = 0; i < manifest->n_files; i++)
        sum += manifest->file[i].digest.n_bytes;
    return sum;
}

Err manifest_check_sample(const Manifest *manifest, const char *dir, size_t most_bytes,
                          size_t *n_read)
{
    size_t all = manifest_bytes(manifest), n;
    int64_t stride = all > most_bytes ? (int64_t)(all / most_bytes) + 1 : 1;
    *n_read = 0;
    for (int32_t i = 0; i < manifest->n_files; i++) {
        TRY(check_file(&manifest->file[i], dir, stride, &n));
        *n_read += n;
    }
    return OK;
}

Err manifest_check(const Manifest *manifest, const char *dir)
{
    size_t n_read;
    return manifest_check_sample(manifest, dir, SIZE_MAX, &n_read);
}
