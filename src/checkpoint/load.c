/* Loading: the tensors of a checkpoint directory into this rank's memory, whatever world wrote
 * them. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/hf.h"
#include "checkpoint/names.h"
#include "checkpoint/record.h"

/* ---- shapes ------------------------------------------------------------------------------ */

Err checkpoint_read_dims(const char *dir, GptDims *dims)
{
    char config[FILE_PATH_BYTES], trainer[FILE_PATH_BYTES];
    TRY(path_join(config, dir, CONFIG_NAME));
    TRY(path_join(trainer, dir, TRAINER_NAME));
    TRY(hf_config_read(config, dims));
    return path_exists(trainer) ? record_read_bias(trainer, &dims->bias) : OK;
}

/* "n_layer is 4 in DIR, 6 in this run" */
static Err same_number(const char *dir, const char *key, int64_t file, int64_t run)
{
    if (file != run)
        FAIL(ERR_DATA,
             "%s: %s is %lld in the checkpoint, %lld in this run: set %s = %lld to use it", dir,
             key, (long long)file, (long long)run, key, (long long)file);
    return OK;
}

static Err same_word(const char *dir, const char *key, const char *file, const char *run)
{
    if (strcmp(file, run) != 0)
        FAIL(ERR_DATA, "%s: %s is %s in the checkpoint, %s in this run: set %s = %s to use it", dir,
             key, file, run, key, file);
    return OK;
}

static const char *gelu_name(GeluKind kind)
{
    return kind == GELU_ERF ? "erf" : "tanh";
}

/* Another vocabulary is other data, most often: a setting would make its ids mean other texts. */
static Err same_vocabulary(const char *dir, int64_t file, int64_t run)
{
    if (file != run)
        FAIL(ERR_DATA,
             "%s: vocab_size is %lld in the checkpoint, %lld in this run: give the dataset whose "
             "tokens it was trained on (vocab_size = %lld only where the ids mean the same)",
             dir, (long long)file, (long long)run, (long long)file);
    return OK;
}

/* All that changes what the weights mean; dropout does not, nor do positions that are not used. */
static Err check_dims(const char *dir, const GptDims *run, GptDims *file)
{
    TRY(checkpoint_read_dims(dir, file));
    TRY(same_number(dir, "n_layer", file->n_layer, run->n_layer));
    TRY(same_number(dir, "n_head", file->n_head, run->n_head));
    TRY(same_number(dir, "n_embd", file->n_embd, run->n_embd));
    TRY(same_vocabulary(dir, file->vocab_size, run->vocab_size));
    if (file->block_size < run->block_size)
        TRY(same_number(dir, "block_size", file->block_size, run->block_size));
    return same_word(dir, "gelu", gelu_name(file->gelu), gelu_name(run->gelu));
}

/* To go on, positions and biases must be the same, too: AdamW has moments for each. */
static Err check_resumable(const char *dir, const GptDims *run)
{
    GptDims file;
    TRY(check_dims(dir, run, &file));
    TRY(same_number(dir, "block_size", file.block_size, run->block_size));
    return same_word(dir, "bias", file.bias ? "true" : "false", run->bias ? "true" : "false");
}

/* ---- moving values ----------------------------------------------------------------------- */

/* Where values pass through on their way to the device. */
typedef struct {
    Device *dev;
    float *staging;
    int64_t n_staging; /* elements */
} Path;

/* Elements [from, from + n) of w to elements [to, to + n) of params, rounded. */
static Err move_to_params(const Path *path, const Weight *w, int64_t from, Tensor params,
                          int64_t to, int64_t n)
{
    for (int64_t done = 0, part; done < n; done += part) {
        part = n - done < path->n_staging ? n - done : path->n_staging;
        weight_read_f32(w, from + done, part, path->staging);
        f32_to_parameters(params.dtype, path->staging, part);
        device_upload(path->dev, tensor_range(params, to + done, part), path->staging);
        TRY(device_sync(path->dev)); /* staging is free again */
    }
    return OK;
}

/* The same to a shard vector of the optimizer. */
static Err move_to_shard(const Path *path, const Weight *w, int64_t from, AdamW *optim,
                         AdamwRole role, int64_t to, int64_t n)
{
    for (int64_t done = 0, part; done < n; done += part) {
        part = n - done < path->n_staging ? n - done : path->n_staging;
        weight_read_f32(w, from + done, part, path->staging);
        TRY(adamw_write(optim, path->dev, role, to + done, part, path->staging));
    }
    return OK;
}

/* The whole flat vector, padding zero. */
static Err load_params(const Path *path, const Weight *weight, const Layout *layout, Tensor params)
{
    device_zero(path->dev, params);
    for (int32_t i = 0; i < layout->n_params; i++) {
        const Param *p = &layout->param[i];
        TRY(move_to_params(path, &weight[i], 0, params, p->offset, param_file_count(p)));
    }
    return OK;
}

/* What this rank owns; padding stays as it is. */
static Err load_shard(const Path *path, const Weight *weight, AdamW *optim, AdamwRole role)
{
    for (int32_t i = 0; i < optim->shard->n_segments; i++) {
        const Segment *s = &optim->shard->segment[i];
        TRY(move_to_shard(path, &weight[s->param], s->within, optim, role, s->local, s->count));
    }
    return OK;
}

/* ---- the files --------------------------------------------------------------------------- */

