#include "checkpoint/save.h"

#include <stdlib.h>
#include <string.h>

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

enum { MAX_ROLES = 2 };

/* A file of tensors. */
typedef struct {
    const char *name;
    Role role[MAX_ROLES];
    int32_t n_roles;
    bool zero_biases; /* the file has biases, the layout has not */
} TensorFile;

/* Where the tensors of a file go, on rank 0: the file or memory; on the others only err is used. */
typedef struct {
    SafeWriter *writer; /* NULL: no file is written (any more) */
    uint8_t *memory;    /* where the next bytes go; NULL: there is none */
    const Layout *layout;
    bool zero_biases; /* as of the file */
    int32_t param;    /* the next tensor, or the one that is being written */
    Err err;          /* the first failure of this rank; owned */
} Sink;

/* ---- the file's tensors ------------------------------------------------------------------ */

static TensorFile model_file(const CheckpointState *s)
{
    bool has_master = s->optim->form.master != MASTER_NONE;
    const Role weights = {.prefix = "",
                          .role = ADAMW_MASTER,
                          .is_params = !has_master,
                          .n_owners = has_master ? s->optim->shard->world : 1};
    return (TensorFile){
        .name = MODEL_NAME, .role = {weights}, .n_roles = 1, .zero_biases = !s->model->dims.bias};
}

static TensorFile optimizer_file(const CheckpointState *s)
{
    int32_t world = s->optim->shard->world;
    return (TensorFile){.name = OPTIMIZER_NAME,
                        .role = {{EXP_AVG_PREFIX, ADAMW_M, false, world},
                                 {EXP_AVG_SQ_PREFIX, ADAMW_V, false, world}},
                        .n_roles = 2};
}

/* tensor (NULL: only count them) = what the file holds, in order. */
static int32_t list_tensors(const Layout *layout, const TensorFile *file, SafeTensor *tensor)
{
    int32_t n = 0;
    SafeTensor bias;
    for (int32_t r = 0; r < file->n_roles; r++) {
        for (int32_t i = 0; i < layout->n_params; i++) {
            const Param *p = &layout->param[i];
            if (tensor)
                tensor[n] = hf_tensor(p, file->role[r].prefix);
            n++;
            if (!file->zero_biases || !hf_zero_bias(p, &bias))
                continue;
            if (tensor)
                tensor[n] = bias;
            n++;
        }
    }
    return n;
}

/* Of the file's tensors, without its header. */
static size_t data_bytes(const Layout *layout, const TensorFile *file)
{
    int64_t n = 0;
    SafeTensor bias;
    for (int32_t i = 0; i < layout->n_params; i++) {
        const Param *p = &layout->param[i];
        n += param_file_count(p);
        if (file->zero_biases && hf_zero_bias(p, &bias))
            n += bias.dim[0];
    }
    return (size_t)(n * file->n_roles) * sizeof(float);
}

static Err create_file(SafeWriter **writer, const char *dir, const Layout *layout,
                       const TensorFile *file)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, file->name));
    int32_t n = list_tensors(layout, file, NULL);
    SafeTensor *tensor = calloc((size_t)n, sizeof *tensor);
    if (!tensor)
        FAIL(ERR_SYSTEM, "%s: out of memory for %d tensor entries", path, n);
    list_tensors(layout, file, tensor);
    Err err = safe_create(writer, path, tensor, n);
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
    sink->memory = NULL;
}

static Err put(Sink *sink, const void *data, size_t n_bytes)
{
    if (sink->writer)
        return safe_write(sink->writer, data, n_bytes);
    memcpy(sink->memory, data, n_bytes);
    sink->memory += n_bytes;
    return OK;
}

