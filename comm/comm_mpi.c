/* The control plane over MPI, and the data plane over MPI for devices whose memory is host memory.
 *
 * Calls come from the main thread only and block, so the order of collectives is the order of the
 * program, and one private communicator serves both planes. Sums of tensors are made of sends and
 * receives: Open MPI's own reduce-scatter took four times as long on shared memory, and scratch as
 * large as the buffer where this takes half a MiB. MPI counts are ints, so longer transfers go in
 * pieces of at most comm->max_count elements. */
#include "comm/comm_ops.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { SEND_TAG = 1, SLICE_TAG = 2, FAULT_TAG = 1000, FAULT_TAGS = 1000 };
enum { SUM_PIECE = 65536 }; /* elements; longer pieces were no faster */

/* What this rank told of a fault: MPI may read it until the end. */
typedef struct Told {
    struct Told *next;
    char text[COMM_FAULT_BYTES];
} Told;

typedef struct {
    MPI_Comm comm;              /* our own duplicate of the world: nobody else's messages */
    MPI_Comm local;             /* the ranks of this host */
    MPI_Win shared;             /* memory of theirs; MPI_WIN_NULL: none */
    Told *told;                 /* owned */
    bool finalize;              /* we started MPI, so we end it */
    double received[SUM_PIECE]; /* what another rank has to add to our slice */
} MpiWorld;

static MPI_Comm handle(const Comm *comm)
{
    return ((const MpiWorld *)comm->impl)->comm;
}

/* The Err of an MPI return value. */
static Err check_mpi(int rc, const char *call)
{
    if (rc == MPI_SUCCESS)
        return OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (MPI_Error_string(rc, text, &length) != MPI_SUCCESS)
        snprintf(text, sizeof text, "error %d", rc);
    FAIL(ERR_SYSTEM, "%s failed: %s", call, text);
}

/* ---- life -------------------------------------------------------------------------------- */

static Err start_mpi(MpiWorld *mpi)
{
    int initialized = 0, finalized = 0, level = MPI_THREAD_SINGLE;
    TRY(check_mpi(MPI_Finalized(&finalized), "MPI_Finalized"));
    if (finalized)
        FAIL(ERR_SYSTEM, "MPI cannot be started twice in one process");
    TRY(check_mpi(MPI_Initialized(&initialized), "MPI_Initialized"));
    if (initialized) {
        TRY(check_mpi(MPI_Query_thread(&level), "MPI_Query_thread"));
    } else {
        TRY(check_mpi(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread"));
        mpi->finalize = true;
    }
    if (level < MPI_THREAD_FUNNELED)
        FAIL(ERR_SYSTEM, "this MPI library allows no threads beside its own "
                         "(MPI_THREAD_FUNNELED is needed)");
    return OK;
}

static Err find_place(Comm *comm, MpiWorld *mpi)
{
    int rank = 0, size = 0, local_rank = 0, local_size = 0;
    MPI_Comm world = mpi->comm;
    TRY(check_mpi(MPI_Comm_rank(world, &rank), "MPI_Comm_rank"));
    TRY(check_mpi(MPI_Comm_size(world, &size), "MPI_Comm_size"));
    TRY(check_mpi(
        MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &mpi->local),
        "MPI_Comm_split_type"));
    TRY(check_mpi(MPI_Comm_rank(mpi->local, &local_rank), "MPI_Comm_rank"));
    TRY(check_mpi(MPI_Comm_size(mpi->local, &local_size), "MPI_Comm_size"));
    comm->rank = rank;
    comm->world = size;
    comm->local_rank = local_rank;
    comm->local_world = local_size;
    return OK;
}

Err comm_mpi_open(Comm *comm)
{
    MpiWorld *mpi = calloc(1, sizeof *mpi);
    if (!mpi)
        FAIL(ERR_SYSTEM, "out of memory");
    mpi->comm = mpi->local = MPI_COMM_NULL;
    mpi->shared = MPI_WIN_NULL;
    Err err = start_mpi(mpi);
    if (err) {
        free(mpi);
        return err;
    }
    comm->control = &COMM_MPI_CONTROL;
    comm->impl = mpi;
    TRY(check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
                  "MPI_Comm_set_errhandler"));
    TRY(check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &mpi->comm), "MPI_Comm_dup"));
    TRY(check_mpi(MPI_Comm_set_errhandler(mpi->comm, MPI_ERRORS_RETURN),
                  "MPI_Comm_set_errhandler"));
    return find_place(comm, mpi);
}

