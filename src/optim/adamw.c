#include "optim/adamw.h"

#include <string.h>

#include "base/check.h"

static const AdamwVectors NO_VECTORS = {{NULL, DTYPE_F32, 1, {0, 1, 1, 1}},
                                        {NULL, DTYPE_F32, 1, {0, 1, 1, 1}},
                                        {NULL, DTYPE_F32, 1, {0, 1, 1, 1}}};

void adamw_init(AdamW *opt, const Shard *shard, const OptimConfig *hyper, AdamwForm form)
{
    *opt = (AdamW){.shard = shard,
                   .hyper = hyper,
                   .form = form,
                   .state = NO_VECTORS,
                   .chunk = {NO_VECTORS, NO_VECTORS},
                   .sum_squares = tensor_none()};
}

/* ---- memory ------------------------------------------------------------------------------ */

static DType master_dtype(const AdamW *opt)
{
    return opt->form.master == MASTER_REMAINDER16 ? DTYPE_U16 : DTYPE_F32;
}

static AdamwVectors layout_vectors(const AdamW *opt, Arena *arena, int64_t n, const char *m,
                                   const char *v, const char *master)
{
    AdamwVectors vectors = NO_VECTORS;
    vectors.m = arena_1d(arena, REGION_OPTIMIZER, m, DTYPE_F32, n);
    vectors.v = arena_1d(arena, REGION_OPTIMIZER, v, DTYPE_F32, n);
    if (opt->form.master != MASTER_NONE)
        vectors.master = arena_1d(arena, REGION_OPTIMIZER, master, master_dtype(opt), n);
    return vectors;
}

static AdamwVectors layout_state(const AdamW *opt, Arena *arena)
{
    bool halves = opt->form.master == MASTER_REMAINDER16;
    return layout_vectors(opt, arena, opt->shard->count, "exp_avg", "exp_avg_sq",
                          halves ? "master weights, low halves" : "master weights");
}

void adamw_layout(AdamW *opt, Arena *arena)
{
    if (!opt->form.offload)
        opt->state = layout_state(opt, arena);
    opt->sum_squares = arena_1d(arena, REGION_OPTIMIZER, "gradient sum of squares", DTYPE_F64, 1);
}

void adamw_layout_host(AdamW *opt, Arena *arena)
{
    if (opt->form.offload)
        opt->state = layout_state(opt, arena);
}

void adamw_layout_chunks(AdamW *opt, Arena *arena)
{
    for (int32_t i = 0; i < 2 && opt->form.offload; i++)
        opt->chunk[i] = layout_vectors(opt, arena, adamw_chunk_elements(opt), "exp_avg chunk",
                                       "exp_avg_sq chunk", "master chunk");
}

int64_t adamw_chunk_elements(const AdamW *opt)
{
    int64_t n = opt->form.chunk_elements > 0 ? opt->form.chunk_elements : ADAMW_CHUNK_ELEMENTS;
    return n < opt->shard->count ? n : opt->shard->count;
}

size_t adamw_state_bytes(const AdamW *opt)
{
    size_t bytes = 2 * dtype_bytes(DTYPE_F32);
    if (opt->form.master != MASTER_NONE)
        bytes += dtype_bytes(master_dtype(opt));
    return (size_t)opt->shard->count * bytes;
}

/* ---- values ------------------------------------------------------------------------------ */

static Tensor vector_of(const AdamW *opt, AdamwRole role)
{
    ASSERT(role != ADAMW_MASTER || opt->form.master != MASTER_NONE, "there is no master");
    return role == ADAMW_M ? opt->state.m : role == ADAMW_V ? opt->state.v : opt->state.master;
}

/* The state may be touched by the host from here on, if it is in its memory. */
static Err wait_for_host_state(const AdamW *opt, Device *dev)
{
    return opt->form.offload ? device_sync(dev) : OK;
}

/* Host memory to state: wherever that is. Waits. */
static Err put(const AdamW *opt, Device *dev, Tensor dst, const void *host)
{
    if (!opt->form.offload) {
        device_upload(dev, dst, host);
        return device_sync(dev);
    }
    TRY(wait_for_host_state(opt, dev));
    memcpy(dst.data, host, tensor_bytes(dst));
    return OK;
}

/* The opposite. */
static Err get(const AdamW *opt, Device *dev, void *host, Tensor src)
{
    if (!opt->form.offload) {
        device_download(dev, host, src);
        return device_sync(dev);
    }
    TRY(wait_for_host_state(opt, dev));
    memcpy(host, src.data, tensor_bytes(src));
    return OK;
}

static Err zero(const AdamW *opt, Device *dev, Tensor t)
{
    if (!opt->form.offload) {
        device_zero(dev, t);
        return OK;
    }
    TRY(wait_for_host_state(opt, dev));
    memset(t.data, 0, tensor_bytes(t));
    return OK;
}

