#include "checkpoint/weights.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/doc.h"
#include "checkpoint/names.h"

static const char INDEX_NAME[] = "model.safetensors.index.json";
enum { MAX_FILES = 1024 };

/* ---- one file ---------------------------------------------------------------------------- */

static Err add_file(Weights *weights, const char *dir, const char *name)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, name));
    WeightFile *more =
        realloc(weights->file, (size_t)(weights->n_files + 1) * sizeof *weights->file);
    if (!more)
        FAIL(ERR_SYSTEM, "%s: out of memory for a list of files", path);
    weights->file = more;
    WeightFile *file = &more[weights->n_files];
    *file = (WeightFile){.path = strdup(path)};
    if (!file->path)
        FAIL(ERR_SYSTEM, "%s: out of memory for a path", path);
    weights->n_files++;
    return safe_open(&file->safe, file->path);
}

static const char *name_of(const WeightFile *file)
{
    return strrchr(file->path, '/') + 1;
}

/* ---- the index --------------------------------------------------------------------------- */

/* A name in this directory and nothing else. */
static Err check_name(const Doc *doc, const char *name)
{
    static const char SUFFIX[] = ".safetensors";
    size_t n = strlen(name), suffix = sizeof SUFFIX - 1;
    if (strchr(name, '/') || n <= suffix || strcmp(name + n - suffix, SUFFIX) != 0)
        FAIL(ERR_DATA, "%s: \"%.80s\" is not the name of a safetensors file beside it", doc->path,
             name);
    return OK;
}

/* *file = the one of this name, opened if it is not yet. */
static Err find_file(Weights *weights, const Doc *doc, const char *dir, const char *name,
                     const WeightFile **file)
{
    for (int32_t i = 0; i < weights->n_files; i++) {
        *file = &weights->file[i];
        if (strcmp(name_of(*file), name) == 0)
            return OK;
    }
    TRY(check_name(doc, name));
    if (weights->n_files == MAX_FILES)
        FAIL(ERR_DATA, "%s: more than %d files", doc->path, MAX_FILES);
    TRY(add_file(weights, dir, name));
    *file = &weights->file[weights->n_files - 1];
    return OK;
}

static Err open_mapped(Weights *weights, const Doc *doc, const char *dir)
{
    const char *tensor;
    json_t *value, *map = json_object_get(doc->root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        FAIL(ERR_DATA, "%s: \"weight_map\" is not an object of file names", doc->path);
    json_object_foreach(map, tensor, value)
    {
        const WeightFile *file = NULL;
        if (!json_is_string(value))
            FAIL(ERR_DATA, "%s: \"weight_map\" is not an object of file names", doc->path);
        TRY(find_file(weights, doc, dir, json_string_value(value), &file));
        if (!safe_find(&file->safe, tensor))
            FAIL(ERR_DATA, "%s: tensor %.80s is not in %s", doc->path, tensor, file->path);
    }
    return OK;
}

static Err open_index(Weights *weights, const char *dir, const char *path)
{
    Doc doc;
    TRY(doc_open(&doc, path));
    Err err = open_mapped(weights, &doc, dir);
    doc_close(&doc);
    return err;
}

/* ---- the directory ----------------------------------------------------------------------- */

static Err refuse_missing(const char *dir)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, "pytorch_model.bin"));
    if (path_exists(path))
        FAIL(ERR_MISSING,
             "%s has its weights in pytorch_model.bin only, which can run code when it is read: "
             "load and save it once with transformers, which writes %s",
             dir, MODEL_NAME);
    FAIL(ERR_MISSING, "%s has neither %s nor %s", dir, MODEL_NAME, INDEX_NAME);
}

Err weights_open(Weights *weights, const char *dir)
{
    char whole[FILE_PATH_BYTES], index[FILE_PATH_BYTES];
    *weights = (Weights){0};
    TRY(path_join(whole, dir, MODEL_NAME));
    TRY(path_join(index, dir, INDEX_NAME));
    if (path_exists(whole))
        return add_file(weights, dir, MODEL_NAME);
    return path_exists(index) ? open_index(weights, dir, index) : refuse_missing(dir);
}

void weights_close(Weights *weights)
{
    for (int32_t i = 0; i < weights->n_files; i++) {
        safe_close(&weights->file[i].safe);
        free(weights->file[i].path);
    }
    free(weights->file);
    *weights = (Weights){0};
}

void weight_read_f32(const Weight *w, int64_t begin, int64_t n, float *out)
{
    safe_read_f32(&w->file->safe, w->tensor, begin, n, out);
}
