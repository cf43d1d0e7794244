/* The directories of checkpoints in an out_dir: what there is, what is whole, what goes. */
#include "checkpoint/folder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/manifest.h"
#include "checkpoint/names.h"
#include "checkpoint/record.h"

static const char *const PREFIX[] = {
    [FOLDER_STEP] = "step_", [FOLDER_TEMPORARY] = ".tmp_step_", [FOLDER_ASIDE] = ".old_step_"};

Err folder_path(char *out, const char *out_dir, FolderKind kind, int64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "%s%08lld", PREFIX[kind], (long long)step);
    return path_join(out, out_dir, name);
}

/* "step_00000012" is 12 of FOLDER_STEP; -1 for other names. */
static int64_t step_of(const char *name, FolderKind kind)
{
    const size_t n_prefix = strlen(PREFIX[kind]);
    if (strncmp(name, PREFIX[kind], n_prefix) != 0)
        return -1;
    const char *digits = name + n_prefix;
    size_t n = strlen(digits);
    if (n < 8 || n > 18 || strspn(digits, "0123456789") != n)
        return -1;
    return strtoll(digits, NULL, 10);
}

/* ---- what there is ----------------------------------------------------------------------- */

static int newest_first(const void *a, const void *b)
{
    const CheckpointEntry *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? 1 : -1;
    return (int)x->aside - (int)y->aside;
}

Err checkpoint_entry_path(char *out, const char *out_dir, const CheckpointEntry *entry)
{
    return folder_path(out, out_dir, entry->aside ? FOLDER_ASIDE : FOLDER_STEP, entry->step);
}

/* A set-aside directory counts only where its step has no other. */
static void drop_replaced(CheckpointList *list)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < list->n; i++)
        if (kept == 0 || list->item[kept - 1].step != list->item[i].step)
            list->item[kept++] = list->item[i];
    list->n = kept;
}

void checkpoint_list_free(CheckpointList *list)
{
    free(list->item);
    *list = (CheckpointList){0};
}

Err checkpoint_list(const char *out_dir, CheckpointList *list)
{
    char **name;
    int32_t n;
    *list = (CheckpointList){0};
    if (!path_is_dir(out_dir))
        return OK;
    TRY(dir_list(out_dir, &name, &n));
    list->item = calloc((size_t)n + 1, sizeof *list->item);
    for (int32_t i = 0; i < n && list->item; i++) {
        int64_t step = step_of(name[i], FOLDER_STEP), aside = step_of(name[i], FOLDER_ASIDE);
        if (step >= 0 || aside >= 0)
            list->item[list->n++] =
                step >= 0 ? (CheckpointEntry){step, false} : (CheckpointEntry){aside, true};
    }
    dir_list_free(name, n);
    if (!list->item)
        FAIL(ERR_SYSTEM, "%s: out of memory for a list of %d names", out_dir, n);
    if (list->n > 0)
        qsort(list->item, (size_t)list->n, sizeof *list->item, newest_first);
    drop_replaced(list);
    return OK;
}

/* Is `name` in out_dir what a crash left? */
static Err is_leaving(const char *out_dir, const char *name, bool *leaving)
{
    char whole[FILE_PATH_BYTES];
    int64_t aside = step_of(name, FOLDER_ASIDE);
    *leaving = step_of(name, FOLDER_TEMPORARY) >= 0;
    if (aside < 0)
        return OK;
    TRY(folder_path(whole, out_dir, FOLDER_STEP, aside));
    *leaving = path_is_taken(whole); /* as drop_replaced does, by the name alone */
    return OK;
}

static Err remove_leaving(const char *out_dir, const char *name)
{
    char path[FILE_PATH_BYTES];
    bool leaving;
    TRY(is_leaving(out_dir, name, &leaving));
    if (!leaving)
        return OK;
    TRY(path_join(path, out_dir, name));
    return dir_remove(path);
}

