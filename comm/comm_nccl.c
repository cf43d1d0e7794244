/* The data plane over NCCL: one GPU per rank, one communicator, one stream.
 *
 * The communicator is non-blocking: a call may return before it is done, so each is followed by
 * settle, which asks until it is, or until a deadline. Collectives run on a stream of their own, of
 * the highest priority, one after the other. Each waits, by an event, for what the compute stream
 * had been given until then; comm_wait makes the compute stream wait for them. The host waits in
 * comm_sync only, and asks for asynchronous errors meanwhile: a peer that is gone is no error of
 * the device. NCCL allows nothing but an abort after an error, so the first one aborts: kernels
 * that wait for a peer end, and every later call says why. Peers may never hear of it from NCCL, so
 * who aborts tells them over MPI, and who waits listens. */
#include <nccl.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "comm/comm_ops.h"
#include "kernels/cuda/cuda_device.h"

enum { N_SPINS = 1000, PAUSE_US = 50 };
enum { WARM_UP_ELEMENTS = 1 << 20 };      /* enough for the algorithms that long buckets take */
static const double CLOSE_TIMEOUT_S = 10; /* for peers that leave at the same time */

typedef struct {
    Comm *ranks;           /* whose data plane this is */
    ncclComm_t comm;       /* NULL: not open yet, or aborted */
    cudaStream_t stream;   /* of all collectives */
    cudaEvent_t computed;  /* recorded on the compute stream before a collective */
    cudaEvent_t moved;     /* recorded on our stream by comm_wait */
    cudaEvent_t synced;    /* recorded on the compute stream by comm_sync */
    double call_timeout_s; /* longest that one call may take on the host */
    bool leaving;          /* nobody else is concerned any more */
    char reason[1024];     /* of the abort; "" before it */
} NcclWorld;

static NcclWorld *world_of(const Comm *comm)
{
    return comm->data_impl;
}

/* ---- waiting ----------------------------------------------------------------------------- */

static double now_s(void)
{
    return (double)activity_now_ns() * 1e-9;
}

/* Between two questions: at once for a while, then less often. */
static void pause_before(int64_t question)
{
    const struct timespec pause = {.tv_nsec = PAUSE_US * 1000};
    if (question > N_SPINS)
        nanosleep(&pause, NULL);
}

/* The others may wait for what does not come any more. Not being able to tell them is left to a
 * watchdog. */
static void tell_peers(NcclWorld *w)
{
    char text[COMM_FAULT_BYTES];
    Comm *c = w->ranks;
    snprintf(text, sizeof text, "rank %d on %s: %.*s", c->rank, c->host, COMM_FAULT_BYTES - 128,
             w->reason);
    if (c->world > 1 && !w->leaving)
        err_free(c->control->tell_fault(c, c->n_binds, text));
}

/* After an error: end what runs, so that nothing waits for it, and remember why. */
static Err end_with(NcclWorld *w, const char *what, const char *why)
{
    if (!w->reason[0])
        snprintf(w->reason, sizeof w->reason, "%s: %s", what, why);
    if (w->comm)
        (void)ncclCommAbort(w->comm); /* nothing could be done about its failure */
    w->comm = NULL;
    FAIL(ERR_SYSTEM, "%s", w->reason);
}

/* The same for an error that came up here. */
static Err abort_with(NcclWorld *w, const char *what, const char *why)
{
    bool first = !w->reason[0];
    Err err = end_with(w, what, why);
    if (first)
        tell_peers(w);
    return err;
}

/* A fault of CUDA: what this rank's part of a collective waits for may never run. */
static Err check_cuda(NcclWorld *w, cudaError_t status, const char *call)
{
    Err err = cuda_err(status, call);
    if (err)
        err_free(abort_with(w, "CUDA", err_message(err)));
    return err;
}

/* Did another rank abort, or is nobody to wait any longer? */
static Err listen(NcclWorld *w)
{
    Comm *c = w->ranks;
    char text[COMM_FAULT_BYTES];
    bool heard = false;
    if (__atomic_load_n(&c->abandoned, __ATOMIC_RELAXED) == COMM_TO_ABANDON) {
        Err err = end_with(w, "NCCL", "given up after a hang");
        __atomic_store_n(&c->abandoned, COMM_ABANDONED, __ATOMIC_RELAXED);
        return err;
    }
    if (c->world > 1 && !w->leaving)
        TRY(c->control->hear_fault(c, c->n_binds, &heard, text));
    return heard ? end_with(w, "told by a peer", text) : OK;
}

