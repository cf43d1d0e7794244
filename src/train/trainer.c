/* The loop: updates, and at their intervals evaluations and checkpoints. */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>

#include "base/check.h"
#include "train/eval.h"

enum { MAX_FAILED_SAVES = 3 };
enum {
    START_LIMITS = 2
}; /* what NCCL has one init_timeout for, and its own message, comes first */
static const double SLOWEST_READ = 10e6; /* bytes per second */

static int64_t tokens_seen(const Trainer *t)
{
    return t->progress.n_sequences * t->plan->shape.n_tokens;
}

static bool is_last(const Trainer *t)
{
    return t->progress.step >= t->cfg->optim.max_iters;
}

bool trainer_has_signal(const Trainer *t)
{
    return t->stop_signal && __atomic_load_n(t->stop_signal, __ATOMIC_RELAXED) != 0;
}

/* Seconds; 0: none. */
static double phase_limit(const Trainer *t, Phase phase)
{
    const FaultConfig *fault = &t->cfg->fault;
    switch (phase) {
    case PHASE_STEP:
    case PHASE_EVAL:
        return step_times_limit(&t->step_times, fault->step_timeout);
    case PHASE_LOAD:
    case PHASE_SAVE:
        return fault->save_timeout;
    case PHASE_START:
    case PHASE_END:
        break;
    }
    return START_LIMITS * fault->init_timeout;
}

void trainer_enter(Trainer *t, Phase phase, const char *operation, int64_t n_bytes)
{
    double limit = phase_limit(t, phase);
    bool has_step = phase != PHASE_START && phase != PHASE_LOAD;
    if (limit > 0)
        limit += (double)n_bytes / SLOWEST_READ;
    activity_begin(t->comm->activity, phase, has_step ? t->progress.step : -1, limit, operation);
}

/* ---- evaluation -------------------------------------------------------------------------- */

static bool evaluation_due(const Trainer *t)
{
    return is_last(t) || t->cfg->run.eval_only || t->progress.step % t->cfg->run.eval_interval == 0;
}

/* *improved: the validation loss is the best so far. */
static Err evaluate(Trainer *t, bool *improved)
{
    double train_loss = 0, val_loss = 0;
    *improved = false;
    TRY(eval_loss(t, &t->train_loader, &train_loss));
    if (!t->stop)
        TRY(eval_loss(t, &t->val_loader, &val_loss));
    if (t->stop)
        return OK;
    log_eval(&t->log, t->progress.step, tokens_seen(t), train_loss, val_loss);
    *improved = val_loss < t->progress.best_val_loss;
    if (*improved)
        t->progress.best_val_loss = val_loss;
    return OK;
}

/* ---- checkpoints ------------------------------------------------------------------------- */

/* nanoGPT's rule, on its own interval: always, or only what evaluated better than all before. */
static bool save_due(const Trainer *t, bool improved)
{
    int64_t interval = t->cfg->run.checkpoint_interval;
    if (interval == CONFIG_AUTO)
        interval = t->cfg->run.eval_interval;
    bool at_interval = t->progress.step > 0 && (is_last(t) || t->progress.step % interval == 0);
    bool wanted = t->cfg->run.always_save_checkpoint || improved;
    return at_interval && wanted && t->saved_step != t->progress.step;
}

static Err save(Trainer *t)
{
    CheckpointState state = {.comm = t->comm,
                             .dev = t->dev,
                             .cfg = t->cfg,
                             .model = &t->model,
                             .optim = &t->optim,
                             .staging = t->mem.staging,
                             .cut = plan_cut(t->plan),
                             .meta_path = t->data.meta_path,
                             .tuning = t->tuning};
    log_say(&t->log, "saving checkpoint to %s/step_%08" PRId64, t->cfg->run.out_dir,
            t->progress.step);
    trainer_enter(t, PHASE_SAVE, "wait for the parameters", 0);
    Err err = reducer_await(&t->reducer);
    TRY(comm_agree(t->comm, err_first(err, comm_sync(t->comm, t->dev))));
    TRY(checkpoint_save(&state, &t->progress));
    t->saved_step = t->progress.step;
    return OK;
}

