#include "train/tune.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/batch.h"

enum { CACHE_MAX_BYTES = 1 << 24 };

/* ---- what is known already --------------------------------------------------------------- */

/* The cache's text, "" when there is none. */
static Err read_cache(const char *path, char **text)
{
    if (path[0] && path_exists(path))
        return file_read_text(path, CACHE_MAX_BYTES, text, NULL);
    *text = calloc(1, 1);
    return *text ? OK : ERR_NEW(ERR_SYSTEM, "%s: out of memory", path);
}

/* *known = the choices there are, "" when none can be used: they are made anew then. */
static void take_known(Trainer *t, const char *dir, char **known)
{
    Err err = dir[0] ? checkpoint_read_tuning(dir, known) : read_cache(t->tuning_cache, known);
    if (!err)
        err = device_tuning_import(t->dev, *known);
    if (!err)
        return;
    log_say(&t->log, "warning: %s: %s; the algorithms are chosen anew",
            dir[0] ? dir : t->tuning_cache, err_message(err));
    err_free(err);
    free(*known);
    *known = NULL;
}

/* ---- timing ------------------------------------------------------------------------------ */

/* Zeros would flatter a card: it takes less power to multiply them. Small numbers of both signs, a
 * staging buffer of them over and over. */
static Err fill_with_noise(Trainer *t)
{
    Tensor params = t->model.params;
    int64_t n = tensor_count(params);
    int64_t most = (int64_t)(tensor_bytes(t->mem.staging) / sizeof(float));
    float *noise = t->mem.staging.data;
    rng_fill_normal(noise, most, 0.02f, (uint64_t)t->cfg->run.seed, RNG_INIT, 0);
    f32_to_parameters(params.dtype, noise, most);
    for (int64_t done = 0, part; done < n; done += part) {
        part = n - done < most ? n - done : most;
        device_upload(t->dev, tensor_range(params, done, part), noise);
    }
    return device_sync(t->dev);
}

/* Forward and backward of one micro-batch meet every shape of a run. */
static Err run_once(Trainer *t)
{
    TRY(fill_with_noise(t));
    TRY(batch_begin(t));
    for (int64_t row = 0; row < t->plan->shape.micro_batch; row++)
        batch_noise(t, row);
    device_tune(t->dev, true);
    GptBatch batch = batch_upload(t, 0, true);
    double scale = 1.0 / (double)(t->plan->shape.micro_batch * t->plan->shape.n_tokens);
    device_zero(t->dev, t->model.grads);
    device_zero(t->dev, t->model.loss_total);
    gpt2_forward(&t->model, t->dev, &batch);
    gpt2_backward(&t->model, t->dev, &batch, scale, NULL, NULL);
    Err err = device_sync(t->dev);
    device_tune(t->dev, false);
    return err;
}

/* ---- keeping ----------------------------------------------------------------------------- */

/* Is this line, its newline included, one of text's? */
static bool has_line(const char *text, const char *line, size_t n)
{
    for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
        if (strncmp(at, line, n) == 0)
            return true;
        if (!strchr(at, '\n'))
            return false;
    }
    return false;
}

/* What the cache held, of other cards too, and then what is new. NULL: out of memory. */
static char *merge_lines(const char *old, const char *now)
{
    char *merged = malloc(strlen(old) + strlen(now) + 1);
    if (!merged)
        return NULL;
    size_t used = strlen(old);
    memcpy(merged, old, used + 1);
    for (const char *line = now, *end; (end = strchr(line, '\n')); line = end + 1) {
        size_t n = (size_t)(end + 1 - line);
        if (has_line(old, line, n))
            continue;
        memcpy(merged + used, line, n);
        used += n;
        merged[used] = '\0';
    }
    return merged;
}

static Err publish_cache(const char *path, const char *text)
{
    char dir[FILE_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    if (slash && slash > path && slash - path < FILE_PATH_BYTES) {
        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = '\0';
        TRY(dir_make(dir));
    }
    return file_publish(path, text, strlen(text));
}

/* A cache that cannot be written is a pity, no fault. */
static void write_cache(Trainer *t, const char *known)
{
    const char *old = known ? known : "";
    char *merged = merge_lines(old, t->tuning);
    if (merged && strcmp(merged, old) != 0) {
        Err err = publish_cache(t->tuning_cache, merged);
        if (err)
            log_say(&t->log, "warning: the algorithms chosen are not kept: %s", err_message(err));
        err_free(err);
    }
    free(merged);
}

/* ---- all ranks --------------------------------------------------------------------------- */

/* On rank 0: others may share its card. */
static Err tune_mine(Trainer *t, const char *dir)
{
    char *known = NULL;
    take_known(t, dir, &known);
    Err err = run_once(t);
    if (!err)
        err = device_tuning_export(t->dev, &t->tuning);
    if (!err && !dir[0] && t->tuning_cache[0])
        write_cache(t, known);
    free(known);
    return err;
}

/* Rank 0's text reaches all. */
static Err share_text(Trainer *t)
{
    int64_t n_bytes = t->tuning ? (int64_t)strlen(t->tuning) + 1 : 0;
    Err err = OK;
    TRY(comm_broadcast_bytes(t->comm, &n_bytes, sizeof n_bytes, 0));
    if (!t->tuning)
        t->tuning = malloc((size_t)n_bytes);
    if (!t->tuning)
        err = ERR_NEW(ERR_SYSTEM, "out of memory for %lld bytes of tuning", (long long)n_bytes);
    TRY(comm_agree(t->comm, err));
    return comm_broadcast_bytes(t->comm, t->tuning, (size_t)n_bytes, 0);
}

Err tune_device(Trainer *t, const char *dir)
{
    bool is_rank0 = t->comm->rank == 0;
    if (!device_can_tune(t->dev))
        return OK;
    TRY(comm_agree(t->comm, is_rank0 ? tune_mine(t, dir) : OK));
    if (t->comm->world == 1)
        return OK;
    TRY(share_text(t));
    return comm_agree(t->comm, is_rank0 ? OK : device_tuning_import(t->dev, t->tuning));
}