static Err abort_with_result(NcclWorld *w, const char *what, ncclResult_t result)
{
    char why[400];
    const char *detail = w->comm ? ncclGetLastError(w->comm) : NULL;
    int n_detail = detail ? (int)strcspn(detail, "\n") : 0; /* one line */
    if (n_detail > 0)
        snprintf(why, sizeof why, "%s (%.*s)", ncclGetErrorString(result), n_detail, detail);
    else
        snprintf(why, sizeof why, "%s", ncclGetErrorString(result));
    return abort_with(w, what, why);
}

/* What became of a call that returned `result`; asks while it is in progress. */
static Err settle(NcclWorld *w, ncclResult_t result, const char *call)
{
    double end = now_s() + w->call_timeout_s;
    for (int64_t question = 0; result == ncclInProgress; question++) {
        if (now_s() > end) {
            char why[64];
            snprintf(why, sizeof why, "not done after %g s", w->call_timeout_s);
            return abort_with(w, call, why);
        }
        TRY(listen(w));
        pause_before(question);
        ncclResult_t asked = ncclCommGetAsyncError(w->comm, &result);
        result = asked == ncclSuccess ? result : asked;
    }
    return result == ncclSuccess ? OK : abort_with_result(w, call, result);
}

/* An error that came up since the last call. */
static Err check_async(NcclWorld *w)
{
    if (!w->comm)
        FAIL(ERR_SYSTEM, "%s", w->reason);
    ncclResult_t result = ncclSuccess;
    ncclResult_t asked = ncclCommGetAsyncError(w->comm, &result);
    if (asked == ncclSuccess && (result == ncclSuccess || result == ncclInProgress))
        return OK;
    return abort_with_result(w, "NCCL", asked == ncclSuccess ? result : asked);
}

/* Wait on the host for the compute stream, as long as NCCL has no error. limit_s 0: for ever. */
static Err wait_for_compute(NcclWorld *w, Device *dev, double limit_s)
{
    double end = now_s() + limit_s;
    TRY(check_cuda(w, cudaEventRecord(w->synced, cuda_device(dev)->stream), "cudaEventRecord"));
    for (int64_t question = 0;; question++) {
        cudaError_t status = cudaEventQuery(w->synced);
        if (status != cudaErrorNotReady)
            return check_cuda(w, status, "cudaEventQuery");
        (void)cudaGetLastError(); /* "not ready" stays there, and the next launch would report it */
        TRY(check_async(w));
        TRY(listen(w));
        if (limit_s > 0 && now_s() > end)
            return abort_with(w, "NCCL", "the first collectives did not end in time");
        pause_before(question);
    }
}

/* ---- collectives ------------------------------------------------------------------------- */

/* The NCCL type that carries a dtype. It has none for u16, which nobody adds. */
static ncclDataType_t carrier(DType dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return ncclFloat32;
    case DTYPE_F64:
        return ncclFloat64;
    case DTYPE_I32:
        return ncclInt32;
    case DTYPE_BF16:
        return ncclBfloat16;
    case DTYPE_F16:
    case DTYPE_U16:
        return ncclFloat16;
    case DTYPE_U8:
        return ncclUint8;
    }
    ASSERT(0, "dtype %d", (int)dtype);
    return ncclUint8;
}

static char *slice_of(const Comm *comm, Tensor buf, int32_t rank)
{
    int64_t slice = tensor_count(buf) / comm->world;
    return (char *)buf.data + (size_t)(rank * slice) * dtype_bytes(buf.dtype);
}

/* Our stream waits for everything queued on the compute stream so far. */
static Err follow_compute(NcclWorld *w, Device *dev)
{
    TRY(check_async(w));
    TRY(check_cuda(w, cudaEventRecord(w->computed, cuda_device(dev)->stream), "cudaEventRecord"));
    return check_cuda(w, cudaStreamWaitEvent(w->stream, w->computed, cudaEventWaitDefault),
                      "cudaStreamWaitEvent");
}