static void mpi_control_close(Comm *comm)
{
    MpiWorld *mpi = comm->impl;
    if (mpi->shared != MPI_WIN_NULL)
        err_free(check_mpi(MPI_Win_free(&mpi->shared), "MPI_Win_free"));
    if (mpi->local != MPI_COMM_NULL)
        err_free(check_mpi(MPI_Comm_free(&mpi->local), "MPI_Comm_free"));
    if (mpi->comm != MPI_COMM_NULL)
        err_free(check_mpi(MPI_Comm_free(&mpi->comm), "MPI_Comm_free"));
    if (mpi->finalize)
        err_free(check_mpi(MPI_Finalize(), "MPI_Finalize"));
    while (mpi->told) {
        Told *told = mpi->told;
        mpi->told = told->next;
        free(told);
    }
    free(mpi);
}

static void mpi_abort(Comm *comm, int exit_code)
{
    (void)comm;
    err_free(check_mpi(MPI_Abort(MPI_COMM_WORLD, exit_code), "MPI_Abort"));
}

void comm_mpi_print_version(FILE *out)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "unknown library";
    int length = 0, version = 0, subversion = 0;
    err_free(check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version"));
    err_free(check_mpi(MPI_Get_version(&version, &subversion), "MPI_Get_version"));
    text[strcspn(text, ",\n")] = '\0'; /* the rest says who built it and when */
    fprintf(out, "MPI: %s (MPI %d.%d)\n", text, version, subversion);
}

/* ---- pieces ------------------------------------------------------------------------------ */

static int piece_count(const Comm *comm, int64_t left)
{
    return (int)(left < comm->max_count ? left : comm->max_count);
}

/* `piece` elements out of every `stride`: one of these per rank places a piece of each slice. */
static Err strided_type(MPI_Datatype type, int piece, size_t stride_bytes, MPI_Datatype *strided)
{
    MPI_Datatype run = MPI_DATATYPE_NULL;
    TRY(check_mpi(MPI_Type_contiguous(piece, type, &run), "MPI_Type_contiguous"));
    Err err = check_mpi(MPI_Type_create_resized(run, 0, (MPI_Aint)stride_bytes, strided),
                        "MPI_Type_create_resized");
    err = err_first(err, check_mpi(MPI_Type_free(&run), "MPI_Type_free"));
    TRY(err);
    TRY(check_mpi(MPI_Type_commit(strided), "MPI_Type_commit"));
    return OK;
}

typedef struct {
    const void *mine; /* NULL: it already lies in its place in `all` */
    char *all;        /* world slices, one after another; NULL where nothing arrives */
    int64_t count;    /* elements of one slice */
    MPI_Datatype type;
    size_t element_bytes;
    int32_t root; /* or COMM_ALL_RANKS */
} Gather;

static Err gather_piece(Comm *comm, const Gather *g, int64_t begin, int piece)
{
    size_t skip = (size_t)begin * g->element_bytes;
    const void *send = g->mine ? (const char *)g->mine + skip : MPI_IN_PLACE;
    char *receive = g->all ? g->all + skip : NULL;
    MPI_Datatype slices = MPI_DATATYPE_NULL;
    TRY(strided_type(g->type, piece, (size_t)g->count * g->element_bytes, &slices));
    Err err =
        g->root == COMM_ALL_RANKS
            ? check_mpi(MPI_Allgather(send, piece, g->type, receive, 1, slices, handle(comm)),
                        "MPI_Allgather")
            : check_mpi(MPI_Gather(send, piece, g->type, receive, 1, slices, g->root, handle(comm)),
                        "MPI_Gather");
    return err_first(err, check_mpi(MPI_Type_free(&slices), "MPI_Type_free"));
}

