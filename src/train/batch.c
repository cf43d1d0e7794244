#include "train/batch.h"

/* On the CPU the host's tokens are the device's: one slot, never under way. */
static bool is_shared(const Trainer *t)
{
    return t->mem.host_tokens.data == t->mem.tokens.data;
}

static Tensor slot_of(const Trainer *t, Tensor host)
{
    return tensor_rows(host, t->n_uploads * t->plan->shape.micro_batch, t->plan->shape.micro_batch);
}

static int32_t *row_of(const Trainer *t, Tensor host, int64_t row)
{
    return (int32_t *)slot_of(t, host).data + row * host.dim[1];
}

Err batch_begin(Trainer *t)
{
    int64_t n_slots = t->mem.host_tokens.dim[0] / t->plan->shape.micro_batch;
    if (t->n_uploads < n_slots)
        return OK;
    Err err = comm_sync(t->comm, t->dev);
    batch_all_done(t);
    return err;
}

void batch_all_done(Trainer *t)
{
    t->n_uploads = 0;
}

void batch_blank(Trainer *t, int64_t row)
{
    int32_t *tokens = row_of(t, t->mem.host_tokens, row);
    int32_t *targets = row_of(t, t->mem.host_targets, row);
    for (int64_t i = 0; i < t->plan->shape.n_tokens; i++) {
        tokens[i] = 0;
        targets[i] = -1;
    }
}

void batch_noise(Trainer *t, int64_t row)
{
    enum { STRIDE = 7919 }; /* a prime: neighbours are far apart */
    int32_t *tokens = row_of(t, t->mem.host_tokens, row);
    int32_t *targets = row_of(t, t->mem.host_targets, row);
    int64_t n = t->plan->shape.n_tokens, vocab = t->plan->dims.vocab_size;
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)((row * n + i) * STRIDE % vocab);
        targets[i] = (int32_t)((row * n + i + 1) * STRIDE % vocab);
    }
}

Err batch_read(Trainer *t, const Loader *loader, int64_t row, int64_t offset)
{
    Err err = loader_read(loader, offset, row_of(t, t->mem.host_tokens, row),
                          row_of(t, t->mem.host_targets, row));
    if (err)
        batch_blank(t, row);
    return err;
}

GptBatch batch_upload(Trainer *t, int64_t first_sample, bool training)
{
    if (!is_shared(t)) {
        device_upload(t->dev, t->mem.tokens, slot_of(t, t->mem.host_tokens).data);
        device_upload(t->dev, t->mem.targets, slot_of(t, t->mem.host_targets).data);
        t->n_uploads++;
    }
    return (GptBatch){.tokens = t->mem.tokens,
                      .targets = t->mem.targets,
                      .first_sample = first_sample,
                      .seed = (uint64_t)t->cfg->run.seed,
                      .training = training};
}
