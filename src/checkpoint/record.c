#include "checkpoint/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/doc.h"

enum { FORMAT_VERSION = 1 };
/* Counts stay exact in the doubles of whoever reads the file with JavaScript or Python's float. */
static const int64_t MAX_COUNT = INT64_C(1) << 53;
/* Counted in tokens, of which a sequence has up to 2^20, they fit in 63 bits. */
static const int64_t MAX_SEQUENCES = INT64_C(1) << 42;

/* A path may hold bytes that are not UTF-8, JSON may not: those become question marks. */
static json_t *text_json(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char *ascii = strdup(text);
    for (char *c = ascii; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = ascii ? json_string(ascii) : NULL;
    free(ascii);
    return value;
}

typedef struct {
    json_t *object;
    bool failed;
} Settings;

static void add_setting(void *arg, const char *key, const char *value)
{
    Settings *settings = arg;
    if (json_object_set_new(settings->object, key, text_json(value)) < 0)
        settings->failed = true;
}

json_t *record_settings(const Config *cfg)
{
    Settings settings = {json_object(), false};
    config_visit(cfg, add_setting, &settings);
    if (!settings.failed)
        return settings.object;
    json_decref(settings.object);
    return NULL;
}

/* NULL when memory is short. */
static json_t *cut_json(const StepCut *cut)
{
    if (cut->world == 0)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I}", "world", (json_int_t)cut->world, "micro_batch",
                     (json_int_t)cut->micro_batch, "head_chunk", (json_int_t)cut->head_chunk,
                     "zero_stage", (json_int_t)cut->zero_stage);
}

/* NULL when memory is short. */
static json_t *numbers_json(const double *value, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n && list; i++)
        if (json_array_append_new(list, json_real(value[i])) < 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *outliers_json(const Outliers *o)
{
    if (o->n == 0 && o->n_skipped == 0)
        return json_null();
    return json_pack("{s:I, s:I, s:o, s:o}", "in_row", (json_int_t)o->n_in_row, "skipped",
                     (json_int_t)o->n_skipped, "log_loss", numbers_json(o->loss, o->n), "log_norm",
                     numbers_json(o->norm, o->n));
}

static json_t *progress_json(const Progress *progress, const GptDims *dims)
{
    bool evaluated = isfinite(progress->best_val_loss); /* JSON has no infinity */
    const LossScale *scale = &progress->loss_scale;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o, s:o, s:o}", "step",
                     (json_int_t)progress->step, "n_sequences", (json_int_t)progress->n_sequences,
                     "tokens", (json_int_t)(progress->n_sequences * dims->block_size),
                     "n_bad_steps", (json_int_t)progress->n_bad_steps, "n_updates",
                     (json_int_t)progress->n_updates, "loss_scale",
                     scale->scale > 0 ? json_real(scale->scale) : json_null(),
                     "loss_scale_good_steps", (json_int_t)scale->n_good, "best_val_loss",
                     evaluated ? json_real(progress->best_val_loss) : json_null(), "best_step",
                     evaluated ? json_integer(progress->best_step) : json_null(), "outliers",
                     outliers_json(&progress->outliers));
}

Err record_write(const char *path, const Config *cfg, const GptDims *dims, const Progress *progress,
                 const StepCut *cut, FileDigest *digest)
{
    json_t *root =
        json_pack("{s:i, s:s}", "version", FORMAT_VERSION, "program", "gpt_ddp " GPT_VERSION);
    json_t *run = json_pack("{s:b, s:I, s:o, s:o}", "bias", (int)dims->bias, "vocab_size",
                            (json_int_t)dims->vocab_size, "cut", cut_json(cut), "config",
                            record_settings(cfg));
    int failed = json_object_update_new(root, progress_json(progress, dims));
    failed |= json_object_update_new(root, run);
    if (failed) {
        json_decref(root);
        root = NULL;
    }
    return doc_write(path, root, 17, digest);
}

static Err open_record(Doc *doc, const char *path)
{
    int64_t version;
    TRY(doc_open(doc, path));
    Err err = doc_i64(doc, "version", FORMAT_VERSION, FORMAT_VERSION, &version);
    if (err)
        doc_close(doc);
    return err;
}