Err adamw_reset(AdamW *opt, Device *dev)
{
    TRY(zero(opt, dev, opt->state.m));
    TRY(zero(opt, dev, opt->state.v));
    return opt->form.master != MASTER_NONE ? zero(opt, dev, opt->state.master) : OK;
}

Err adamw_set_master(AdamW *opt, Device *dev, int32_t index, const float *values)
{
    if (opt->form.master == MASTER_NONE)
        return OK;
    for (int32_t i = 0; i < opt->shard->n_segments; i++) {
        const Segment *s = &opt->shard->segment[i];
        if (s->param == index)
            TRY(adamw_write(opt, dev, ADAMW_MASTER, s->local, s->count, values + s->within));
    }
    return OK;
}

/* Halves pass through buffers of this many elements. */
enum { HALVES = 16 << 10 };

static Err write_low_halves(const AdamW *opt, Device *dev, Tensor low, const float *values)
{
    uint16_t block[HALVES];
    for (int64_t done = 0, n, total = tensor_count(low); done < total; done += n) {
        n = total - done < HALVES ? total - done : HALVES;
        for (int64_t i = 0; i < n; i++)
            block[i] = f32_split(values[done + i]).low;
        TRY(put(opt, dev, tensor_range(low, done, n), block));
    }
    return OK;
}

Err adamw_write(AdamW *opt, Device *dev, AdamwRole role, int64_t begin, int64_t n,
                const float *values)
{
    Tensor vector = tensor_range(vector_of(opt, role), begin, n);
    if (vector.dtype == DTYPE_U16)
        return write_low_halves(opt, dev, vector, values);
    return put(opt, dev, vector, values);
}

/* Elements [begin, begin + n) of the shard vector, in the flat one. */
static Tensor flat_range(const Shard *shard, Tensor flat, int64_t begin, int64_t n)
{
    int32_t b = 0;
    while (begin >= shard_slice_local(shard, b) + shard_slice_count(shard, b))
        b++;
    int64_t within = begin - shard_slice_local(shard, b);
    ASSERT(within + n <= shard_slice_count(shard, b), "%lld elements reach past bucket %d",
           (long long)n, (int)b);
    return tensor_range(flat, shard_slice_flat(shard, b) + within, n);
}

/* high: on the device. */
static Err join_halves(const AdamW *opt, Device *dev, Tensor high, Tensor low, float *values)
{
    uint16_t high_block[HALVES], low_block[HALVES];
    for (int64_t done = 0, n, total = tensor_count(low); done < total; done += n) {
        n = total - done < HALVES ? total - done : HALVES;
        device_download(dev, high_block, tensor_range(high, done, n));
        TRY(device_sync(dev));
        TRY(get(opt, dev, low_block, tensor_range(low, done, n)));
        for (int64_t i = 0; i < n; i++)
            values[done + i] = f32_join((Halves){high_block[i], low_block[i]});
    }
    return OK;
}

Err adamw_read(const AdamW *opt, Device *dev, AdamwRole role, Tensor params, int64_t begin,
               int64_t n, float *values)
{
    Tensor vector = tensor_range(vector_of(opt, role), begin, n);
    if (vector.dtype == DTYPE_U16)
        return join_halves(opt, dev, flat_range(opt->shard, params, begin, n), vector, values);
    return get(opt, dev, values, vector);
}

/* ---- the gradient's norm ----------------------------------------------------------------- */

/* n gradients, from number `local` of the shard vector or number `flat` of the flat one, whichever
 * grads is. Of one rank the two are the same. */
static Tensor gradient_of(const Shard *part, Tensor grads, int64_t local, int64_t flat, int64_t n)
{
    bool is_shard = tensor_count(grads) == part->count;
    ASSERT(is_shard || tensor_count(grads) == part->layout->count, "%lld gradients",
           (long long)tensor_count(grads));
    return tensor_range(grads, is_shard ? local : flat, n);
}

void adamw_sum_squares(AdamW *opt, Device *dev, Tensor grads, const Shard *part)
{
    device_zero(dev, opt->sum_squares);
    for (int32_t i = 0; i < part->n_segments; i++) {
        const Segment *s = &part->segment[i];
        op_add_sum_squares(dev, opt->sum_squares,
                           gradient_of(part, grads, s->local, s->flat, s->count));
    }
}

/* ---- the update -------------------------------------------------------------------------- */

/* One update's arguments. */
typedef struct {
    Tensor params, grads; /* flat */
    double lr, grad_scale;
    int64_t step;
} Update;

/* Elements [begin, end) of the shard vector, all in one tensor, with their state in `at`, whose
 * first element is number `origin` of the shard. */
