#include "comm/comm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "comm/comm_ops.h"

static const double INIT_TIMEOUT_S = 120;

/* ---- life -------------------------------------------------------------------------------- */

static void name_host(Comm *comm)
{
    if (gethostname(comm->host, sizeof comm->host) != 0)
        snprintf(comm->host, sizeof comm->host, "unknown");
    comm->host[sizeof comm->host - 1] = '\0';
}

static Err make_scratch(Comm *comm)
{
    if (comm->world == 1)
        return OK;
    comm->gathered = calloc((size_t)comm->world, COMM_MAX_SCALARS * sizeof *comm->gathered);
    if (!comm->gathered)
        FAIL(ERR_SYSTEM, "out of memory for the sums of %d ranks", comm->world);
    return OK;
}

Err comm_open(Comm *comm, bool use_mpi)
{
    *comm = (Comm){.launched = use_mpi,
                   .world = 1,
                   .local_world = 1,
                   .max_count = INT_MAX,
                   .init_timeout_s = INIT_TIMEOUT_S};
    name_host(comm);
    if (!use_mpi) {
        comm->control = &COMM_SINGLE_CONTROL;
        return OK;
    }
    TRY(comm_mpi_open(comm));
    return comm_agree(comm, make_scratch(comm));
}

#ifdef GPT_NCCL
static const CommOps *const NCCL_OPS = &COMM_NCCL_OPS;
static void (*const NCCL_PRINT_VERSION)(FILE *) = comm_nccl_print_version;
#else
static const CommOps *const NCCL_OPS = NULL;
static void (*const NCCL_PRINT_VERSION)(FILE *) = NULL;
#endif

bool comm_built(CommKind kind)
{
    return kind != COMM_NCCL || NCCL_OPS;
}

static Err choose_nccl(const Device *dev, const CommOps **ops)
{
    if (!NCCL_OPS)
        FAIL(ERR_USAGE, "comm = nccl: this program was built without NCCL; use comm = mpi");
    if (device_is_host(dev))
        FAIL(ERR_USAGE, "comm = nccl moves GPU memory, and device = %s; use comm = auto",
             device_kind_name(dev->kind));
    *ops = NCCL_OPS;
    return OK;
}

static Err choose_ops(const Comm *comm, const Device *dev, CommKind kind, const CommOps **ops)
{
    if (kind == COMM_NCCL)
        return choose_nccl(dev, ops);
    if (comm->world > 1 && kind == COMM_SINGLE)
        FAIL(ERR_USAGE, "%d ranks cannot train together without communication; use comm = mpi",
             comm->world);
    *ops = device_is_host(dev) ? &COMM_MPI_OPS : &COMM_STAGED_OPS;
    if (comm->world == 1)
        *ops = &COMM_SINGLE_OPS;
    return OK;
}

Err comm_bind(Comm *comm, Device *dev, CommKind kind)
{
    const CommOps *ops = NULL;
    ASSERT(!comm->ops, "bound twice");
    comm->n_binds++;
    TRY(comm_agree(comm, choose_ops(comm, dev, kind, &ops)));
    Err err = ops->open(comm, dev);
    if (err) {
        ops->close(comm, dev);
        return err_trace(err, __FILE__, __LINE__);
    }
    comm->ops = ops;
    comm->kind = ops == &COMM_SINGLE_OPS ? COMM_SINGLE : kind;
    return OK;
}

void comm_unbind(Comm *comm, Device *dev)
{
    if (comm->ops)
        comm->ops->close(comm, dev);
    comm->ops = NULL;
}

void comm_close(Comm *comm)
{
    ASSERT(!comm->data_impl, "comm_unbind comes before comm_close");
    free(comm->gathered);
    if (comm->control)
        comm->control->close(comm);
    *comm = (Comm){0};
}

void comm_abort(Comm *comm, int exit_code)
{
    if (comm->control)
        comm->control->abort(comm, exit_code);
    _exit(exit_code);
}

