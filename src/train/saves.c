#include "train/saves.h"

#include <inttypes.h>

#include "train/trainer.h"

enum { MAX_FAILED_SAVES = 3 };

bool saves_due(const Trainer *t, bool improved)
{
    int64_t interval = t->cfg->run.checkpoint_interval;
    if (interval == CONFIG_AUTO)
        interval = t->cfg->run.eval_interval;
    bool at_interval =
        t->progress.step > 0 && (trainer_is_last(t) || t->progress.step % interval == 0);
    bool wanted = t->cfg->run.always_save_checkpoint || improved;
    return at_interval && wanted && t->saves.saved_step != t->progress.step;
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
    int64_t begin_ns = activity_now_ns();
    trainer_enter(t, PHASE_SAVE, "wait for the parameters", 0);
    Err err = reducer_await(&t->reducer);
    TRY(comm_agree(t->comm, err_first(err, comm_sync(t->comm, t->dev))));
    TRY(checkpoint_save(&state, &t->progress));
    deadline_add_save(&t->deadline, (double)(activity_now_ns() - begin_ns) * 1e-9);
    t->saves.saved_step = t->progress.step;
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

Err saves_save(Trainer *t)
{
    Err err = save(t);
    t->saves.n_failed = err ? t->saves.n_failed + 1 : 0;
    if (!err)
        prune(t);
    bool survivable = err_code(err) == ERR_WRITE && t->saves.n_failed < MAX_FAILED_SAVES;
    if (!err || !survivable || trainer_is_last(t))
        return err;
    log_say(&t->log,
            "warning: %s; training goes on (failed save %" PRId64 ", %d in a row end the run)",
            err_message(err), t->saves.n_failed, MAX_FAILED_SAVES);
    err_free(err);
    return OK;
}

static const char *reason_text(StopReason reason)
{
    switch (reason) {
    case STOP_AFTER:
        return "by stop_after";
    case STOP_JOB_ENDS:
        return "by the end of the job's time";
    case STOP_NOT:
    case STOP_SIGNAL:
        break;
    }
    return "by a signal";
}

Err saves_stop(Trainer *t)
{
    const char *reason = reason_text(t->stop);
    if (t->cfg->run.eval_only)
        FAIL(ERR_REQUEUE, "the evaluation was stopped %s", reason);
    if (t->saves.saved_step != t->progress.step)
        TRY(save(t));
    FAIL(ERR_REQUEUE,
         "stopped %s after %" PRId64 " updates; saved in %s: run again with init_from=resume",
         reason, t->progress.step, t->cfg->run.out_dir);
}
