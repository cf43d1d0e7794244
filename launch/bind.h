/* Bind: what the launcher (mpirun, srun, mpiexec) tells this process, and its share of the CPUs.
 *
 * Whether to use MPI is decided from the environment before MPI is touched, so that a plain
 * ./gpt_ddp needs no MPI at run time, and mpirun -np 1 ./gpt_ddp is the same run. */
#ifndef GPT_LAUNCH_BIND_H
#define GPT_LAUNCH_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    bool present;  /* a launcher started this process: MPI_Init will find its peers */
    int32_t world; /* processes it started; 0: it does not say */
    int32_t rank;  /* of this process; 0: it does not say. Only for keeping quiet before MPI_Init */
    bool strangers; /* srun started them without a word on each other: MPI_Init will not find any */
    int32_t job_tasks; /* of the Slurm job around, where this process is no task of its; 0: none */
} Launcher;

/* Reads OMPI_*, PMIX_*, PMI_*, MPI_LOCALRANKID and SLURM_* variables. */
Launcher launcher_detect(void);

/* Before MPI is touched: ERR_SYSTEM when it cannot bring the processes together, which Open MPI
 * would say in fifty lines. Not collective. */
Err launcher_check_start(const Launcher *launcher);

/* ERR_SYSTEM when the launcher started several processes and MPI sees a world of one: mpirun of one
 * MPI, library of another; each process would train alone. */
Err launcher_check(const Launcher *launcher, const Comm *comm);

/* CPU threads for this rank: OMP_NUM_THREADS when set, else the CPUs this process may use, shared
 * with the ranks of the same host that may use them too. ERR_USAGE: OMP_NUM_THREADS is no number.
 * Collective. */
Err bind_threads(Comm *comm, int32_t *n_threads);

/* The same for a plan of `world` ranks that share what this process may use. Not collective. */
Err bind_planned_threads(int32_t world, int32_t *n_threads);

/* CPUs this process may use. Not collective. */
int32_t bind_n_cpus(void);

#ifdef __cplusplus
}
#endif
#endif
