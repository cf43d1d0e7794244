/* What a control plane and a data plane must provide. Private to comm/.
 *
 * comm.c checks arguments once and calls these; so they may rely on a world larger than one where
 * the table is MPI's, on counts that divide, and on ranks in range. All but `abort` are Collective
 * and have the contract of the function of the same name in comm.h.
 *
 * A data plane's state is comm->data_impl: open makes it (comm_bind), close ends it, also after a
 * failed open. */
#ifndef GPT_COMM_COMM_OPS_H
#define GPT_COMM_COMM_OPS_H

#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { COMM_FAULT_BYTES = 640 };
/* Of Comm.abandoned: a data plane that waits looks at it, and says when it has given up. */
enum { COMM_NOT_ABANDONED, COMM_TO_ABANDON, COMM_ABANDONED };
enum { COMM_ALL_RANKS = -1 }; /* as the root of a gather: everybody gets everything */

struct CommControl {
    Err (*barrier)(Comm *comm);
    Err (*max_i64)(Comm *comm, int64_t *value, int32_t n);
    Err (*broadcast)(Comm *comm, void *bytes, size_t n_bytes, int32_t root);
    Err (*gather)(Comm *comm, const void *mine, size_t n_bytes, void *all, int32_t root);
    Err (*send)(Comm *comm, void *bytes, size_t n_bytes, int32_t from, int32_t to);
    void (*close)(Comm *comm);
    void (*abort)(Comm *comm, int exit_code);
    Err (*share)(Comm *comm, size_t n_bytes, void **all); /* *all is NULL so far */
    /* Not collective, and without waiting: tell all other ranks (hear from any of them) of a fault
     * of the data plane that was opened as the n_binds-th. text has COMM_FAULT_BYTES. */
    Err (*tell_fault)(Comm *comm, int32_t n_binds, const char *text);
    Err (*hear_fault)(Comm *comm, int32_t n_binds, bool *heard, char *text);
};

struct CommOps {
    Err (*open)(Comm *comm, Device *dev); /* the same result on all ranks */
    void (*close)(Comm *comm, Device *dev);
    Err (*all_reduce_sum)(Comm *comm, Device *dev, Tensor buf);
    Err (*reduce_scatter_sum)(Comm *comm, Device *dev, Tensor buf);
    Err (*all_gather)(Comm *comm, Device *dev, Tensor buf);
    Err (*all_to_all)(Comm *comm, Device *dev, Tensor receive, Tensor send);
    Err (*wait)(Comm *comm, Device *dev);
    Err (*sync)(Comm *comm, Device *dev);
};

extern const CommControl COMM_SINGLE_CONTROL, COMM_MPI_CONTROL;
/* COMM_MPI_OPS are for tensors in host memory, COMM_STAGED_OPS for those of a GPU. COMM_NCCL_OPS
 * exist in a build with NCCL. */
extern const CommOps COMM_SINGLE_OPS, COMM_MPI_OPS, COMM_STAGED_OPS, COMM_NCCL_OPS;

/* Start MPI and fill rank, world, local_rank, local_world, control and impl. When it fails,
 * control is set if MPI runs, so that comm_abort can end the job. */
Err comm_mpi_open(Comm *comm);

/* One line: the MPI library and the standard it follows. Works before MPI_Init. */
void comm_mpi_print_version(FILE *out);
/* The same for NCCL; needs no GPU. In a build with NCCL. */
void comm_nccl_print_version(FILE *out);

/* open, close, wait and sync of a data plane whose calls all wait, and which keeps no state. */
Err comm_plain_open(Comm *comm, Device *dev);
void comm_plain_close(Comm *comm, Device *dev);
Err comm_plain_wait(Comm *comm, Device *dev);
Err comm_plain_sync(Comm *comm, Device *dev);

#ifdef __cplusplus
}
#endif
#endif
