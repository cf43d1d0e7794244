#include "train/ballast.h"

#include "base/human.h"

/* What is smaller is lost in the rounding of the allocator. */
enum { GRAIN_BYTES = 4 << 20 };

/* Bytes to hold: this rank's share of what is free, less what the limit still allows. */
static int64_t wanted_bytes(const Trainer *t, const DeviceInfo *info)
{
    int64_t allowed = t->cfg->memory.memory_limit - (int64_t)t->plan->total_bytes;
    int64_t mine = ((int64_t)info->memory_free_bytes - MEMORY_RESERVE_BYTES) / t->dev->n_sharers;
    return (mine - allowed) / GRAIN_BYTES * GRAIN_BYTES;
}

/* The most of `wanted` that can be had, to an eighth; 0: nothing. */
static int64_t take(Trainer *t, int64_t wanted)
{
    for (int64_t bytes = wanted; bytes >= GRAIN_BYTES; bytes -= bytes / 8) {
        Err err = device_alloc(t->dev, (size_t)bytes, &t->ballast);
        if (!err)
            return bytes;
        err_free(err);
    }
    return 0;
}

Err ballast_take(Trainer *t)
{
    DeviceInfo info;
    if (t->cfg->memory.memory_limit == CONFIG_AUTO || device_is_host(t->dev))
        return OK;
    TRY(comm_agree(t->comm, device_info(t->dev, &info))); /* all have looked before any takes */
    int64_t held = take(t, wanted_bytes(t, &info));
    if (held > 0)
        log_say(&t->log,
                "memory_limit: %s of the GPU are held back, so that no more is left than on a card "
                "of that size",
                human_bytes((size_t)held).text);
    return OK;
}

void ballast_drop(Trainer *t)
{
    if (t->ballast)
        device_free(t->dev, t->ballast);
    t->ballast = NULL;
}
