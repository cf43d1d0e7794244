/* Comm: what ranks say to each other. One process is one rank with one device.
 *
 * Two planes. The control plane carries small host values (flags, sums, errors, names) and is MPI,
 * or nothing at all in a world of one. The data plane moves gradients and parameters: comm_mpi
 * (host memory; that of a GPU by way of comm_staged), comm_nccl (between GPUs) or comm_single.
 * Counts are elements, int64, split past INT_MAX; a count is never a number of bytes unless its
 * name says so.
 *
 * Everything marked Collective must be called by all ranks in the same order; decide from the
 * config or from a value all ranks share, never from a local one. comm.c is the only file here that
 * knows what was compiled in. */
#ifndef GPT_COMM_COMM_H
#define GPT_COMM_COMM_H

#include <stdio.h>

#include "base/activity.h"
#include "base/err.h"
#include "base/tensor.h"
#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { COMM_SINGLE, COMM_MPI, COMM_NCCL } CommKind;

typedef struct CommControl CommControl; /* comm/comm_ops.h, private to comm/ */
typedef struct CommOps CommOps;

enum { COMM_MAX_SCALARS = 64 };

typedef struct {
    const CommControl *control; /* from comm_open */
    const CommOps *ops;         /* data plane, from comm_bind; NULL before it */
    CommKind kind;
    bool launched;                   /* by mpirun or srun: use_mpi of comm_open */
    int32_t rank, world;             /* 0 <= rank < world */
    int32_t local_rank, local_world; /* among the ranks of this host */
    char host[64];
    int64_t max_count;     /* most elements of one MPI transfer: INT_MAX; tests make it small */
    double init_timeout_s; /* longest start of a data plane: 120; set it before comm_bind */
    bool will_exchange;    /* comm_all_to_all will be used; set it before comm_bind */
    double *gathered;      /* (world, COMM_MAX_SCALARS), of comm_sum_f64; NULL in a world of one */
    Activity *activity;    /* what this rank is doing, for a watchdog: calls that wait show there.
                            * Borrowed; NULL: nobody looks */
    int32_t n_binds;       /* data planes opened so far: the same on all ranks */
    int32_t abandoned;     /* atomic; 0, or how far comm_abandon_data is */
    void *impl;            /* state of the control plane */
    void *data_impl;       /* state of the data plane; NULL where there is none */
} Comm;

/* ---- life -------------------------------------------------------------------------------- */

/* Start the control plane. use_mpi false: a world of one, MPI is not touched. MPI is started unless
 * it already runs. After a failure only comm_abort may follow. Collective. ERR_SYSTEM. */
Err comm_open(Comm *comm, bool use_mpi);
/* Can this program move tensors this way? Only NCCL may be missing. */
bool comm_built(CommKind kind);
/* Start the data plane for this device. A world of one needs none: COMM_SINGLE, unless NCCL is
 * asked for by name, which also moves to itself. Else `kind`, the same on all ranks. NCCL is tried
 * out with one collective of each kind, whose results are looked at; so what it allocates is there
 * afterwards. (All-to-all only with will_exchange: connecting every pair of GPUs can take gigabytes
 * on each.) ERR_SYSTEM (also: not ready after init_timeout_s, ranks with different versions of
 * NCCL, two ranks on one GPU), ERR_USAGE (what was not built, or cannot work), the same on all
 * ranks. Collective. */
Err comm_bind(Comm *comm, Device *dev, CommKind kind);
/* End the data plane: comm_bind may follow. Before device_close. Collective; never fails usefully.
 * Accepts one that is not bound. */
void comm_unbind(Comm *comm, Device *dev);
/* Leave together. Collective; never fails usefully. Accepts a zero-initialised one. */
void comm_close(Comm *comm);
/* End the whole job at once with this exit code, when nothing can be agreed any more. stdio is not
 * flushed. Not collective. */