static Err nccl_all_reduce_sum(Comm *comm, Device *dev, Tensor buf)
{
    NcclWorld *w = world_of(comm);
    size_t n = (size_t)tensor_count(buf);
    if (n == 0)
        return OK;
    TRY(follow_compute(w, dev));
    return settle(
        w, ncclAllReduce(buf.data, buf.data, n, carrier(buf.dtype), ncclSum, w->comm, w->stream),
        "ncclAllReduce");
}

/* In place is when the result lies where the own slice was. */
static Err nccl_reduce_scatter_sum(Comm *comm, Device *dev, Tensor buf)
{
    NcclWorld *w = world_of(comm);
    size_t slice = (size_t)(tensor_count(buf) / comm->world);
    if (slice == 0)
        return OK;
    TRY(follow_compute(w, dev));
    return settle(w,
                  ncclReduceScatter(buf.data, slice_of(comm, buf, comm->rank), slice,
                                    carrier(buf.dtype), ncclSum, w->comm, w->stream),
                  "ncclReduceScatter");
}

static Err nccl_all_gather(Comm *comm, Device *dev, Tensor buf)
{
    NcclWorld *w = world_of(comm);
    size_t slice = (size_t)(tensor_count(buf) / comm->world);
    if (slice == 0)
        return OK;
    TRY(follow_compute(w, dev));
    return settle(w,
                  ncclAllGather(slice_of(comm, buf, comm->rank), buf.data, slice,
                                carrier(buf.dtype), w->comm, w->stream),
                  "ncclAllGather");
}

static bool is_taken(ncclResult_t result)
{
    return result == ncclSuccess || result == ncclInProgress;
}

static Err nccl_all_to_all(Comm *comm, Device *dev, Tensor receive, Tensor send)
{
    NcclWorld *w = world_of(comm);
    size_t slice = (size_t)(tensor_count(send) / comm->world);
    ncclDataType_t type = carrier(send.dtype);
    if (slice == 0)
        return OK;
    TRY(follow_compute(w, dev));
    ncclResult_t result = ncclGroupStart();
    for (int32_t r = 0; r < comm->world && is_taken(result); r++) {
        result = ncclSend(slice_of(comm, send, r), slice, type, r, w->comm, w->stream);
        if (is_taken(result))
            result = ncclRecv(slice_of(comm, receive, r), slice, type, r, w->comm, w->stream);
    }
    ncclResult_t ended = ncclGroupEnd();
    return settle(w, is_taken(result) ? ended : result, "ncclSend and ncclRecv");
}

static Err nccl_wait(Comm *comm, Device *dev)
{
    NcclWorld *w = world_of(comm);
    TRY(check_async(w));
    TRY(check_cuda(w, cudaEventRecord(w->moved, w->stream), "cudaEventRecord"));
    return check_cuda(w,
                      cudaStreamWaitEvent(cuda_device(dev)->stream, w->moved, cudaEventWaitDefault),
                      "cudaStreamWaitEvent");
}

static Err nccl_sync(Comm *comm, Device *dev)
{
    Err err = wait_for_compute(world_of(comm), dev, 0);
    return err_first(err, device_sync(dev));
}

/* ---- before the start: do the ranks fit together? ---------------------------------------- */

/* What ranks must know of each other before NCCL may be called. */
typedef struct {
    char host[sizeof((Comm *)0)->host];
    char device_id[sizeof((DeviceInfo *)0)->id];
    int32_t version; /* NCCL's: 22809 is 2.28.9 */
} Peer;

typedef struct {
    char text[32];
} VersionText;

static VersionText version_text(int32_t version)
{
    VersionText v;
    snprintf(v.text, sizeof v.text, "%d.%d.%d", (int)(version / 10000), (int)(version / 100 % 100),
             (int)(version % 100));
    return v;
}

static Err describe_self(const Comm *comm, Device *dev, Peer *self)
{
    DeviceInfo info;
    int version = 0;
    *self = (Peer){.version = 0};
    TRY(device_info(dev, &info));
    if (ncclGetVersion(&version) != ncclSuccess)
        FAIL(ERR_SYSTEM, "NCCL does not tell its version");
    memcpy(self->host, comm->host, sizeof self->host);
    memcpy(self->device_id, info.id, sizeof self->device_id);
    self->version = version;
    return OK;
}

