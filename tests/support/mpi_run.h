/* MpiRun: a small run over the ranks of an MPI test: a folder with data that all ranks know,
 * settings, a trainer on the test's device. */
#ifndef GPT_TESTS_MPI_RUN_H
#define GPT_TESTS_MPI_RUN_H

#include "tests/support/mpi_main.h"
#include "tests/support/temp.h"
#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    MpiTest *mpi;
    Temp temp; /* of rank 0; the others know its name */
    Config cfg;
    Trainer trainer;
    int stop; /* what launch/ would set */
} MpiRun;

/* Data and settings; not started yet. 12 sequences in a step: any number of ranks up to 4.
 * Collective. */
void mpi_run_open(MpiRun *run, MpiTest *mpi);
void mpi_run_set(MpiRun *run, const char *key, const char *value);
/* trainer_open. Collective. */
Err mpi_run_start(MpiRun *run);
/* Collective. */
void mpi_run_close(MpiRun *run);

/* A copy of a tensor on this rank's device; the caller frees. */
void *mpi_run_copy(MpiRun *run, Tensor tensor);
bool mpi_run_is_last_rank(const MpiRun *run);

#ifdef __cplusplus
}
#endif
#endif
