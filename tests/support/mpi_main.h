/* The main() of an MPI test program: every rank runs the same cmocka tests in the same order.
 *
 *     static void test_x(void **state) { MpiTest *t = *state; ... comm_barrier(&t->comm) ... }
 *     int main(void)
 *     {
 *         struct CMUnitTest tests[] = {cmocka_unit_test(test_x)};
 *         return MPI_MAIN(tests);
 *     }
 *
 * Tests find MPI running, a CPU device of one thread and the two bound together. A failed check on
 * one rank ends the job at once, for the others may be waiting in a collective. Rank 0 reports
 * progress. */
#ifndef GPT_TESTS_MPI_MAIN_H
#define GPT_TESTS_MPI_MAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "comm/comm.h"
#include "kernels/device.h"
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
    mpi_main_try(t, comm_open(&t->comm, true));
    const DeviceArgs args = {.kind = DEVICE_CPU, .local_rank = t->comm.local_rank, .n_threads = 1};
    mpi_main_try(t, device_open(&t->dev, &args));
    mpi_main_try(t, comm_bind(&t->comm, &t->dev, COMM_MPI));
    if (t->comm.world > 1)
        setenv("CMOCKA_TEST_ABORT", "1", 1);
    if (t->comm.rank > 0 && !freopen("/dev/null", "w", stdout))
        mpi_main_try(t, ERR_NEW(ERR_SYSTEM, "cannot open /dev/null"));
}

#define MPI_MAIN(tests) mpi_main((tests), sizeof(tests) / sizeof((tests)[0]))

static inline int mpi_main(struct CMUnitTest *tests, size_t n_tests)
{
    MpiTest t = {0};
    mpi_main_open(&t);
    for (size_t i = 0; i < n_tests; i++)
        tests[i].initial_state = &t;
    int64_t failed = _cmocka_run_group_tests("tests", tests, n_tests, NULL, NULL);
    mpi_main_try(&t, comm_max_i64(&t.comm, &failed, 1));
    comm_unbind(&t.comm, &t.dev);
    device_close(&t.dev);
    comm_close(&t.comm);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