static Err gather_slices(Comm *comm, const Gather *g)
{
    for (int64_t done = 0; done < g->count;) {
        int piece = piece_count(comm, g->count - done);
        TRY(gather_piece(comm, g, done, piece));
        done += piece;
    }
    return OK;
}

/* ---- control plane ----------------------------------------------------------------------- */

static Err mpi_barrier(Comm *comm)
{
    return check_mpi(MPI_Barrier(handle(comm)), "MPI_Barrier");
}

static Err mpi_max_i64(Comm *comm, int64_t *value, int32_t n)
{
    return check_mpi(MPI_Allreduce(MPI_IN_PLACE, value, n, MPI_INT64_T, MPI_MAX, handle(comm)),
                     "MPI_Allreduce");
}

static Err mpi_broadcast(Comm *comm, void *bytes, size_t n_bytes, int32_t root)
{
    for (size_t done = 0; done < n_bytes;) {
        int piece = piece_count(comm, (int64_t)(n_bytes - done));
        TRY(check_mpi(MPI_Bcast((char *)bytes + done, piece, MPI_BYTE, root, handle(comm)),
                      "MPI_Bcast"));
        done += (size_t)piece;
    }
    return OK;
}

static Err mpi_gather(Comm *comm, const void *mine, size_t n_bytes, void *all, int32_t root)
{
    const Gather g = {.mine = mine,
                      .all = all,
                      .count = (int64_t)n_bytes,
                      .type = MPI_BYTE,
                      .element_bytes = 1,
                      .root = root};
    return gather_slices(comm, &g);
}

static Err mpi_send(Comm *comm, void *bytes, size_t n_bytes, int32_t from, int32_t to)
{
    if (from == to || (comm->rank != from && comm->rank != to))
        return OK;
    for (size_t done = 0; done < n_bytes;) {
        int piece = piece_count(comm, (int64_t)(n_bytes - done));
        char *at = (char *)bytes + done;
        if (comm->rank == from)
            TRY(check_mpi(MPI_Send(at, piece, MPI_BYTE, to, SEND_TAG, handle(comm)), "MPI_Send"));
        else
            TRY(check_mpi(
                MPI_Recv(at, piece, MPI_BYTE, from, SEND_TAG, handle(comm), MPI_STATUS_IGNORE),
                "MPI_Recv"));
        done += (size_t)piece;
    }
    return OK;
}

/* ---- memory of a host -------------------------------------------------------------------- */

static Err make_shared(MpiWorld *mpi, int32_t local_rank, size_t all_bytes, void **all)
{
    void *own = NULL;
    MPI_Aint n_bytes = 0;
    int unit = 1;
    TRY(check_mpi(MPI_Win_allocate_shared(local_rank == 0 ? (MPI_Aint)all_bytes : 0, 1,
                                          MPI_INFO_NULL, mpi->local, &own, &mpi->shared),
                  "MPI_Win_allocate_shared"));
    TRY(check_mpi(MPI_Win_shared_query(mpi->shared, 0, &n_bytes, &unit, all),
                  "MPI_Win_shared_query"));
    if (local_rank == 0)
        memset(*all, 0, all_bytes);
    return OK;
}

/* An MPI that cannot share is no reason to end; all ranks see the same. */
static Err mpi_share(Comm *comm, size_t n_bytes, void **all)
{
    MpiWorld *mpi = comm->impl;
    ASSERT(mpi->shared == MPI_WIN_NULL, "shared twice");
    Err err = make_shared(mpi, comm->local_rank, n_bytes * (size_t)comm->local_world, all);
    int64_t failed = err != OK;
    err_free(err);
    TRY(comm_max_i64(comm, &failed, 1)); /* and nobody goes on before the zeros are there */
    if (failed)
        *all = NULL;
    return OK;
}

/* ---- word of a fault --------------------------------------------------------------------- */

static int fault_tag(int32_t n_binds)
{
    return FAULT_TAG + n_binds % FAULT_TAGS;
}

