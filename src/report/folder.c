#include "report/folder.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/human.h"

enum { RECORD_MOST_BYTES = 16 << 20, SAMPLES_MOST_BYTES = 64 << 20, SAMPLE_MOST_BYTES = 1 << 14 };

/* ---- text that may be anything ----------------------------------------------------------- */

/* JSON holds UTF-8 only: bytes that are not become question marks. */
static void make_utf8(char *text)
{
    json_t *value = json_string(text);
    for (char *c = text; !value && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json_decref(value);
}

static void remark(Folder *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void remark(Folder *folder, const char *fmt, ...)
{
    if (folder->n_remarks == FOLDER_MAX_REMARKS)
        return;
    char *text = folder->remark[folder->n_remarks++];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, FOLDER_REMARK_BYTES, fmt, args);
    va_end(args);
    make_utf8(text);
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* The path without slashes at its end; of "." and "..", the folder's own name. */
static Err name_of(const char *path, char **name)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    bool is_dots = length <= 2 && strspn(path, ".") == length;
    char *real = is_dots ? realpath(path, NULL) : NULL;
    const char *last = real ? strrchr(real, '/') : NULL;
    *name = last && last[1] ? strdup(last + 1) : strndup(path, length);
    free(real);
    if (!*name)
        FAIL(ERR_SYSTEM, "out of memory for a name");
    make_utf8(*name);
    return OK;
}

/* ---- metrics ----------------------------------------------------------------------------- */

static void remark_metrics(Folder *folder)
{
    const Metrics *m = &folder->metrics;
    if (m->n_lines == 0)
        remark(folder, "metrics.jsonl is empty: no step has been recorded.");
    if (m->n_bad > 0)
        remark(
            folder,
            "%s line%s of metrics.jsonl skipped: not a record of a run. The first is line %" PRId64
            " of %s.",
            human_count(m->n_bad).text, plural(m->n_bad), m->first_bad,
            human_count(m->n_lines).text);
    if (m->n_unordered > 0)
        remark(folder, "%s record%s of metrics.jsonl out of order skipped.",
               human_count(m->n_unordered).text, plural(m->n_unordered));
    if (m->ends_open)
        remark(folder, "The last line of metrics.jsonl is cut off and was skipped.");
    if (m->n_skipped > 0)
        remark(folder, "%s step%s made no update: loss or gradient was not finite, or an outlier.",
               human_count(m->n_skipped).text, plural(m->n_skipped));
}

/* ---- settings and plan ------------------------------------------------------------------- */

/* An object of a file; NULL when the file is missing, or damaged, which is remarked. */
static json_t *read_object(Folder *folder, const char *dir, const char *name)
{
    char path[FILE_PATH_BYTES], *text = NULL;
    size_t n_bytes = 0;
    json_error_t error = {.text = ""};
    Err err = path_join(path, dir, name);
    if (!err && !path_exists(path))
        return NULL;
    if (!err)
        err = file_read_text(path, RECORD_MOST_BYTES, &text, &n_bytes);
    json_t *root = err ? NULL : json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        remark(folder, "%s cannot be read and was left out: %s", name,
               err ? err_message(err) : error.text);
        json_decref(root);
        root = NULL;
    }
    free(text);
    err_free(err);
    return root;
}

/* A new reference to root[key] if it is an object. */
static json_t *take_object(const json_t *root, const char *key)
{
    json_t *value = json_object_get(root, key);
    return json_is_object(value) ? json_incref(value) : NULL;
}

static void read_run_file(Folder *folder, const char *path)
{
    json_t *root = read_object(folder, path, "run.json");
    folder->config = take_object(root, "config");
    folder->plan = take_object(root, "plan");
    json_decref(root);
}

static void read_trainer_json(Folder *folder, const char *path)
{
    char name[64];
    if (folder->config || folder->n_checkpoints == 0)
        return;
    snprintf(name, sizeof name, "step_%08" PRId64 "/trainer.json",
             folder->checkpoint[folder->n_checkpoints - 1]);
    json_t *root = read_object(folder, path, name);
    folder->config = take_object(root, "config");
    json_decref(root);
}

/* ---- checkpoints ------------------------------------------------------------------------- */

/* The number in "step_00002000"; -1: another name. */
static int64_t step_of(const char *name)
{
    static const char START[] = "step_";
    if (strncmp(name, START, sizeof START - 1) != 0)
        return -1;
    const char *digits = name + sizeof START - 1;
    size_t n_digits = strspn(digits, "0123456789");
    if (n_digits < 8 || n_digits > 15 || digits[n_digits])
        return -1;
    return strtoll(digits, NULL, 10);
}