/* Too many checkpoints are no reason to end a run. */
static void prune(Trainer *t)
{
    trainer_enter(t, PHASE_SAVE, "remove older checkpoints", 0);
    Err err = checkpoint_prune(t->comm, t->cfg->run.out_dir, t->cfg->run.keep_checkpoints);
    if (err)
        log_say(&t->log, "warning: older checkpoints are kept: %s", err_message(err));
    err_free(err);
}

/* A failed save keeps training, for the next may work (a full disk is cleared); not for ever, and
 * not when there is no next. */
static Err save_or_warn(Trainer *t)
{
    Err err = save(t);
    t->n_failed_saves = err ? t->n_failed_saves + 1 : 0;
    if (!err)
        prune(t);
    bool survivable = err_code(err) == ERR_WRITE && t->n_failed_saves < MAX_FAILED_SAVES;
    if (!err || !survivable || is_last(t))
        return err;
    log_say(&t->log,
            "warning: %s; training goes on (failed save %" PRId64 ", %d in a row end the run)",
            err_message(err), t->n_failed_saves, MAX_FAILED_SAVES);
    err_free(err);
    return OK;
}

/* After a signal: ERR_REQUEUE, everything saved. */
static Err save_and_stop(Trainer *t)
{
    if (t->cfg->run.eval_only)
        FAIL(ERR_REQUEUE, "the evaluation was stopped by a signal");
    if (t->saved_step != t->progress.step)
        TRY(save(t));
    FAIL(ERR_REQUEUE,
         "stopped by a signal after %" PRId64
         " updates; saved in %s: run again with init_from=resume",
         t->progress.step, t->cfg->run.out_dir);
}

/* ---- the run ----------------------------------------------------------------------------- */

static void say_loss_scale(Trainer *t, const StepRecord *record, double before)
{
    double now = t->progress.loss_scale.scale;
    if (now != before)
        log_say(&t->log, "iter %" PRId64 ": loss scale %g, was %g%s", record->iter, now, before,
                record->skipped ? ": a gradient overflowed in float16, no update" : "");
}

static Err step_and_log(Trainer *t)
{
    StepRecord record;
    double scale = t->progress.loss_scale.scale;
    int64_t n_bad = t->progress.n_bad_steps;
    TRY(trainer_step(t, &record));
    log_step(&t->log, &record, record.iter % t->cfg->run.log_interval == 0);
    say_loss_scale(t, &record, scale);
    if (t->progress.n_bad_steps <= n_bad)
        return OK;
    log_say(&t->log,
            "iter %" PRId64 ": loss or gradient is not finite: no update (%" PRId64
            " in a row, %" PRId64 " end the run)",
            record.iter, t->progress.n_bad_steps, t->cfg->fault.max_bad_steps);
    if (t->progress.n_bad_steps >= t->cfg->fault.max_bad_steps)
        FAIL(ERR_DIVERGED,
             "loss or gradient was not finite in %" PRId64
             " steps in a row, the last at iter %" PRId64
             ": resume from the last checkpoint with a lower learning_rate or grad_clip",
             t->progress.n_bad_steps, record.iter);
    return OK;
}

static Err run(Trainer *t)
{
    for (;;) {
        bool improved = false;
        if (evaluation_due(t))
            TRY(evaluate(t, &improved));
        if (t->stop)
            return save_and_stop(t);
        if (t->cfg->run.eval_only)
            return OK;
        if (save_due(t, improved))
            TRY(save_or_warn(t));
        if (is_last(t))
            return OK;
        TRY(step_and_log(t));
        if (t->stop)
            return save_and_stop(t);
    }
}

Err trainer_run(Trainer *t)
{
    int64_t n_before = t->dev->n_allocations;
    Err err = run(t);
    ASSERT(t->dev->n_allocations == n_before, "%lld allocations while training",
           (long long)(t->dev->n_allocations - n_before));
    return err;
}