/* Different versions hang or worse; two ranks on one GPU are refused by NCCL in unclear words. */
static Err check_peers(const Peer *peer, int32_t world)
{
    for (int32_t r = 1; r < world; r++) {
        if (peer[r].version != peer[0].version)
            FAIL(ERR_SYSTEM, "NCCL is %s on rank 0 (%s), but %s on rank %d (%s): use one version",
                 version_text(peer[0].version).text, peer[0].host,
                 version_text(peer[r].version).text, r, peer[r].host);
        for (int32_t s = 0; s < r; s++)
            if (strcmp(peer[s].device_id, peer[r].device_id) == 0 &&
                strcmp(peer[s].host, peer[r].host) == 0)
                FAIL(ERR_SYSTEM,
                     "ranks %d and %d share one GPU of %s, which NCCL cannot do: start one rank "
                     "per GPU, or use comm = mpi",
                     s, r, peer[r].host);
    }
    return OK;
}

static Err meet_peers(Comm *comm, Device *dev)
{
    Peer self;
    Peer *peer = calloc((size_t)comm->world, sizeof *peer);
    Err err = peer ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for %d ranks", comm->world);
    TRY_GOTO(err, done, comm_agree(comm, err_first(err, describe_self(comm, dev, &self))));
    TRY_GOTO(err, done, comm_gather_bytes(comm, &self, sizeof self, peer));
    err = check_peers(peer, comm->world);
done:
    free(peer);
    return err;
}

/* ---- start ------------------------------------------------------------------------------- */

static Err make_queues(Comm *comm)
{
    NcclWorld *w = calloc(1, sizeof *w);
    comm->data_impl = w;
    if (!w)
        FAIL(ERR_SYSTEM, "out of memory");
    w->ranks = comm;
    w->call_timeout_s = comm->init_timeout_s;
    int least = 0, greatest = 0;
    TRY(cuda_err(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                 "cudaDeviceGetStreamPriorityRange"));
    TRY(cuda_err(cudaStreamCreateWithPriority(&w->stream, cudaStreamNonBlocking, greatest),
                 "cudaStreamCreateWithPriority"));
    cudaEvent_t *const event[] = {&w->computed, &w->moved, &w->synced};
    for (size_t i = 0; i < sizeof event / sizeof *event; i++)
        TRY(cuda_err(cudaEventCreateWithFlags(event[i], cudaEventDisableTiming),
                     "cudaEventCreateWithFlags"));
    return OK;
}

/* Rank 0 makes the address at which all ranks meet. */
static Err make_id(Comm *comm, ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    Err err = OK;
    if (comm->rank == 0) {
        ncclResult_t result = ncclGetUniqueId(id);
        if (result != ncclSuccess)
            err = ERR_NEW(ERR_SYSTEM, "ncclGetUniqueId: %s", ncclGetErrorString(result));
    }
    TRY(comm_agree(comm, err));
    return comm_broadcast_bytes(comm, id, sizeof *id, 0);
}

static Err join(Comm *comm, ncclUniqueId id)
{
    NcclWorld *w = world_of(comm);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t result = ncclCommInitRankConfig(&w->comm, comm->world, id, comm->rank, &config);
    Err err = settle(w, result, "ncclCommInitRankConfig");
    return err ? err_prefix(err, "NCCL did not start (NCCL_DEBUG=INFO tells more)") : OK;
}

/* ---- warm-up ----------------------------------------------------------------------------- */

/* Small integers, so that sums are exact. */
static float warm_up_value(int32_t rank, int64_t i)
{
    return (float)((i + rank) % 7);
}

/* After the sums, and the sums of these. */
static float warmed_up_value(const Comm *comm, int64_t i)
{
    float sum = 0;
    for (int32_t r = 0; r < comm->world; r++)
        sum += warm_up_value(r, i);
    return sum * (float)comm->world;
}

static Err check_value(const Comm *comm, float value, int64_t i)
{
    float wanted = warmed_up_value(comm, i);
    if (value != wanted)
        FAIL(ERR_SYSTEM,
             "NCCL gives wrong sums (element %lld: %g, wanted %g): the way between the GPUs "
             "is broken; NCCL_P2P_DISABLE=1 may go round it",
             (long long)i, (double)value, (double)wanted);
    return OK;
}

/* value (n), and what was exchanged (n): the own slice, from each rank. */
static Err check_warm_up(const Comm *comm, const float *value, const float *exchanged, int64_t n)
{
    int64_t slice = n / comm->world;
    for (int64_t i = 0; i < n; i++)
        TRY(check_value(comm, value[i], i));
    for (int64_t i = 0; i < n && comm->will_exchange; i++)
        TRY(check_value(comm, exchanged[i], comm->rank * slice + i % slice));
    return OK;
}

