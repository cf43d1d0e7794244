/* One update. Work on the device is queued without waiting until the sums are needed; the small
 * all-reduce of the sums is the one place where ranks decide, from the same bits, what they do
 * next. */
#include <math.h>

#include "optim/schedule.h"
#include "train/batch.h"
#include "train/trainer.h"

static double now_ms(void)
{
    return (double)activity_now_ns() * 1e-6;
}

/* ---- gradients --------------------------------------------------------------------------- */

/* This rank's sequences of the step are one block: sample j of step s is the same text on any
 * number of ranks. */
static int64_t first_sample(const Trainer *t, int64_t micro_step)
{
    return t->progress.n_sequences + t->comm->rank * t->plan->rank_sequences +
           micro_step * t->plan->shape.micro_batch;
}

static Err load_micro_batch(Trainer *t, int64_t first)
{
    activity_do(t->comm->activity, "load tokens", ACTIVITY_NO_INDEX);
    Err err = batch_begin(t);
    for (int64_t row = 0; row < t->plan->shape.micro_batch; row++) {
        int64_t offset = loader_offset(&t->train_loader, first + row);
        err = err_first(err, batch_read(t, &t->train_loader, row, offset));
    }
    return err;
}

/* Where the sums over all ranks are. */
static Tensor summed_grads(const Trainer *t)
{
    return tensor_present(t->reducer.shard) ? t->reducer.shard : t->model.grads;
}

/* Gradients and loss_total of the whole step, times loss_scale: sums over all ranks for gradients,
 * my share for the loss. A fault here does not end it: the other ranks wait in the same
 * collectives. */
static Err accumulate(Trainer *t, double loss_scale)
{
    Err err = OK;
    double n_tokens = (double)t->plan->step_sequences * (double)t->plan->shape.n_tokens;
    double scale = loss_scale / n_tokens;
    device_zero(t->dev, t->model.grads);
    device_zero(t->dev, t->reducer.shard);
    device_zero(t->dev, t->model.loss_total);
    for (int64_t m = 0; m < t->plan->n_micro_steps; m++) {
        bool last = m == t->plan->n_micro_steps - 1;
        int64_t first = first_sample(t, m);
        if (t->step_times.n == 0) /* how long it may take is not known, only that it goes on */
            trainer_enter(t, PHASE_STEP, "first steps", 0);
        err = err_first(err, load_micro_batch(t, first));
        GptBatch batch = batch_upload(t, first, true);
        if (m == 0)
            err = err_first(err, reducer_await(&t->reducer));
        activity_do(t->comm->activity, "forward of micro-step", m);
        gpt2_forward(&t->model, t->dev, &batch);
        activity_do(t->comm->activity, "backward of micro-step", m);
        GradReadyFn *ready = reducer_begin(&t->reducer, last);
        gpt2_backward(&t->model, t->dev, &batch, scale, ready, &t->reducer);
    }
    return err_first(err, reducer_finish(&t->reducer));
}

/* ---- what ranks tell each other ---------------------------------------------------------- */

/* Sums over ranks. */
enum { SUM_LOSS, SUM_SQUARES, SUM_STOP, SUM_FAILED, N_SUMS };

/* Waits for the device, and for the other ranks. A fault of any rank is returned by all. */
static Err exchange(Trainer *t, Err mine, double sum[N_SUMS])
{
    sum[SUM_LOSS] = sum[SUM_SQUARES] = 0;
    activity_do(t->comm->activity, "gradient norm", ACTIVITY_NO_INDEX);
    adamw_sum_squares(&t->optim, t->dev, summed_grads(t), &t->disjoint);
    mine = err_first(mine, comm_sync(t->comm, t->dev)); /* before downloads: see device.h */
    batch_all_done(t);
    device_download(t->dev, &sum[SUM_LOSS], t->model.loss_total);
    device_download(t->dev, &sum[SUM_SQUARES], t->optim.sum_squares);
    mine = err_first(mine, device_sync(t->dev));
    sum[SUM_STOP] = trainer_has_signal(t);
    sum[SUM_FAILED] = mine != OK;
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

/* What a step leaves behind; all ranks the same. A gradient that overflowed in float16 says nothing
 * about the run as long as the loss is a number and the scale can still be lowered. */
static void count_step(Trainer *t, bool loss_is_finite, bool finite)
{
    Progress *p = &t->progress;
    p->step++;
    p->n_sequences += t->plan->step_sequences;
    if (finite) {
        p->n_updates++;
        p->n_bad_steps = 0;
        loss_scale_good(&p->loss_scale);
    } else if (!loss_is_finite || !loss_scale_overflow(&p->loss_scale)) {
        p->n_bad_steps++;
    }
}

Err trainer_step(Trainer *t, StepRecord *record)
{
    double sum[N_SUMS];
    double start = now_ms();
    trainer_enter(t, PHASE_STEP, "begin", 0);
    double lr = schedule_lr(&t->cfg->optim, t->progress.step);
    double loss_scale = loss_scale_factor(&t->progress.loss_scale);
    TRY(exchange(t, accumulate(t, loss_scale), sum));

    double loss = sum[SUM_LOSS] / loss_scale, norm = sqrt(sum[SUM_SQUARES]) / loss_scale;
    bool finite = isfinite(loss) && isfinite(norm);
    if (finite)
        update(t, norm, lr, loss_scale);
    *record = (StepRecord){.iter = t->progress.step,
                           .loss = loss,
                           .lr = lr,
                           .grad_norm = norm,
                           .step_tokens = t->plan->step_sequences * t->plan->shape.n_tokens,
                           .skipped = !finite};
    count_step(t, isfinite(loss), finite);
    t->stop = sum[SUM_STOP] > 0;
    record->tokens = t->progress.n_sequences * t->plan->shape.n_tokens;
    record->step_ms = now_ms() - start;
    step_times_add(&t->step_times, record->step_ms * 1e-3);
    return OK;
}
