#include "train/saves.h"

#include <inttypes.h>

#include "base/human.h"
#include "train/health.h"
#include "train/replicas.h"
#include "train/trainer.h"

enum { MAX_FAILED_SAVES = 3 };

static double seconds_since(int64_t begin_ns)
{
    return (double)(activity_now_ns() - begin_ns) * 1e-9;
}

/* ---- when -------------------------------------------------------------------------------- */

bool saves_time_is_up(const Trainer *t)
{
    double limit = t->cfg->run.checkpoint_time;
    return t->comm->rank == 0 && limit > 0 && seconds_since(t->saves.begin_ns) >= limit;
}

bool saves_due(const Trainer *t, bool improved)
{
    const Saves *s = &t->saves;
    const int64_t step = t->progress.step;
    int64_t interval = t->cfg->run.checkpoint_interval;
    if (interval == CONFIG_AUTO)
        interval = t->cfg->run.eval_interval;
    bool at_interval = trainer_is_last(t) || step % interval == 0;
    bool wanted = t->cfg->run.always_save_checkpoint || improved;
    bool is_saved = s->saved_step == step || s->pending_step == step;
    /* parameters that give bad steps are no place to go back to */
    bool is_sound = t->progress.n_bad_steps == 0 || trainer_is_last(t);
    return step > 0 && !is_saved && is_sound && ((at_interval && wanted) || s->time_is_up);
}

/* ---- what failed, and what is too many ----------------------------------------------------- */

/* What the end of a save means for the run. has_next: another will be tried. */
static Err count(Trainer *t, Err err, bool has_next)
{
    Saves *s = &t->saves;
    s->n_failed = err ? s->n_failed + 1 : 0;
    bool survivable = err_code(err) == ERR_WRITE && s->n_failed < MAX_FAILED_SAVES && has_next;
    if (!err || !survivable)
        return err;
    log_say(&t->log,
            "warning: %s; training goes on (failed save %" PRId64 ", %d in a row end the run)",
            err_message(err), s->n_failed, MAX_FAILED_SAVES);
    err_free(err);
    return OK;
}

/* Too many checkpoints are no reason to end a run. */
static void warn_of_pruning(Trainer *t, Err err)
{
    if (err)
        log_say(&t->log, "warning: older checkpoints are kept: %s", err_message(err));
    err_free(err);
}

/* The ranks meet behind it: where no thread could be started rank 0 does it here, and may take
 * long, which is not to count as time of a step. */
static Err prune(Trainer *t)
{
    const RunConfig *run = &t->cfg->run;
    const CheckpointKeep keep = {.newest = run->keep_checkpoints,
                                 .every = run->keep_every,
                                 .best = !run->always_save_checkpoint};
    trainer_enter(t, PHASE_SAVE, "remove older checkpoints", 0);
    if (run->async_save)
        writer_prune(&t->saves.writer, keep);
    else
        warn_of_pruning(t, checkpoint_prune(t->comm, run->out_dir, keep));
    return comm_barrier(t->comm);
}

/* ---- beside training --------------------------------------------------------------------- */

bool saves_is_written(Trainer *t)
{
    Saves *s = &t->saves;
    double limit = t->cfg->fault.save_timeout;
    char doing[128];
    if (t->comm->rank != 0 || s->pending_step < 0)
        return false;
    if (writer_is_idle(&s->writer))
        return true;
    if (s->warned || limit <= 0 || seconds_since(s->begin_ns) < limit)
        return false;
    s->warned = true;
    Activity seen = activity_look(&s->writer.activity);
    activity_describe(&seen, doing, sizeof doing);
    log_say(&t->log, "warning: the writing of a checkpoint takes longer than save_timeout (%s): %s",
            human_duration(limit).text, doing);
    return false;
}

/* End the save that is pending, if there is one. */
static Err publish(Trainer *t, bool has_next)
{
    Saves *s = &t->saves;
    if (s->pending_step < 0)
        return OK;
    trainer_enter(t, PHASE_SAVE, "wait for the writing of the checkpoint before", 0);
    Err err = writer_publish(&s->writer);
    int64_t step = s->pending_step;
    s->pending_step = -1;
    s->is_written = false;
    if (!err) {
        s->saved_step = step;
        deadline_add_save(&t->deadline, s->copy_ms * 1e-3 + s->writer.seconds);
        log_say(&t->log, "checkpoint of step %" PRId64 ": copied in %.0f ms, written in %.1f s",
                step, s->copy_ms, s->writer.seconds);
        err = prune(t);
    }
    return count(t, err, has_next);
}

