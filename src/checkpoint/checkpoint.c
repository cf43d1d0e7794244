/* Checkpoint directories: how one appears, which is chosen, when one goes.
 *
 * What keeps them safe:
 *
 *   - step_N: under this name a directory is whole. It got the name by one rename, after every file
 *     and the directory itself were synced.
 *   - .tmp_step_N: being written or being deleted. Nobody reads it; the next save removes it.
 *   - .old_step_N: step_N set aside while another step_N takes its place. Whole too: after a crash
 *     between the two renames it counts as step_N. Removed once there is a step_N. */
#include "checkpoint/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "checkpoint/doc.h"
#include "checkpoint/hf.h"
#include "checkpoint/manifest.h"
#include "checkpoint/names.h"
#include "checkpoint/record.h"
#include "checkpoint/save.h"

static const char STEP[] = "step_", TEMPORARY[] = ".tmp_step_", ASIDE[] = ".old_step_";

/* out (FILE_PATH_BYTES) = out_dir/step_00000012, or the same with another prefix. */
static Err step_path(char *out, const char *out_dir, const char *prefix, int64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "%s%08lld", prefix, (long long)step);
    return path_join(out, out_dir, name);
}

/* "step_00000012" with prefix "step_" is 12; -1 for other names. */
static int64_t step_of(const char *name, const char *prefix)
{
    const size_t n_prefix = strlen(prefix);
    if (strncmp(name, prefix, n_prefix) != 0)
        return -1;
    const char *digits = name + n_prefix;
    size_t n = strlen(digits);
    if (n < 8 || n > 18 || strspn(digits, "0123456789") != n)
        return -1;
    return strtoll(digits, NULL, 10);
}

/* ---- what there is ----------------------------------------------------------------------- */

typedef struct {
    int64_t step;
    bool aside; /* .old_step_N without a step_N */
} Found;

typedef struct {
    Found *item; /* newest first; owned */
    int32_t n;
} FoundList;

static int newest_first(const void *a, const void *b)
{
    const Found *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? 1 : -1;
    return (int)x->aside - (int)y->aside;
}

static Err found_path(char *out, const char *out_dir, const Found *found)
{
    return step_path(out, out_dir, found->aside ? ASIDE : STEP, found->step);
}

/* A set-aside directory counts only where its step has no other. */
static void drop_replaced(FoundList *list)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < list->n; i++)
        if (kept == 0 || list->item[kept - 1].step != list->item[i].step)
            list->item[kept++] = list->item[i];
    list->n = kept;
}

static Err list_found(const char *out_dir, FoundList *list)
{
    char **name;
    int32_t n;
    *list = (FoundList){0};
    if (!path_is_dir(out_dir))
        return OK;
    TRY(dir_list(out_dir, &name, &n));
    list->item = calloc((size_t)n + 1, sizeof *list->item);
    for (int32_t i = 0; i < n && list->item; i++) {
        int64_t step = step_of(name[i], STEP), aside = step_of(name[i], ASIDE);
        if (step >= 0 || aside >= 0)
            list->item[list->n++] = step >= 0 ? (Found){step, false} : (Found){aside, true};
    }
    dir_list_free(name, n);
    if (!list->item)
        FAIL(ERR_SYSTEM, "%s: out of memory for a list of %d names", out_dir, n);
    if (list->n > 0)
        qsort(list->item, (size_t)list->n, sizeof *list->item, newest_first);
    drop_replaced(list);
    return OK;
}

/* ---- saving ------------------------------------------------------------------------------ */

typedef struct {
    const CheckpointState *state;
    const Progress *progress;
    const char *out_dir;
    char final[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES], aside[FILE_PATH_BYTES];
    Manifest manifest; /* filled on rank 0 */
} Save;

/* Leavings of a crash: half-written directories, and set-aside ones that were replaced. */
static Err remove_leavings(const char *out_dir)
{
    char **name;
    int32_t n;
    Err err = OK;
    TRY(dir_list(out_dir, &name, &n));
    for (int32_t i = 0; i < n && !err; i++) {
        char path[FILE_PATH_BYTES], whole[FILE_PATH_BYTES];
        int64_t aside = step_of(name[i], ASIDE);
        bool unwanted = step_of(name[i], TEMPORARY) >= 0;
        if (aside >= 0) {
            TRY_GOTO(err, done, step_path(whole, out_dir, STEP, aside));
            unwanted = path_exists(whole);
        }
        TRY_GOTO(err, done, path_join(path, out_dir, name[i]));
        if (unwanted)
            TRY_GOTO(err, done, dir_remove(path));
    }
done:
    dir_list_free(name, n);
    return err;
}

