#include "checkpoint/writer.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "checkpoint/folder.h"
#include "checkpoint/save.h"

/* What a host needs beside the copy: page cache for the files, and everybody else on it. */
static const size_t MARGIN_BYTES = (size_t)1 << 30;

/* ---- the thread -------------------------------------------------------------------------- */

static Err write_copy(Writer *w)
{
    Save *save = &w->save;
    activity_do(&w->activity, "make the directory", ACTIVITY_NO_INDEX);
    TRY(save_begin(save));
    activity_do(&w->activity, "write model.safetensors", ACTIVITY_NO_INDEX);
    TRY(save_copied_model(save->state, save->temporary, w->copy, save->model));
    activity_do(&w->activity, "write optimizer.safetensors", ACTIVITY_NO_INDEX);
    TRY(save_copied_optimizer(save->state, save->temporary, w->copy, save->optimizer));
    activity_do(&w->activity, "write the manifest", ACTIVITY_NO_INDEX);
    TRY(save_seal(save));
    activity_do(&w->activity, "read the files again", ACTIVITY_NO_INDEX);
    return save_verify(save);
}

static Err do_task(Writer *w)
{
    if (w->task == WRITER_SAVE)
        return write_copy(w);
    activity_do(&w->activity, "remove older checkpoints", ACTIVITY_NO_INDEX);
    return folder_prune(w->state.cfg->run.out_dir, &w->keep, w->verified_step);
}

static void *work(void *writer)
{
    Writer *w = writer;
    int64_t begin_ns = activity_now_ns();
    w->err = do_task(w);
    w->seconds = (double)(activity_now_ns() - begin_ns) * 1e-9;
    __atomic_store_n(&w->idle, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* mpirun and srun bind a rank to CPUs of its own, and its threads inherit that. The kernel cuts
 * what is asked for down to what the process's group may have; a refusal changes nothing. A run
 * without a launcher stays where its user has bound it. */
static void leave_bound_cpus(const Comm *comm)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    if (comm->launched)
        (void)sched_setaffinity(0, sizeof all, &all);
}

static void *work_in_thread(void *writer)
{
    const Writer *w = writer;
    leave_bound_cpus(w->state.comm);
    return work(writer);
}

/* Without a thread the task is done at once. */
static void begin(Writer *w, WriterTask task, int64_t step)
{
    ASSERT(w->task == WRITER_NOTHING && !w->err, "task %d is not over", (int)w->task);
    w->task = task;
    w->idle = 0;
    activity_begin(&w->activity, PHASE_SAVE, step, 0, "begin");
    w->has_thread = pthread_create(&w->thread, NULL, work_in_thread, w) == 0;
    if (!w->has_thread)
        work(w);
}

/* What the task met. */
static Err end(Writer *w)
{
    if (w->has_thread)
        pthread_join(w->thread, NULL);
    Err err = w->err;
    w->has_thread = false;
    w->err = OK;
    w->task = WRITER_NOTHING;
    return err;
}

/* ---- memory ------------------------------------------------------------------------------ */

size_t writer_copy_bytes(const Writer *w)
{
    return save_tensor_bytes(&w->state);
}

/* Room for a copy, on rank 0; none is no fault. */
static void reserve(Writer *w)
{
    DeviceInfo info;
    size_t wanted = writer_copy_bytes(w);
    Err err = device_info(w->state.dev, &info);
    if (!err && wanted + MARGIN_BYTES <= info.host_free_bytes)
        w->copy = malloc(wanted);
    err_free(err);
}

Err writer_reserve(Writer *w, bool *can)
{
    Comm *comm = w->state.comm;
    if (comm->rank == 0 && !w->copy)
        reserve(w);
    *can = w->copy != NULL;
    return comm_broadcast_bytes(comm, can, sizeof *can, 0);
}

/* ---- saving ------------------------------------------------------------------------------ */

Err writer_save(Writer *w, const Progress *progress)
{
    Comm *comm = w->state.comm;
    w->progress = *progress;
    Err err = save_open(&w->save, &w->state, &w->progress);
    if (!err)
        err = save_copy(&w->state, w->copy);
    if (err) {
        save_close(&w->save);
        return err;
    }
    if (comm->rank == 0)
        begin(w, WRITER_SAVE, progress->step);
    else
        w->task = WRITER_SAVE;
    return comm_barrier(comm); /* without a thread rank 0 has written it all */
}

bool writer_is_idle(const Writer *w)
{
    return !w->has_thread || __atomic_load_n(&w->idle, __ATOMIC_ACQUIRE) != 0;
}

Err writer_publish_alone(Writer *w)
{
    ASSERT(w->task == WRITER_SAVE, "task %d is no save", (int)w->task);
    Err err = end(w);
    if (!err)
        err = save_publish(&w->save);
    if (err)
        save_discard(&w->save);
    else
        w->verified_step = w->progress.step;
    save_close(&w->save);
    return err;
}

Err writer_publish(Writer *w)
{
    Comm *comm = w->state.comm;
    if (comm->rank == 0)
        return comm_agree(comm, writer_publish_alone(w));
    save_close(&w->save);
    w->task = WRITER_NOTHING;
    return comm_agree(comm, OK);
}

/* ---- pruning ----------------------------------------------------------------------------- */

void writer_prune(Writer *w, CheckpointKeep keep)
{
    if (w->state.comm->rank != 0)
        return;
    w->keep = keep;
    begin(w, WRITER_PRUNE, w->verified_step);
}

Err writer_join(Writer *w)
{
    return w->task == WRITER_PRUNE ? end(w) : OK;
}

/* ---- life -------------------------------------------------------------------------------- */

void writer_init(Writer *w, const CheckpointState *state)
{
    *w = (Writer){.state = *state, .verified_step = -1};
}

void writer_close(Writer *w)
{
    err_free(end(w));
    save_close(&w->save);
    free(w->copy);
    *w = (Writer){0};
}