static Err new_table(const Layout *layout, Weight **table)
{
    *table = calloc((size_t)layout->n_params, sizeof **table);
    if (!*table)
        FAIL(ERR_SYSTEM, "out of memory for a table of %d tensors", layout->n_params);
    return OK;
}

/* A table of where each parameter's values are. Both are released whatever comes back. */
static Err open_model(const char *dir, const GptDims *dims, const Layout *layout, Weights *weights,
                      Weight **found)
{
    TRY(new_table(layout, found));
    TRY(weights_open(weights, dir));
    return hf_match(weights, dir, dims, layout, *found);
}

/* optim NULL: the weights of a model that is not trained further. */
static Err load_model(const Path *path, const char *dir, GPT2 *model, AdamW *optim)
{
    Err err;
    Weights weights = {0};
    Weight *found = NULL;
    TRY_GOTO(err, done, open_model(dir, &model->dims, model->layout, &weights, &found));
    TRY_GOTO(err, done, load_params(path, found, model->layout, model->params));
    if (optim && optim->form.master != MASTER_NONE)
        TRY_GOTO(err, done, load_shard(path, found, optim, ADAMW_MASTER));
done:
    weights_close(&weights);
    free(found);
    return err;
}

/* found[i] = the state of parameter i under this prefix. */
static Err find_state(const WeightFile *file, const char *prefix, const Layout *layout,
                      Weight *found)
{
    for (int32_t i = 0; i < layout->n_params; i++) {
        SafeTensor wanted = hf_tensor(&layout->param[i], prefix);
        const SafeTensor *t = safe_find(&file->safe, wanted.name);
        if (!t)
            FAIL(ERR_DATA, "%s: tensor %s is missing", file->path, wanted.name);
        TRY(hf_check_shape(file->path, t, &wanted));
        found[i] = (Weight){file, t};
    }
    return OK;
}

static Err load_optimizer(const Path *path, const char *dir, const Layout *layout, AdamW *optim)
{
    Err err;
    char name[FILE_PATH_BYTES];
    WeightFile file = {.path = name};
    Weight *found = NULL;
    TRY(path_join(name, dir, OPTIMIZER_NAME));
    TRY_GOTO(err, done, new_table(layout, &found));
    TRY_GOTO(err, done, safe_open(&file.safe, name));
    TRY_GOTO(err, done, find_state(&file, EXP_AVG_PREFIX, layout, found));
    TRY_GOTO(err, done, load_shard(path, found, optim, ADAMW_M));
    TRY_GOTO(err, done, find_state(&file, EXP_AVG_SQ_PREFIX, layout, found));
    TRY_GOTO(err, done, load_shard(path, found, optim, ADAMW_V));
    if (file.safe.n_tensors != 2 * layout->n_params)
        err = ERR_NEW(ERR_DATA, "%s: %d tensors, wanted %d", name, file.safe.n_tensors,
                      2 * layout->n_params);
done:
    safe_close(&file.safe);
    free(found);
    return err;
}

static Err load_mine(const CheckpointState *state, const char *dir, Progress *progress)
{
    char trainer[FILE_PATH_BYTES];
    const Path path = {state->dev, state->staging.data,
                       (int64_t)(tensor_bytes(state->staging) / sizeof(float))};
    TRY(path_join(trainer, dir, TRAINER_NAME));
    TRY(check_resumable(dir, &state->model->dims));
    TRY(record_read(trainer, progress));
    TRY(adamw_reset(state->optim, state->dev)); /* the padding */
    TRY(load_model(&path, dir, state->model, state->optim));
    return load_optimizer(&path, dir, state->model->layout, state->optim);
}

/* ---- looking only ------------------------------------------------------------------------ */

Err checkpoint_check(const char *dir, const GptDims *run, bool resumes)
{
    GptDims file;
    Layout layout;
    Weights weights = {0};
    Weight *found = NULL;
    TRY(resumes ? check_resumable(dir, run) : check_dims(dir, run, &file));
    TRY(layout_make(&layout, run, 1, 128));
    Err err = open_model(dir, run, &layout, &weights, &found);
    weights_close(&weights);
    free(found);
    layout_free(&layout);
    return err;
}

/* ---- loading ----------------------------------------------------------------------------- */

Err checkpoint_read_cut(const char *dir, StepCut *cut)
{
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, TRAINER_NAME));
    return record_read_cut(path, cut);
}

Err checkpoint_read_tuning(const char *dir, char **text)
{
    enum { MAX_BYTES = 1 << 24 };
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, dir, TUNING_NAME));
    if (path_exists(path))
        return file_read_text(path, MAX_BYTES, text, NULL);
    *text = calloc(1, 1);
    return *text ? OK : ERR_NEW(ERR_SYSTEM, "%s: out of memory", path);
}

Err checkpoint_load(const CheckpointState *state, const char *dir, Progress *progress)
{
    return comm_agree(state->comm, load_mine(state, dir, progress));
}

Err checkpoint_load_weights(const char *dir, GPT2 *model, AdamW *optim, Device *dev)
{
    enum { STAGING_BYTES = 1 << 20 };
    GptDims file;
    TRY(check_dims(dir, &model->dims, &file));
    Path path = {dev, malloc(STAGING_BYTES), STAGING_BYTES / sizeof(float)};
    if (!path.staging)
        FAIL(ERR_SYSTEM, "%s: out of memory for a buffer of %d bytes", dir, STAGING_BYTES);
    Err err = optim ? adamw_reset(optim, dev) : OK;
    if (!err)
        err = load_model(&path, dir, model, optim);
    free(path.staging);
    return err;
}