static int by_step(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static Err find_checkpoints(Folder *folder, const char *path)
{
    char **names = NULL;
    int32_t n_names = 0;
    TRY(dir_list(path, &names, &n_names));
    folder->checkpoint = malloc(((size_t)n_names + 1) * sizeof *folder->checkpoint);
    for (int32_t i = 0; i < n_names && folder->checkpoint; i++) {
        int64_t step = step_of(names[i]);
        if (step >= 0)
            folder->checkpoint[folder->n_checkpoints++] = step;
    }
    dir_list_free(names, n_names);
    if (!folder->checkpoint)
        FAIL(ERR_SYSTEM, "out of memory for %d names", n_names);
    qsort(folder->checkpoint, (size_t)folder->n_checkpoints, sizeof *folder->checkpoint, by_step);
    return OK;
}

/* ---- samples ----------------------------------------------------------------------------- */

/* {iter, text} of a line, a long text cut; NULL: the line is none. */
static json_t *sample_of(const char *line, size_t n_bytes)
{
    json_t *root = json_loadb(line, n_bytes, 0, NULL);
    const json_t *iter = json_object_get(root, "iter"), *text = json_object_get(root, "text");
    json_t *sample = NULL;
    if (json_is_integer(iter) && json_integer_value(iter) >= 0 && json_is_string(text)) {
        size_t length = json_string_length(text), n = length;
        const char *value = json_string_value(text);
        if (n > SAMPLE_MOST_BYTES)
            for (n = SAMPLE_MOST_BYTES; n > 0 && ((unsigned char)value[n] & 0xC0) == 0x80;)
                n--;
        sample = json_pack("{s:I, s:s%}", "iter", json_integer_value(iter), "text", value, n);
    }
    json_decref(root);
    return sample;
}

/* Of more samples than there is room for, every second one stays, the newest among them. */
static void keep_half(json_t *samples)
{
    size_t n = json_array_size(samples);
    for (size_t i = 0, at = 0; i < n; i++)
        if ((n - 1 - i) % 2 == 1)
            json_array_remove(samples, at);
        else
            at++;
}

static void parse_samples(Folder *folder, const char *text, size_t n_bytes)
{
    const char *line = text, *end = n_bytes > 0 ? text + n_bytes : text;
    int64_t n_bad = 0;
    while (line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        json_t *sample = sample_of(line, (size_t)(stop - line));
        if (!sample)
            n_bad++;
        else
            json_array_append_new(folder->samples, sample);
        if (json_array_size(folder->samples) > FOLDER_MAX_SAMPLES)
            keep_half(folder->samples);
        line = stop + 1;
    }
    if (n_bad > 0)
        remark(folder, "%s line%s of samples.jsonl skipped: not a sample.", human_count(n_bad).text,
               plural(n_bad));
}

static void read_samples(Folder *folder, const char *dir)
{
    char path[FILE_PATH_BYTES], *text = NULL;
    size_t n_bytes = 0;
    Err err = path_join(path, dir, "samples.jsonl");
    if (!err && path_exists(path))
        err = file_read_text(path, SAMPLES_MOST_BYTES, &text, &n_bytes);
    if (err)
        remark(folder, "samples.jsonl was left out: %s", err_message(err));
    else if (text)
        parse_samples(folder, text, n_bytes);
    free(text);
    err_free(err);
}

/* ---- life -------------------------------------------------------------------------------- */

Err folder_open(Folder *folder, const char *path)
{
    char metrics[FILE_PATH_BYTES];
    *folder = (Folder){.samples = json_array()};
    if (!folder->samples)
        FAIL(ERR_SYSTEM, "out of memory for samples");
    if (!path_is_dir(path))
        FAIL(ERR_MISSING, "%s: no such folder; give the out_dir of a run", path);
    TRY(path_join(metrics, path, "metrics.jsonl"));
    if (!path_exists(metrics))
        FAIL(ERR_MISSING, "%s: no metrics.jsonl in it; give the out_dir of a run", path);
    TRY(name_of(path, &folder->name));
    TRY(metrics_read(&folder->metrics, metrics));
    TRY(find_checkpoints(folder, path));
    remark_metrics(folder);
    read_run_file(folder, path);
    read_trainer_json(folder, path);
    read_samples(folder, path);
    if (!folder->config)
        remark(folder, "The settings of this run are not known: there is no run.json and no "
                       "checkpoint with them.");
    return OK;
}

void folder_close(Folder *folder)
{
    free(folder->name);
    metrics_free(&folder->metrics);
    json_decref(folder->config);
    json_decref(folder->plan);
    json_decref(folder->samples);
    free(folder->checkpoint);
    *folder = (Folder){0};
}

const char *folder_setting(const Folder *folder, const char *key)
{
    const char *value = json_string_value(json_object_get(folder->config, key));
    return value ? value : "";
}