static Err tell_rank(MpiWorld *mpi, int32_t rank, int tag)
{
    MPI_Request request = MPI_REQUEST_NULL;
    TRY(check_mpi(
        MPI_Isend(mpi->told->text, COMM_FAULT_BYTES, MPI_CHAR, rank, tag, mpi->comm, &request),
        "MPI_Isend"));
    return check_mpi(MPI_Request_free(&request), "MPI_Request_free"); /* nobody waits for it */
}

static Err mpi_tell_fault(Comm *comm, int32_t n_binds, const char *text)
{
    MpiWorld *mpi = comm->impl;
    Told *told = calloc(1, sizeof *told);
    if (!told)
        FAIL(ERR_SYSTEM, "out of memory for the word of a fault");
    snprintf(told->text, sizeof told->text, "%s", text);
    told->next = mpi->told;
    mpi->told = told;
    for (int32_t rank = 0; rank < comm->world; rank++)
        if (rank != comm->rank)
            TRY(tell_rank(mpi, rank, fault_tag(n_binds)));
    return OK;
}

static Err mpi_hear_fault(Comm *comm, int32_t n_binds, bool *heard, char *text)
{
    const MpiWorld *mpi = comm->impl;
    int there = 0;
    MPI_Status status;
    TRY(check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, fault_tag(n_binds), mpi->comm, &there, &status),
                  "MPI_Iprobe"));
    *heard = there != 0;
    if (!there)
        return OK;
    TRY(check_mpi(MPI_Recv(text, COMM_FAULT_BYTES, MPI_CHAR, status.MPI_SOURCE, status.MPI_TAG,
                           mpi->comm, MPI_STATUS_IGNORE),
                  "MPI_Recv"));
    text[COMM_FAULT_BYTES - 1] = '\0';
    return OK;
}

const CommControl COMM_MPI_CONTROL = {
    .barrier = mpi_barrier,
    .max_i64 = mpi_max_i64,
    .broadcast = mpi_broadcast,
    .gather = mpi_gather,
    .send = mpi_send,
    .close = mpi_control_close,
    .abort = mpi_abort,
    .share = mpi_share,
    .tell_fault = mpi_tell_fault,
    .hear_fault = mpi_hear_fault,
};

/* ---- data plane -------------------------------------------------------------------------- */

/* The MPI type that carries a dtype. The 16-bit floats have none: they can be moved, not added. */
static MPI_Datatype carrier(DType dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return MPI_FLOAT;
    case DTYPE_F64:
        return MPI_DOUBLE;
    case DTYPE_I32:
        return MPI_INT32_T;
    case DTYPE_BF16:
    case DTYPE_F16:
    case DTYPE_U16:
        return MPI_UINT16_T;
    case DTYPE_U8:
        return MPI_UINT8_T;
    }
    ASSERT(0, "dtype %d", (int)dtype);
    return MPI_DATATYPE_NULL;
}

static char *element(Tensor buf, int64_t index)
{
    return (char *)buf.data + (size_t)index * dtype_bytes(buf.dtype);
}

/* Send the run of `count` elements at `mine` to rank `to`; add rank `from`'s, of the same length,
 * to `sum`. */
static Err exchange_and_add(Comm *comm, DType dtype, char *mine, int32_t to, char *sum,
                            int32_t from, int64_t count)
{
    MpiWorld *mpi = comm->impl;
    MPI_Datatype type = carrier(dtype);
    for (int64_t done = 0; done < count;) {
        int piece = piece_count(comm, count - done < SUM_PIECE ? count - done : SUM_PIECE);
        size_t skip = (size_t)done * dtype_bytes(dtype);
        TRY(check_mpi(MPI_Sendrecv(mine + skip, piece, type, to, SLICE_TAG, mpi->received, piece,
                                   type, from, SLICE_TAG, mpi->comm, MPI_STATUS_IGNORE),
                      "MPI_Sendrecv"));
        TRY(check_mpi(MPI_Reduce_local(mpi->received, sum + skip, piece, type, MPI_SUM),
                      "MPI_Reduce_local"));
        done += piece;
    }
    return OK;
}

