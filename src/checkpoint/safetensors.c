#include "checkpoint/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/check.h"
#include "checkpoint/doc.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are read and written as they lie");

/* Tensors are looked for one by one. */
enum { MAX_HEADER_BYTES = 100 * 1000 * 1000, MAX_TENSORS = 65536, LENGTH_BYTES = 8 };

typedef struct {
    const char *name;
    DType dtype;
} NamedDType;

static const NamedDType DTYPES[] = {{"F32", DTYPE_F32},
                                    {"BF16", DTYPE_BF16},
                                    {"F16", DTYPE_F16},
                                    {"U8", DTYPE_U8},
                                    {"BOOL", DTYPE_U8}};
enum { N_DTYPES = sizeof DTYPES / sizeof *DTYPES };

/* ---- reading ----------------------------------------------------------------------------- */

/* Where the data section lies in the file. */
typedef struct {
    const char *path;
    size_t begin, n_bytes;
} DataSection;

static Err parse_header(const FileMap *map, DataSection *data, json_t **header)
{
    uint64_t length;
    if (map->n_bytes < LENGTH_BYTES)
        FAIL(ERR_DATA, "%s: %zu bytes are too few for a safetensors file", data->path,
             map->n_bytes);
    memcpy(&length, map->data, sizeof length);
    if (length > MAX_HEADER_BYTES || length > map->n_bytes - LENGTH_BYTES)
        FAIL(ERR_DATA, "%s: the header claims %llu bytes, the file has %zu and the limit is %d",
             data->path, (unsigned long long)length, map->n_bytes, MAX_HEADER_BYTES);
    const char *text = (const char *)map->data + LENGTH_BYTES;
    if (length == 0 || text[0] != '{')
        FAIL(ERR_DATA, "%s: the header does not begin with {", data->path);
    json_error_t where;
    *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!*header && json_ran_out(&where))
        FAIL(ERR_SYSTEM, "%s: out of memory for a header of %llu bytes", data->path,
             (unsigned long long)length);
    if (!*header)
        FAIL(ERR_DATA, "%s: header byte %d: the JSON is not valid or names a tensor twice",
             data->path, where.position);
    data->begin = LENGTH_BYTES + (size_t)length;
    data->n_bytes = map->n_bytes - data->begin;
    return OK;
}

/* Names are printed in messages: no control characters, nothing that needs a wide terminal. */
static Err check_name(const char *path, const char *name)
{
    size_t n = strlen(name);
    bool plain = n > 0 && n < sizeof((SafeTensor *)0)->name;
    for (const char *c = name; *c; c++)
        plain = plain && *c > ' ' && *c <= '~';
    if (!plain)
        FAIL(ERR_DATA,
             "%s: a tensor's name of %zu bytes is not 1 to %zu printable ASCII characters", path, n,
             sizeof((SafeTensor *)0)->name - 1);
    return OK;
}

static Err check_metadata(const char *path, json_t *metadata)
{
    const char *key;
    json_t *value;
    bool strings = json_is_object(metadata);
    json_object_foreach(metadata, key, value) strings = strings && json_is_string(value);
    if (!strings)
        FAIL(ERR_DATA, "%s: __metadata__ is not an object of strings", path);
    return OK;
}

static Err read_dtype(const char *path, SafeTensor *t, const json_t *value)
{
    const char *text = json_string_value(value);
    for (int i = 0; text && i < N_DTYPES; i++) {
        if (strcmp(text, DTYPES[i].name) == 0) {
            t->dtype = DTYPES[i].dtype;
            return OK;
        }
    }
    FAIL(ERR_DATA, "%s: tensor %s: dtype is none of F32, BF16, F16, U8, BOOL", path, t->name);
}

/* Dimensions, and the bytes they make. */
static Err read_shape(const char *path, SafeTensor *t, const json_t *value, size_t *n_bytes)
{
    if (!json_is_array(value) || json_array_size(value) > TENSOR_MAX_RANK)
        FAIL(ERR_DATA, "%s: tensor %s: shape is not an array of at most %d numbers", path, t->name,
             TENSOR_MAX_RANK);
    t->rank = (int32_t)json_array_size(value);
    *n_bytes = dtype_bytes(t->dtype);
    for (int32_t i = 0; i < TENSOR_MAX_RANK; i++) {
        const json_t *dim = i < t->rank ? json_array_get(value, (size_t)i) : NULL;
        if (i < t->rank && (!json_is_integer(dim) || json_integer_value(dim) < 0))
            FAIL(ERR_DATA, "%s: tensor %s: dimension %d is not a count", path, t->name, i);
        t->dim[i] = dim ? json_integer_value(dim) : 1;
        if (__builtin_mul_overflow(*n_bytes, (size_t)t->dim[i], n_bytes))
            FAIL(ERR_DATA, "%s: tensor %s: the shape's bytes overflow", path, t->name);
    }
    return OK;
}

