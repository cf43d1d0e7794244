#include "optim/reducer.h"

#include "base/check.h"

void reducer_init(Reducer *r, Comm *comm, Device *dev, const Layout *layout, Tensor grads,
                  Tensor params, const SystemConfig *system)
{
    bool sharded = system->zero_stage == 1;
    *r = (Reducer){.comm = comm,
                   .dev = dev,
                   .layout = layout,
                   .grads = grads,
                   .params = params,
                   .scatter = sharded && system->grad_reduce == CONFIG_REDUCE_SCATTER,
                   .gather = sharded};
}

void reducer_begin(Reducer *r)
{
    r->n_reduced = 0;
}

static Tensor bucket_of(const Reducer *r, Tensor flat, int32_t bucket)
{
    const Bucket *b = &r->layout->bucket[bucket];
    return tensor_range(flat, b->offset, b->count);
}

void reducer_bucket_ready(void *reducer, int32_t bucket)
{
    Reducer *r = reducer;
    Tensor grads = bucket_of(r, r->grads, bucket);
    r->n_reduced++;
    if (r->err)
        return;
    r->err = r->scatter ? comm_reduce_scatter_sum(r->comm, r->dev, grads)
                        : comm_all_reduce_sum(r->comm, r->dev, grads);
}

Err reducer_finish(Reducer *r)
{
    Err err = r->err;
    r->err = OK;
    TRY(err);
    ASSERT(r->n_reduced == r->layout->n_buckets, "%d of %d buckets were reduced", r->n_reduced,
           r->layout->n_buckets);
    TRY(comm_wait(r->comm, r->dev));
    return OK;
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
