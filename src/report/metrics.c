#include "report/metrics.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { LINE_MOST_BYTES = 1 << 16, MOST_SKIPPED = 1000 };
/* What doubles, and whoever reads JSON with them, hold exactly. */
static const json_int_t MAX_COUNT = INT64_C(1) << 53;

static const char *const STEP_KEYS[N_STEP_COLUMNS] = {[STEP_LOSS] = "loss",
                                                      [STEP_LR] = "lr",
                                                      [STEP_GRAD_NORM] = "grad_norm",
                                                      [STEP_TOKENS_PER_S] = "tokens_per_s",
                                                      [STEP_MFU] = "mfu"};
static const char *const EVAL_KEYS[N_EVAL_COLUMNS] = {
    [EVAL_TRAIN_LOSS] = "train_loss", [EVAL_VAL_LOSS] = "val_loss"};
static const char *const HELLASWAG_KEYS[N_HELLASWAG_COLUMNS] = {[HELLASWAG_ACC_NORM] =
                                                                    "hellaswag_acc_norm"};

/* ---- one line ---------------------------------------------------------------------------- */

static bool get_count(const json_t *line, const char *key, int64_t *value)
{
    const json_t *number = json_object_get(line, key);
    if (!json_is_integer(number))
        return false;
    *value = json_integer_value(number);
    return *value >= 0 && *value <= MAX_COUNT;
}

/* NaN: null, not there, or beyond what a chart has a scale for; what is as near to zero is zero. */
static double get_number(const json_t *line, const char *key)
{
    const double most = 1e100, least = 1e-100;
    const json_t *number = json_object_get(line, key);
    double value = json_is_number(number) ? json_number_value(number) : NAN;
    if (!(fabs(value) <= most))
        return NAN;
    return fabs(value) >= least ? value : 0;
}

static void get_columns(const json_t *line, const char *const *keys, int32_t n_keys, Row *row)
{
    for (int32_t c = 0; c < TABLE_MAX_COLUMNS; c++)
        row->value[c] = c < n_keys ? get_number(line, keys[c]) : NAN;
}

/* May `row` come after what is in the table? */
static bool follows(const Table *table, const Row *row)
{
    if (table->n_rows == 0)
        return true;
    const Row *before = &table->row[table->n_rows - 1];
    return row->iter > before->iter && row->tokens >= before->tokens;
}

static Err note_skipped(Metrics *m, int64_t iter)
{
    if (!m->skipped)
        m->skipped = malloc(MOST_SKIPPED * sizeof *m->skipped);
    if (!m->skipped)
        FAIL(ERR_SYSTEM, "out of memory for the skipped steps");
    if (m->n_skipped_kept < MOST_SKIPPED)
        m->skipped[m->n_skipped_kept++] = iter;
    m->n_skipped++;
    return OK;
}

static Err add_row(Metrics *m, Table *table, const Row *row)
{
    if (follows(table, row))
        return table_add(table, row);
    m->n_unordered++;
    return OK;
}

static Err take_eval(Metrics *m, const json_t *line, Row *row)
{
    get_columns(line, EVAL_KEYS, N_EVAL_COLUMNS, row);
    return add_row(m, &m->evals, row);
}

static Err take_hellaswag(Metrics *m, const json_t *line, Row *row)
{
    get_columns(line, HELLASWAG_KEYS, N_HELLASWAG_COLUMNS, row);
    return add_row(m, &m->hellaswag, row);
}

static Err take_step(Metrics *m, const json_t *line, Row *row, double *seconds)
{
    double time_ms = get_number(line, "time_ms");
    int64_t n_before = m->steps.n_rows;
    get_columns(line, STEP_KEYS, N_STEP_COLUMNS, row);
    if (row->value[STEP_MFU] < 0) /* the peak is not known */
        row->value[STEP_MFU] = NAN;
    if (time_ms >= 0 && time_ms < 1e12)
        row->seconds += time_ms * 1e-3;
    TRY(add_row(m, &m->steps, row));
    if (m->steps.n_rows == n_before)
        return OK;
    *seconds = row->seconds;
    return json_is_true(json_object_get(line, "skipped")) ? note_skipped(m, row->iter) : OK;
}

/* A line with an iter and its tokens is a record: of an evaluation, HellaSwag, a step, or something
 * this program does not know, which is left alone. */
static Err take_line(Metrics *m, const char *text, size_t n_bytes, double *seconds, bool *is_record)
{
    Row row = {.seconds = *seconds};
    json_t *line =
        n_bytes <= LINE_MOST_BYTES ? json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, NULL) : NULL;
    Err err = OK;
    *is_record = get_count(line, "iter", &row.iter) && get_count(line, "tokens", &row.tokens);
    if (*is_record && json_object_get(line, "val_loss"))
        err = take_eval(m, line, &row);
    else if (*is_record && json_object_get(line, HELLASWAG_KEYS[HELLASWAG_ACC_NORM]))
        err = take_hellaswag(m, line, &row);
    else if (*is_record && json_object_get(line, "loss"))
        err = take_step(m, line, &row, seconds);
    json_decref(line);
    return err;
}

/* ---- the file ---------------------------------------------------------------------------- */

static void count_bad(Metrics *m)
{
    if (m->n_bad++ == 0)
        m->first_bad = m->n_lines;
}

Err metrics_parse(Metrics *m, const char *path, const char *text, size_t n_bytes)
{
    const char *line = text, *end = n_bytes > 0 ? text + n_bytes : text;
    double seconds = 0;
    *m = (Metrics){0};
    while (line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        bool is_record = false;
        TRY(take_line(m, line, (size_t)((stop ? stop : end) - line), &seconds, &is_record));
        m->n_lines++;
        m->ends_open = !stop && !is_record;
        if (stop && !is_record)
            count_bad(m);
        line = stop ? stop + 1 : end;
    }
    if (m->n_lines > 0 && m->steps.n_rows == 0 && m->evals.n_rows == 0)
        FAIL(ERR_DATA, "%s: none of its %lld lines is a record of a run", path,
             (long long)m->n_lines);
    return OK;
}

Err metrics_read(Metrics *m, const char *path)
{
    FileMap map;
    *m = (Metrics){0};
    TRY(file_map(&map, path));
    Err err = metrics_parse(m, path, (const char *)map.data, map.n_bytes);
    file_unmap(&map);
    return err;
}

void metrics_free(Metrics *m)
{
    table_free(&m->steps);
    table_free(&m->evals);
    table_free(&m->hellaswag);
    free(m->skipped);
    *m = (Metrics){0};
}

/* ---- looking ----------------------------------------------------------------------------- */

const Row *table_last(const Table *table, int32_t column)
{
    for (int64_t i = table->n_rows - 1; i >= 0; i--)
        if (isfinite(table->row[i].value[column]))
            return &table->row[i];
    return NULL;
}

const Row *table_least(const Table *table, int32_t column)
{
    const Row *least = NULL;
    for (int64_t i = 0; i < table->n_rows; i++) {
        double value = table->row[i].value[column];
        if (isfinite(value) && (!least || value < least->value[column]))
            least = &table->row[i];
    }
    return least;
}
