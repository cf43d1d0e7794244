/* The data plane over MPI for a GPU: tensors go through pinned host memory, a piece at a time, and
 * COMM_MPI_OPS moves the pieces. So sums have the bits of the CPU's, whatever the device: the
 * oracle for NCCL, and the way for several ranks on one GPU.
 *
 * A piece is a run of every rank's slice, and these runs lie in rank order in host memory: there
 * the piece is a smaller tensor with the same slices. Two buffers: while one piece is between
 * ranks, the next comes from the device.
 *
 * Every call waits for the device. Its faults are put back where they were found: a rank with one
 * goes on to move what it has, for the others wait for it. */
#include "comm/comm_ops.h"

#include <stdlib.h>

enum { PIECE_BYTES = 4 << 20, N_BUFFERS = 2 };

typedef struct {
    size_t buffer_bytes;
    void *buffer[N_BUFFERS];
} Staging;

/* What becomes of one piece. */
typedef struct {
    Err (*collective)(Comm *comm, Device *dev, Tensor host);
    bool takes_all; /* the collective reads all slices, else only the own one */
    bool gives_all; /* it writes all slices, else only the own one */
} Movement;

/* ---- life -------------------------------------------------------------------------------- */

static Err open_buffers(Comm *comm, Device *dev)
{
    size_t least = (size_t)comm->world * sizeof(double); /* one element of each slice */
    Staging *s = calloc(1, sizeof *s);
    comm->data_impl = s;
    if (!s)
        FAIL(ERR_SYSTEM, "out of memory");
    s->buffer_bytes = least > PIECE_BYTES ? least : PIECE_BYTES;
    for (int32_t i = 0; i < N_BUFFERS; i++)
        TRY(device_alloc_host(dev, s->buffer_bytes, &s->buffer[i]));
    return OK;
}

static Err staged_open(Comm *comm, Device *dev)
{
    return comm_agree(comm, open_buffers(comm, dev));
}

static void staged_close(Comm *comm, Device *dev)
{
    Staging *s = comm->data_impl;
    for (int32_t i = 0; s && i < N_BUFFERS; i++)
        device_free_host(dev, s->buffer[i]);
    free(s);
    comm->data_impl = NULL;
}

/* ---- one piece --------------------------------------------------------------------------- */

/* Elements [begin, begin + n) of every slice, and where they are in host memory. */
typedef struct {
    Tensor buf; /* on the device */
    int64_t begin, n;
    Tensor host; /* (world * n) */
} Piece;

static Piece piece_at(const Comm *comm, Tensor buf, int64_t begin, int64_t buffer)
{
    const Staging *s = comm->data_impl;
    int64_t slice = tensor_count(buf) / comm->world;
    int64_t most = (int64_t)(s->buffer_bytes / dtype_bytes(buf.dtype)) / comm->world;
    int64_t n = slice - begin < most ? slice - begin : most;
    void *memory = s->buffer[buffer % N_BUFFERS];
    return (Piece){buf, begin, n, tensor_1d(memory, buf.dtype, comm->world * n)};
}

/* The run of rank r's slice on the device. */
static Tensor run_of(const Comm *comm, const Piece *p, int32_t r)
{
    int64_t slice = tensor_count(p->buf) / comm->world;
    return tensor_range(p->buf, r * slice + p->begin, p->n);
}

static void download_piece(const Comm *comm, Device *dev, const Piece *p, bool all)
{
    for (int32_t r = 0; r < comm->world; r++)
        if (all || r == comm->rank)
            device_download(dev, tensor_range(p->host, r * p->n, p->n).data, run_of(comm, p, r));
}

static void upload_piece(const Comm *comm, Device *dev, const Piece *p, bool all)
{
    for (int32_t r = 0; r < comm->world; r++)
        if (all || r == comm->rank)
            device_upload(dev, run_of(comm, p, r), tensor_range(p->host, r * p->n, p->n).data);
}

/* Wait; a fault stays the device's. */
static void wait_for_device(Device *dev)
{
    Err err = device_sync(dev);
    dev->err = err;
}

/* ---- the collectives --------------------------------------------------------------------- */

static Err move_pieces(Comm *comm, Device *dev, Tensor buf, Movement m)
{
    int64_t slice = tensor_count(buf) / comm->world;
    if (slice == 0)
        return OK;
    Piece next = piece_at(comm, buf, 0, 0);
    download_piece(comm, dev, &next, m.takes_all);
    for (int64_t i = 1; next.n > 0; i++) {
        Piece now = next;
        wait_for_device(dev); /* for this piece, and for what left the other buffer */
        next = piece_at(comm, buf, now.begin + now.n, i);
        download_piece(comm, dev, &next, m.takes_all);
        TRY(m.collective(comm, dev, now.host));
        upload_piece(comm, dev, &now, m.gives_all);
    }
    wait_for_device(dev);
    return OK;
}

static Err staged_reduce_scatter_sum(Comm *comm, Device *dev, Tensor buf)
{
    const Movement m = {COMM_MPI_OPS.reduce_scatter_sum, .takes_all = true, .gives_all = false};
    return move_pieces(comm, dev, buf, m);
}

static Err staged_all_gather(Comm *comm, Device *dev, Tensor buf)
{
    const Movement m = {COMM_MPI_OPS.all_gather, .takes_all = false, .gives_all = true};
    return move_pieces(comm, dev, buf, m);
}

/* The few elements that do not divide go after the others, as on host memory. */
static Err staged_all_reduce_sum(Comm *comm, Device *dev, Tensor buf)
{
    const Staging *s = comm->data_impl;
    int64_t rest = tensor_count(buf) % comm->world, even = tensor_count(buf) - rest;
    const Movement m = {COMM_MPI_OPS.all_reduce_sum, .takes_all = true, .gives_all = true};
    TRY(move_pieces(comm, dev, tensor_range(buf, 0, even), m));
    if (rest == 0)
        return OK;
    Tensor tail = tensor_range(buf, even, rest);
    Tensor host = tensor_1d(s->buffer[0], buf.dtype, rest);
    device_download(dev, host.data, tail);
    wait_for_device(dev);
    TRY(COMM_MPI_OPS.all_reduce_sum(comm, dev, host));
    device_upload(dev, tail, host.data);
    wait_for_device(dev);
    return OK;
}

/* One buffer for what leaves, one for what comes. */
static Err staged_all_to_all(Comm *comm, Device *dev, Tensor receive, Tensor send)
{
    int64_t slice = tensor_count(send) / comm->world;
    for (int64_t done = 0; done < slice;) {
        Piece out = piece_at(comm, send, done, 0), in = piece_at(comm, receive, done, 1);
        download_piece(comm, dev, &out, true);
        wait_for_device(dev); /* also for what left `in` */
        TRY(COMM_MPI_OPS.all_to_all(comm, dev, in.host, out.host));
        upload_piece(comm, dev, &in, true);
        done += out.n;
    }
    wait_for_device(dev);
    return OK;
}

const CommOps COMM_STAGED_OPS = {
    .open = staged_open,
    .close = staged_close,
    .all_reduce_sum = staged_all_reduce_sum,
    .reduce_scatter_sum = staged_reduce_scatter_sum,
    .all_gather = staged_all_gather,
    .all_to_all = staged_all_to_all,
    .wait = comm_plain_wait, /* every call above has waited */
    .sync = comm_plain_sync,
};
