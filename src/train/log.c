#include "train/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/human.h"

enum { METRICS_MAX_BYTES = 1 << 30, NUMBER_BYTES = 32 };

/* ---- life -------------------------------------------------------------------------------- */

/* Is standard output a window somebody looks at? mpirun gives rank 0 a pseudo-terminal even when
 * its own output goes to a file, but one without a width. */
static bool is_window(void)
{
    struct winsize size;
    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
}

void log_init(Log *log, bool is_rank0)
{
    *log = (Log){.console = is_rank0 ? stdout : NULL};
    log->is_terminal = is_rank0 && is_window();
}

/* The number that a line of metrics begins with; -1: it is none of ours. Not by sscanf, which walks
 * to the end of the whole text each time. */
static int64_t iter_of(const char *line)
{
    static const char START[] = "{\"iter\":";
    const size_t n_start = sizeof START - 1;
    if (strncmp(line, START, n_start) != 0 || line[n_start] < '0' || line[n_start] > '9')
        return -1;
    return strtoll(line + n_start, NULL, 10);
}

/* In this one line, which ends in '\n'. */
static bool has(const char *line, const char *end, const char *what)
{
    return memmem(line, (size_t)(end - line), what, strlen(what)) != NULL;
}

/* A line of a record at this iter; only a step's has the key "loss". */
static bool comes_again(const char *line, const char *end, int64_t iter, const LogResume *from)
{
    if (iter != from->iter)
        return iter > from->iter;
    if (has(line, end, ",\"loss\":"))
        return true;
    return has(line, end, ",\"hellaswag_acc\":") ? from->scores : from->evaluates;
}

/* Move the lines to keep to the front; returns their length. */
static size_t keep_lines(char *text, const LogResume *from)
{
    size_t n_kept = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        int64_t iter = iter_of(line);
        size_t n_line = (size_t)(end + 1 - line);
        if (iter < 0)
            break;
        if (comes_again(line, end, iter, from))
            continue;
        memmove(text + n_kept, line, n_line);
        n_kept += n_line;
    }
    return n_kept;
}

static Err drop_lines(const char *path, const LogResume *from)
{
    if (!path_exists(path))
        return OK;
    char *text = NULL;
    size_t n_bytes = 0;
    TRY(file_read_text(path, METRICS_MAX_BYTES, &text, &n_bytes));
    size_t n_kept = keep_lines(text, from);
    Err err = n_kept < n_bytes ? file_publish(path, text, n_kept) : OK;
    free(text);
    return err;
}

Err log_open_lines(FILE **file, const char *dir, const char *name, const LogResume *from)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, name));
    TRY(drop_lines(path, from));
    *file = fopen(path, "a");
    if (!*file)
        FAIL(ERR_WRITE, "%s: cannot open for writing: %s", path, strerror(errno));
    return OK;
}

Err log_open(Log *log, const char *out_dir, const LogResume *from)
{
    if (!log->console)
        return OK;
    TRY(dir_make(out_dir));
    return log_open_lines(&log->metrics, out_dir, "metrics.jsonl", from);
}

/* TensorBoard forgets by steps only: of the loss at this step both points stay when it is not
 * evaluated again. */
Err log_open_events(Log *log, const char *out_dir, const LogResume *from)
{
    int64_t first = from->iter > 0 && !from->evaluates ? from->iter + 1 : from->iter;
    return log->console ? events_open(&log->events, out_dir, first) : OK;
}

void log_close(Log *log)
{
    events_close(&log->events);
    if (log->metrics && fclose(log->metrics) != 0)
        log_say(log, "warning: metrics.jsonl: %s", strerror(errno));
    log->metrics = NULL;
}

/* ---- for people -------------------------------------------------------------------------- */

static void clear_progress(Log *log)
{
    if (log->progress_shown)
        fputs("\r\033[K", log->console);
    log->progress_shown = false;
}

void log_say(Log *log, const char *fmt, ...)
{
    if (!log->console)
        return;
    clear_progress(log);
    va_list args;
    va_start(args, fmt);
    vfprintf(log->console, fmt, args);
    va_end(args);
    fputc('\n', log->console);
    fflush(log->console);
}

static double tokens_per_second(const StepRecord *record)
{
    return record->step_ms > 0 ? (double)record->step_tokens * 1e3 / record->step_ms : 0;
}

/* In percent; -100 when the peak is unknown, as nanoGPT prints before it has measured. */
static double mfu_percent(const Log *log, const StepRecord *record)
{
    if (log->peak_flops <= 0)
        return -100.0;
    return 100.0 * tokens_per_second(record) * log->flop_per_token / log->peak_flops;
}

static Human eta(const Log *log, const StepRecord *record)
{
    double steps = (double)(log->max_iters - record->iter - 1);
    return human_duration(steps * log->ema_step_ms / 1e3);
}

