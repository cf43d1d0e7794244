#include "train/eval.h"

#include "train/batch.h"

bool eval_due(const Trainer *t)
{
    return trainer_is_last(t) || t->cfg->run.eval_only ||
           t->progress.step % t->cfg->run.eval_interval == 0;
}

/* This rank's windows: [begin, end) of n_windows, and how many batches the busiest rank needs. */
typedef struct {
    int64_t n_windows, begin, end, n_batches;
} EvalShare;

static int64_t at_most(int64_t value, int64_t most)
{
    return value < most ? value : most;
}

static EvalShare own_share(const Trainer *t, const Loader *loader)
{
    EvalShare s;
    int64_t per_batch = t->plan->shape.micro_batch;
    s.n_windows = loader_eval_windows(loader, t->cfg->run.eval_iters * t->cfg->batch.batch_size);
    int64_t per_rank = (s.n_windows + t->comm->world - 1) / t->comm->world;
    s.begin = at_most(t->comm->rank * per_rank, s.n_windows);
    s.end = at_most(s.begin + per_rank, s.n_windows);
    s.n_batches = (per_rank + per_batch - 1) / per_batch;
    return s;
}

/* Rows past the share's end have no targets and count nothing. */
static Err load_windows(Trainer *t, const Loader *loader, const EvalShare *s, int64_t first)
{
    Err err = batch_begin(t);
    for (int64_t row = 0; row < t->plan->shape.micro_batch; row++) {
        int64_t w = first + row;
        if (w < s->end)
            err = err_first(
                err, batch_read(t, loader, row, loader_eval_offset(loader, w, s->n_windows)));
        else
            batch_blank(t, row);
    }
    return err;
}

Err eval_begin(Trainer *t)
{
    trainer_enter(t, PHASE_EVAL, "wait for the parameters", 0);
    Err err = reducer_await(&t->reducer);
    err = err_first(err, comm_sync(t->comm, t->dev));
    batch_all_done(t);
    return comm_agree(t->comm, err);
}

Err eval_exchange(Trainer *t, Err mine, bool *done)
{
    int64_t any[3] = {mine != OK, trainer_wants_stop(t), done && *done};
    mine = err_first(mine, comm_max_i64(t->comm, any, 3));
    t->stop = (StopReason)any[1];
    if (done)
        *done = any[2];
    return any[0] ? comm_agree(t->comm, mine) : mine;
}

/* Adds to the model's loss_total. */
static Err sum_losses(Trainer *t, const Loader *loader, const EvalShare *s)
{
    double scale = 1.0 / ((double)s->n_windows * (double)t->plan->shape.n_tokens);
    for (int64_t b = 0; b < s->n_batches && !t->stop; b++) {
        trainer_enter(t, PHASE_EVAL, "load tokens", 0);
        Err mine = load_windows(t, loader, s, s->begin + b * t->plan->shape.micro_batch);
        GptBatch batch = batch_upload(t, 0, false);
        activity_do(t->comm->activity, "forward of batch", b);
        gpt2_forward(&t->model, t->dev, &batch);
        gpt2_loss(&t->model, t->dev, &batch, scale);
        TRY(eval_exchange(t, mine, NULL));
    }
    return OK;
}

Err eval_loss(Trainer *t, const Loader *loader, double *loss)
{
    EvalShare share = own_share(t, loader);
    TRY(eval_begin(t));
    device_zero(t->dev, t->model.loss_total);
    TRY(sum_losses(t, loader, &share));
    Err err = comm_sync(t->comm, t->dev); /* before the download: see device.h */
    batch_all_done(t);
    device_download(t->dev, loss, t->model.loss_total);
    TRY(comm_agree(t->comm, err_first(err, device_sync(t->dev))));
    return comm_sum_f64(t->comm, loss, 1);
}
