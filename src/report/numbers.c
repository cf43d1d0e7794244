#include "report/numbers.h"

#include <inttypes.h>
#include <math.h>

#include "base/human.h"
#include "report/page.h"
#include "report/reference.h"

enum { N_COLOURS = 8 }; /* .run0 to .run7 of page.css; after them come rings and dashes */

/* ---- figures ----------------------------------------------------------------------------- */

/* "768,000", "1.54M", "10.26B" */
static Human short_count(double n)
{
    static const char UNIT[] = "MBT";
    Human h;
    int unit = -1;
    if (n < 1e6)
        return human_count(llround(n));
    for (; n >= 999.995 && unit < 2; unit++)
        n /= unit < 0 ? 1e6 : 1e3;
    snprintf(h.text, sizeof h.text, "%.2f%c", n, UNIT[unit]);
    return h;
}

/* Of a column, each row counting by the seconds of its step; NaN: no number in it. */
static double mean_of(const Table *steps, int32_t column)
{
    double sum = 0, weights = 0, before = 0;
    for (int64_t i = 0; i < steps->n_rows; i++) {
        const Row *row = &steps->row[i];
        if (isfinite(row->value[column])) {
            sum += row->value[column] * (row->seconds - before);
            weights += row->seconds - before;
        }
        before = row->seconds;
    }
    return weights > 0 ? sum / weights : NAN;
}

/* Over all steps, so that a slow one counts by its time; NaN: not known. */
static double mean_speed(const Table *steps)
{
    if (steps->n_rows < 2)
        return steps->n_rows == 1 ? steps->row[0].value[STEP_TOKENS_PER_S] : NAN;
    const Row *first = &steps->row[0], *last = &steps->row[steps->n_rows - 1];
    double seconds = last->seconds - first->seconds;
    return seconds > 0 ? (double)(last->tokens - first->tokens) / seconds : NAN;
}

/* ---- the table --------------------------------------------------------------------------- */

/* A cell; `note` may be "". */
static void cell(FILE *out, const char *label, const char *value, const char *note)
{
    fprintf(out, "<td data-label=\"%s\"><b>%s</b>", label, value);
    if (note[0])
        fprintf(out, " <small>%s</small>", note);
    fputs("</td>", out);
}

static void mfu_cell(FILE *out, double percent)
{
    char text[32];
    snprintf(text, sizeof text, "%.1f %%", percent);
    cell(out, "MFU", isfinite(percent) ? text : "&ndash;", "");
}

/* The loss, or share, of a row, and at which step it was. */
static void loss_cell(FILE *out, const char *label, const Row *row, int32_t column)
{
    char value[32], note[64];
    if (!row) {
        cell(out, label, "&ndash;", "");
        return;
    }
    snprintf(value, sizeof value, "%.4g", row->value[column]);
    if (fabs(row->value[column]) < 100)
        snprintf(value, sizeof value, "%.4f", row->value[column]);
    snprintf(note, sizeof note, "step %s", human_count(row->iter).text);
    cell(out, label, value, note);
}

static bool has_hellaswag(const Folder *folder, int32_t n_folders)
{
    for (int32_t i = 0; i < n_folders; i++)
        if (folder[i].metrics.hellaswag.n_rows > 0)
            return true;
    return false;
}

static void table_row(const Folder *folder, int32_t index, bool hellaswag, FILE *out)
{
    const Table *steps = &folder->metrics.steps, *evals = &folder->metrics.evals;
    const Row *last = steps->n_rows > 0 ? &steps->row[steps->n_rows - 1] : NULL;
    fprintf(out, "<tr><th scope=\"row\"><span class=\"dot run%" PRId32 "%s\"></span>",
            index % N_COLOURS, index < N_COLOURS ? "" : " again");
    html_escape(folder->name, out);
    fputs("</th>", out);
    loss_cell(out, "Validation loss", table_last(evals, EVAL_VAL_LOSS), EVAL_VAL_LOSS);
    loss_cell(out, "Best validation", table_least(evals, EVAL_VAL_LOSS), EVAL_VAL_LOSS);
    loss_cell(out, "Train loss", table_last(steps, STEP_LOSS), STEP_LOSS);
    if (hellaswag)
        loss_cell(out, "HellaSwag", table_last(&folder->metrics.hellaswag, HELLASWAG_ACC_NORM),
                  HELLASWAG_ACC_NORM);
    cell(out, "Updates", last ? human_count(last->iter + 1).text : "0", "");
    cell(out, "Tokens", last ? short_count((double)last->tokens).text : "0", "");
    double speed = mean_speed(steps);
    cell(out, "Tokens/s", isfinite(speed) ? short_count(speed).text : "&ndash;", "");
    mfu_cell(out, mean_of(steps, STEP_MFU));
    cell(out, "Time in steps", last ? human_duration(last->seconds).text : "&ndash;", "");
    fputs("</tr>\n", out);
}

void numbers_table(const Folder *folder, int32_t n_folders, FILE *out)
{
    static const char *const HEADS[] = {
        "Run",     "Validation loss", "Best validation", "Train loss", "HellaSwag",
        "Updates", "Tokens",          "Tokens/s",        "MFU",        "Time in steps"};
    enum { HELLASWAG_HEAD = 4 };
    bool hellaswag = has_hellaswag(folder, n_folders);
    fprintf(out, "<table class=\"numbers%s\"><thead><tr>", n_folders == 1 ? " single" : "");
    for (size_t i = 0; i < sizeof HEADS / sizeof *HEADS; i++)
        if (hellaswag || i != HELLASWAG_HEAD)
            fprintf(out, "<th scope=\"col\">%s</th>", HEADS[i]);
    fputs("</tr></thead><tbody>\n", out);
    for (int32_t i = 0; i < n_folders; i++)
        table_row(&folder[i], i, hellaswag, out);
    fputs("</tbody></table>\n", out);
}

/* ---- sentences --------------------------------------------------------------------------- */

static void name_if_several(const Folder *folder, int32_t n_folders, FILE *out)
{
    if (n_folders == 1)
        return;
    fputs("<b>", out);
    html_escape(folder->name, out);
    fputs("</b> ", out);
}

void numbers_verdicts(const Folder *folder, int32_t n_folders, FILE *out)
{
    static const char *const KINDS[] = {"unknown", "off", "right"};
    for (int32_t i = 0; i < n_folders; i++) {
        Verdict v = reference_verdict(&folder[i]);
        fprintf(out, "<p class=\"verdict %s\">", KINDS[v.is_compared + v.is_right]);
        name_if_several(&folder[i], n_folders, out);
        html_escape(v.text, out);
        fputs("</p>\n", out);
    }
}

void numbers_remarks(const Folder *folder, int32_t n_folders, FILE *out)
{
    for (int32_t i = 0; i < n_folders; i++)
        for (int32_t k = 0; k < folder[i].n_remarks; k++) {
            fputs("<li>", out);
            name_if_several(&folder[i], n_folders, out);
            html_escape(folder[i].remark[k], out);
            fputs("</li>\n", out);
        }
}