static Err begin_save(const Save *save)
{
    TRY(dir_make(save->out_dir));
    TRY(remove_leavings(save->out_dir));
    return dir_make_new(save->temporary);
}

static Err copy_meta(const char *from, const char *to, FileDigest *digest)
{
    FileMap map;
    TRY(file_map(&map, from));
    FileWriter *w = NULL;
    Err err = file_create(&w, to);
    if (!err)
        err = file_write(w, map.data, map.n_bytes);
    if (err)
        file_abandon(w);
    else
        err = file_close(w, digest);
    file_unmap(&map);
    return err;
}

/* The small files, the manifest last; then nothing in the directory can be lost any more. */
static Err write_texts(Save *save)
{
    const CheckpointState *state = save->state;
    const GptDims *dims = &state->model->dims;
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, save->temporary, CONFIG_NAME));
    TRY(hf_config_write(path, dims, manifest_add(&save->manifest, CONFIG_NAME)));
    TRY(path_join(path, save->temporary, TRAINER_NAME));
    TRY(record_write(path, state->cfg, dims, save->progress, &state->cut,
                     manifest_add(&save->manifest, TRAINER_NAME)));
    if (state->meta_path[0]) {
        TRY(path_join(path, save->temporary, META_NAME));
        TRY(copy_meta(state->meta_path, path, manifest_add(&save->manifest, META_NAME)));
    }
    if (state->tuning && state->tuning[0]) {
        TRY(path_join(path, save->temporary, TUNING_NAME));
        TRY(doc_write_text(path, state->tuning, strlen(state->tuning),
                           manifest_add(&save->manifest, TUNING_NAME)));
    }
    TRY(manifest_write(&save->manifest, save->temporary));
    return dir_sync(save->temporary);
}

/* temporary -> final. Whatever stands there is set aside first and comes back if that fails. */
static Err publish(const Save *save)
{
    bool replaces = path_exists(save->final);
    if (replaces)
        TRY(path_rename(save->final, save->aside));
    Err err = path_rename(save->temporary, save->final);
    bool renamed =
        !path_exists(save->temporary); /* else only the sync that follows can have failed */
    if (replaces && !renamed)
        err = err_first(err, path_rename(save->aside, save->final));
    /* What cannot be removed now is removed by the next save: this one has succeeded. */
    if (!err)
        err_free(dir_remove(save->aside));
    return err;
}

static Err finish_save(Save *save)
{
    TRY(write_texts(save));
    return publish(save);
}

/* To the trainer every fault of a save is a failed write, also a tokenizer file that is gone. */
static Err as_write_fault(Err err)
{
    if (err_code(err) != ERR_MISSING)
        return err;
    Err fault = ERR_NEW(ERR_WRITE, "%s", err_message(err));
    err_free(err);
    return fault;
}

/* Each phase ends in an agreement, so all ranks return from the same place. */
static Err run_save(Save *save)
{
    const CheckpointState *state = save->state;
    const bool acts = state->comm->rank == 0;
    FileDigest *model = manifest_add(&save->manifest, MODEL_NAME);
    FileDigest *optimizer = manifest_add(&save->manifest, OPTIMIZER_NAME);
    TRY(comm_agree(state->comm, acts ? as_write_fault(begin_save(save)) : OK));
    TRY(save_model(state, save->temporary, model));
    TRY(save_optimizer(state, save->temporary, optimizer));
    activity_do(state->comm->activity, "write the manifest and publish", ACTIVITY_NO_INDEX);
    return comm_agree(state->comm, acts ? as_write_fault(finish_save(save)) : OK);
}

Err checkpoint_save(const CheckpointState *state, const Progress *progress)
{
    Save save = {.state = state, .progress = progress, .out_dir = state->cfg->run.out_dir};
    TRY(step_path(save.final, save.out_dir, STEP, progress->step));
    TRY(step_path(save.temporary, save.out_dir, TEMPORARY, progress->step));
    TRY(step_path(save.aside, save.out_dir, ASIDE, progress->step));
    Err err = run_save(&save);
    if (err && state->comm->rank == 0)
        err_free(dir_remove(save.temporary)); /* the first failure is the one to tell */
    manifest_free(&save.manifest);
    return err;
}

