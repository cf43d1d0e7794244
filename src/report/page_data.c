/* The data of a page, an object.
 *
 *   references: array of {name, source, i, t, v}
 *   hellaswag: {name, source, v}, of a model to compare with
 *   runs: array of {name, window, skipped [iter], checkpoints [iter], config {key: text} or null,
 *       samples [{iter, text}], reference (an index, or null), memory (memory.h) or null, curves}
 *   curves: loss lr grad_norm tokens_per_s mfu train val hellaswag, and of the noisy ones
 * NAME_average over `window` steps; each {i t s v}, arrays of the same length
 *
 * i: updates made before, t: tokens, s: seconds in steps, v: the value. */
#include "report/page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/memory.h"
#include "report/reference.h"

enum { DIGITS = 8 };

/* ---- curves ------------------------------------------------------------------------------ */

/* Of n numbers; NULL when memory is short. Consumes the array. */
static json_t *whole(json_t *array, int64_t n)
{
    if (array && json_array_size(array) == (size_t)n)
        return array;
    json_decref(array);
    return NULL;
}

/* NULL when memory is short. */
static json_t *curve_json(const Points *points)
{
    json_t *i = json_array(), *t = json_array(), *s = json_array(), *v = json_array();
    int64_t n = points->n_points;
    for (int64_t k = 0; k < n; k++) {
        const Point *p = &points->point[k];
        json_array_append_new(i, json_integer(p->iter));
        json_array_append_new(t, json_integer(p->tokens));
        json_array_append_new(s, json_real(round(p->seconds * 1e3) * 1e-3));
        json_array_append_new(v, json_real(p->value));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "i", whole(i, n), "t", whole(t, n), "s", whole(s, n),
                     "v", whole(v, n));
}

/* The points become curves[key], whatever `err` says of them, and are freed. */
static Err put_points(json_t *curves, const char *key, Points *points, Err err)
{
    if (!err && json_object_set_new(curves, key, curve_json(points)) < 0)
        err = ERR_NEW(ERR_SYSTEM, "out of memory for the page");
    points_free(points);
    return err;
}

static Err put_curve(json_t *curves, const char *key, const Table *table, int32_t column)
{
    Points points = {0};
    return put_points(curves, key, &points, points_thin(table, column, PAGE_PARTS, &points));
}

/* A hundredth of the run, of a short one more: at least ten steps, but no more than a tenth. */
static int64_t smooth_window(const Table *steps)
{
    int64_t n = steps->n_rows, window = n / 100;
    if (window < 10)
        window = n / 10 < 10 ? n / 10 : 10;
    return window > 1 ? window : 1;
}

static Err put_average(json_t *curves, const char *key, const Table *steps, int32_t column)
{
    Points points = {0};
    Err err = points_smooth(steps, column, smooth_window(steps), PAGE_PARTS, &points);
    return put_points(curves, key, &points, err);
}

static Err put_curves(json_t *curves, const Metrics *m)
{
    TRY(put_curve(curves, "loss", &m->steps, STEP_LOSS));
    TRY(put_curve(curves, "lr", &m->steps, STEP_LR));
    TRY(put_curve(curves, "grad_norm", &m->steps, STEP_GRAD_NORM));
    TRY(put_curve(curves, "tokens_per_s", &m->steps, STEP_TOKENS_PER_S));
    TRY(put_curve(curves, "mfu", &m->steps, STEP_MFU));
    TRY(put_curve(curves, "train", &m->evals, EVAL_TRAIN_LOSS));
    TRY(put_curve(curves, "val", &m->evals, EVAL_VAL_LOSS));
    TRY(put_curve(curves, "hellaswag", &m->hellaswag, HELLASWAG_ACC_NORM));
    TRY(put_average(curves, "loss_average", &m->steps, STEP_LOSS));
    TRY(put_average(curves, "grad_norm_average", &m->steps, STEP_GRAD_NORM));
    TRY(put_average(curves, "tokens_per_s_average", &m->steps, STEP_TOKENS_PER_S));
    return put_average(curves, "mfu_average", &m->steps, STEP_MFU);
}

/* ---- a run ------------------------------------------------------------------------------- */