void comm_abandon_data(Comm *comm, bool *done)
{
    int32_t none = COMM_NOT_ABANDONED;
    (void)__atomic_compare_exchange_n(&comm->abandoned, &none, COMM_TO_ABANDON, false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    *done = comm->kind != COMM_NCCL ||
            __atomic_load_n(&comm->abandoned, __ATOMIC_RELAXED) == COMM_ABANDONED;
}

const char *comm_kind_name(CommKind kind)
{
    static const char *const NAMES[] = {
        [COMM_SINGLE] = "single", [COMM_MPI] = "mpi", [COMM_NCCL] = "nccl"};
    ASSERT(kind >= COMM_SINGLE && kind <= COMM_NCCL, "kind %d", (int)kind);
    return NAMES[kind];
}

void comm_print_versions(FILE *out)
{
    comm_mpi_print_version(out);
    if (NCCL_PRINT_VERSION)
        NCCL_PRINT_VERSION(out);
    else
        fprintf(out, "NCCL: not built in\n");
}

/* ---- control plane ----------------------------------------------------------------------- */

static void check_rank(const Comm *comm, int32_t rank)
{
    ASSERT(rank >= 0 && rank < comm->world, "rank %d of %d", rank, comm->world);
}

/* Ends what activity_enter began, and passes the call's result on. */
static Err left(Comm *comm, const char *outer, Err err)
{
    activity_leave(comm->activity, outer);
    return err;
}

Err comm_barrier(Comm *comm)
{
    const char *outer = activity_enter(comm->activity, "barrier");
    return left(comm, outer, comm->control->barrier(comm));
}

Err comm_share_host(Comm *comm, size_t n_bytes, void **all)
{
    *all = NULL;
    return comm->control->share(comm, n_bytes, all);
}

/* Not an all-reduce: MPI does not promise that those give every rank the same bits. */
static Err sum_in_rank_order(Comm *comm, double *value, int32_t n)
{
    TRY(comm_gather_bytes(comm, value, (size_t)n * sizeof *value, comm->gathered));
    for (int32_t i = 0; i < n; i++) {
        double sum = comm->gathered[i];
        for (int32_t rank = 1; rank < comm->world; rank++)
            sum += comm->gathered[(int64_t)rank * n + i];
        value[i] = sum;
    }
    return OK;
}

Err comm_sum_f64(Comm *comm, double *value, int32_t n)
{
    ASSERT(n >= 0 && n <= COMM_MAX_SCALARS, "%d values", n);
    if (comm->world == 1)
        return OK;
    const char *outer = activity_enter(comm->activity, "sum over ranks");
    return left(comm, outer, sum_in_rank_order(comm, value, n));
}

Err comm_max_i64(Comm *comm, int64_t *value, int32_t n)
{
    ASSERT(n >= 0 && n <= COMM_MAX_SCALARS, "%d values", n);
    const char *outer = activity_enter(comm->activity, "maximum over ranks");
    return left(comm, outer, comm->control->max_i64(comm, value, n));
}

Err comm_broadcast_bytes(Comm *comm, void *bytes, size_t n_bytes, int32_t root)
{
    check_rank(comm, root);
    const char *outer = activity_enter(comm->activity, "broadcast");
    return left(comm, outer, comm->control->broadcast(comm, bytes, n_bytes, root));
}

Err comm_gather_bytes(Comm *comm, const void *mine, size_t n_bytes, void *all)
{
    const char *outer = activity_enter(comm->activity, "gather");
    return left(comm, outer, comm->control->gather(comm, mine, n_bytes, all, COMM_ALL_RANKS));
}

Err comm_gather_host(Comm *comm, const void *mine, size_t n_bytes, void *all, int32_t root)
{
    check_rank(comm, root);
    void *here = comm->rank == root ? all : NULL;
    const char *outer = activity_enter(comm->activity, "gather");
    return left(comm, outer, comm->control->gather(comm, mine, n_bytes, here, root));
}

Err comm_send_host(Comm *comm, void *bytes, size_t n_bytes, int32_t from, int32_t to)
{
    check_rank(comm, from);
    check_rank(comm, to);
    const char *outer = activity_enter(comm->activity, "send");
    return left(comm, outer, comm->control->send(comm, bytes, n_bytes, from, to));
}

/* What a failing rank tells the others. */
typedef struct {
    int32_t code;
    char host[sizeof((Comm *)0)->host];
    char message[1024];
} Report;

static Report report_of(const Comm *comm, Err err)
{
    Report report = {.code = (int32_t)err_code(err)};
    memcpy(report.host, comm->host, sizeof report.host);
    snprintf(report.message, sizeof report.message, "%s", err_message(err));
    return report;
}

/* *rank = the lowest one with an error, world when there is none. */
static Err find_failed_rank(Comm *comm, Err mine, int32_t *rank)
{
    int64_t first = mine ? -comm->rank : -comm->world; /* the largest of the negatives */
    TRY(comm_max_i64(comm, &first, 1));
    *rank = (int32_t)-first;
    return OK;
}

/* Every rank learns the report of rank `from`, and whether all ranks would have said the same. */
static Err spread_report(Comm *comm, Report *report, int32_t from, bool *alike)
{
    const Report mine = *report;
    TRY(comm_broadcast_bytes(comm, report, sizeof *report, from));
    int64_t differs = mine.code != report->code || strcmp(mine.message, report->message) != 0;
    TRY(comm_max_i64(comm, &differs, 1));
    *alike = !differs;
    return OK;
}

static Err agree_over_ranks(Comm *comm, Err mine, Report *report, int32_t *from, bool *alike)
{
    TRY(find_failed_rank(comm, mine, from));
    if (*from == comm->world)
        return OK;
    *report = report_of(comm, mine);
    return spread_report(comm, report, *from, alike);
}

Err comm_agree(Comm *comm, Err mine)
{
    Report report;
    int32_t from = 0;
    bool alike = true;
    if (comm->world == 1)
        return mine;
    const char *outer = activity_enter(comm->activity, "agreement of ranks");
    Err trouble = left(comm, outer, agree_over_ranks(comm, mine, &report, &from, &alike));
    if (trouble)
        return err_first(mine, trouble);
    if (from == comm->world)
        return OK;
    if (from != comm->rank) { /* the rank it comes from keeps its own, with its trail */
        err_free(mine);
        mine = ERR_NEW((ErrCode)report.code, "%s", report.message);
    }
    return alike ? mine : err_prefix(mine, "rank %d on %s", from, report.host);
}

/* ---- data plane -------------------------------------------------------------------------- */

static void check_sum(const Comm *comm, Tensor buf)
{
    ASSERT(comm->ops, "comm_bind has not been called");
    ASSERT(buf.dtype == DTYPE_F32 || buf.dtype == DTYPE_F64, "sum of %s", dtype_name(buf.dtype));
}

static void check_slices(const Comm *comm, Tensor buf)
{
    ASSERT(comm->ops, "comm_bind has not been called");
    ASSERT(tensor_count(buf) % comm->world == 0, "%lld elements over %d ranks",
           (long long)tensor_count(buf), comm->world);
}

Err comm_all_reduce_sum(Comm *comm, Device *dev, Tensor buf)
{
    check_sum(comm, buf);
    const char *outer = activity_enter(comm->activity, "all-reduce");
    return left(comm, outer, comm->ops->all_reduce_sum(comm, dev, buf));
}

Err comm_reduce_scatter_sum(Comm *comm, Device *dev, Tensor buf)
{
    check_sum(comm, buf);
    check_slices(comm, buf);
    const char *outer = activity_enter(comm->activity, "reduce-scatter");
    return left(comm, outer, comm->ops->reduce_scatter_sum(comm, dev, buf));
}

Err comm_all_gather(Comm *comm, Device *dev, Tensor buf)
{
    check_slices(comm, buf);
    const char *outer = activity_enter(comm->activity, "all-gather");
    return left(comm, outer, comm->ops->all_gather(comm, dev, buf));
}

Err comm_all_to_all(Comm *comm, Device *dev, Tensor receive, Tensor send)
{
    check_slices(comm, send);
    ASSERT(receive.dtype == send.dtype && tensor_count(receive) == tensor_count(send),
           "%s x %lld from %s x %lld", dtype_name(receive.dtype), (long long)tensor_count(receive),
           dtype_name(send.dtype), (long long)tensor_count(send));
    const char *outer = activity_enter(comm->activity, "all-to-all");
    return left(comm, outer, comm->ops->all_to_all(comm, dev, receive, send));
}

Err comm_wait(Comm *comm, Device *dev)
{
    ASSERT(comm->ops, "comm_bind has not been called");
    return comm->ops->wait(comm, dev);
}

Err comm_sync(Comm *comm, Device *dev)
{
    ASSERT(comm->ops, "comm_bind has not been called");
    const char *outer = activity_enter(comm->activity, "wait for the device");
    return left(comm, outer, comm->ops->sync(comm, dev));
}

/* ---- a data plane whose calls all wait ---------------------------------------------------- */

Err comm_plain_open(Comm *comm, Device *dev)
{
    (void)comm, (void)dev;
    return OK;
}

void comm_plain_close(Comm *comm, Device *dev)
{
    (void)comm, (void)dev;
}

Err comm_plain_wait(Comm *comm, Device *dev)
{
    (void)comm, (void)dev;
    return OK;
}

Err comm_plain_sync(Comm *comm, Device *dev)
{
    (void)comm;
    return device_sync(dev);
}
