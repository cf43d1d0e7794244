#include "train/grads.h"

#include "train/batch.h"

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

Err grads_form(Trainer *t, double loss_scale, GradSink sink)
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
        if (m == 0)
            device_stamp(t->dev, STAMP_BEGIN); /* behind what waits for other ranks */
        activity_do(t->comm->activity, "forward of micro-step", m);
        gpt2_forward(&t->model, t->dev, &batch);
        activity_do(t->comm->activity, "backward of micro-step", m);
        GradReadyFn *ready = sink.begin(sink.arg, last);
        gpt2_backward(&t->model, t->dev, &batch, scale, ready, sink.arg);
    }
    return err;
}