static json_t *counts_json(const int64_t *count, int64_t n)
{
    json_t *array = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(array, json_integer(count[i]));
    return whole(array, n);
}

static json_t *object_or_null(json_t *object)
{
    return object ? json_incref(object) : json_null();
}

static json_t *reference_index(const Folder *folder)
{
    int32_t n_references;
    const Reference *r = reference_of(folder);
    return r ? json_integer(r - reference_list(&n_references)) : json_null();
}

static Err run_json(const Folder *folder, json_t **out)
{
    const Metrics *m = &folder->metrics;
    json_t *memory = NULL;
    TRY(memory_groups(folder, &memory));
    json_t *curves = json_object();
    *out = json_pack("{s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:O, s:o}", "name", folder->name,
                     "curves", curves, "window", (json_int_t)smooth_window(&m->steps), "skipped",
                     counts_json(m->skipped, m->n_skipped_kept), "checkpoints",
                     counts_json(folder->checkpoint, folder->n_checkpoints), "config",
                     object_or_null(folder->config), "memory", memory ? memory : json_null(),
                     "samples", folder->samples, "reference", reference_index(folder));
    if (!*out)
        FAIL(ERR_SYSTEM, "out of memory for the page");
    return put_curves(curves, m);
}

/* ---- references -------------------------------------------------------------------------- */

static json_t *reference_json(const Reference *r)
{
    json_t *i = json_array(), *t = json_array(), *v = json_array();
    for (int32_t k = 0; k < r->n_points; k++) {
        json_array_append_new(i, json_integer(r->point[k].step));
        json_array_append_new(t, json_integer(r->point[k].step * r->step_tokens));
        json_array_append_new(v, json_real(r->point[k].val_loss));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", r->name, "source", r->source, "i",
                     whole(i, r->n_points), "t", whole(t, r->n_points), "v", whole(v, r->n_points));
}

static json_t *references_json(void)
{
    int32_t n_references;
    const Reference *r = reference_list(&n_references);
    json_t *array = json_array();
    for (int32_t i = 0; i < n_references; i++)
        json_array_append_new(array, reference_json(&r[i]));
    return whole(array, n_references);
}

static json_t *hellaswag_json(void)
{
    const HellaswagReference r = reference_hellaswag();
    return json_pack("{s:s, s:s, s:f}", "name", r.name, "source", r.source, "v", r.acc_norm);
}

/* ---- text -------------------------------------------------------------------------------- */

/* JSON has '<' in strings only, where the escape means the same; then no "</script>" and no "<!--"
 * can end the element that holds it. */
static char *without_tags(const char *json)
{
    static const char ESCAPE[] = "\\u003c";
    const size_t n_escape = sizeof ESCAPE - 1;
    size_t n_bytes = strlen(json);
    for (const char *c = json; *c; c++)
        n_bytes += *c == '<' ? n_escape - 1 : 0;
    char *out = malloc(n_bytes + 1), *to = out;
    for (const char *c = json; out && *c; c++) {
        if (*c == '<') {
            memcpy(to, ESCAPE, n_escape);
            to += n_escape;
        } else {
            *to++ = *c;
        }
    }
    if (out)
        *to = '\0';
    return out;
}

static Err print_root(const json_t *root, char **json)
{
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) : NULL;
    *json = text ? without_tags(text) : NULL;
    free(text);
    if (!*json)
        FAIL(ERR_SYSTEM, "out of memory for the page");
    return OK;
}

Err page_data(const Folder *folder, int32_t n_folders, char **json)
{
    json_t *runs = json_array(), *root = NULL;
    Err err = OK;
    *json = NULL;
    for (int32_t i = 0; i < n_folders && !err; i++) {
        json_t *run = NULL;
        err = run_json(&folder[i], &run);
        if (run && json_array_append_new(runs, run) < 0)
            err = err_first(err, ERR_NEW(ERR_SYSTEM, "out of memory for the page"));
    }
    if (err) {
        json_decref(runs);
        return err;
    }
    root = json_pack("{s:o, s:o, s:o}", "runs", runs, "references", references_json(), "hellaswag",
                     hellaswag_json());
    err = print_root(root, json);
    json_decref(root);
    return err;
}