Err folder_remove_leavings(const char *out_dir)
{
    char **name;
    int32_t n;
    Err err = OK;
    TRY(dir_list(out_dir, &name, &n));
    for (int32_t i = 0; i < n; i++)
        err = err_first(err, remove_leaving(out_dir, name[i]));
    dir_list_free(name, n);
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

/* checkpoint_verify with of the bytes no more than about most_bytes. */
static Err verify_sample(const char *dir, size_t most_bytes, CheckpointSample *sample)
{
    Manifest manifest;
    TRY(manifest_read(&manifest, dir));
    sample->n_bytes = manifest_bytes(&manifest);
    Err err = require_files(&manifest, dir);
    if (!err)
        err = manifest_check_sample(&manifest, dir, most_bytes, &sample->n_read);
    manifest_free(&manifest);
    return err;
}

Err checkpoint_verify(const char *dir)
{
    CheckpointSample all;
    return verify_sample(dir, SIZE_MAX, &all);
}

Err checkpoint_find_sampled(const char *out_dir, size_t most_bytes, bool *found, char *dir,
                            CheckpointSample *sample)
{
    CheckpointList list;
    *found = false;
    Err err = checkpoint_list(out_dir, &list);
    for (int32_t i = 0; i < list.n && !err && !*found; i++) {
        TRY_GOTO(err, done, checkpoint_entry_path(dir, out_dir, &list.item[i]));
        Err damage = verify_sample(dir, most_bytes, sample);
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
    checkpoint_list_free(&list);
    return err;
}

/* On rank 0. */
static Err find_mine(const char *out_dir, bool *found, char *dir)
{
    CheckpointSample all;
    return checkpoint_find_sampled(out_dir, SIZE_MAX, found, dir, &all);
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
    CheckpointList list;
    TRY(checkpoint_list(out_dir, &list));
    *found = list.n > 0;
    Err err = *found ? checkpoint_entry_path(dir, out_dir, &list.item[0]) : OK;
    checkpoint_list_free(&list);
    return err;
}

/* ---- pruning ----------------------------------------------------------------------------- */

/* Renamed first, so that a crash half way leaves nothing that looks like a checkpoint. */
static Err remove_checkpoint(const char *out_dir, const CheckpointEntry *found)
{
    char path[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES];
    TRY(checkpoint_entry_path(path, out_dir, found));
    TRY(folder_path(temporary, out_dir, FOLDER_TEMPORARY, found->step));
    TRY(dir_remove(temporary));
    TRY(path_rename(path, temporary));
    return dir_remove(temporary);
}

/* Was it saved where its run had evaluated best so far? What cannot be read was not. */
static Err is_best(const char *out_dir, const CheckpointEntry *entry, bool *best)
{
    char dir[FILE_PATH_BYTES], record[FILE_PATH_BYTES];
    Progress progress;
    TRY(checkpoint_entry_path(dir, out_dir, entry));
    TRY(path_join(record, dir, TRAINER_NAME));
    Err err = record_read(record, &progress);
    *best = !err && isfinite(progress.best_val_loss) && progress.best_step == entry->step;
    if (err_code(err) == ERR_SYSTEM)
        return err;
    err_free(err);
    return OK;
}

/* The newest that is_best, for the best loss of a run only falls; -1: none. */
static Err best_step(const char *out_dir, const CheckpointList *list, int64_t *step)
{
    bool best = false;
    *step = -1;
    for (int32_t i = 0; i < list->n && !best; i++) {
        TRY(is_best(out_dir, &list->item[i], &best));
        if (best)
            *step = list->item[i].step;
    }
    return OK;
}

/* What is not kept, the oldest first. */
static Err remove_older(const char *out_dir, const CheckpointList *list, const CheckpointKeep *keep)
{
    int64_t best = -1;
    if (keep->best)
        TRY(best_step(out_dir, list, &best));
    for (int32_t i = list->n - 1; i >= keep->newest; i--) {
        const CheckpointEntry *entry = &list->item[i];
        bool kept = keep->every > 0 && entry->step % keep->every == 0;
        if (!kept && entry->step != best)
            TRY(remove_checkpoint(out_dir, entry));
    }
    return OK;
}

/* *n = how many of the newest are damaged: they keep nothing else from being kept, and count for
 * nothing. All: none is whole. */
static Err skip_damaged(const char *out_dir, const CheckpointList *list, int64_t verified_step,
                        int32_t *n)
{
    for (*n = 0; *n < list->n && list->item[*n].step != verified_step; ++*n) {
        char dir[FILE_PATH_BYTES];
        TRY(checkpoint_entry_path(dir, out_dir, &list->item[*n]));
        Err damage = checkpoint_verify(dir);
        if (!damage)
            return OK;
        if (err_code(damage) == ERR_SYSTEM) /* ours, not the directory's */
            return damage;
        fprintf(stderr, "checkpoint %s is damaged and counts for nothing: %s\n", dir,
                err_message(damage));
        err_free(damage);
    }
    return OK;
}

static Err prune_list(const char *out_dir, const CheckpointList *list, const CheckpointKeep *keep,
                      int64_t verified_step)
{
    int32_t n_damaged = 0;
    if (keep->newest == 0 || list->n <= keep->newest)
        return OK;
    TRY(skip_damaged(out_dir, list, verified_step, &n_damaged));
    const CheckpointList whole = {.item = list->item + n_damaged, .n = list->n - n_damaged};
    return remove_older(out_dir, &whole, keep);
}

Err folder_prune(const char *out_dir, const CheckpointKeep *keep, int64_t verified_step)
{
    CheckpointList list;
    TRY(checkpoint_list(out_dir, &list));
    Err err = prune_list(out_dir, &list, keep, verified_step);
    checkpoint_list_free(&list);
    return err;
}

Err checkpoint_prune(Comm *comm, const char *out_dir, CheckpointKeep keep)
{
    return comm_agree(comm, comm->rank == 0 ? folder_prune(out_dir, &keep, -1) : OK);
}
