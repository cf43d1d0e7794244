/* Writer: checkpoints saved, and older ones removed, while training goes on.
 *
 *     writer_save       all ranks: the tensors go to host memory of rank 0; a thread there begins
 *     writer_is_idle    rank 0: is the thread done? It tells the others when it suits them
 *     writer_publish    all ranks: a save is over; rank 0 gives its directory the final name
 *     writer_prune      rank 0's thread removes what need not be kept
 *
 * The thread works with files and nothing else: no MPI, no device. It does one task at a time, on
 * any CPU that this process may have, also when a launcher bound the rank to some: those compute.
 * Until writer_publish a save is a temporary directory, which nobody takes for a checkpoint. */
#ifndef GPT_CHECKPOINT_WRITER_H
#define GPT_CHECKPOINT_WRITER_H

#include <pthread.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { WRITER_NOTHING, WRITER_SAVE, WRITER_PRUNE } WriterTask;

typedef struct {
    CheckpointState state; /* what it points to is borrowed */
    void *copy;            /* of the tensors, on rank 0; owned, kept from save to save */
    WriterTask task;       /* what was begun last; WRITER_NOTHING: joined */
    bool has_thread;       /* there is one to be joined */
    pthread_t thread;
    /* the thread's while it works */
    Progress progress;
    Save save;
    CheckpointKeep keep;
    int64_t verified_step; /* the checkpoint of this step was read back; -1: none */
    Err err;
    double seconds;    /* what the task took */
    Activity activity; /* what it is doing, for others to look at */
    int32_t idle;      /* atomic; not 0: the task is done */
} Writer;

/* Nothing is allocated yet. */
void writer_init(Writer *w, const CheckpointState *state);
/* Waits for the thread. A save that nobody has published is lost. Accepts a zero-initialised one.
 */
void writer_close(Writer *w);

/* *can: rank 0 has the memory for a copy (save_tensor_bytes, and 1 GiB beside, of what is free on
 * its host), and takes it; the same on all ranks. Once is enough: the save that follows writes to
 * all of the copy, from then on it is this process's memory, and later saves take no more. What
 * their files take in the page cache the kernel gives back. Waits for nothing. Collective. */
Err writer_reserve(Writer *w, bool *can);

/* Bytes of that copy. */
size_t writer_copy_bytes(const Writer *w);

/* Copy the state and begin to write it. Only when the task before is over (writer_publish,
 * writer_join) and writer_reserve said yes. What the thread meets comes out in writer_publish.
 * ERR_SYSTEM, the same on all ranks. Collective. */
Err writer_save(Writer *w, const Progress *progress);
/* Is nothing being done? Rank 0 knows; the others say yes. Not collective. */
bool writer_is_idle(const Writer *w);
/* End a save: waits for it. ERR_WRITE, ERR_SYSTEM leave older checkpoints as they were, and no
 * temporary directory if that can be. The same on all ranks. Collective. */
Err writer_publish(Writer *w);
/* The same, of rank 0 alone, when ranks can agree on nothing any more. Not collective. */
Err writer_publish_alone(Writer *w);

/* checkpoint_prune by the thread, on rank 0; the others do nothing. A checkpoint that the thread
 * has written and read back is not read again. Only when the task before is over. Without a thread
 * it is done on return: let the others wait where that is no time of a step. Not collective. */
void writer_prune(Writer *w, CheckpointKeep keep);
/* Wait for the end of a pruning: what it met. OK when there is none. Not collective. */
Err writer_join(Writer *w);

#ifdef __cplusplus
}
#endif
#endif