static Err put_zeros(Sink *sink, int64_t n)
{
    static const float ZEROS[1024];
    const int64_t most = sizeof ZEROS / sizeof *ZEROS;
    for (int64_t done = 0, part; done < n; done += part) {
        part = n - done < most ? n - done : most;
        TRY(put(sink, ZEROS, (size_t)part * sizeof *ZEROS));
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
            TRY(put(sink, values + (begin - flat), (size_t)(end - begin) * sizeof *values));
        if (flat + n < p_end)
            return OK; /* the rest is in a later piece */
        if (sink->zero_biases && hf_zero_bias(p, &bias))
            TRY(put_zeros(sink, bias.dim[0]));
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
        if (sink->writer || sink->memory)
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

/* All roles of a file into the sink. Ends in no agreement: an Err is the end of communication. */
static Err stream_file(const CheckpointState *s, const TensorFile *file, Sink *sink)
{
    for (int32_t r = 0; r < file->n_roles; r++)
        TRY(stream_role(s, &file->role[r], sink));
    return OK;
}

/* ---- to a file --------------------------------------------------------------------------- */

static Err save_file(const CheckpointState *s, const char *dir, const TensorFile *file,
                     FileDigest *digest)
{
    Sink sink = {.layout = s->model->layout, .zero_biases = file->zero_biases};
    if (s->comm->rank == 0)
        sink_fail(&sink, create_file(&sink.writer, dir, s->model->layout, file));
    Err broken = stream_file(s, file, &sink);
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
    const TensorFile file = model_file(s);
    activity_do(s->comm->activity, "write model.safetensors", ACTIVITY_NO_INDEX);
    return save_file(s, dir, &file, digest);
}

Err save_optimizer(const CheckpointState *s, const char *dir, FileDigest *digest)
{
    const TensorFile file = optimizer_file(s);
    activity_do(s->comm->activity, "write optimizer.safetensors", ACTIVITY_NO_INDEX);
    return save_file(s, dir, &file, digest);
}

/* ---- to memory, and from there to files -------------------------------------------------- */

size_t save_tensor_bytes(const CheckpointState *s)
{
    const TensorFile model = model_file(s), optimizer = optimizer_file(s);
    return data_bytes(s->model->layout, &model) + data_bytes(s->model->layout, &optimizer);
}

static Err copy_file(const CheckpointState *s, const TensorFile *file, uint8_t *memory)
{
    Sink sink = {.memory = memory, .layout = s->model->layout, .zero_biases = file->zero_biases};
    Err broken = stream_file(s, file, &sink);
    if (broken) {
        sink_fail(&sink, broken);
        return sink.err;
    }
    return comm_agree(s->comm, sink.err);
}

Err save_copy(const CheckpointState *s, void *memory)
{
    const TensorFile model = model_file(s), optimizer = optimizer_file(s);
    const size_t n_model = data_bytes(s->model->layout, &model);
    activity_do(s->comm->activity, "copy the weights", ACTIVITY_NO_INDEX);
    TRY(copy_file(s, &model, memory));
    activity_do(s->comm->activity, "copy the optimizer's state", ACTIVITY_NO_INDEX);
    return copy_file(s, &optimizer, memory ? (uint8_t *)memory + n_model : NULL);
}

static Err write_file(const CheckpointState *s, const char *dir, const TensorFile *file,
                      const void *memory, FileDigest *digest)
{
    SafeWriter *writer;
    TRY(create_file(&writer, dir, s->model->layout, file));
    Err err = safe_write(writer, memory, data_bytes(s->model->layout, file));
    if (!err)
        return safe_finish(writer, digest);
    safe_abandon(writer);
    return err;
}

Err save_copied_model(const CheckpointState *s, const char *dir, const void *memory,
                      FileDigest *digest)
{
    const TensorFile file = model_file(s);
    return write_file(s, dir, &file, memory, digest);
}

Err save_copied_optimizer(const CheckpointState *s, const char *dir, const void *memory,
                          FileDigest *digest)
{
    const TensorFile model = model_file(s), file = optimizer_file(s);
    const size_t n_model = data_bytes(s->model->layout, &model);
    return write_file(s, dir, &file, (const uint8_t *)memory + n_model, digest);
}
