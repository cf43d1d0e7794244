#include "train/batch.h"

static int32_t *row_of(Tensor batch, int64_t row)
{
    return (int32_t *)batch.data + row * batch.dim[1];
}

void batch_blank(Trainer *t, int64_t row)
{
    int32_t *tokens = row_of(t->mem.host_tokens, row);
    int32_t *targets = row_of(t->mem.host_targets, row);
    for (int64_t i = 0; i < t->plan->shape.n_tokens; i++) {
        tokens[i] = 0;
        targets[i] = -1;
    }
}

Err batch_read(Trainer *t, const Loader *loader, int64_t row, int64_t offset)
{
    Err err = loader_read(loader, offset, row_of(t->mem.host_tokens, row),
                          row_of(t->mem.host_targets, row));
    if (err)
        batch_blank(t, row);
    return err;
}

/* On the CPU the two are the same memory, and there is nothing to move. */
static void upload(Trainer *t, Tensor device, Tensor host)
{
    if (device.data != host.data)
        device_upload(t->dev, device, host.data);
}

GptBatch batch_upload(Trainer *t, int64_t first_sample, bool training)
{
    upload(t, t->mem.tokens, t->mem.host_tokens);
    upload(t, t->mem.targets, t->mem.host_targets);
    return (GptBatch){.tokens = t->mem.tokens,
                      .targets = t->mem.targets,
                      .first_sample = first_sample,
                      .seed = (uint64_t)t->cfg->run.seed,
                      .training = training};
}