/* Nothing is pending, and the writer is free. */
static Err settle_all(Trainer *t, bool has_next)
{
    TRY(publish(t, has_next));
    trainer_enter(t, PHASE_SAVE, "wait for the removal of older checkpoints", 0);
    warn_of_pruning(t, writer_join(&t->saves.writer));
    return comm_barrier(t->comm); /* here, where rank 0 may take long, and not in a step */
}

/* May this save go on beside training? Where there is a step to come, and memory. */
static Err ask_for_room(Trainer *t, bool *beside)
{
    Saves *s = &t->saves;
    *beside = t->cfg->run.async_save && !trainer_is_last(t) && !t->stop;
    if (!*beside)
        return OK;
    if (!s->asked) {
        TRY(writer_reserve(&s->writer, &s->beside));
        s->asked = true;
        if (!s->beside)
            log_say(&t->log,
                    "notice: too little host memory is free for a copy of %s beside it: "
                    "training waits while checkpoints are written",
                    human_bytes(writer_copy_bytes(&s->writer)).text);
    }
    *beside = s->beside;
    return OK;
}

/* ---- a save ------------------------------------------------------------------------------ */

static Err begin_beside(Trainer *t)
{
    Saves *s = &t->saves;
    int64_t begin_ns = activity_now_ns();
    TRY(writer_save(&s->writer, &t->progress));
    s->pending_step = t->progress.step;
    s->copy_ms = seconds_since(begin_ns) * 1e3;
    return OK;
}

static Err write_now(Trainer *t)
{
    Saves *s = &t->saves;
    TRY(checkpoint_save(&s->writer.state, &t->progress));
    s->saved_step = t->progress.step;
    deadline_add_save(&t->deadline, seconds_since(s->begin_ns));
    log_say(&t->log, "checkpoint of step %" PRId64 ": written in %.1f s", s->saved_step,
            seconds_since(s->begin_ns));
    return prune(t);
}

static Err save(Trainer *t, bool *beside)
{
    Saves *s = &t->saves;
    TRY(replicas_check(t));
    TRY(health_check_params(t));
    log_say(&t->log, "saving checkpoint to %s/step_%08" PRId64, t->cfg->run.out_dir,
            t->progress.step);
    s->begin_ns = activity_now_ns();
    s->time_is_up = s->warned = false;
    trainer_enter(t, PHASE_SAVE, "wait for the parameters", 0);
    Err err = reducer_await(&t->reducer);
    TRY(comm_agree(t->comm, err_first(err, comm_sync(t->comm, t->dev))));
    TRY(ask_for_room(t, beside));
    return *beside ? begin_beside(t) : write_now(t);
}

Err saves_save(Trainer *t)
{
    bool beside = false;
    TRY(settle_all(t, true));
    Err err = save(t, &beside);
    return beside && !err ? OK : count(t, err, !trainer_is_last(t));
}

Err saves_settle(Trainer *t)
{
    return t->saves.is_written && !trainer_is_last(t) ? publish(t, true) : OK;
}

Err saves_finish(Trainer *t)
{
    return settle_all(t, false);
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
    bool beside = false;
    if (t->cfg->run.eval_only)
        FAIL(ERR_REQUEUE, "the evaluation was stopped %s", reason);
    TRY(settle_all(t, true));
    if (t->saves.saved_step != t->progress.step)
        TRY(save(t, &beside));
    TRY(settle_all(t, false));
    FAIL(ERR_REQUEUE,
         "stopped %s after %" PRId64 " updates; saved in %s: run again with init_from=resume",
         reason, t->progress.step, t->cfg->run.out_dir);
}

/* ---- life -------------------------------------------------------------------------------- */

void saves_init(Trainer *t)
{
    const CheckpointState state = {.comm = t->comm,
                                   .dev = t->dev,
                                   .cfg = t->cfg,
                                   .model = &t->model,
                                   .optim = &t->optim,
                                   .staging = t->mem.staging,
                                   .cut = plan_cut(t->plan),
                                   .tokenizer = &t->tokenizer,
                                   .tuning = t->tuning};
    writer_init(&t->saves.writer, &state);
    t->saves.begin_ns = activity_now_ns();
}

void saves_close(Trainer *t)
{
    Saves *s = &t->saves;
    bool pending = s->pending_step >= 0 && s->writer.task == WRITER_SAVE;
    if (pending) /* on all ranks, for those that are done wait for rank 0 to leave MPI */
        trainer_enter(t, PHASE_SAVE, "wait for the writing of the last checkpoint", 0);
    if (pending && t->comm->rank == 0) {
        Err err = writer_publish_alone(&s->writer);
        if (err)
            log_say(&t->log, "warning: %s", err_message(err));
        else
            log_say(&t->log, "checkpoint of step %" PRId64 ": written", s->pending_step);
        err_free(err);
    }
    warn_of_pruning(t, writer_join(&s->writer));
    writer_close(&s->writer);
}
