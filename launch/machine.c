#include "launch/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/bind.h"
#include "optim/reducer.h"

enum { HOST_BYTES = sizeof((Comm *)0)->host };

/* A table of all ranks' `mine`, malloc'd; the same on every rank. Collective. */
static Err gather_all(Comm *comm, const void *mine, size_t n_bytes, void **all)
{
    *all = calloc((size_t)comm->world, n_bytes);
    Err err = *all ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for %d ranks", comm->world);
    err = comm_agree(comm, err);
    if (!err)
        err = comm_gather_bytes(comm, mine, n_bytes, *all);
    if (err) {
        free(*all);
        *all = NULL;
    }
    return err;
}

/* ---- which kind of device ---------------------------------------------------------------- */

typedef struct {
    bool has_gpu;
    char reason[128]; /* why not */
    char host[HOST_BYTES];
} GpuSighting;

/* The first rank that has a GPU, or has none; world when there is no such rank. */
static int32_t first_rank(const GpuSighting *all, int32_t world, bool has_gpu)
{
    int32_t rank = 0;
    while (rank < world && all[rank].has_gpu != has_gpu)
        rank++;
    return rank;
}

static Err choose_by_sightings(const Config *cfg, const Comm *comm, const GpuSighting *all,
                               DeviceKind *kind)
{
    int32_t with = first_rank(all, comm->world, true);
    int32_t without = first_rank(all, comm->world, false);
    *kind = without == comm->world ? DEVICE_CUDA : DEVICE_CPU;
    if (*kind == DEVICE_CUDA)
        return OK;
    if (with < comm->world)
        FAIL(ERR_SYSTEM,
             "rank %d on %s has no GPU (%s), rank %d on %s has one: start ranks where there are "
             "GPUs, or use device = cpu",
             without, all[without].host, all[without].reason, with, all[with].host);
    if (cfg->system.device == CONFIG_DEVICE_CUDA)
        FAIL(ERR_SYSTEM, "device = cuda: %s; use device = auto or cpu", all[0].reason);
    if (comm->rank == 0)
        printf("device = auto: %s, so the CPU is used\n", all[0].reason);
    return OK;
}

static Err choose_kind(const Config *cfg, Comm *comm, DeviceKind *kind)
{
    *kind = DEVICE_CPU;
    if (cfg->system.device == CONFIG_DEVICE_CPU)
        return OK;
    const char *reason = "";
    void *all = NULL;
    GpuSighting mine = {.has_gpu = device_available(DEVICE_CUDA, &reason)};
    snprintf(mine.reason, sizeof mine.reason, "%s", reason);
    memcpy(mine.host, comm->host, sizeof mine.host);
    TRY(gather_all(comm, &mine, sizeof mine, &all));
    Err err = choose_by_sightings(cfg, comm, all, kind);
    free(all);
    return err;
}

/* Never independent runs: a program without NCCL moves the gradients of GPUs by MPI. */
static CommKind choose_comm(const Config *cfg, const Comm *comm, DeviceKind device)
{
    if (cfg->system.comm == CONFIG_COMM_NCCL)
        return COMM_NCCL;
    if (comm->world == 1)
        return COMM_SINGLE;
    bool wants_mpi = cfg->system.comm == CONFIG_COMM_MPI;
    return device == DEVICE_CPU || wants_mpi || !comm_built(COMM_NCCL) ? COMM_MPI : COMM_NCCL;
}

static void say_comm(const Config *cfg, const Comm *comm, CommKind kind)
{
    if (comm->rank == 0 && kind == COMM_MPI && cfg->system.comm == CONFIG_COMM_AUTO)
        printf("notice: this program was built without NCCL: gradients go through host memory "
               "(comm = mpi), which is slow\n");
}

/* ---- ranks on one GPU -------------------------------------------------------------------- */

typedef struct {
    char host[HOST_BYTES];
    char id[sizeof((DeviceInfo *)0)->id];
    char name[sizeof((DeviceInfo *)0)->name];
} GpuPlace;

static bool same_host(const GpuPlace *a, const GpuPlace *b)
{
    return strcmp(a->host, b->host) == 0;
}

static bool same_gpu(const GpuPlace *a, const GpuPlace *b)
{
    return same_host(a, b) && strcmp(a->id, b->id) == 0;
}

/* The first rank on rank's GPU; rank itself when it has it alone so far. */
static int32_t first_on_gpu(const GpuPlace *all, int32_t rank)
{
    int32_t first = 0;
    while (!same_gpu(&all[first], &all[rank]))
        first++;
    return first;
}