static void say_step(Log *log, const StepRecord *r)
{
    log_say(log,
            "iter %" PRId64 ": loss %.4f, time %.2fms, mfu %.2f%% | lr %.2e, norm %.2f, %s tok/s, "
            "eta %s",
            r->iter, r->loss, r->step_ms, mfu_percent(log, r), r->lr, r->grad_norm,
            human_count(llround(tokens_per_second(r))).text, eta(log, r).text);
}

static void show_progress(Log *log, const StepRecord *r)
{
    fprintf(log->console, "\r\033[Kiter %" PRId64 " of %" PRId64 ", loss %.4f, eta %s", r->iter,
            log->max_iters, r->loss, eta(log, r).text);
    fflush(log->console);
    log->progress_shown = true;
}

/* ---- for programs ------------------------------------------------------------------------ */

/* JSON knows no NaN and no infinity: null. */
static const char *json_number(char *out, double value)
{
    if (!isfinite(value))
        return "null";
    snprintf(out, NUMBER_BYTES, "%.10g", value);
    return out;
}

static void metrics_line(Log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void metrics_line(Log *log, const char *fmt, ...)
{
    if (!log->metrics)
        return;
    va_list args;
    va_start(args, fmt);
    int written = vfprintf(log->metrics, fmt, args);
    va_end(args);
    if (written < 0 || fflush(log->metrics) != 0) {
        log_say(log, "warning: metrics.jsonl cannot be written any more: %s", strerror(errno));
        fclose(log->metrics);
        log->metrics = NULL;
    }
}

static void events_line(Log *log, int64_t step, const Scalar *scalar, int32_t n)
{
    if (!log->events.file || events_write(&log->events, step, scalar, n))
        return;
    log_say(log, "warning: the file for TensorBoard cannot be written any more: %s",
            strerror(errno));
    events_close(&log->events);
}

static void show_step(Log *log, const StepRecord *r)
{
    const Scalar scalars[] = {{"loss/step", r->loss},
                              {"optim/lr", r->lr},
                              {"optim/grad_norm", r->grad_norm},
                              {"speed/tokens_per_s", tokens_per_second(r)},
                              {"speed/step_ms", r->step_ms},
                              {"speed/mfu", log->peak_flops > 0 ? mfu_percent(log, r) : NAN},
                              {"progress/tokens", (double)r->tokens},
                              {"memory/rank_gib", (double)log->memory_bytes / (1 << 30)}};
    events_line(log, r->iter, scalars, sizeof scalars / sizeof *scalars);
}

static void record_step(Log *log, const StepRecord *r)
{
    char loss[NUMBER_BYTES], norm[NUMBER_BYTES];
    metrics_line(
        log,
        "{\"iter\":%" PRId64 ",\"tokens\":%" PRId64
        ",\"loss\":%s,\"lr\":%.10g,\"grad_norm\":%s,\"time_ms\":%.3f,\"tokens_per_s\":%.1f,"
        "\"mfu\":%.3f,\"skipped\":%s}\n",
        r->iter, r->tokens, json_number(loss, r->loss), r->lr, json_number(norm, r->grad_norm),
        r->step_ms, tokens_per_second(r), mfu_percent(log, r), r->skipped ? "true" : "false");
}

void log_step(Log *log, const StepRecord *record, bool print)
{
    if (!log->console)
        return;
    bool first = log->ema_step_ms == 0;
    log->ema_step_ms = first ? record->step_ms : 0.95 * log->ema_step_ms + 0.05 * record->step_ms;
    record_step(log, record);
    if (print) {
        say_step(log, record);
        show_step(log, record);
    } else if (log->is_terminal) {
        show_progress(log, record);
    }
}

void log_eval(Log *log, int64_t step, int64_t tokens, double train_loss, double val_loss)
{
    char train[NUMBER_BYTES], val[NUMBER_BYTES];
    const Scalar scalars[] = {{"loss/train", train_loss}, {"loss/val", val_loss}};
    log_say(log, "step %" PRId64 ": train loss %.4f, val loss %.4f", step, train_loss, val_loss);
    metrics_line(
        log, "{\"iter\":%" PRId64 ",\"tokens\":%" PRId64 ",\"train_loss\":%s,\"val_loss\":%s}\n",
        step, tokens, json_number(train, train_loss), json_number(val, val_loss));
    events_line(log, step, scalars, 2);
}

void log_hellaswag(Log *log, const HellaswagRecord *r)
{
    const Scalar scalars[] = {{"hellaswag/acc", r->acc}, {"hellaswag/acc_norm", r->acc_norm}};
    log_say(log, "step %" PRId64 ": HellaSwag acc %.4f, acc_norm %.4f, %s items", r->iter, r->acc,
            r->acc_norm, human_count(r->n_items).text);
    metrics_line(
        log,
        "{\"iter\":%" PRId64 ",\"tokens\":%" PRId64
        ",\"hellaswag_acc\":%.10g,\"hellaswag_acc_norm\":%.10g,\"hellaswag_items\":%" PRId64 "}\n",
        r->iter, r->tokens, r->acc, r->acc_norm, r->n_items);
    events_line(log, r->iter, scalars, 2);
}