static void update_run(const AdamW *opt, Device *dev, const Update *u, const Segment *s,
                       const AdamwVectors *at, int64_t origin, int64_t begin, int64_t end)
{
    const OptimConfig *hyper = opt->hyper;
    int64_t n = end - begin, flat = s->flat + begin - s->local;
    bool decay = opt->shard->layout->param[s->param].decay;
    const AdamwArgs args = {
        .param = tensor_range(u->params, flat, n),
        .master = opt->form.master != MASTER_NONE ? tensor_range(at->master, begin - origin, n)
                                                  : tensor_none(),
        .m = tensor_range(at->m, begin - origin, n),
        .v = tensor_range(at->v, begin - origin, n),
        .grad = gradient_of(opt->shard, u->grads, begin, flat, n),
        .grad_scale = u->grad_scale,
        .lr = u->lr,
        .beta1 = hyper->beta1,
        .beta2 = hyper->beta2,
        .eps = hyper->eps,
        .weight_decay = decay ? hyper->weight_decay : 0.0,
        .step = u->step,
    };
    op_adamw(dev, &args);
}

/* What the segments have of elements [origin, origin + n) of the shard vector; the rest is
 * padding. */
static void update_range(const AdamW *opt, Device *dev, const Update *u, const AdamwVectors *at,
                         int64_t origin, int64_t n)
{
    for (int32_t i = 0; i < opt->shard->n_segments; i++) {
        const Segment *s = &opt->shard->segment[i];
        int64_t begin = s->local > origin ? s->local : origin;
        int64_t end = s->local + s->count;
        if (end > origin + n)
            end = origin + n;
        if (begin < end)
            update_run(opt, dev, u, s, at, origin, begin, end);
    }
}

/* ---- offloaded: chunks of the shard visit the device -------------------------------------- */

typedef struct {
    AdamwVectors device, host;
    int64_t origin, count; /* in the shard vector */
} Chunk;

static AdamwVectors range_of(const AdamwVectors *all, int64_t begin, int64_t n)
{
    return (AdamwVectors){tensor_range(all->m, begin, n), tensor_range(all->v, begin, n),
                          tensor_present(all->master) ? tensor_range(all->master, begin, n)
                                                      : tensor_none()};
}

static Chunk chunk_at(const AdamW *opt, int64_t index)
{
    int64_t most = adamw_chunk_elements(opt), origin = index * most;
    int64_t n = opt->shard->count - origin < most ? opt->shard->count - origin : most;
    return (Chunk){.device = range_of(&opt->chunk[index % 2], 0, n),
                   .host = range_of(&opt->state, origin, n),
                   .origin = origin,
                   .count = n};
}

static void fetch(Device *dev, Chunk chunk)
{
    device_copy_in(dev, chunk.device.m, chunk.host.m.data);
    device_copy_in(dev, chunk.device.v, chunk.host.v.data);
    device_copy_in(dev, chunk.device.master, chunk.host.master.data);
}

static void put_back(Device *dev, Chunk chunk)
{
    device_copy_out(dev, chunk.host.m.data, chunk.device.m);
    device_copy_out(dev, chunk.host.v.data, chunk.device.v);
    device_copy_out(dev, chunk.host.master.data, chunk.device.master);
}

/* While chunk i is updated, i + 1 comes in and i - 1 goes out; i + 1 lies where i - 1 lay, so it
 * waits for that. The first waits for all work so far (its memory may be in use until then), and
 * later work waits for the last. */
static void update_by_chunks(const AdamW *opt, Device *dev, const Update *u)
{
    int64_t most = adamw_chunk_elements(opt);
    int64_t n_chunks = (opt->shard->count + most - 1) / most;
    device_order(dev, QUEUE_IN, QUEUE_WORK);
    fetch(dev, chunk_at(opt, 0));
    for (int64_t i = 0; i < n_chunks; i++) {
        Chunk chunk = chunk_at(opt, i);
        device_order(dev, QUEUE_WORK, QUEUE_IN);
        update_range(opt, dev, u, &chunk.device, chunk.origin, chunk.count);
        if (i + 1 < n_chunks) {
            device_order(dev, QUEUE_IN, QUEUE_OUT);
            fetch(dev, chunk_at(opt, i + 1));
        }
        device_order(dev, QUEUE_OUT, QUEUE_WORK);
        put_back(dev, chunk);
    }
    device_order(dev, QUEUE_WORK, QUEUE_OUT);
}

void adamw_update(AdamW *opt, Device *dev, Tensor params, Tensor grads, double lr,
                  double grad_scale, int64_t step)
{
    const Update update = {params, grads, lr, grad_scale, step};
    ASSERT(step >= 1, "step %lld", (long long)step);
    if (opt->form.offload)
        update_by_chunks(opt, dev, &update);
    else
        update_range(opt, dev, &update, &opt->state, 0, opt->shard->count);
}