/* offset is still relative to the data section here. */
static Err read_offsets(const DataSection *data, SafeTensor *t, const json_t *value)
{
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        FAIL(ERR_DATA, "%s: tensor %s: data_offsets is not a pair of integers", data->path,
             t->name);
    json_int_t b = json_integer_value(begin), e = json_integer_value(end);
    if (b < 0 || e < b || (uint64_t)e > data->n_bytes)
        FAIL(ERR_DATA, "%s: tensor %s: data_offsets [%lld, %lld] are not within the %zu data bytes",
             data->path, t->name, (long long)b, (long long)e, data->n_bytes);
    t->offset = (size_t)b;
    t->n_bytes = (size_t)(e - b);
    return OK;
}

static Err read_tensor(const DataSection *data, const char *name, json_t *entry, SafeTensor *t)
{
    size_t shape_bytes = 0;
    TRY(check_name(data->path, name));
    memcpy(t->name, name, strlen(name) + 1);
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (json_object_size(entry) != 3 || !dtype || !shape || !offsets)
        FAIL(ERR_DATA, "%s: tensor %s: wanted exactly dtype, shape and data_offsets", data->path,
             name);
    TRY(read_dtype(data->path, t, dtype));
    TRY(read_shape(data->path, t, shape, &shape_bytes));
    TRY(read_offsets(data, t, offsets));
    if (t->n_bytes != shape_bytes)
        FAIL(ERR_DATA, "%s: tensor %s: its shape needs %zu bytes, data_offsets give it %zu",
             data->path, name, shape_bytes, t->n_bytes);
    if (t->offset % dtype_bytes(t->dtype))
        FAIL(ERR_DATA, "%s: tensor %s: offset %zu is not a multiple of its %zu-byte elements",
             data->path, name, t->offset, dtype_bytes(t->dtype));
    return OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const SafeTensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes); /* empty tensors first */
}

/* Sorted tensors must cover the data section with no overlap and no gap; then offsets become
 * absolute. */
static Err check_cover(const SafeFile *file, const DataSection *data)
{
    size_t end = 0;
    for (int32_t i = 0; i < file->n_tensors; i++) {
        SafeTensor *t = &file->tensor[i];
        if (t->offset != end)
            FAIL(ERR_DATA, "%s: tensor %s: begins at data byte %zu, the one before it ends at %zu",
                 data->path, t->name, t->offset, end);
        end = t->offset + t->n_bytes;
        t->offset += data->begin;
    }
    if (end != data->n_bytes)
        FAIL(ERR_DATA, "%s: the last %zu bytes belong to no tensor", data->path,
             data->n_bytes - end);
    return OK;
}

static Err read_tensors(SafeFile *file, const DataSection *data, json_t *header)
{
    const char *name;
    json_t *entry;
    if (json_object_size(header) > MAX_TENSORS)
        FAIL(ERR_DATA, "%s: %zu tensors, the limit is %d", data->path, json_object_size(header),
             MAX_TENSORS);
    file->tensor = calloc(json_object_size(header) + 1, sizeof *file->tensor);
    if (!file->tensor)
        FAIL(ERR_SYSTEM, "%s: out of memory for %zu tensor entries", data->path,
             json_object_size(header));
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            TRY(check_metadata(data->path, entry));
        else
            TRY(read_tensor(data, name, entry, &file->tensor[file->n_tensors++]));
    }
    qsort(file->tensor, (size_t)file->n_tensors, sizeof *file->tensor, compare_offsets);
    return check_cover(file, data);
}

Err safe_open(SafeFile *file, const char *path)
{
    Err err;
    json_t *header = NULL;
    DataSection data = {.path = path};
    *file = (SafeFile){0};
    TRY_GOTO(err, done, file_map(&file->map, path));
    TRY_GOTO(err, done, parse_header(&file->map, &data, &header));
    TRY_GOTO(err, done, read_tensors(file, &data, header));
done:
    json_decref(header);
    if (err)
        safe_close(file);
    return err;
}

void safe_close(SafeFile *file)
{
    file_unmap(&file->map);
    free(file->tensor);
    *file = (SafeFile){0};
}

const SafeTensor *safe_find(const SafeFile *file, const char *name)
{
    for (int32_t i = 0; i < file->n_tensors; i++)
        if (strcmp(file->tensor[i].name, name) == 0)
            return &file->tensor[i];
    return NULL;
}

