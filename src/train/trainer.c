/* The loop: updates, and at their intervals evaluations and checkpoints. */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>

#include "base/check.h"
#include "base/human.h"
#include "train/eval.h"
#include "train/hellaswag.h"
#include "train/replicas.h"

enum {
    START_LIMITS = 2
}; /* what NCCL has one init_timeout for, and its own message, comes first */
static const double SLOWEST_READ = 10e6; /* bytes per second */

int64_t trainer_tokens(const Trainer *t)
{
    return t->progress.n_sequences * t->plan->shape.n_tokens;
}

bool trainer_is_last(const Trainer *t)
{
    return t->progress.step >= t->cfg->optim.max_iters;
}

StopReason trainer_wants_stop(const Trainer *t)
{
    if (t->stop_signal && __atomic_load_n(t->stop_signal, __ATOMIC_RELAXED) != 0)
        return STOP_SIGNAL;
    if (t->comm->rank != 0)
        return STOP_NOT;
    double step_s = step_times_longest(&t->step_times);
    return deadline_reached(&t->deadline, activity_now_ns(), step_s);
}

void trainer_keep_to(Trainer *t, const JobTimes *times)
{
    deadline_init(&t->deadline, times, t->cfg->run.stop_after, checkpoint_bytes(&t->plan->dims));
    if (times->job_end_ns == 0)
        return;
    double left_s = (double)(times->job_end_ns - activity_now_ns()) * 1e-9;
    log_say(&t->log, "the batch system ends this job in %s; the run saves and leaves %s before",
            human_duration(left_s).text, human_duration(deadline_margin(&t->deadline, 0)).text);
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
    log_eval(&t->log, t->progress.step, trainer_tokens(t), train_loss, val_loss);
    *improved = val_loss < t->progress.best_val_loss;
    if (*improved) {
        t->progress.best_val_loss = val_loss;
        t->progress.best_step = t->progress.step;
    }
    return OK;
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
    if (t->progress.n_bad_steps <= n_bad) {
        if (record.why[0])
            log_say(&t->log, "iter %" PRId64 ": %s", record.iter, record.why);
        return OK;
    }
    log_say(&t->log,
            "iter %" PRId64 ": %s: no update (%" PRId64 " in a row, %" PRId64 " end the run)",
            record.iter, record.why, t->progress.n_bad_steps, t->cfg->fault.max_bad_steps);
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
        if (eval_due(t))
            TRY(evaluate(t, &improved));
        if (!t->stop && hellaswag_due(t))
            TRY(hellaswag_run(t));
        if (!t->stop && samples_due(t))
            TRY(samples_run(t));
        if (t->stop)
            return saves_stop(t);
        if (t->cfg->run.eval_only)
            return OK;
        if (saves_due(t, improved))
            TRY(saves_save(t));
        if (trainer_is_last(t))
            return saves_finish(t);
        TRY(step_and_log(t));
        TRY(stragglers_watch(t));
        if (replicas_due(t))
            TRY(replicas_check(t));
        if (t->stop)
            return saves_stop(t);
        TRY(saves_settle(t));
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