/* A float16 run's; its counter means nothing without it. */
static Err read_loss_scale(const Doc *doc, LossScale *scale)
{
    *scale = (LossScale){0};
    if (!doc_has(doc, "loss_scale"))
        return OK;
    TRY(doc_f64(doc, "loss_scale", &scale->scale));
    if (!(scale->scale >= LOSS_SCALE_FLOOR && isfinite(scale->scale)))
        FAIL(ERR_DATA, "%s: loss_scale is %g, wanted a number from %g up", doc->path, scale->scale,
             LOSS_SCALE_FLOOR);
    return doc_i64(doc, "loss_scale_good_steps", 0, LOSS_SCALE_GOOD_STEPS - 1, &scale->n_good);
}

/* Logarithms of anything a run can have measured are far within these bounds. */
static Err check_logs(const Doc *doc, const double *value, int64_t n)
{
    const double most = 1000;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(value[i]) <= most))
            FAIL(ERR_DATA, "%s: \"outliers\" holds %g, wanted %g to %g", doc->path, value[i], -most,
                 most);
    return OK;
}

static Err read_outliers(const Doc *doc, Outliers *o)
{
    *o = (Outliers){0};
    int64_t n_norms = 0;
    if (!doc_has(doc, "outliers"))
        return OK;
    const Doc inner = {doc->path, json_object_get(doc->root, "outliers")};
    if (!json_is_object(inner.root))
        FAIL(ERR_DATA, "%s: \"outliers\" is not an object", doc->path);
    TRY(doc_i64(&inner, "in_row", 0, MAX_COUNT, &o->n_in_row));
    TRY(doc_i64(&inner, "skipped", 0, MAX_COUNT, &o->n_skipped));
    TRY(doc_f64_list(&inner, "log_loss", OUTLIER_WINDOW, o->loss, &o->n));
    TRY(doc_f64_list(&inner, "log_norm", OUTLIER_WINDOW, o->norm, &n_norms));
    if (n_norms != o->n)
        FAIL(ERR_DATA, "%s: \"outliers\" has %lld losses and %lld norms", doc->path,
             (long long)o->n, (long long)n_norms);
    TRY(check_logs(doc, o->loss, o->n));
    return check_logs(doc, o->norm, o->n);
}

static Err read_progress(const Doc *doc, Progress *progress)
{
    *progress = (Progress){.best_val_loss = INFINITY, .best_step = -1};
    TRY(doc_i64(doc, "step", 0, MAX_COUNT, &progress->step));
    TRY(doc_i64(doc, "n_sequences", 0, MAX_SEQUENCES, &progress->n_sequences));
    TRY(doc_i64(doc, "n_bad_steps", 0, MAX_COUNT, &progress->n_bad_steps));
    if (doc_has(doc, "best_val_loss"))
        TRY(doc_f64(doc, "best_val_loss", &progress->best_val_loss));
    if (doc_has(doc, "best_step"))
        TRY(doc_i64(doc, "best_step", -1, progress->step, &progress->best_step));
    progress->n_updates = progress->step; /* what AdamW counted before there was a count */
    if (doc_has(doc, "n_updates"))
        TRY(doc_i64(doc, "n_updates", 0, progress->step, &progress->n_updates));
    TRY(read_loss_scale(doc, &progress->loss_scale));
    return read_outliers(doc, &progress->outliers);
}

Err record_read(const char *path, Progress *progress)
{
    Doc doc;
    TRY(open_record(&doc, path));
    Err err = read_progress(&doc, progress);
    doc_close(&doc);
    return err;
}

static Err read_cut(const Doc *doc, StepCut *cut)
{
    *cut = (StepCut){0};
    if (!doc_has(doc, "cut"))
        return OK;
    const Doc inner = {doc->path, json_object_get(doc->root, "cut")};
    if (!json_is_object(inner.root))
        FAIL(ERR_DATA, "%s: \"cut\" is not an object", doc->path);
    TRY(doc_i64(&inner, "world", 1, INT32_MAX, &cut->world));
    TRY(doc_i64(&inner, "micro_batch", 1, MAX_COUNT, &cut->micro_batch));
    TRY(doc_i64(&inner, "head_chunk", 1, MAX_COUNT, &cut->head_chunk));
    return doc_i64(&inner, "zero_stage", 0, 2, &cut->zero_stage);
}

Err record_read_cut(const char *path, StepCut *cut)
{
    Doc doc;
    TRY(open_record(&doc, path));
    Err err = read_cut(&doc, cut);
    doc_close(&doc);
    return err;
}

Err record_read_bias(const char *path, bool *bias)
{
    Doc doc;
    TRY(open_record(&doc, path));
    Err err = doc_bool(&doc, "bias", bias);
    doc_close(&doc);
    return err;
}
