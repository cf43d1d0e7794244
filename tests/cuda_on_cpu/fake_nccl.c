/* NCCL over MPI, on the streams of the fake CUDA runtime. A collective runs when its stream gets to
 * it, and ends when all ranks have come, as on GPUs.
 *
 * It is stricter than NCCL: every call but the queries is in progress once before it is done, and
 * the next call must not come before that was asked for; buffers must lie inside one block of
 * cudaMalloc; buffers in place must be exactly in place; ranks must agree in kind, type and count
 * (the program ends when they do not, where NCCL would hang); sums are of float32 and float64 only,
 * for a sum in 16 bits loses what we promise; two ranks on one GPU are refused.
 *
 * The environment can ask for trouble, in tests:
 *     GPT_FAKE_NCCL_VERSION=22703   ncclGetVersion's answer
 *     GPT_FAKE_NCCL_INIT=never      this rank never meets the others
 *     GPT_FAKE_NCCL_FAIL_AT=N       the N-th collective of a communicator (from 1) never ends, and
 *                                   ncclRemoteError comes up
 *     GPT_FAKE_NCCL_WRONG_AT=N      the N-th collective gives a wrong first element
 *     GPT_FAKE_NCCL_WRONG_SEND=1    what is received in a group has a wrong first element
 *
 * MPI is called without waiting, from within fake_streams_progress; fake_nccl_mpi.c sees to it that
 * streams go on while the program waits in MPI. */
#include <nccl.h>

#include <mpi.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/cuda_on_cpu/fake_stream.h"

enum { MAX_GROUP = 1024, P2P_TAG = 7 };

/* What ranks tell each other when they meet. */
typedef struct {
    ncclUniqueId id;
    cudaUUID_t gpu;
    int32_t n_ranks, version;
} Card;

typedef enum { MEETING_NOT_BEGUN, MEETING_DUPLICATES, MEETING_EXCHANGES, MEETING_OVER } Meeting;

struct ncclComm {
    int rank, n_ranks;
    ncclResult_t state; /* what ncclCommGetAsyncError answers */
    const char *detail; /* and ncclGetLastError */
    bool aborted, finalizing;
    int64_t n_collectives;
    int64_t n_users; /* the owner and everything queued */
    Meeting meeting;
    bool pending; /* the last call has not been asked about */
    MPI_Comm mpi; /* MPI_COMM_NULL alone */
    MPI_Request request;
    Card mine, *card;
    ncclComm_t next; /* of those given up */
};

/* ---- small things ------------------------------------------------------------------------ */

static void die(const char *what)
{
    fprintf(stderr, "fake NCCL: %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 70);
    abort();
}

static void must(int rc, const char *what)
{
    if (rc != MPI_SUCCESS)
        die(what);
}

static int64_t env_number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : 0;
}

static size_t bytes_of(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    }
    return 0;
}

static ncclResult_t refuse(ncclComm_t comm, ncclResult_t result, const char *detail)
{
    comm->detail = detail;
    return result;
}

static void release(ncclComm_t comm)
{
    if (--comm->n_users > 0)
        return;
    if (comm->meeting == MEETING_DUPLICATES || comm->meeting == MEETING_EXCHANGES) {
        static ncclComm_t given_up; /* kept for good: MPI still writes there */
        comm->next = given_up;
        given_up = comm;
        return;
    }
    if (comm->mpi != MPI_COMM_NULL && !comm->aborted)
        must(MPI_Comm_free(&comm->mpi), "MPI_Comm_free");
    free(comm->card);
    free(comm);
}

/* A call that was taken: it is in progress until somebody asks. */
static ncclResult_t taken(ncclComm_t comm)
{
    comm->pending = true;
    return ncclInProgress;
}

static ncclResult_t check_ready(ncclComm_t comm)
{
    if (!comm)
        return ncclInvalidArgument;
    if (comm->pending || comm->state == ncclInProgress)
        return refuse(comm, ncclInvalidArgument, "the call before is still in progress");
    return comm->state;
}

ncclResult_t ncclGetVersion(int *version)
{
    int64_t told = env_number("GPT_FAKE_NCCL_VERSION");
    *version = told ? (int)told : NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error",
                                       "NCCL operation in progress"};
    return result >= 0 && result < ncclNumResults ? text[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return comm ? comm->detail : "";
}