/* The whole sum, its sums, and these everywhere: each element becomes world times its sum. */
static Err move_all_ways(Comm *comm, Device *dev, Tensor buf, Tensor exchanged)
{
    TRY(nccl_all_reduce_sum(comm, dev, buf));
    TRY(nccl_reduce_scatter_sum(comm, dev, buf));
    TRY(nccl_all_gather(comm, dev, buf));
    if (comm->will_exchange)
        TRY(nccl_all_to_all(comm, dev, exchanged, buf));
    return nccl_wait(comm, dev);
}

/* host and both (2n): n elements and room for as many that are exchanged. */
static Err try_out(Comm *comm, Device *dev, float *host, Tensor both)
{
    NcclWorld *w = world_of(comm);
    int64_t n = tensor_count(both) / 2;
    Tensor buf = tensor_range(both, 0, n), exchanged = tensor_range(both, n, n);
    for (int64_t i = 0; i < n; i++)
        host[i] = warm_up_value(comm->rank, i);
    device_upload(dev, buf, host);
    device_zero(dev, exchanged);
    TRY(move_all_ways(comm, dev, buf, exchanged));
    TRY(wait_for_compute(w, dev, w->call_timeout_s)); /* a download might wait without limit */
    device_download(dev, host, both);
    TRY(device_sync(dev));
    return check_warm_up(comm, host, host + n, n);
}

/* NCCL connects and allocates when a collective is first used: here, not in the first step. */
static Err warm_up(Comm *comm, Device *dev)
{
    int64_t n = WARM_UP_ELEMENTS / comm->world * comm->world;
    if (n == 0)
        n = comm->world;
    size_t n_bytes = 2 * (size_t)n * sizeof(float);
    void *memory = NULL;
    float *host = malloc(n_bytes);
    Err err = host ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the first collectives");
    if (!err)
        err = device_alloc(dev, n_bytes, &memory);
    err = comm_agree(comm, err);
    if (!err)
        err = comm_agree(comm, try_out(comm, dev, host, tensor_1d(memory, DTYPE_F32, 2 * n)));
    device_free(dev, memory);
    free(host);
    return err;
}

/* ---- life -------------------------------------------------------------------------------- */

static Err nccl_open(Comm *comm, Device *dev)
{
    ncclUniqueId id;
    TRY(meet_peers(comm, dev));
    TRY(comm_agree(comm, make_queues(comm)));
    TRY(make_id(comm, &id));
    TRY(comm_agree(comm, join(comm, id)));
    return warm_up(comm, dev);
}

/* Leave with the others; a peer that does not come is not waited for. */
static void leave(NcclWorld *w)
{
    w->leaving = true;
    w->call_timeout_s = CLOSE_TIMEOUT_S;
    Err err = settle(w, ncclCommFinalize(w->comm), "ncclCommFinalize");
    if (!err)
        (void)ncclCommDestroy(w->comm);
    w->comm = NULL;
    err_free(err);
}

static void nccl_close(Comm *comm, Device *dev)
{
    NcclWorld *w = world_of(comm);
    (void)dev;
    if (!w)
        return;
    if (w->comm)
        leave(w);
    const cudaEvent_t event[] = {w->computed, w->moved, w->synced};
    for (size_t i = 0; i < sizeof event / sizeof *event; i++)
        if (event[i])
            (void)cudaEventDestroy(event[i]);
    if (w->stream)
        (void)cudaStreamDestroy(w->stream);
    free(w);
    comm->data_impl = NULL;
}

void comm_nccl_print_version(FILE *out)
{
    int version = 0;
    if (ncclGetVersion(&version) == ncclSuccess)
        fprintf(out, "NCCL: %s\n", version_text(version).text);
    else
        fprintf(out, "NCCL: unknown\n");
}

const CommOps COMM_NCCL_OPS = {
    .open = nccl_open,
    .close = nccl_close,
    .all_reduce_sum = nccl_all_reduce_sum,
    .reduce_scatter_sum = nccl_reduce_scatter_sum,
    .all_gather = nccl_all_gather,
    .all_to_all = nccl_all_to_all,
    .wait = nccl_wait,
    .sync = nccl_sync,
};
