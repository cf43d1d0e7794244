#include "checkpoint/protocol.h"

#include <string.h>

#include "base/human.h"
#include "checkpoint/doc.h"
#include "checkpoint/folder.h"
#include "checkpoint/hf.h"
#include "checkpoint/names.h"
#include "checkpoint/record.h"
#include "checkpoint/save.h"

Err save_open(Save *save, const CheckpointState *state, const Progress *progress)
{
    const char *out_dir = state->cfg->run.out_dir;
    *save = (Save){.state = state, .progress = progress, .out_dir = out_dir};
    save->model = manifest_add(&save->manifest, MODEL_NAME);
    save->optimizer = manifest_add(&save->manifest, OPTIMIZER_NAME);
    TRY(folder_path(save->final, out_dir, FOLDER_STEP, progress->step));
    TRY(folder_path(save->temporary, out_dir, FOLDER_TEMPORARY, progress->step));
    return folder_path(save->aside, out_dir, FOLDER_ASIDE, progress->step);
}

void save_close(Save *save)
{
    manifest_free(&save->manifest);
}

/* To the trainer every fault of a save is a failed write, also what does not read back. */
static Err as_write_fault(Err err)
{
    if (err_code(err) != ERR_MISSING && err_code(err) != ERR_DATA)
        return err;
    Err fault = ERR_NEW(ERR_WRITE, "%s", err_message(err));
    err_free(err);
    return fault;
}

/* A file system that cannot tell is believed to have room; and what it tells need not be so: the
 * writes have the last word. */
static Err check_space(const Save *save)
{
    size_t tensors = save_tensor_bytes(save->state), free_bytes;
    if (!dir_free_bytes(save->out_dir, &free_bytes) || free_bytes >= checkpoint_room(tensors))
        return OK;
    FAIL(ERR_WRITE,
         "%s: %s free, a checkpoint takes %s and a tenth more to be safe: make room, or choose an "
         "out_dir with more",
         save->out_dir, human_bytes(free_bytes).text, human_bytes(tensors).text);
}

static Err begin(const Save *save)
{
    TRY(dir_make(save->out_dir));
    /* What cannot be removed does no harm elsewhere: a file in it may be open on a network file
     * system, or it is not ours. */
    err_free(folder_remove_leavings(save->out_dir));
    TRY(dir_remove(save->temporary));
    TRY(check_space(save));
    return dir_make_new(save->temporary);
}

Err save_begin(const Save *save)
{
    return as_write_fault(begin(save));
}

/* The small files, the manifest last; then nothing in the directory can be lost any more. */
static Err write_texts(Save *save)
{
    const CheckpointState *state = save->state;
    const GptDims *dims = &state->model->dims;
    char path[FILE_PATH_BYTES];
    TRY(path_join(path, save->temporary, CONFIG_NAME));
    TRY(hf_config_write(path, dims, manifest_add(&save->manifest, CONFIG_NAME)));
    TRY(path_join(path, save->temporary, GENERATION_NAME));
    TRY(hf_generation_write(path, dims, manifest_add(&save->manifest, GENERATION_NAME)));
    TRY(path_join(path, save->temporary, TRAINER_NAME));
    TRY(record_write(path, state->cfg, dims, save->progress, &state->cut,
                     manifest_add(&save->manifest, TRAINER_NAME)));
    if (state->tokenizer)
        TRY(tokenizer_files_write(state->tokenizer, save->temporary, &save->manifest));
    if (state->tuning && state->tuning[0]) {
        TRY(path_join(path, save->temporary, TUNING_NAME));
        TRY(doc_write_text(path, state->tuning, strlen(state->tuning),
                           manifest_add(&save->manifest, TUNING_NAME)));
    }
    TRY(manifest_write(&save->manifest, save->temporary));
    return dir_sync(save->temporary);
}

Err save_seal(Save *save)
{
    return as_write_fault(write_texts(save));
}

/* temporary -> final. Whatever has that name, a directory or a link, is set aside first and comes
 * back if that fails. */
static Err publish(const Save *save)
{
    bool replaces = path_is_taken(save->final);
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

Err save_publish(const Save *save)
{
    return as_write_fault(publish(save));
}

void save_discard(const Save *save)
{
    err_free(dir_remove(save->temporary)); /* the first failure is the one to tell */
}

Err save_verify(const Save *save)
{
    Err damage = checkpoint_verify(save->temporary);
    return damage ? err_prefix(as_write_fault(damage), "what was written does not read back") : OK;
}
