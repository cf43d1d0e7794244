/* A world of one: nothing is communicated, and MPI is never started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <mpi.h>

#include "comm/comm.h"
#include "tests/support/check_err.h"

static Comm open_single(Device *dev)
{
    Comm comm;
    *dev = (Device){.kind = DEVICE_CPU};
    check_no_err(comm_open(&comm, false));
    check_no_err(comm_bind(&comm, dev, COMM_SINGLE));
    return comm;
}

static void test_world_is_one(void **state)
{
    (void)state;
    Device dev;
    Comm comm = open_single(&dev);
    assert_int_equal(comm.rank, 0);
    assert_int_equal(comm.world, 1);
    assert_int_equal(comm.local_rank, 0);
    assert_int_equal(comm.local_world, 1);
    assert_true(strlen(comm.host) > 0);
    comm_close(&comm);
}

static void test_mpi_is_not_touched(void **state)
{
    (void)state;
    Device dev;
    int initialized = -1;
    Comm comm = open_single(&dev);
    check_no_err(comm_barrier(&comm));
    comm_close(&comm);
    assert_int_equal(MPI_Initialized(&initialized), MPI_SUCCESS);
    assert_false(initialized);
}

static void test_host_values_stay(void **state)
{
    (void)state;
    Device dev;
    Comm comm = open_single(&dev);
    double sum = 0.1;
    int64_t most = -7;
    char text[] = "text", all[sizeof text] = "", on_root[sizeof text] = "";
    check_no_err(comm_sum_f64(&comm, &sum, 1));
    check_no_err(comm_max_i64(&comm, &most, 1));
    check_no_err(comm_broadcast_bytes(&comm, text, sizeof text, 0));
    check_no_err(comm_gather_bytes(&comm, text, sizeof text, all));
    check_no_err(comm_gather_host(&comm, text, sizeof text, on_root, 0));
    check_no_err(comm_send_host(&comm, text, sizeof text, 0, 0));
    assert_true(sum == 0.1);
    assert_int_equal(most, -7);
    assert_string_equal(text, "text");
    assert_string_equal(all, "text");
    assert_string_equal(on_root, "text");
    comm_close(&comm);
}

static void test_tensors_stay(void **state)
{
    (void)state;
    Device dev;
    Comm comm = open_single(&dev);
    float x[3] = {1, -2, 3.5f};
    Tensor buf = tensor_1d(x, DTYPE_F32, 3);
    check_no_err(comm_all_reduce_sum(&comm, &dev, buf));
    check_no_err(comm_reduce_scatter_sum(&comm, &dev, buf));
    check_no_err(comm_all_gather(&comm, &dev, buf));
    check_no_err(comm_wait(&comm, &dev));
    assert_true(x[0] == 1 && x[1] == -2 && x[2] == 3.5f);
    comm_close(&comm);
}

static void test_agree_returns_own_error(void **state)
{
    (void)state;
    Device dev;
    Comm comm = open_single(&dev);
    check_no_err(comm_agree(&comm, OK));
    Err err = comm_agree(&comm, ERR_NEW(ERR_DATA, "bad file"));
    assert_int_equal(err_code(err), ERR_DATA);
    assert_string_equal(err_message(err), "bad file");
    err_free(err);
    comm_close(&comm);
}

static void test_mpi_for_one_rank_is_single(void **state)
{
    (void)state;
    Device dev;
    Comm comm = open_single(&dev);
    comm_unbind(&comm, &dev);
    check_no_err(comm_bind(&comm, &dev, COMM_MPI));
    assert_int_equal(comm.kind, COMM_SINGLE);
    comm_close(&comm);
}

static void test_nccl_is_refused_on_a_cpu(void **state)
{
    (void)state;
    Device dev;
    Comm comm = open_single(&dev);
    comm_unbind(&comm, &dev);
    check_err(comm_bind(&comm, &dev, COMM_NCCL), ERR_USAGE,
              comm_built(COMM_NCCL) ? "moves GPU memory, and device = cpu" : "built without NCCL");
    comm_close(&comm);
}

static void test_close_accepts_zero(void **state)
{
    (void)state;
    Comm comm = {0};
    comm_close(&comm);
    assert_null(comm.control);
}

static void test_abort_exits_with_the_code(void **state)
{
    (void)state;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        Comm comm;
        err_free(comm_open(&comm, false));
        comm_abort(&comm, 86);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 86);
}

static void test_kinds_have_names(void **state)
{
    (void)state;
    assert_string_equal(comm_kind_name(COMM_SINGLE), "single");
    assert_string_equal(comm_kind_name(COMM_MPI), "mpi");
    assert_string_equal(comm_kind_name(COMM_NCCL), "nccl");
}

static void test_versions_need_no_mpi_init(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    assert_non_null(out);
    comm_print_versions(out);
    fclose(out);
    assert_int_equal(strncmp(text, "MPI: ", 5), 0);
    assert_null(strstr(text, "unknown"));
    assert_non_null(strstr(text, comm_built(COMM_NCCL) ? "\nNCCL: 2." : "\nNCCL: not built in\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_world_is_one),
        cmocka_unit_test(test_mpi_is_not_touched),
        cmocka_unit_test(test_host_values_stay),
        cmocka_unit_test(test_tensors_stay),
        cmocka_unit_test(test_agree_returns_own_error),
        cmocka_unit_test(test_mpi_for_one_rank_is_single),
        cmocka_unit_test(test_nccl_is_refused_on_a_cpu),
        cmocka_unit_test(test_close_accepts_zero),
        cmocka_unit_test(test_abort_exits_with_the_code),
        cmocka_unit_test(test_kinds_have_names),
        cmocka_unit_test(test_versions_need_no_mpi_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