/* Send the run of `count` elements at `mine` to rank `to`; rank `from`'s, of the same length, comes
 * to `theirs`. */
static Err exchange(Comm *comm, DType dtype, char *mine, int32_t to, char *theirs, int32_t from,
                    int64_t count)
{
    MPI_Datatype type = carrier(dtype);
    for (int64_t done = 0; done < count;) {
        int piece = piece_count(comm, count - done);
        size_t skip = (size_t)done * dtype_bytes(dtype);
        TRY(check_mpi(MPI_Sendrecv(mine + skip, piece, type, to, SLICE_TAG, theirs + skip, piece,
                                   type, from, SLICE_TAG, handle(comm), MPI_STATUS_IGNORE),
                      "MPI_Sendrecv"));
        done += piece;
    }
    return OK;
}

/* Pairwise exchange: in round k every rank hands the rank k above it that one's slice. The least
 * that can be sent, and the owner alone adds, in one order: own, then the ranks below it, round the
 * world. */
static Err mpi_reduce_scatter_sum(Comm *comm, Device *dev, Tensor buf)
{
    (void)dev;
    int32_t world = comm->world, rank = comm->rank;
    int64_t slice = tensor_count(buf) / world;
    for (int32_t k = 1; k < world; k++) {
        int32_t to = (rank + k) % world, from = (rank - k + world) % world;
        TRY(exchange_and_add(comm, buf.dtype, element(buf, to * slice), to,
                             element(buf, rank * slice), from, slice));
    }
    return OK;
}

static Err mpi_all_gather(Comm *comm, Device *dev, Tensor buf)
{
    (void)dev;
    const Gather g = {.all = buf.data,
                      .count = tensor_count(buf) / comm->world,
                      .type = carrier(buf.dtype),
                      .element_bytes = dtype_bytes(buf.dtype),
                      .root = COMM_ALL_RANKS};
    return gather_slices(comm, &g);
}

/* The two halves of zero_stage 1, so that all_reduce and reduce_scatter train to the same bits, and
 * every rank gets the same sums by construction. The few elements that do not divide go by MPI's
 * own. */
static Err mpi_all_reduce_sum(Comm *comm, Device *dev, Tensor buf)
{
    int64_t rest = tensor_count(buf) % comm->world, even = tensor_count(buf) - rest;
    Tensor slices = tensor_range(buf, 0, even);
    TRY(mpi_reduce_scatter_sum(comm, dev, slices));
    TRY(mpi_all_gather(comm, dev, slices));
    if (rest == 0)
        return OK;
    return check_mpi(MPI_Allreduce(MPI_IN_PLACE, element(buf, even), (int)rest, carrier(buf.dtype),
                                   MPI_SUM, handle(comm)),
                     "MPI_Allreduce");
}

/* Pairwise, as above. */
static Err mpi_all_to_all(Comm *comm, Device *dev, Tensor receive, Tensor send)
{
    (void)dev;
    int32_t world = comm->world, rank = comm->rank;
    int64_t slice = tensor_count(send) / world;
    size_t slice_bytes = (size_t)slice * dtype_bytes(send.dtype);
    if (slice == 0)
        return OK;
    memcpy(element(receive, rank * slice), element(send, rank * slice), slice_bytes);
    for (int32_t k = 1; k < world; k++) {
        int32_t to = (rank + k) % world, from = (rank - k + world) % world;
        TRY(exchange(comm, send.dtype, element(send, to * slice), to,
                     element(receive, from * slice), from, slice));
    }
    return OK;
}

const CommOps COMM_MPI_OPS = {
    .open = comm_plain_open,
    .close = comm_plain_close,
    .all_reduce_sum = mpi_all_reduce_sum,
    .reduce_scatter_sum = mpi_reduce_scatter_sum,
    .all_gather = mpi_all_gather,
    .all_to_all = mpi_all_to_all,
    .wait = comm_plain_wait, /* every call above has waited */
    .sync = comm_plain_sync,
};
