#include "checkpoint/save.h"

#include <stdlib.h>

#include "base/check.h"
#include "checkpoint/hf.h"
#include "checkpoint/names.h"

/* One float32 vector over all parameters: the optimizer's, in shards; or the parameters themselves,
 * whole on every rank. */
typedef struct {
    const char *prefix; /* of the tensors' names */
    AdamwRole role;
    bool is_params;   /* the parameters, which are float32; role counts for nothing */
    int32_t n_owners; /* 1: rank 0 holds all of it */
} Role;

/* A file being written, on rank 0; on the others only err is used. */
typedef struct {
    SafeWriter *writer; /* NULL: nothing is written (any more) */
    const Layout *layout;
    bool zero_biases; /* the file has biases, the layout has not */
    int32_t param;    /* the next tensor, or the one that is being written */
    Err err;          /* the first failure of this rank; owned */
} Sink;

/* ---- the file's tensors ------------------------------------------------------------------ */

/* tensor (NULL: only count them) = what the roles write, in order. */
static int32_t list_tensors(const Layout *layout, const Role *role, int32_t n_roles,
                            bool zero_biases, SafeTensor *tensor)
{
    int32_t n = 0;
    SafeTensor bias;
    for (int32_t r = 0; r < n_roles; r++) {
        for (int32_t i = 0; i < layout->n_params; i++) {
            const Param *p = &layout->param[i];
            if (tensor)
                tensor[n] = hf_tensor(p, role[r].prefix);
            n++;
            if (!zero_biases || !hf_zero_bias(p, &bias))
                continue;
            if (tensor)
                tensor[n] = bias;
            n++;
        }
    }
    return n;
}

static Err sink_open(Sink *sink, const char *path, const Role *role, int32_t n_roles)
{
    int32_t n = list_tensors(sink->layout, role, n_roles, sink->zero_biases, NULL);
    SafeTensor *tensor = calloc((size_t)n, sizeof *tensor);
    if (!tensor)
        FAIL(ERR_SYSTEM, "%s: out of memory for %d tensor entries", path, n);
    list_tensors(sink->layout, role, n_roles, sink->zero_biases, tensor);
    Err err = safe_create(&sink->writer, path, tensor, n);
    free(tensor);
    return err;
}

static void sink_fail(Sink *sink, Err err)
{
    sink->err = err_first(sink->err, err);
    if (!sink->err)
        return;
    safe_abandon(sink->writer);
    sink->writer = NULL;
}

static Err write_zeros(SafeWriter *writer, int64_t n)
{
    static const float ZEROS[1024];
    const int64_t most = sizeof ZEROS / sizeof *ZEROS;
    for (int64_t done = 0, part; done < n; done += part) {
        part = n - done < most ? n - done : most;
        TRY(safe_write(writer, ZEROS, (size_t)part * sizeof *ZEROS));
    }
    return OK;
}

/* Write what the file wants of the flat elements [flat, flat + n): padding is left out. */
static Err sink_write(Sink *sink, const float *values, int64_t flat, int64_t n)
{
    for (; sink->param < sink->layout->n_params; sink->param++) {
        const Param *p = &sink->layout->param[sink->param];
        int64_t p_end = p->offset + param_file_count(p);
        int64_t begin = p->offset > flat ? p->offset : flat;
        int64_t end = p_end < flat + n ? p_end : flat + n;
        SafeTensor bias;
        if (begin < end)
            TRY(safe_write(sink->writer, values + (begin - flat),
                           (size_t)(end - begin) * sizeof *values));
        if (flat + n < p_end)
            return OK; /* the rest is in a later piece */
        if (sink->zero_biases && hf_zero_bias(p, &bias))
            TRY(write_zeros(sink->writer, bias.dim[0]));
    }
    return OK;
}

/* ---- moving slices ----------------------------------------------------------------------- */

/* staging = elements [begin, begin + n) of the role's vector here. */
static Err fetch(const CheckpointState *s, const Role *role, int64_t begin, int64_t n)
{
    Tensor params = s->model->params;
    if (!role->is_params)
        return adamw_read(s->optim, s->dev, role->role, params, begin, n, s->staging.data);
    ASSERT(params.dtype == DTYPE_F32, "files hold float32");
    device_download(s->dev, s->staging.data, tensor_range(params, begin, n));
    return device_sync(s->dev);
}

/* One owner's slice of a bucket to rank 0 and into the file. An Err is the end of communication. */
static Err stream_slice(const CheckpointState *s, const Role *role, int32_t bucket, int32_t owner,
                        Sink *sink)
{
    const Bucket *b = &s->model->layout->bucket[bucket];
    const int64_t slice = b->count / role->n_owners, local = b->offset / role->n_owners;
    const int64_t most = (int64_t)(tensor_bytes(s->staging) / sizeof(float));
    for (int64_t done = 0, n; done < slice; done += n) {
        n = slice - done < most ? slice - done : most;
        if (s->comm->rank == owner)
            sink_fail(sink, fetch(s, role, local + done, n));
        TRY(comm_send_host(s->comm, s->staging.data, (size_t)n * sizeof(float), owner, 0));
        if (sink->writer)
            sink_fail(sink, sink_write(sink, s->staging.data, b->offset + owner * slice + done, n));
    }
    return OK;
}

static Err stream_role(const CheckpointState *s, const Role *role, Sink *sink)
{
    sink->param = 0;
    for (int32_t bucket = 0; bucket < s->model->layout->n_buckets; bucket++)
        for (int32_t owner = 0; owner < role->n_owners; owner++)
            TRY(stream_slice(s, role, bucket, owner, sink));
    return OK;
}

static Err save_roles(const CheckpointState *s, const char *dir, const char *name, const Role *role,
                      int32_t n_roles, bool zero_biases, FileDigest *digest)
{
    char path[FILE_PATH_BYTES];
    Sink sink = {.layout = s->model->layout, .zero_biases = zero_biases};
    Err broken = OK;
    TRY(path_join(path, dir, name));
    if (s->comm->rank == 0)
        sink_fail(&sink, sink_open(&sink, path, role, n_roles));
    for (int32_t r = 0; r < n_roles && !broken; r++)
        broken = stream_role(s, &role[r], &sink);
    if (broken) {
        sink_fail(&sink, broken);
        return sink.err;
    }
    if (sink.writer)
        sink.err = safe_finish(sink.writer, digest);
    return comm_agree(s->comm, sink.err);
}

Err save_model(const CheckpointState *s, const char *dir, FileDigest *digest)
{
    activity_do(s->comm->activity, "write model.safetensors", ACTIVITY_NO_INDEX);
    bool has_master = s->optim->form.master != MASTER_NONE;
    const Role weights = {.prefix = "",
                          .role = ADAMW_MASTER,
                          .is_params = !has_master,
                          .n_owners = has_master ? s->optim->shard->world : 1};
    return save_roles(s, dir, MODEL_NAME, &weights, 1, !s->model->dims.bias, digest);
}

Err save_optimizer(const CheckpointState *s, const char *dir, FileDigest *digest)
{
    activity_do(s->comm->activity, "write optimizer.safetensors", ACTIVITY_NO_INDEX);
    int32_t world = s->optim->shard->world;
    const Role role[] = {{EXP_AVG_PREFIX, ADAMW_M, false, world},
                         {EXP_AVG_SQ_PREFIX, ADAMW_V, false, world}};
    return save_roles(s, dir, OPTIMIZER_NAME, role, 2, false, digest);
}
