/* One update. Work on the device is queued without waiting until the sums are needed; the small
 * all-reduce of the sums is the one place where ranks decide, from the same bits, what they do
 * next. */
#include <math.h>

#include "optim/schedule.h"
#include "train/batch.h"
#include "train/grads.h"
#include "train/health.h"

static double now_ms(void)
{
    return (double)activity_now_ns() * 1e-6;
}

/* ---- gradients --------------------------------------------------------------------------- */

/* Where the sums over all ranks are. */
static Tensor summed_grads(const Trainer *t)
{
    return tensor_present(t->reducer.shard) ? t->reducer.shard : t->model.grads;
}

/* The sink of a step: the reducer, and a look at the clock before it first waits for anybody. */
typedef struct {
    Trainer *t;
    bool stamped;
} Reduction;

static void reduce_bucket(void *reduction, int32_t bucket)
{
    Reduction *r = reduction;
    if (!r->stamped)
        device_stamp(r->t->dev, STAMP_END);
    r->stamped = true;
    reducer_bucket_ready(&r->t->reducer, bucket);
}

static GradReadyFn *begin_reducing(void *reduction, bool last_micro_step)
{
    Reduction *r = reduction;
    return reducer_begin(&r->t->reducer, last_micro_step) ? reduce_bucket : NULL;
}

/* Gradients and loss_total of the whole step, times loss_scale: sums over all ranks for gradients,
 * my share for the loss. A fault here does not end it: the other ranks wait in the same
 * collectives. */
static Err accumulate(Trainer *t, double loss_scale)
{
    Reduction reduction = {t, false};
    Err err = grads_form(t, loss_scale, (GradSink){begin_reducing, &reduction});
    return err_first(err, reducer_finish(&t->reducer));
}

/* ---- what ranks tell each other ---------------------------------------------------------- */

/* Sums over ranks. */
enum {
    SUM_LOSS,
    SUM_SQUARES,
    SUM_SIGNALS,
    SUM_TIME,
    SUM_FAILED,
    SUM_SAVE_TIME,
    SUM_SAVE_WRITTEN,
    N_SUMS
};

/* Waits for the device, and for the other ranks; *own_loss = what is this rank's of sum[SUM_LOSS].
 * A fault of any rank is returned by all. */
static Err exchange(Trainer *t, Err mine, double sum[N_SUMS], double *own_loss)
{
    sum[SUM_LOSS] = sum[SUM_SQUARES] = 0;
    activity_do(t->comm->activity, "gradient norm", ACTIVITY_NO_INDEX);
    adamw_sum_squares(&t->optim, t->dev, summed_grads(t), &t->disjoint);
    mine = err_first(mine, comm_sync(t->comm, t->dev)); /* before downloads: see device.h */
    batch_all_done(t);
    device_download(t->dev, &sum[SUM_LOSS], t->model.loss_total);
    device_download(t->dev, &sum[SUM_SQUARES], t->optim.sum_squares);
    mine = err_first(mine, device_sync(t->dev));
    *own_loss = sum[SUM_LOSS];
    if (!mine)
        stragglers_add(&t->stragglers, device_stamped_ms(t->dev));
    StopReason reason = trainer_wants_stop(t);
    sum[SUM_SIGNALS] = reason == STOP_SIGNAL;
    sum[SUM_TIME] = reason == STOP_SIGNAL ? STOP_NOT : reason; /* of rank 0; the others have none */
    sum[SUM_FAILED] = mine != OK;
    sum[SUM_SAVE_TIME] = saves_time_is_up(t);
    sum[SUM_SAVE_WRITTEN] = saves_is_written(t);
    mine = err_first(mine, comm_sum_f64(t->comm, sum, N_SUMS));
    return sum[SUM_FAILED] > 0 ? comm_agree(t->comm, mine) : mine;
}

/* ---- update ------------------------------------------------------------------------------ */

/* torch's clip_grad_norm_; 0 turns it off. */
static double clip_scale(const Trainer *t, double norm)
{
    double limit = t->cfg->optim.grad_clip;
    double scale = limit / (norm + 1e-6);
    return limit > 0 && scale < 1 ? scale : 1;
}

/* The gradients are loss_scale times too large, norm is not. What goes wrong on the way to the
 * others, these hear of where the parameters are next needed, as any fault of that phase. */
static void update(Trainer *t, double norm, double lr, double loss_scale)
{
    activity_do(t->comm->activity, "update", ACTIVITY_NO_INDEX);
    adamw_update(&t->optim, t->dev, t->model.params, summed_grads(t), lr,
                 clip_scale(t, norm) / loss_scale, t->progress.n_updates + 1);
    reducer_publish(&t->reducer);
}

/* A gradient that overflowed in float16 says nothing about the run as long as the loss is a number
 * and the scale can still be lowered, which it is. */
static bool forgive_overflow(Trainer *t, double loss)
{
    return isfinite(loss) && loss_scale_overflow(&t->progress.loss_scale);
}

/* What a step leaves behind; all ranks the same. */
static void count_step(Trainer *t, bool finite, bool updated, bool bad)
{
    Progress *p = &t->progress;
    p->step++;
    p->n_sequences += t->plan->step_sequences;
    p->n_bad_steps = updated ? 0 : p->n_bad_steps + bad;
    p->n_updates += updated;
    if (finite)
        loss_scale_good(&p->loss_scale);
}

Err trainer_step(Trainer *t, StepRecord *record)
{
    double sum[N_SUMS], own_loss = 0;
    double start = now_ms();
    trainer_enter(t, PHASE_STEP, "begin", 0);
    double lr = schedule_lr(&t->cfg->optim, t->progress.step);
    double loss_scale = loss_scale_factor(&t->progress.loss_scale);
    TRY(exchange(t, accumulate(t, loss_scale), sum, &own_loss));

    double loss = sum[SUM_LOSS] / loss_scale, norm = sqrt(sum[SUM_SQUARES]) / loss_scale;
    *record = (StepRecord){.iter = t->progress.step,
                           .loss = loss,
                           .lr = lr,
                           .grad_norm = norm,
                           .step_tokens = t->plan->step_sequences * t->plan->shape.n_tokens};
    bool finite = isfinite(loss) && isfinite(norm);
    bool outlier = false;
    if (finite)
        TRY(health_judge(t, record, &outlier));
    bool updates = finite && !outlier;
    bool bad = !finite && !forgive_overflow(t, loss);
    if (updates)
        update(t, norm, lr, loss_scale);
    if (bad)
        TRY(health_explain(t, loss_scale, own_loss, record->why, sizeof record->why));
    record->skipped = !updates;
    count_step(t, finite, updates, bad);
    t->stop = sum[SUM_SIGNALS] > 0 ? STOP_SIGNAL : (StopReason)sum[SUM_TIME];
    t->saves.time_is_up = sum[SUM_SAVE_TIME] > 0;
    t->saves.is_written = sum[SUM_SAVE_WRITTEN] > 0;
    record->tokens = t->progress.n_sequences * t->plan->shape.n_tokens;
    record->step_ms = now_ms() - start;
    step_times_add(&t->step_times, record->step_ms * 1e-3);
    return OK;
}