/* "ranks 0 and 2 are on one GPU, ..."; "" when each has its own. */
typedef struct {
    char text[512];
} Sharing;

static Sharing describe_sharing(const GpuPlace *all, int32_t world)
{
    Sharing sharing = {""};
    int32_t second = 0, n_ranks = 0, n_gpus = 0;
    while (second < world && first_on_gpu(all, second) == second)
        second++;
    if (second == world)
        return sharing;
    for (int32_t r = 0; r < world; r++) {
        n_ranks += same_host(&all[r], &all[second]);
        n_gpus += same_host(&all[r], &all[second]) && first_on_gpu(all, r) == r;
    }
    snprintf(sharing.text, sizeof sharing.text,
             "%d ranks on %s share %d GPU%s: ranks %d and %d are both on %s (%s)", n_ranks,
             all[second].host, n_gpus, n_gpus == 1 ? "" : "s", first_on_gpu(all, second), second,
             all[second].name, all[second].id);
    return sharing;
}

static Err judge_sharing(const Comm *comm, Device *dev, const GpuPlace *all, CommKind kind)
{
    dev->n_sharers = 0;
    for (int32_t r = 0; r < comm->world; r++)
        dev->n_sharers += same_gpu(&all[r], &all[comm->rank]);
    Sharing sharing = describe_sharing(all, comm->world);
    if (!sharing.text[0])
        return OK;
    if (kind != COMM_MPI)
        FAIL(ERR_SYSTEM, "%s; start one rank per GPU, or let them share it with comm = mpi",
             sharing.text);
    if (comm->rank == 0)
        printf("notice: %s\n", sharing.text);
    return OK;
}

static Err check_sharing(Comm *comm, Device *dev, const DeviceInfo *info, CommKind kind)
{
    GpuPlace mine = {.host = ""};
    void *all = NULL;
    memcpy(mine.host, comm->host, sizeof mine.host);
    memcpy(mine.id, info->id, sizeof mine.id);
    memcpy(mine.name, info->name, sizeof mine.name);
    TRY(gather_all(comm, &mine, sizeof mine, &all));
    Err err = judge_sharing(comm, dev, all, kind);
    free(all);
    return err;
}

/* ---- opening ----------------------------------------------------------------------------- */

static Err check_dtype(const Config *cfg, const DeviceInfo *info)
{
    if (cfg->system.dtype == CONFIG_DTYPE_BF16 && info->storage_dtype != DTYPE_BF16)
        FAIL(ERR_USAGE,
             "dtype = bfloat16: %s has compute capability %d.%d, bfloat16 needs 8.0; use dtype = "
             "float16 or auto",
             info->name, info->compute_capability / 10, info->compute_capability % 10);
    return OK;
}

/* Connect, and allocate, when the communicator starts: what is free is measured afterwards, and
 * nothing is to be allocated in a step. NCCL since 2.22 would do so when an algorithm is first used
 * (NCCL's user guide, NCCL_RUNTIME_CONNECT). A user's own value stands. */
static void set_nccl_defaults(void)
{
    setenv("NCCL_RUNTIME_CONNECT", "0", 0);
}

static Err open_gpu(const Config *cfg, Comm *comm, Device *dev, const DeviceArgs *args)
{
    DeviceInfo info;
    CommKind kind = choose_comm(cfg, comm, args->kind);
    set_nccl_defaults();
    say_comm(cfg, comm, kind);
    TRY(comm_agree(comm, device_open(dev, args)));
    TRY(comm_agree(comm, device_info(dev, &info)));
    TRY(comm_agree(comm, check_dtype(cfg, &info)));
    return check_sharing(comm, dev, &info, kind);
}

static Err open_cpu(Comm *comm, Device *dev, const DeviceArgs *args)
{
    TRY(comm_agree(comm, device_open(dev, args)));
    dev->n_sharers = comm->local_world;
    return OK;
}

Err machine_open(const Config *cfg, Comm *comm, Device *dev)
{
    DeviceArgs args = {.local_rank = comm->local_rank, .tf32 = true};
    *dev = (Device){0};
    TRY(choose_kind(cfg, comm, &args.kind));
    TRY(bind_threads(comm, &args.n_threads));
    if (args.kind == DEVICE_CUDA)
        TRY(open_gpu(cfg, comm, dev, &args));
    else
        TRY(open_cpu(comm, dev, &args));
    comm->init_timeout_s = cfg->fault.init_timeout;
    comm->will_exchange = reducer_needs_wire(&cfg->system, comm->world);
    return comm_bind(comm, dev, choose_comm(cfg, comm, args.kind));
}
