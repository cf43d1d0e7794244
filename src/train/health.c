#include "train/health.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "train/batch.h"
#include "train/grads.h"

/* ---- what one rank finds ----------------------------------------------------------------- */

/* How many tensors are not finite, and of gradients the first that backward forms. It goes through
 * the layout from its end, so that is the last one. */
typedef struct {
    int32_t n_bad, first; /* -1: none */
} BadTensors;

typedef struct {
    BadTensors sums;   /* of this rank's part of what was reduced */
    BadTensors own;    /* of this rank alone, computed again */
    int32_t bad_loss;  /* this rank's loss was not finite, */
    int32_t bad_again; /* and was not when computed again */
} Findings;

/* One look at all tensors. */
typedef struct {
    Trainer *t;
    bool *bad; /* [n_params] */
    Err err;
} Look;

static void look_at(Look *look, Tensor values, int32_t param)
{
    Trainer *t = look->t;
    double squares = 0;
    if (look->err)
        return;
    device_zero(t->dev, t->optim.sum_squares);
    op_add_sum_squares(t->dev, t->optim.sum_squares, values);
    device_download(t->dev, &squares, t->optim.sum_squares);
    look->err = device_sync(t->dev);
    look->bad[param] = look->bad[param] || !isfinite(squares);
}

/* Counts what a look found, and forgets it. */
static BadTensors take_findings(Look *look)
{
    BadTensors found = {0, -1};
    for (int32_t i = 0; i < look->t->layout.n_params; i++) {
        if (look->bad[i])
            found = (BadTensors){found.n_bad + 1, i};
        look->bad[i] = false;
    }
    return found;
}

static void look_at_sums(Look *look)
{
    const Trainer *t = look->t;
    Tensor shard = t->reducer.shard;
    for (int32_t i = 0; i < t->disjoint.n_segments; i++) {
        const Segment *s = &t->disjoint.segment[i];
        Tensor grads = tensor_present(shard) ? tensor_range(shard, s->local, s->count)
                                             : tensor_range(t->model.grads, s->flat, s->count);
        look_at(look, grads, s->param);
    }
}

/* GradReadyFn. The bucket's place may be wanted for another: then it has to be zero. */
static void look_at_bucket(void *arg, int32_t bucket)
{
    Look *look = arg;
    const Layout *layout = &look->t->layout;
    const Bucket *b = &layout->bucket[bucket];
    Tensor grads = look->t->model.grad_bucket[bucket];
    for (int32_t i = b->first_param; i < b->first_param + b->n_params; i++) {
        const Param *p = &layout->param[i];
        look_at(look, tensor_range(grads, p->offset - b->offset, param_count(p)), i);
    }
    device_zero(look->t->dev, grads);
}

static GradReadyFn *begin_look(void *arg, bool last_micro_step)
{
    const Look *look = arg;
    return last_micro_step || look->t->model.shape.bucket_grads ? look_at_bucket : NULL;
}

static Err look_again(Look *look, double loss_scale, double *loss)
{
    Trainer *t = look->t;
    Err err = grads_form(t, loss_scale, (GradSink){begin_look, look});
    err = err_first(err, look->err);
    err = err_first(err, device_sync(t->dev));
    batch_all_done(t);
    device_download(t->dev, loss, t->model.loss_total);
    return err_first(err, device_sync(t->dev));
}

static Err find_mine(Trainer *t, double loss_scale, double own_loss, Findings *mine)
{
    double loss = 0;
    Look look = {.t = t, .bad = calloc((size_t)t->layout.n_params, sizeof *look.bad)};
    if (!look.bad)
        FAIL(ERR_SYSTEM, "out of memory for a list of %d tensors", t->layout.n_params);
    look_at_sums(&look);
    mine->sums = take_findings(&look);
    Err err = look_again(&look, loss_scale, &loss);
    mine->own = take_findings(&look);
    mine->bad_loss = !isfinite(own_loss);
    mine->bad_again = !isfinite(loss);
    free(look.bad);
    return err;
}

/* In float32, where gradients of a step lie. */
static void look_at_params(Look *look)
{
    Trainer *t = look->t;
    for (int32_t i = 0; i < t->layout.n_params; i++) {
        const Param *p = &t->layout.param[i];
        Tensor values = tensor_range(t->model.grads, 0, param_count(p));
        if (!look->err)
            op_convert(t->dev, values, tensor_range(t->model.params, p->offset, param_count(p)));
        look_at(look, values, i);
    }
}

static Err check_mine(Trainer *t)
{
    Look look = {.t = t, .bad = calloc((size_t)t->layout.n_params, sizeof *look.bad)};
    if (!look.bad)
        FAIL(ERR_SYSTEM, "out of memory for a list of %d tensors", t->layout.n_params);
    look.err = reducer_await(&t->reducer);
    look_at_params(&look);
    BadTensors found = take_findings(&look);
    free(look.bad);
    TRY(look.err);
    if (found.n_bad)
        FAIL(ERR_DIVERGED,
             "%s is not finite (%d of %d tensors): nothing is saved of this; resume from the last "
             "checkpoint, written before",
             t->layout.param[found.first].name, found.n_bad, t->layout.n_params);
    return OK;
}

Err health_check_params(Trainer *t)
{
    trainer_enter(t, PHASE_STEP, "look at the parameters", 0);
    return comm_agree(t->comm, check_mine(t));
}

