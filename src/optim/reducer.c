#include "optim/reducer.h"

#include "base/check.h"
#include "kernels/ops.h"

bool reducer_needs_wire(const SystemConfig *system, int32_t world)
{
    return world > 1 && system->comm_dtype == CONFIG_COMM_BF16;
}

void reducer_wire_layout(ReducerWire *wire, Arena *arena, const Layout *layout)
{
    int64_t largest = 0;
    for (int32_t b = 0; b < layout->n_buckets; b++)
        largest = layout->bucket[b].count > largest ? layout->bucket[b].count : largest;
    wire->out = arena_1d(arena, REGION_COMM, "gradients sent", DTYPE_BF16, largest);
    wire->in = arena_1d(arena, REGION_COMM, "gradients received", DTYPE_BF16, largest);
}

void reducer_init(Reducer *r, Comm *comm, Device *dev, const Layout *layout, Tensor grads,
                  Tensor params, ReducerWire wire, const SystemConfig *system)
{
    bool sharded = system->zero_stage == 1;
    *r = (Reducer){.comm = comm,
                   .dev = dev,
                   .layout = layout,
                   .grads = grads,
                   .params = params,
                   .wire = wire,
                   .arriving = tensor_none(),
                   .scatter = sharded && system->grad_reduce == CONFIG_REDUCE_SCATTER,
                   .gather = sharded};
}

void reducer_begin(Reducer *r)
{
    r->n_reduced = 0;
    r->arriving = tensor_none();
}

static Tensor bucket_of(const Reducer *r, Tensor flat, int32_t bucket)
{
    const Bucket *b = &r->layout->bucket[bucket];
    return tensor_range(flat, b->offset, b->count);
}

/* Slice r of a bucket, or of its staging. */
static Tensor slice_of(const Reducer *r, Tensor bucket, int32_t rank)
{
    int64_t count = tensor_count(bucket) / r->comm->world;
    return tensor_range(bucket, rank * count, count);
}

/* Own slice += those that have arrived: those of the ranks below, round the world. */
static Err add_arrived(Reducer *r)
{
    Tensor bucket = r->arriving;
    int32_t world = r->comm->world, rank = r->comm->rank;
    if (!tensor_present(bucket))
        return OK;
    r->arriving = tensor_none();
    TRY(comm_wait(r->comm, r->dev));
    Tensor in = tensor_range(r->wire.in, 0, tensor_count(bucket));
    for (int32_t k = 1; k < world; k++)
        op_add(r->dev, slice_of(r, bucket, rank), slice_of(r, in, (rank - k + world) % world));
    return r->scatter ? OK : comm_all_gather(r->comm, r->dev, bucket);
}

static Err send_rounded(Reducer *r, Tensor bucket)
{
    Tensor out = tensor_range(r->wire.out, 0, tensor_count(bucket));
    Tensor in = tensor_range(r->wire.in, 0, tensor_count(bucket));
    TRY(add_arrived(r));
    op_convert(r->dev, out, bucket);
    r->arriving = bucket;
    return comm_all_to_all(r->comm, r->dev, in, out);
}

static Err reduce(Reducer *r, Tensor bucket)
{
    if (tensor_present(r->wire.out))
        return send_rounded(r, bucket);
    return r->scatter ? comm_reduce_scatter_sum(r->comm, r->dev, bucket)
                      : comm_all_reduce_sum(r->comm, r->dev, bucket);
}

void reducer_bucket_ready(void *reducer, int32_t bucket)
{
    Reducer *r = reducer;
    r->n_reduced++;
    if (!r->err)
        r->err = reduce(r, bucket_of(r, r->grads, bucket));
}

Err reducer_finish(Reducer *r)
{
    Err err = r->err;
    r->err = OK;
    TRY(err);
    ASSERT(r->n_reduced == r->layout->n_buckets, "%d of %d buckets were reduced", r->n_reduced,
           r->layout->n_buckets);
    TRY(add_arrived(r));
    return comm_wait(r->comm, r->dev);
}

Err reducer_publish(Reducer *r)
{
    if (!r->gather)
        return OK;
    r->publishing = true;
    for (int32_t b = 0; b < r->layout->n_buckets; b++)
        TRY(comm_all_gather(r->comm, r->dev, bucket_of(r, r->params, b)));
    return OK;
}

Err reducer_await(Reducer *r)
{
    if (!r->publishing)
        return OK;
    r->publishing = false;
    return comm_wait(r->comm, r->dev);
}
