#include "optim/shard.h"

#include <stdlib.h>

#include "base/check.h"

enum { LINE_ELEMENTS = 64, PAD_ELEMENTS = 128 };

int64_t shard_pad_elements(int32_t world)
{
    int64_t pad = (int64_t)LINE_ELEMENTS * world;
    return pad % PAD_ELEMENTS == 0 ? pad : pad * (PAD_ELEMENTS / LINE_ELEMENTS);
}

int64_t shard_slice_count(const Shard *shard, int32_t bucket)
{
    return shard->layout->bucket[bucket].count / shard->world;
}

int64_t shard_slice_flat(const Shard *shard, int32_t bucket)
{
    return shard->layout->bucket[bucket].offset + shard->rank * shard_slice_count(shard, bucket);
}

/* Buckets are contiguous from 0, so the slices before this one add up to a 1/world of what is
 * before it. */
int64_t shard_slice_local(const Shard *shard, int32_t bucket)
{
    return shard->layout->bucket[bucket].offset / shard->world;
}

/* The part of tensor `param` inside the own slice of its bucket, if any. */
static void add_segment(Shard *shard, int32_t param)
{
    const Param *p = &shard->layout->param[param];
    int64_t slice = shard_slice_flat(shard, p->bucket);
    int64_t slice_end = slice + shard_slice_count(shard, p->bucket);
    int64_t end = p->offset + param_file_count(p); /* rows beyond file_rows are padding */
    int64_t begin = p->offset > slice ? p->offset : slice;
    if (end > slice_end)
        end = slice_end;
    if (begin >= end)
        return;
    shard->segment[shard->n_segments++] =
        (Segment){.param = param,
                  .flat = begin,
                  .local = shard_slice_local(shard, p->bucket) + begin - slice,
                  .within = begin - p->offset,
                  .count = end - begin};
}

Err shard_make(Shard *shard, const Layout *layout, int32_t rank, int32_t world)
{
    ASSERT(rank >= 0 && rank < world, "rank %d of %d", rank, world);
    for (int32_t b = 0; b < layout->n_buckets; b++)
        ASSERT(layout->bucket[b].count % world == 0, "bucket %d does not cut into %d slices", b,
               world);
    *shard =
        (Shard){.layout = layout, .rank = rank, .world = world, .count = layout->count / world};
    /* A tensor lies in one bucket and meets one slice of it: at most one segment each. */
    shard->segment = calloc((size_t)layout->n_params, sizeof *shard->segment);
    if (!shard->segment)
        FAIL(ERR_SYSTEM, "out of memory for a shard of %d tensors", layout->n_params);
    for (int32_t i = 0; i < layout->n_params; i++)
        add_segment(shard, i);
    return OK;
}

void shard_free(Shard *shard)
{
    free(shard->segment);
    *shard = (Shard){0};
}
