/* The main() of an MPI test program: every rank runs the same cmocka tests in the same order.
 *
 *     static void test_x(void **state) { MpiTest *t = *state; ... comm_barrier(&t->comm) ... }
 *     int main(void)
 *     {
 *         struct CMUnitTest tests[] = {cmocka_unit_test(test_x)};
 *         return MPI_MAIN(tests);
 *     }
 *
 * Tests find MPI running, a CPU device of one thread and the two bound together. MPI_MAIN_EACH_WAY
 * runs them also on a GPU, one per rank, bound to MPI and to NCCL, as far as these are there. A
 * failed check on one rank ends the job at once, for the others may be waiting in a collective.
 * Rank 0 reports progress. On a fake GPU, streams of odd ranks run as early as they may, those of
 * even ranks as late: an event that is missing is missed by one or the other. */
#ifndef GPT_TESTS_MPI_MAIN_H
#define GPT_TESTS_MPI_MAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/comm.h"
#include "kernels/device.h"
#include "launch/bind.h"
#include "tests/support/check_err.h"

typedef struct {
    Comm comm;
    Device dev;
} MpiTest;

/* For the fixture only: tests use check_no_err. */
static inline void mpi_main_try(MpiTest *t, Err err)
{
    if (!err)
        return;
    fprintf(stderr, "test set-up: %s\n", err_message(err));
    err_free(err);
    comm_abort(&t->comm, EXIT_FAILURE);
}

static inline void mpi_main_open(MpiTest *t)
{
    /* Before MPI starts: while the fakes wait in it, they look after their streams. */
    setenv("GPT_EMU_STREAMS", launcher_detect().rank % 2 ? "early" : "late", 0);
    mpi_main_try(t, comm_open(&t->comm, true));
    if (t->comm.world > 1)
        setenv("CMOCKA_TEST_ABORT", "1", 1);
    if (t->comm.rank > 0 && !freopen("/dev/null", "w", stdout))
        mpi_main_try(t, ERR_NEW(ERR_SYSTEM, "cannot open /dev/null"));
}

/* False: there are fewer GPUs than ranks, and NCCL cannot have two ranks on one. */
static inline bool mpi_main_bind(MpiTest *t, DeviceKind device, CommKind kind)
{
    const DeviceArgs args = {.kind = device, .local_rank = t->comm.local_rank, .n_threads = 1};
    mpi_main_try(t, device_open(&t->dev, &args));
    Err err = comm_bind(&t->comm, &t->dev, kind);
    if (err && kind == COMM_NCCL && strstr(err_message(err), "share one GPU")) {
        err_free(err);
        device_close(&t->dev);
        return false;
    }
    mpi_main_try(t, err);
    return true;
}

static inline int64_t mpi_main_run(MpiTest *t, DeviceKind device, CommKind kind,
                                   struct CMUnitTest *tests, size_t n_tests)
{
    char name[64];
    snprintf(name, sizeof name, "tests on %s by %s", device_kind_name(device),
             comm_kind_name(kind));
    if (!mpi_main_bind(t, device, kind)) {
        printf("%s: skipped, fewer GPUs than ranks\n", name);
        return 0;
    }
    for (size_t i = 0; i < n_tests; i++)
        tests[i].initial_state = t;
    int64_t failed = _cmocka_run_group_tests(name, tests, n_tests, NULL, NULL);
    mpi_main_try(t, comm_max_i64(&t->comm, &failed, 1));
    comm_unbind(&t->comm, &t->dev);
    device_close(&t->dev);
    return failed;
}

#define MPI_MAIN(tests) mpi_main((tests), sizeof(tests) / sizeof((tests)[0]))

static inline int mpi_main(struct CMUnitTest *tests, size_t n_tests)
{
    MpiTest t = {0};
    mpi_main_open(&t);
    int64_t failed = mpi_main_run(&t, DEVICE_CPU, COMM_MPI, tests, n_tests);
    comm_close(&t.comm);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define MPI_MAIN_EACH_WAY(tests) mpi_main_each_way((tests), sizeof(tests) / sizeof((tests)[0]))

static inline int mpi_main_each_way(struct CMUnitTest *tests, size_t n_tests)
{
    MpiTest t = {0};
    const char *reason;
    mpi_main_open(&t);
    int64_t failed = mpi_main_run(&t, DEVICE_CPU, COMM_MPI, tests, n_tests);
    if (!failed && device_available(DEVICE_CUDA, &reason))
        failed = mpi_main_run(&t, DEVICE_CUDA, COMM_MPI, tests, n_tests);
    if (!failed && device_available(DEVICE_CUDA, &reason) && comm_built(COMM_NCCL))
        failed = mpi_main_run(&t, DEVICE_CUDA, COMM_NCCL, tests, n_tests);
    comm_close(&t.comm);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
