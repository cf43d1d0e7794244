/* A world of one: every sum is already the sum, every gather already complete. No MPI call is made.
 */
#include "comm/comm_ops.h"

#include <string.h>

static Err single_barrier(Comm *comm)
{
    (void)comm;
    return OK;
}

static Err single_max_i64(Comm *comm, int64_t *value, int32_t n)
{
    (void)comm, (void)value, (void)n;
    return OK;
}

static Err single_broadcast(Comm *comm, void *bytes, size_t n_bytes, int32_t root)
{
    (void)comm, (void)bytes, (void)n_bytes, (void)root;
    return OK;
}

static Err single_gather(Comm *comm, const void *mine, size_t n_bytes, void *all, int32_t root)
{
    (void)comm, (void)root;
    if (n_bytes > 0)
        memmove(all, mine, n_bytes);
    return OK;
}

static Err single_send(Comm *comm, void *bytes, size_t n_bytes, int32_t from, int32_t to)
{
    (void)comm, (void)bytes, (void)n_bytes, (void)from, (void)to;
    return OK;
}

static void single_close(Comm *comm)
{
    (void)comm;
}

static void single_abort(Comm *comm, int exit_code)
{
    (void)comm, (void)exit_code;
}

static Err single_share(Comm *comm, size_t n_bytes, void **all)
{
    (void)comm, (void)n_bytes, (void)all;
    return OK;
}

static Err single_tell_fault(Comm *comm, int32_t n_binds, const char *text)
{
    (void)comm, (void)n_binds, (void)text;
    return OK;
}

static Err single_hear_fault(Comm *comm, int32_t n_binds, bool *heard, char *text)
{
    (void)comm, (void)n_binds, (void)text;
    *heard = false;
    return OK;
}

const CommControl COMM_SINGLE_CONTROL = {
    .barrier = single_barrier,
    .max_i64 = single_max_i64,
    .broadcast = single_broadcast,
    .gather = single_gather,
    .send = single_send,
    .close = single_close,
    .abort = single_abort,
    .share = single_share,
    .tell_fault = single_tell_fault,
    .hear_fault = single_hear_fault,
};

static Err single_collective(Comm *comm, Device *dev, Tensor buf)
{
    (void)comm, (void)dev, (void)buf;
    return OK;
}

static Err single_all_to_all(Comm *comm, Device *dev, Tensor receive, Tensor send)
{
    (void)comm;
    device_copy(dev, receive, send);
    return OK;
}

const CommOps COMM_SINGLE_OPS = {
    .open = comm_plain_open,
    .close = comm_plain_close,
    .all_reduce_sum = single_collective,
    .reduce_scatter_sum = single_collective,
    .all_gather = single_collective,
    .all_to_all = single_all_to_all,
    .wait = comm_plain_wait,
    .sync = comm_plain_sync,
};