void comm_abort(Comm *comm, int exit_code) __attribute__((noreturn));
/* From any thread: whoever waits in the data plane ends that with an error, if it can. *done: there
 * is nothing to wait for (any more). Not collective. */
void comm_abandon_data(Comm *comm, bool *done);
const char *comm_kind_name(CommKind kind); /* "single", "mpi", "nccl" */
/* One line for each communication library: its version, or that it is not built in. Needs no
 * comm_open. */
void comm_print_versions(FILE *out);

/* ---- control plane: host values; each is Collective and waits ---------------------------- */

Err comm_barrier(Comm *comm);
/* *all (local_world * n_bytes) = memory that the ranks of this host share, zeros; NULL in a world
 * of one, or where MPI has none. Lives until comm_close, one for each Comm. Plain memory: any
 * thread may use it. */
Err comm_share_host(Comm *comm, size_t n_bytes, void **all);
/* value[i] = sum over ranks, the same bits on every rank (summed in rank order). n <=
 * COMM_MAX_SCALARS. */
Err comm_sum_f64(Comm *comm, double *value, int32_t n);
/* value[i] = largest over ranks. n <= COMM_MAX_SCALARS. */
Err comm_max_i64(Comm *comm, int64_t *value, int32_t n);
Err comm_broadcast_bytes(Comm *comm, void *bytes, size_t n_bytes, int32_t root);
/* all (world * n_bytes) = every rank's `mine`, in rank order, on every rank. */
Err comm_gather_bytes(Comm *comm, const void *mine, size_t n_bytes, void *all);
/* OK when every rank passes OK. Else every rank gets an Err with the code and message of the lowest
 * rank that failed (prefixed "rank R on HOST: " when the world is larger than one and the ranks did
 * not all fail alike); `mine` is consumed. Called where a phase ends, so that nobody waits for a
 * rank that left. */
Err comm_agree(Comm *comm, Err mine);

/* ---- data plane: device tensors; each is Collective -------------------------------------- */

/* Each starts after all work queued on dev so far; results are for work queued after comm_wait;
 * until then nothing but another collective may touch buf. A fault of the device stays with the
 * device: ranks meet in all collectives whatever happened on one of them. Nothing may follow an
 * error of the data plane but comm_unbind. Counts must be divisible by world for all but the first.
 * Sums are for float32 (added as float32) and float64; any dtype can be gathered. */

/* buf = sum over ranks, in place. */
Err comm_all_reduce_sum(Comm *comm, Device *dev, Tensor buf);
/* Own slice [rank * n / world, (rank + 1) * n / world) of buf = sum over ranks; the rest becomes
 * undefined. */
Err comm_reduce_scatter_sum(Comm *comm, Device *dev, Tensor buf);
/* Every rank's own slice of buf reaches all ranks, in place. */
Err comm_all_gather(Comm *comm, Device *dev, Tensor buf);
/* Slice r of receive = rank r's slice [own rank] of send. Same dtype and count; the two do not
 * overlap. */
Err comm_all_to_all(Comm *comm, Device *dev, Tensor receive, Tensor send);
/* Every rank's n_bytes of host memory gather in rank order at `all` (world * n_bytes, only looked
 * at on root). */
Err comm_gather_host(Comm *comm, const void *mine, size_t n_bytes, void *all, int32_t root);
/* n_bytes of host memory at `bytes` on rank `from` reach `bytes` on rank `to`; waits. The others,
 * and from = to, do nothing, so that a loop over ranges and their owners can call it on every rank.
 * n_bytes may pass INT_MAX. */
Err comm_send_host(Comm *comm, void *bytes, size_t n_bytes, int32_t from, int32_t to);
/* Later work on dev waits for every collective started so far. The host does not wait. */
Err comm_wait(Comm *comm, Device *dev);
/* device_sync for a device that may be waiting for other ranks: a fault of the communication ends
 * the wait too. */
Err comm_sync(Comm *comm, Device *dev);

#ifdef __cplusplus
}
#endif
#endif