/* ---- verifying and finding --------------------------------------------------------------- */

static Err require_files(const Manifest *manifest, const char *dir)
{
    static const char *const REQUIRED[] = {MODEL_NAME, OPTIMIZER_NAME, CONFIG_NAME, TRAINER_NAME};
    for (size_t r = 0; r < sizeof REQUIRED / sizeof *REQUIRED; r++) {
        int32_t i = 0;
        while (i < manifest->n_files && strcmp(manifest->file[i].name, REQUIRED[r]) != 0)
            i++;
        if (i == manifest->n_files)
            FAIL(ERR_DATA, "%s/%s: does not list %s", dir, MANIFEST_NAME, REQUIRED[r]);
    }
    return OK;
}

Err checkpoint_verify(const char *dir)
{
    Manifest manifest;
    TRY(manifest_read(&manifest, dir));
    Err err = require_files(&manifest, dir);
    if (!err)
        err = manifest_check(&manifest, dir);
    manifest_free(&manifest);
    return err;
}

/* The newest directory that verifies, on rank 0. */
static Err find_mine(const char *out_dir, bool *found, char *dir)
{
    FoundList list;
    Err err = list_found(out_dir, &list);
    for (int32_t i = 0; i < list.n && !err && !*found; i++) {
        TRY_GOTO(err, done, found_path(dir, out_dir, &list.item[i]));
        Err damage = checkpoint_verify(dir);
        *found = !damage;
        if (err_code(damage) == ERR_SYSTEM) { /* ours, not the directory's */
            err = damage;
            break;
        }
        if (damage)
            fprintf(stderr, "checkpoint %s is passed over: %s\n", dir, err_message(damage));
        err_free(damage);
    }
done:
    free(list.item);
    return err;
}

Err checkpoint_find(Comm *comm, const char *out_dir, bool *found, char *dir)
{
    struct {
        bool found;
        char dir[FILE_PATH_BYTES];
    } answer = {0};
    TRY(comm_agree(comm, comm->rank == 0 ? find_mine(out_dir, &answer.found, answer.dir) : OK));
    TRY(comm_broadcast_bytes(comm, &answer, sizeof answer, 0));
    *found = answer.found;
    memcpy(dir, answer.found ? answer.dir : "", answer.found ? sizeof answer.dir : 1);
    return OK;
}

Err checkpoint_newest(const char *out_dir, bool *found, char *dir)
{
    FoundList list;
    TRY(list_found(out_dir, &list));
    *found = list.n > 0;
    Err err = *found ? found_path(dir, out_dir, &list.item[0]) : OK;
    free(list.item);
    return err;
}

/* ---- pruning ----------------------------------------------------------------------------- */

/* Renamed first, so that a crash half way leaves nothing that looks like a checkpoint. */
static Err remove_checkpoint(const char *out_dir, const Found *found)
{
    char path[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES];
    TRY(found_path(path, out_dir, found));
    TRY(step_path(temporary, out_dir, TEMPORARY, found->step));
    TRY(dir_remove(temporary));
    TRY(path_rename(path, temporary));
    return dir_remove(temporary);
}

static Err prune_list(const char *out_dir, const FoundList *list, int64_t keep)
{
    char newest[FILE_PATH_BYTES];
    if (keep == 0 || list->n <= keep)
        return OK;
    TRY(found_path(newest, out_dir, &list->item[0]));
    Err damage = checkpoint_verify(newest);
    if (damage) {
        fprintf(stderr, "checkpoint %s is damaged, older ones are kept: %s\n", newest,
                err_message(damage));
        err_free(damage);
        return OK;
    }
    for (int32_t i = list->n; i > keep; i--)
        TRY(remove_checkpoint(out_dir, &list->item[i - 1]));
    return OK;
}

static Err prune_mine(const char *out_dir, int64_t keep)
{
    FoundList list;
    TRY(list_found(out_dir, &list));
    Err err = prune_list(out_dir, &list, keep);
    free(list.item);
    return err;
}

Err checkpoint_prune(Comm *comm, const char *out_dir, int64_t keep)
{
    return comm_agree(comm, comm->rank == 0 ? prune_mine(out_dir, keep) : OK);
}