void safe_read_f32(const SafeFile *file, const SafeTensor *t, int64_t begin, int64_t n, float *out)
{
    size_t width = dtype_bytes(t->dtype);
    ASSERT(begin >= 0 && n >= 0 && (size_t)(begin + n) <= t->n_bytes / width, "%s: %lld + %lld",
           t->name, (long long)begin, (long long)n);
    ASSERT(t->dtype != DTYPE_U8, "%s holds no numbers", t->name);
    /* The header of another writer need not end on 4 bytes: nothing here assumes alignment. */
    const uint8_t *from = file->map.data + t->offset + (size_t)begin * width;
    if (t->dtype == DTYPE_F32) {
        if (n > 0)
            memcpy(out, from, (size_t)n * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        out[i] = t->dtype == DTYPE_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
    }
}

/* ---- writing ----------------------------------------------------------------------------- */

struct SafeWriter {
    FileWriter *file;
    size_t declared_bytes, written_bytes; /* of tensors */
};

static const char *dtype_text(DType dtype)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (DTYPES[i].dtype == dtype)
            return DTYPES[i].name;
    ASSERT(false, "no safetensors file holds %s", dtype_name(dtype));
    return NULL;
}

/* Fill in n_bytes and the offset within the data section; the sum of bytes is returned. */
static size_t place_tensors(SafeTensor *tensor, int32_t n_tensors)
{
    size_t end = 0;
    for (int32_t i = 0; i < n_tensors; i++) {
        SafeTensor *t = &tensor[i];
        t->n_bytes = dtype_bytes(t->dtype);
        for (int32_t d = 0; d < t->rank; d++)
            t->n_bytes *= (size_t)t->dim[d];
        t->offset = end;
        end += t->n_bytes;
    }
    return end;
}

/* NULL when memory is short: a shape that lacks a dimension must not reach a file. */
static json_t *tensor_json(const SafeTensor *t)
{
    json_t *shape = json_array();
    bool whole = shape != NULL;
    for (int32_t d = 0; d < t->rank; d++)
        whole = json_array_append_new(shape, json_integer(t->dim[d])) == 0 && whole;
    if (!whole) {
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_text(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)t->offset, (json_int_t)(t->offset + t->n_bytes));
}

/* The header's text, spaces to a multiple of 8 included; malloc'd. NULL when memory is short. */
static char *header_text(const SafeTensor *tensor, int32_t n_tensors, size_t *n_bytes)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int failed = !header;
    for (int32_t i = 0; i < n_tensors && !failed; i++)
        failed = json_object_set_new(header, tensor[i].name, tensor_json(&tensor[i]));
    ASSERT(failed || json_object_size(header) == (size_t)n_tensors + 1, "a name occurs twice");
    char *text = failed ? NULL : doc_print(header, JSON_COMPACT);
    json_decref(header);
    if (!text)
        return NULL;
    size_t used = strlen(text);
    *n_bytes = (used + 7) / 8 * 8;
    char *padded = realloc(text, *n_bytes + 1);
    if (!padded) {
        free(text);
        return NULL;
    }
    memset(padded + used, ' ', *n_bytes - used);
    return padded;
}

static Err write_header(FileWriter *file, const char *text, size_t n_bytes)
{
    uint64_t length = n_bytes;
    TRY(file_write(file, &length, sizeof length));
    return file_write(file, text, n_bytes);
}

Err safe_create(SafeWriter **out, const char *path, SafeTensor *tensor, int32_t n_tensors)
{
    Err err = OK;
    size_t header_bytes = 0;
    *out = NULL;
    SafeWriter *w = calloc(1, sizeof *w);
    size_t declared = place_tensors(tensor, n_tensors);
    char *text = header_text(tensor, n_tensors, &header_bytes);
    if (!w || !text) {
        err = ERR_NEW(ERR_SYSTEM, "%s: out of memory for the header", path);
        goto done;
    }
    w->declared_bytes = declared;
    for (int32_t i = 0; i < n_tensors; i++)
        tensor[i].offset += LENGTH_BYTES + header_bytes;
    TRY_GOTO(err, done, file_create(&w->file, path));
    TRY_GOTO(err, done, write_header(w->file, text, header_bytes));
    *out = w;
    w = NULL;
done:
    free(text);
    safe_abandon(w);
    return err;
}

Err safe_write(SafeWriter *w, const void *data, size_t n_bytes)
{
    w->written_bytes += n_bytes;
    return file_write(w->file, data, n_bytes);
}

Err safe_finish(SafeWriter *w, FileDigest *digest)
{
    ASSERT(w->written_bytes == w->declared_bytes, "%zu bytes written, %zu declared",
           w->written_bytes, w->declared_bytes);
    Err err = file_close(w->file, digest);
    free(w);
    return err;
}

void safe_abandon(SafeWriter *w)
{
    if (!w)
        return;
    file_abandon(w->file);
    free(w);
}