/* ---- meeting ----------------------------------------------------------------------------- */

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int n_made;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "%d/%d/%lld/%ld", (int)getpid(), ++n_made,
             (long long)now.tv_sec, now.tv_nsec);
    return ncclSuccess;
}

static ncclResult_t fill_card(Card *card, ncclUniqueId id, int n_ranks)
{
    int device = -1;
    cudaDeviceProp prop;
    memset(card, 0, sizeof *card);
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaGetDeviceProperties(&prop, device) != cudaSuccess)
        return ncclUnhandledCudaError;
    card->id = id;
    card->gpu = prop.uuid;
    card->n_ranks = n_ranks;
    ncclGetVersion(&card->version);
    return ncclSuccess;
}

/* MPI's world must be NCCL's. */
static bool fits_mpi(int n_ranks, int rank)
{
    int running = 0, mpi_rank = 0, mpi_size = 1;
    must(MPI_Initialized(&running), "MPI_Initialized");
    if (n_ranks == 1)
        return true;
    if (!running)
        return false;
    must(MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank), "MPI_Comm_rank");
    must(MPI_Comm_size(MPI_COMM_WORLD, &mpi_size), "MPI_Comm_size");
    return mpi_rank == rank && mpi_size == n_ranks;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    *comm = NULL;
    if (!config || config->size != sizeof *config || config->magic != 0xcafebeef)
        return ncclInvalidArgument;
    if (config->blocking != 0 || !fits_mpi(n_ranks, rank))
        return ncclInvalidUsage;
    ncclComm_t c = calloc(1, sizeof *c);
    Card *card = calloc((size_t)n_ranks, sizeof *card);
    if (!c || !card)
        die("out of memory");
    *c = (struct ncclComm){.rank = rank,
                           .n_ranks = n_ranks,
                           .state = ncclInProgress,
                           .detail = "",
                           .n_users = 1,
                           .mpi = MPI_COMM_NULL,
                           .request = MPI_REQUEST_NULL,
                           .card = card};
    *comm = c;
    ncclResult_t result = fill_card(&c->mine, id, n_ranks);
    return result == ncclSuccess ? ncclInProgress : result;
}

/* What the cards say; a rank that cannot join is waited for in vain, as with NCCL. */
static ncclResult_t read_cards(ncclComm_t comm)
{
    for (int r = 0; r < comm->n_ranks; r++) {
        const Card *card = &comm->card[r];
        if (memcmp(&card->id, &comm->mine.id, sizeof card->id) != 0 ||
            card->n_ranks != comm->n_ranks || card->version != comm->mine.version)
            return ncclInProgress;
        for (int s = 0; s < r; s++)
            if (memcmp(&comm->card[s].gpu, &card->gpu, sizeof card->gpu) == 0)
                return refuse(comm, ncclInvalidUsage, "Duplicate GPU detected");
    }
    return ncclSuccess;
}

