#include "checkpoint/checkpoint.h"

#include "checkpoint/protocol.h"
#include "checkpoint/save.h"

size_t checkpoint_bytes(const GptDims *dims)
{
    return (size_t)gpt_param_count(dims, true) * 3 * sizeof(float);
}

size_t checkpoint_room(size_t n_bytes)
{
    return n_bytes + n_bytes / 10;
}

/* Each phase ends in an agreement, so all ranks return from the same place. */
static Err run_save(Save *save)
{
    const CheckpointState *state = save->state;
    const bool acts = state->comm->rank == 0;
    TRY(comm_agree(state->comm, acts ? save_begin(save) : OK));
    TRY(save_model(state, save->temporary, save->model));
    TRY(save_optimizer(state, save->temporary, save->optimizer));
    activity_do(state->comm->activity, "write the manifest and publish", ACTIVITY_NO_INDEX);
    Err err = acts ? save_seal(save) : OK;
    if (acts && !err)
        err = save_publish(save);
    return comm_agree(state->comm, err);
}

Err checkpoint_save(const CheckpointState *state, const Progress *progress)
{
    Save save;
    Err err = save_open(&save, state, progress);
    if (!err)
        err = run_save(&save);
    if (err && state->comm->rank == 0)
        save_discard(&save);
    save_close(&save);
    return err;
}