/* ---- what is said ------------------------------------------------------------------------ */

typedef struct {
    char *out;
    size_t n_bytes, used;
    int32_t n_named, n_left_out; /* ranks */
} Text;

static void say(Text *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(Text *text, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text->out + text->used, text->n_bytes - text->used, fmt, args);
    va_end(args);
    text->used += n > 0 ? (size_t)n : 0;
    if (text->used >= text->n_bytes)
        text->used = text->n_bytes - 1;
}

static void say_tensor(Text *text, const Layout *layout, BadTensors bad)
{
    say(text, "gradient of %s is not finite", layout->param[bad.first].name);
    if (bad.n_bad > 1)
        say(text, " (first of %d tensors)", bad.n_bad);
}

static const char *loss_text(const Findings *f)
{
    if (!f->bad_loss)
        return "loss finite";
    return f->bad_again ? "loss not finite" : "loss not finite, but computed again it is";
}

/* Nothing of a rank that has nothing to answer for. */
static void say_rank(Text *text, const Layout *layout, int32_t rank, const Findings *f)
{
    enum { RANK_BYTES = 200 };
    if (!f->own.n_bad && !f->bad_loss)
        return;
    if (text->n_bytes - text->used < RANK_BYTES) {
        text->n_left_out++;
        return;
    }
    say(text, "%srank %d: ", text->n_named++ ? "; " : "", rank);
    if (f->own.n_bad) {
        say_tensor(text, layout, f->own);
        say(text, ", ");
    }
    say(text, "%s", loss_text(f));
}

/* No rank has it again. */
static void say_transient(Text *text, const Layout *layout, const Findings *all, int32_t world)
{
    BadTensors sums = {0, -1};
    for (int32_t rank = 0; rank < world; rank++)
        sums = all[rank].sums.first > sums.first ? all[rank].sums : sums;
    if (sums.first < 0) {
        say(text, "the norm of the gradient is not finite");
        return;
    }
    say(text,
        "summed over ranks, the gradient of %s is not finite, and no rank's own is when "
        "computed again: a transient fault of a device or of the reduction, or an overflow of the "
        "sum",
        layout->param[sums.first].name);
}

static void explain(Text *text, const Layout *layout, const Findings *all, int32_t world)
{
    text->out[0] = '\0';
    for (int32_t rank = 0; rank < world; rank++)
        say_rank(text, layout, rank, &all[rank]);
    if (text->n_left_out)
        say(text, "; and %d more ranks", text->n_left_out);
    if (!text->n_named)
        say_transient(text, layout, all, world);
}

/* ---- together ---------------------------------------------------------------------------- */

Err health_explain(Trainer *t, double loss_scale, double own_loss, char *why, size_t n_bytes)
{
    Findings mine = {.own = {0, -1}, .sums = {0, -1}};
    Findings *all = calloc((size_t)t->comm->world, sizeof *all);
    Err err = all ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the findings of all ranks");
    trainer_enter(t, PHASE_STEP, "look for what is not finite", 0);
    err = err_first(err, find_mine(t, loss_scale, own_loss, &mine));
    TRY_GOTO(err, done, comm_agree(t->comm, err));
    TRY_GOTO(err, done, comm_gather_bytes(t->comm, &mine, sizeof mine, all));
    explain(&(Text){.out = why, .n_bytes = n_bytes}, &t->layout, all, t->comm->world);
done:
    free(all);
    return err;
}

/* ---- outliers ---------------------------------------------------------------------------- */

static void explain_outlier(Text *text, const StepRecord *record, const Outliers *before,
                            const Outliers *after, OutlierVerdict verdict, int64_t most)
{
    say(text,
        "loss %.4f (z %.1f), norm %.2f (z %.1f) over the last %" PRId64 " steps: ", record->loss,
        outliers_z(before->loss, before->n, record->loss), record->grad_norm,
        outliers_z(before->norm, before->n, record->grad_norm), before->n);
    if (verdict == STEP_OUTLIER)
        say(text,
            "an outlier, no update (%" PRId64 " in a row, %" PRId64 " are a new level; %" PRId64
            " in all)",
            after->n_in_row, most, after->n_skipped);
    else
        say(text, "after %" PRId64 " outliers in a row a new level, updates go on", most);
}

Err health_judge(Trainer *t, StepRecord *record, bool *outlier)
{
    const FaultConfig *fault = &t->cfg->fault;
    const Outliers before = t->progress.outliers;
    struct {
        Outliers outliers;
        OutlierVerdict verdict;
    } answer = {before, STEP_ACCEPTED};
    *outlier = false;
    if (fault->skip_outlier_z == 0)
        return OK;
    answer.verdict = outliers_judge(&answer.outliers, record->loss, record->grad_norm,
                                    fault->skip_outlier_z, fault->max_bad_steps);
    TRY(comm_broadcast_bytes(t->comm, &answer, sizeof answer, 0));
    t->progress.outliers = answer.outliers;
    *outlier = answer.verdict == STEP_OUTLIER;
    if (answer.verdict != STEP_ACCEPTED)
        explain_outlier(&(Text){.out = record->why, .n_bytes = sizeof record->why}, record, &before,
                        &answer.outliers, answer.verdict, fault->max_bad_steps);
    return OK;
}
