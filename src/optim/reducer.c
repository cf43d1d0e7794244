#include "optim/reducer.h"

#include "base/check.h"
#include "kernels/ops.h"

bool reducer_needs_wire(const SystemConfig *system, int32_t world)
{
    return world > 1 && system->comm_dtype == CONFIG_COMM_BF16;
}

void reducer_wire_layout(ReducerWire *wire, Arena *arena, const Layout *layout)
{
    int64_t largest = layout_largest_bucket(layout, 0);
    wire->out = arena_1d(arena, REGION_COMM, "gradients sent", DTYPE_BF16, largest);
    wire->in = arena_1d(arena, REGION_COMM, "gradients received", DTYPE_BF16, largest);
}

void reducer_shard_layout(Tensor *shard, Arena *arena, const Layout *layout, int32_t world)
{
    *shard = arena_1d(arena, REGION_GRADIENTS, "gradient shard", DTYPE_F32, layout->count / world);
}

void reducer_init(Reducer *r, Comm *comm, Device *dev, const ReducerMemory *memory,
                  int32_t zero_stage, ConfigGradReduce grad_reduce)
{
    *r = (Reducer){.comm = comm,
                   .dev = dev,
                   .layout = memory->layout,
                   .grads = memory->grads,
                   .params = memory->params,
                   .wire = memory->wire,
                   .shard = memory->shard,
                   .arriving = tensor_none(),
                   .scatter = zero_stage > 0 && grad_reduce == CONFIG_REDUCE_SCATTER,
                   .gather = zero_stage > 0};
    ASSERT((zero_stage == 2) == tensor_present(r->shard), "zero_stage %d", zero_stage);
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

/* Own slice of the sums in bucket b is added to the shard, and the bucket is zero again. */
static void collect_bucket(Reducer *r, int32_t b)
{
    Tensor own = slice_of(r, r->grads[b], r->comm->rank);
    int64_t local = r->layout->bucket[b].offset / r->comm->world;
    op_add(r->dev, tensor_range(r->shard, local, tensor_count(own)), own);
    device_zero(r->dev, r->grads[b]);
}

/* Buckets are reduced from the last one down. */
static Err collect(Reducer *r)
{
    int32_t lowest = r->layout->n_buckets - r->n_reduced;
    if (r->uncollected == 0)
        return OK;
    TRY(add_arrived(r));
    TRY(comm_wait(r->comm, r->dev));
    for (; r->uncollected > 0; r->uncollected--)
        collect_bucket(r, lowest + r->uncollected - 1);
    return OK;
}

GradReadyFn *reducer_begin(Reducer *r, bool last_micro_step)
{
    bool shares = tensor_present(r->shard);
    if (!shares && !last_micro_step)
        return NULL;
    if (shares && !r->err)
        r->err = collect(r);
    r->n_reduced = 0;
    r->arriving = tensor_none();
    return reducer_bucket_ready;
}

static Err reduce(Reducer *r, Tensor bucket)
{
    if (tensor_present(r->wire.out))
        return send_rounded(r, bucket);
    return r->scatter ? comm_reduce_scatter_sum(r->comm, r->dev, bucket)
                      : comm_all_reduce_sum(r->comm, r->dev, bucket);
}

/* The one before is to leave its place, which the next one takes. wpe's and wte's have their own.
 */
static Err reduce_shared(Reducer *r, int32_t bucket)
{
    if (bucket >= LAYOUT_TABLES)
        TRY(collect(r));
    r->n_reduced++;
    r->uncollected++;
    return reduce(r, r->grads[bucket]);
}

void reducer_bucket_ready(void *reducer, int32_t bucket)
{
    Reducer *r = reducer;
    if (r->err)
        return;
    activity_do(r->comm->activity, "reduce bucket", bucket);
    if (tensor_present(r->shard)) {
        r->err = reduce_shared(r, bucket);
    } else {
        r->n_reduced++;
        r->err = reduce(r, r->grads[bucket]);
    }
}

Err reducer_finish(Reducer *r)
{
    Err err = r->err;
    r->err = OK;
    r->uncollected = err ? 0 : r->uncollected;
    TRY(err);
    ASSERT(r->n_reduced == r->layout->n_buckets, "%d of %d buckets were reduced", r->n_reduced,
           r->layout->n_buckets);
    if (tensor_present(r->shard))
        return collect(r);
    TRY(add_arrived(r));
    return comm_wait(r->comm, r->dev);
}

void reducer_publish(Reducer *r)
{
    if (!r->gather)
        return;
    r->publishing = true;
    for (int32_t b = 0; b < r->layout->n_buckets && !r->err; b++) {
        activity_do(r->comm->activity, "publish bucket", b);
        r->err = comm_all_gather(r->comm, r->dev, r->params[b]);
    }
}

Err reducer_await(Reducer *r)
{
    Err err = r->err;
    if (!r->publishing)
        return OK;
    r->publishing = false;
    r->err = OK;
    return err ? err : comm_wait(r->comm, r->dev);
}