/* One step towards all ranks having met; never waits. */
static void meet(ncclComm_t comm)
{
    const char *told = getenv("GPT_FAKE_NCCL_INIT");
    int done = 0;
    if (told && strcmp(told, "never") == 0)
        return;
    if (comm->meeting == MEETING_NOT_BEGUN && comm->n_ranks == 1) {
        comm->card[0] = comm->mine;
        comm->meeting = MEETING_OVER;
        comm->state = ncclSuccess;
    } else if (comm->meeting == MEETING_NOT_BEGUN) {
        must(MPI_Comm_idup(MPI_COMM_WORLD, &comm->mpi, &comm->request), "MPI_Comm_idup");
        comm->meeting = MEETING_DUPLICATES;
    } else if (comm->meeting != MEETING_OVER) {
        must(MPI_Test(&comm->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
        if (done && comm->meeting == MEETING_DUPLICATES) {
            must(MPI_Iallgather(&comm->mine, sizeof(Card), MPI_BYTE, comm->card, sizeof(Card),
                                MPI_BYTE, comm->mpi, &comm->request),
                 "MPI_Iallgather");
            comm->meeting = MEETING_EXCHANGES;
        } else if (done) {
            comm->meeting = MEETING_OVER;
            comm->state = read_cards(comm);
        }
    }
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    if (!comm)
        return ncclInvalidArgument;
    if (comm->meeting != MEETING_OVER)
        meet(comm);
    if (comm->finalizing)
        fake_streams_progress();
    if (comm->finalizing && comm->state == ncclInProgress && comm->n_users == 1)
        comm->state = ncclSuccess;
    bool first = comm->pending;
    comm->pending = false;
    *state = comm->state == ncclSuccess && first ? ncclInProgress : comm->state;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    ncclResult_t ready = check_ready(comm);
    if (ready != ncclSuccess)
        return ready;
    comm->finalizing = true;
    comm->state = ncclInProgress;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (!comm || !comm->finalizing || comm->state != ncclSuccess)
        return ncclInvalidArgument;
    release(comm);
    return ncclSuccess;
}

/* What was queued on streams ends without a result. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (!comm)
        return ncclInvalidArgument;
    comm->aborted = true;
    release(comm);
    return ncclSuccess;
}

/* ---- collectives ------------------------------------------------------------------------- */

typedef enum { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER } Kind;

/* What all ranks must do alike. */
typedef struct {
    int64_t kind, type, count, number;
} Heading;

typedef enum { STAGE_QUEUED, STAGE_HEADINGS, STAGE_DATA } Stage;

typedef struct {
    ncclComm_t comm;
    Heading heading;
    const void *send;
    void *receive;
    Stage stage;
    MPI_Request request;
    Heading *headings; /* of all ranks */
    char *sent;        /* a copy: in place, the result would overwrite it */
    char *got;         /* from all ranks */
} Collective;

static size_t sent_bytes(const Collective *c)
{
    size_t slice = (size_t)c->heading.count * bytes_of((ncclDataType_t)c->heading.type);
    return c->heading.kind == REDUCE_SCATTER ? slice * (size_t)c->comm->n_ranks : slice;
}

static void begin_headings(Collective *c)
{
    size_t n = (size_t)c->comm->n_ranks;
    c->headings = calloc(n, sizeof(Heading));
    c->sent = malloc(sent_bytes(c));
    c->got = malloc(c->heading.kind == REDUCE_SCATTER ? sent_bytes(c) : n * sent_bytes(c));
    if (!c->headings || !c->sent || !c->got)
        die("out of memory");
    memcpy(c->sent, c->send, sent_bytes(c));
    must(MPI_Iallgather(&c->heading, sizeof(Heading), MPI_BYTE, c->headings, sizeof(Heading),
                        MPI_BYTE, c->comm->mpi, &c->request),
         "MPI_Iallgather");
    c->stage = STAGE_HEADINGS;
}

static void begin_data(Collective *c)
{
    for (int r = 0; r < c->comm->n_ranks; r++)
        if (memcmp(&c->headings[r], &c->heading, sizeof c->heading) != 0)
            die("ranks call different collectives, or with different counts or types");
    int n = (int)sent_bytes(c);
    if (c->heading.kind == REDUCE_SCATTER)
        must(MPI_Ialltoall(c->sent, n / c->comm->n_ranks, MPI_BYTE, c->got, n / c->comm->n_ranks,
                           MPI_BYTE, c->comm->mpi, &c->request),
             "MPI_Ialltoall");
    else
        must(MPI_Iallgather(c->sent, n, MPI_BYTE, c->got, n, MPI_BYTE, c->comm->mpi, &c->request),
             "MPI_Iallgather");
    c->stage = STAGE_DATA;
}

/* receive = sum over ranks, in rank order. */
static void add_all(const Collective *c)
{
    int64_t n = c->heading.count;
    const float *f = (const void *)c->got;
    const double *d = (const void *)c->got;
    for (int64_t i = 0; i < n; i++) {
        float f_sum = 0;
        double d_sum = 0;
        for (int64_t r = 0; r < c->comm->n_ranks; r++)
            if (c->heading.type == ncclFloat32)
                f_sum = r == 0 ? f[i] : f_sum + f[r * n + i];
            else
                d_sum = r == 0 ? d[i] : d_sum + d[r * n + i];
        if (c->heading.type == ncclFloat32)
            ((float *)c->receive)[i] = f_sum;
        else
            ((double *)c->receive)[i] = d_sum;
    }
}

static void finish(const Collective *c)
{
    if (c->comm->n_ranks == 1)
        memmove(c->receive, c->send, sent_bytes(c));
    else if (c->heading.kind == ALL_GATHER)
        memcpy(c->receive, c->got, (size_t)c->comm->n_ranks * sent_bytes(c));
    else
        add_all(c);
    if (c->heading.number == env_number("GPT_FAKE_NCCL_WRONG_AT"))
        *(char *)c->receive ^= 1;
}

static bool let_go(Collective *c)
{
    free(c->headings);
    free(c->sent);
    free(c->got);
    release(c->comm);
    return true;
}

/* What MPI still writes to when a collective is given up: kept for good. */
static bool give_up(Collective *c)
{
    typedef struct Kept {
        struct Kept *next;
        Collective collective;
    } Kept;
    static Kept *all_kept;
    if (c->stage == STAGE_QUEUED)
        return let_go(c);
    Kept *kept = calloc(1, sizeof *kept);
    if (!kept)
        die("out of memory");
    *kept = (Kept){all_kept, *c};
    all_kept = kept;
    release(c->comm);
    return true;
}

/* FakeWork. */
static bool run_collective(void *arg)
{
    Collective *c = arg;
    int done = 0;
    if (c->comm->aborted)
        return give_up(c);
    if (c->heading.number == env_number("GPT_FAKE_NCCL_FAIL_AT")) {
        c->comm->state = refuse(c->comm, ncclRemoteError, "a peer is gone");
        return false;
    }
    if (c->comm->n_ranks > 1) {
        if (c->stage == STAGE_QUEUED)
            begin_headings(c);
        must(MPI_Test(&c->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
        if (done && c->stage == STAGE_HEADINGS) {
            begin_data(c);
            must(MPI_Test(&c->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
        }
        if (!done)
            return false;
    }
    finish(c);
    return let_go(c);
}

static bool sums(ncclDataType_t type, ncclRedOp_t op)
{
    return op == ncclSum && (type == ncclFloat32 || type == ncclFloat64);
}

/* `whole` bytes lie in place with a slice of them when the slice is the own one; else they must not
 * overlap. */
static bool well_placed(const void *whole, size_t whole_bytes, const void *slice,
                        size_t slice_bytes, int rank)
{
    uintptr_t w = (uintptr_t)whole, s = (uintptr_t)slice;
    bool overlap = s < w + whole_bytes && w < s + slice_bytes;
    return !overlap || s == w + (size_t)rank * slice_bytes;
}

static ncclResult_t push_collective(const Collective *c, cudaStream_t stream)
{
    ncclComm_t comm = c->comm;
    Collective queued = *c;
    queued.heading.number = ++comm->n_collectives;
    queued.request = MPI_REQUEST_NULL;
    comm->n_users++;
    double us = 10 + (double)sent_bytes(c) / 1e5; /* 100 GB/s */
    if (fake_stream_push(stream, run_collective, &queued, sizeof queued, us) == cudaSuccess)
        return taken(comm);
    comm->n_users--;
    return refuse(comm, ncclUnhandledCudaError, "the stream takes no work");
}

static ncclResult_t check_collective(const Collective *c, size_t receive_bytes)
{
    if (sent_bytes(c) > INT_MAX)
        return refuse(c->comm, ncclInvalidArgument, "too long for the fake");
    if (!fake_is_device_memory(c->send, sent_bytes(c)) ||
        !fake_is_device_memory(c->receive, receive_bytes))
        return refuse(c->comm, ncclInvalidArgument, "a buffer is not memory of the device");
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    ncclResult_t ready = check_ready(comm);
    if (ready != ncclSuccess)
        return ready;
    if (!sums(type, op))
        return refuse(comm, ncclInvalidArgument, "the fake adds float32 and float64 only");
    const Collective c = {.comm = comm,
                          .heading = {ALL_REDUCE, type, (int64_t)count, 0},
                          .send = send,
                          .receive = receive};
    if (!well_placed(receive, sent_bytes(&c), send, sent_bytes(&c), 0))
        return refuse(comm, ncclInvalidArgument, "buffers overlap");
    ready = check_collective(&c, sent_bytes(&c));
    return ready == ncclSuccess ? push_collective(&c, stream) : ready;
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t receive_count,
                               ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream)
{
    ncclResult_t ready = check_ready(comm);
    if (ready != ncclSuccess)
        return ready;
    if (!sums(type, op))
        return refuse(comm, ncclInvalidArgument, "the fake adds float32 and float64 only");
    const Collective c = {.comm = comm,
                          .heading = {REDUCE_SCATTER, type, (int64_t)receive_count, 0},
                          .send = send,
                          .receive = receive};
    size_t slice = receive_count * bytes_of(type);
    if (!well_placed(send, sent_bytes(&c), receive, slice, comm->rank))
        return refuse(comm, ncclInvalidArgument, "in place, but not at the own slice");
    ready = check_collective(&c, slice);
    return ready == ncclSuccess ? push_collective(&c, stream) : ready;
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t send_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    ncclResult_t ready = check_ready(comm);
    if (ready != ncclSuccess)
        return ready;
    const Collective c = {.comm = comm,
                          .heading = {ALL_GATHER, type, (int64_t)send_count, 0},
                          .send = send,
                          .receive = receive};
    size_t whole = sent_bytes(&c) * (size_t)comm->n_ranks;
    if (!well_placed(receive, whole, send, sent_bytes(&c), comm->rank))
        return refuse(comm, ncclInvalidArgument, "in place, but not at the own slice");
    ready = check_collective(&c, whole);
    return ready == ncclSuccess ? push_collective(&c, stream) : ready;
}

/* ---- send and receive -------------------------------------------------------------------- */

typedef struct {
    bool sends;
    void *memory; /* on the device */
    char *copy;   /* what MPI reads or writes */
    int n_bytes, peer;
    ncclComm_t comm;
    cudaStream_t stream;
} Transfer;

/* Of one ncclGroupEnd; freed when it is through. */
typedef struct {
    ncclComm_t comm;
    int n;
    bool begun;
    MPI_Request *request;
    Transfer transfer[];
} Group;

/* What was called since ncclGroupStart. */
static struct {
    int depth, n;
    ncclResult_t result; /* the first refusal */
    Transfer transfer[MAX_GROUP];
} open_group;

static Group *new_group(void)
{
    size_t n = (size_t)open_group.n;
    Group *g = calloc(1, sizeof *g + n * sizeof(Transfer));
    MPI_Request *request = calloc(n, sizeof *request);
    if (!g || !request)
        die("out of memory");
    g->comm = open_group.transfer[0].comm;
    g->n = open_group.n;
    g->request = request;
    memcpy(g->transfer, open_group.transfer, n * sizeof(Transfer));
    return g;
}

static void begin_group(Group *g)
{
    for (int i = 0; i < g->n; i++) {
        Transfer *t = &g->transfer[i];
        t->copy = malloc((size_t)t->n_bytes);
        if (!t->copy)
            die("out of memory");
        if (t->sends)
            memcpy(t->copy, t->memory, (size_t)t->n_bytes);
        must(t->sends ? MPI_Isend(t->copy, t->n_bytes, MPI_BYTE, t->peer, P2P_TAG, g->comm->mpi,
                                  &g->request[i])
                      : MPI_Irecv(t->copy, t->n_bytes, MPI_BYTE, t->peer, P2P_TAG, g->comm->mpi,
                                  &g->request[i]),
             "a send or receive");
    }
    g->begun = true;
}

/* A message that is longer than what receives it is MPI's error, a shorter one is ours. */
static bool test_group(Group *g)
{
    for (int i = 0; i < g->n; i++) {
        MPI_Status status;
        int done = 0, n_bytes = 0;
        if (g->request[i] == MPI_REQUEST_NULL)
            continue;
        must(MPI_Test(&g->request[i], &done, &status), "a message is longer than its receiver");
        if (!done)
            return false;
        if (g->transfer[i].sends)
            continue;
        must(MPI_Get_count(&status, MPI_BYTE, &n_bytes), "MPI_Get_count");
        if (n_bytes != g->transfer[i].n_bytes)
            die("a message is shorter than its receiver");
        memcpy(g->transfer[i].memory, g->transfer[i].copy, (size_t)n_bytes);
        if (env_number("GPT_FAKE_NCCL_WRONG_SEND"))
            *(char *)g->transfer[i].memory ^= 1;
    }
    return true;
}

/* In a world of one: what is sent is what is received, in order. */
static void copy_to_self(const Group *g)
{
    int receiver = 0;
    for (int i = 0; i < g->n; i++) {
        if (!g->transfer[i].sends)
            continue;
        while (receiver < g->n && g->transfer[receiver].sends)
            receiver++;
        if (receiver == g->n || g->transfer[receiver].n_bytes != g->transfer[i].n_bytes)
            die("a rank sends itself what it does not receive");
        memcpy(g->transfer[receiver++].memory, g->transfer[i].memory,
               (size_t)g->transfer[i].n_bytes);
    }
}

static void free_group(Group *g)
{
    for (int i = 0; i < g->n; i++)
        free(g->transfer[i].copy);
    release(g->comm);
    free(g->request);
    free(g);
}

/* FakeWork. */
static bool run_group(void *arg)
{
    Group *g = *(Group **)arg;
    if (g->comm->aborted && g->begun) {
        release(g->comm); /* MPI may still write to the copies */
        return true;
    }
    if (!g->comm->aborted && g->comm->n_ranks == 1) {
        copy_to_self(g);
    } else if (!g->comm->aborted) {
        if (!g->begun)
            begin_group(g);
        if (!test_group(g))
            return false;
    }
    free_group(g);
    return true;
}

ncclResult_t ncclGroupStart(void)
{
    if (open_group.depth++ == 0) {
        open_group.n = 0;
        open_group.result = ncclSuccess;
    }
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (open_group.depth == 0)
        return ncclInvalidUsage;
    if (--open_group.depth > 0 || open_group.n == 0)
        return ncclSuccess;
    if (open_group.result != ncclSuccess)
        return open_group.result;
    Group *g = new_group();
    g->comm->n_users++;
    if (fake_stream_push(open_group.transfer[0].stream, run_group, &g, sizeof g, 10) == cudaSuccess)
        return taken(g->comm);
    free_group(g);
    return ncclUnhandledCudaError;
}

static ncclResult_t check_transfer(const Transfer *t, size_t n_bytes)
{
    const Transfer *first = &open_group.transfer[0];
    ncclResult_t ready = check_ready(t->comm);
    if (ready != ncclSuccess)
        return ready;
    if (n_bytes > INT_MAX || open_group.n == MAX_GROUP)
        return refuse(t->comm, ncclInvalidArgument, "too long for the fake");
    if (t->peer < 0 || t->peer >= t->comm->n_ranks)
        return refuse(t->comm, ncclInvalidArgument, "no such peer");
    if (!fake_is_device_memory(t->memory, n_bytes))
        return refuse(t->comm, ncclInvalidArgument, "a buffer is not memory of the device");
    if (open_group.n > 0 && (first->comm != t->comm || first->stream != t->stream))
        return refuse(t->comm, ncclInvalidUsage, "the fake groups calls of one stream");
    return ncclSuccess;
}

static ncclResult_t add_transfer(Transfer t, size_t count, ncclDataType_t type)
{
    size_t n_bytes = count * bytes_of(type);
    ncclGroupStart();
    ncclResult_t checked = check_transfer(&t, n_bytes);
    t.n_bytes = (int)n_bytes;
    if (checked == ncclSuccess)
        open_group.transfer[open_group.n++] = t;
    else if (open_group.result == ncclSuccess)
        open_group.result = checked;
    ncclResult_t ended = ncclGroupEnd();
    return checked == ncclSuccess ? ended : checked;
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    Transfer t = {
        .sends = true, .memory = (void *)send, .peer = peer, .comm = comm, .stream = stream};
    return add_transfer(t, count, type);
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    Transfer t = {.memory = receive, .peer = peer, .comm = comm, .stream = stream};
    return add_transfer(t, count, type);
}
