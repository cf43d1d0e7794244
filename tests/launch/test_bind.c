#include "launch/bind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "launch/job.h"
#include "tests/support/check_err.h"

/* Forget the launcher and the job this test itself may be started by. */
static int setup(void **state)
{
    static const char *const NAMES[] = {"OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_RANK",
                                        "PMIX_RANK",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "MPI_LOCALRANKID",
                                        "SLURM_STEP_ID",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_NTASKS",
                                        "SLURM_PROCID",
                                        "SLURM_JOB_END_TIME"};
    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        unsetenv(NAMES[i]);
    return 0;
}

static void set(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0);
}

static void test_a_plain_start_needs_no_mpi(void **state)
{
    (void)state;
    Launcher launcher = launcher_detect();
    assert_false(launcher.present);
    assert_int_equal(launcher.job_tasks, 0);
    check_no_err(launcher_check_start(&launcher));
}

static void test_mpirun_is_seen(void **state)
{
    (void)state;
    set("OMPI_COMM_WORLD_SIZE", "3");
    set("OMPI_COMM_WORLD_RANK", "2");
    set("SLURM_NTASKS", "8"); /* in a job, whose orted is a step */
    set("SLURM_STEP_ID", "0");
    set("SLURM_STEP_NUM_TASKS", "2");
    Launcher launcher = launcher_detect();
    assert_true(launcher.present);
    assert_int_equal(launcher.world, 3);
    assert_int_equal(launcher.rank, 2);
    check_no_err(launcher_check_start(&launcher));
}

static void srun(const char *tasks)
{
    set("SLURM_NTASKS", tasks);
    set("SLURM_STEP_ID", "0");
    set("SLURM_STEP_NUM_TASKS", tasks);
    set("SLURM_PROCID", "1");
}

static void test_srun_with_pmix_is_seen(void **state)
{
    (void)state;
    srun("4");
    set("PMIX_RANK", "1");
    Launcher launcher = launcher_detect();
    assert_true(launcher.present);
    assert_int_equal(launcher.world, 4);
    check_no_err(launcher_check_start(&launcher));
    const Comm alone = {.world = 1}, together = {.world = 4};
    check_err(launcher_check(&launcher, &alone), ERR_SYSTEM, "started 4 processes");
    check_no_err(launcher_check(&launcher, &together));
}

static void test_srun_without_pmix_is_refused(void **state)
{
    (void)state;
    srun("4");
    Launcher launcher = launcher_detect();
    assert_int_equal(launcher.rank, 1);
    check_err(launcher_check_start(&launcher), ERR_SYSTEM, "srun --mpi=pmix");
}

static void test_one_task_needs_no_pmix(void **state)
{
    (void)state;
    srun("1");
    Launcher launcher = launcher_detect();
    assert_false(launcher.present);
    check_no_err(launcher_check_start(&launcher));
}

static void test_one_process_in_a_job_of_several_tasks_is_seen(void **state)
{
    (void)state;
    set("SLURM_NTASKS", "8");
    Launcher launcher = launcher_detect();
    assert_false(launcher.present);
    assert_int_equal(launcher.job_tasks, 8);
}

static void test_the_end_of_the_job_is_an_instant_of_the_clock(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)time(NULL) + 100);
    set("SLURM_JOB_END_TIME", text);
    JobTimes times = job_times();
    double left_s = (double)(times.job_end_ns - times.start_ns) * 1e-9;
    assert_true(left_s >= 98 && left_s <= 100);
}

static void test_an_end_that_cannot_be_is_none(void **state)
{
    static const char *const ENDS[] = {
        "", "0", "-1", "soon", "1700000000", "1700000000x", "99999999999999999999", "9999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof ENDS / sizeof *ENDS; i++) {
        set("SLURM_JOB_END_TIME", ENDS[i]);
        assert_int_equal(job_times().job_end_ns, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_plain_start_needs_no_mpi),
        TEST(test_mpirun_is_seen),
        TEST(test_srun_with_pmix_is_seen),
        TEST(test_srun_without_pmix_is_refused),
        TEST(test_one_task_needs_no_pmix),
        TEST(test_one_process_in_a_job_of_several_tasks_is_seen),
        TEST(test_the_end_of_the_job_is_an_instant_of_the_clock),
        TEST(test_an_end_that_cannot_be_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
