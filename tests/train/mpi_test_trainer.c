/* What happens to one rank happens to all: faults, signals and bad numbers are agreed upon, and
 * nobody waits for ever. */
#include "train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/mpi_run.h"
#include "train/eval.h"

static const uint8_t NAN_BITS[4] = {0xff, 0xff, 0xff, 0xff}; /* in any dtype */

static void *params_of(MpiRun *run)
{
    return mpi_run_copy(run, run->trainer.model.params);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void test_data_that_one_rank_cannot_find_stops_all(void **state)
{
    MpiRun run;
    mpi_run_open(&run, *state);
    if (mpi_run_is_last_rank(&run))
        mpi_run_set(&run, "dataset", "/nowhere/at/all");
    check_err(mpi_run_start(&run), ERR_MISSING, "/nowhere/at/all");
    mpi_run_close(&run);
}

static void test_a_bad_token_on_one_rank_in_mid_run_stops_all(void **state)
{
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    check_no_err(trainer_step(&run.trainer, &record));
    if (mpi_run_is_last_rank(&run))
        run.trainer.train_loader.vocab_size = 1;
    check_err(trainer_step(&run.trainer, &record), ERR_DATA, "train.bin");
    mpi_run_close(&run);
}

static void test_a_bad_token_on_one_rank_in_evaluation_stops_all(void **state)
{
    MpiRun run;
    double loss;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    if (mpi_run_is_last_rank(&run))
        run.trainer.val_loader.vocab_size = 1;
    check_err(eval_loss(&run.trainer, &run.trainer.val_loader, &loss), ERR_DATA, "val.bin");
    mpi_run_close(&run);
}

/* ---- saves ----------------------------------------------------------------------------------- */

/* Rank 0 is late, as when it waits for the removal of a checkpoint: not in the next step, which has
 * a shorter limit, do the others wait. */
static void test_all_ranks_wait_for_the_files_of_rank_0(void **state)
{
    enum { LATE_US = 100000 };
    MpiRun run;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    check_no_err(comm_barrier(&run.mpi->comm));
    int64_t begin_ns = activity_now_ns();
    if (run.mpi->comm.rank == 0)
        usleep(LATE_US);
    check_no_err(saves_finish(&run.trainer));
    assert_true(activity_now_ns() - begin_ns > LATE_US / 2 * INT64_C(1000));
    mpi_run_close(&run);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void test_a_loss_that_is_not_finite_on_one_rank_skips_the_update_on_all(void **state)
{
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    Tensor params = run.trainer.model.params;
    if (mpi_run_is_last_rank(&run))
        device_upload(&run.mpi->dev, tensor_range(params, 0, 1), NAN_BITS);
    void *before = params_of(&run);
    check_no_err(trainer_step(&run.trainer, &record));
    assert_true(record.skipped);
    assert_int_equal(run.trainer.progress.n_bad_steps, 1);
    assert_int_equal(run.trainer.progress.n_updates, 0);
    void *after = params_of(&run);
    assert_memory_equal(before, after, tensor_bytes(params));
    free(before);
    free(after);
    mpi_run_close(&run);
}

/* On a GPU in float16: a scale at which every gradient overflows is halved until one does not, and
 * no step of these counts as bad, nor as an update of AdamW. */
static void check_overflow(MpiTest *mpi, const char *zero_stage)
{
    enum { HALVINGS = 2 };
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, mpi);
    mpi_run_set(&run, "dtype", "float16");
    mpi_run_set(&run, "zero_stage", zero_stage);
    mpi_run_set(&run, "micro_batch", "1"); /* so that there is more than one place to overflow in */
    check_no_err(mpi_run_start(&run));
    Progress *progress = &run.trainer.progress;
    assert_true(progress->loss_scale.scale == LOSS_SCALE_START);
    progress->loss_scale = (LossScale){.scale = 0x1p60, .n_good = 7};
    for (int i = 0; i < HALVINGS; i++) {
        check_no_err(trainer_step(&run.trainer, &record));
        assert_true(record.skipped && isfinite(record.loss));
    }
    assert_true(progress->loss_scale.scale == 0x1p58);
    assert_int_equal(progress->loss_scale.n_good, 0);
    assert_int_equal(progress->n_bad_steps, 0);
    assert_int_equal(progress->step, HALVINGS);
    assert_int_equal(progress->n_updates, 0);
    progress->loss_scale.scale = LOSS_SCALE_START;
    check_no_err(trainer_step(&run.trainer, &record));
    assert_false(record.skipped);
    assert_int_equal(progress->n_updates, 1);
    mpi_run_close(&run);
}

static void test_an_overflow_in_float16_lowers_the_loss_scale_on_all(void **state)
{
    MpiTest *mpi = *state;
    if (mpi->dev.kind == DEVICE_CPU)
        skip();
    check_overflow(mpi, "1");
    check_overflow(mpi, "2");
}

/* A loss is not scaled before it is formed, so the scale cannot be the reason. */
static void test_a_float16_loss_that_is_not_finite_is_a_bad_step(void **state)
{
    MpiRun run;
    StepRecord record;
    MpiTest *mpi = *state;
    if (mpi->dev.kind == DEVICE_CPU)
        skip();
    mpi_run_open(&run, mpi);
    mpi_run_set(&run, "dtype", "float16");
    check_no_err(mpi_run_start(&run));
    device_upload(&mpi->dev, tensor_range(run.trainer.model.params, 0, 1), NAN_BITS);
    check_no_err(trainer_step(&run.trainer, &record));
    assert_true(record.skipped);
    assert_int_equal(run.trainer.progress.n_bad_steps, 1);
    assert_true(run.trainer.progress.loss_scale.scale == LOSS_SCALE_START);
    mpi_run_close(&run);
}

static void test_every_rank_has_the_same_parameters_and_loss(void **state)
{
    enum { N_STEPS = 50 };
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    for (int i = 0; i < N_STEPS; i++)
        check_no_err(trainer_step(&run.trainer, &record));
    check_no_err(reducer_await(&run.trainer.reducer));
    size_t n_bytes = tensor_bytes(run.trainer.model.params);
    void *mine = params_of(&run), *first = params_of(&run);
    double loss = record.loss;
    check_no_err(comm_broadcast_bytes(&run.mpi->comm, first, n_bytes, 0));
    check_no_err(comm_broadcast_bytes(&run.mpi->comm, &loss, sizeof loss, 0));
    assert_memory_equal(first, mine, n_bytes);
    assert_true(loss == record.loss);
    free(mine);
    free(first);
    mpi_run_close(&run);
}

/* The parameters after some steps with this zero_stage; the caller frees. */
static void *params_by_stage(MpiTest *mpi, const char *zero_stage, size_t *n_bytes)
{
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, mpi);
    mpi_run_set(&run, "zero_stage", zero_stage);
    check_no_err(mpi_run_start(&run));
    for (int i = 0; i < 4; i++)
        check_no_err(trainer_step(&run.trainer, &record));
    check_no_err(reducer_await(&run.trainer.reducer));
    *n_bytes = tensor_bytes(run.trainer.model.params);
    void *params = params_of(&run);
    mpi_run_close(&run);
    return params;
}

/* With stage 1 parameters arrive from other ranks while a step begins, with stage 0 never. Stale
 * ones are stale on all ranks alike: only the comparison sees them. */
static void test_parameters_are_there_before_they_are_used(void **state)
{
    size_t n_whole, n_shared;
    void *whole = params_by_stage(*state, "0", &n_whole);
    void *shared = params_by_stage(*state, "1", &n_shared);
    assert_true(n_whole > 0 && n_whole <= n_shared); /* padding: shared is padded for its ranks */
    assert_memory_equal(whole, shared, n_whole);
    free(whole);
    free(shared);
}

/* ---- signals --------------------------------------------------------------------------------- */

static void test_a_signal_to_one_rank_stops_all_at_the_same_step(void **state)
{
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    check_no_err(trainer_step(&run.trainer, &record));
    assert_false(run.trainer.stop);
    if (mpi_run_is_last_rank(&run))
        run.stop = SIGUSR1;
    check_err(trainer_run(&run.trainer), ERR_REQUEUE, "after 2 updates");
    assert_true(path_exists(temp_path(&run.temp, "out/step_00000002/MANIFEST.json")));
    mpi_run_close(&run);
}

static void test_a_signal_to_one_rank_ends_the_evaluation_of_all(void **state)
{
    MpiRun run;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    if (mpi_run_is_last_rank(&run))
        run.stop = SIGTERM;
    check_err(trainer_run(&run.trainer), ERR_REQUEUE, "after 0 updates");
    mpi_run_close(&run);
}

/* ---- limits of time -------------------------------------------------------------------------- */

/* The other ranks' clocks count for nothing. */
static void test_stop_after_on_rank_0_stops_all_at_the_same_step(void **state)
{
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, *state);
    mpi_run_set(&run, "stop_after", "1h");
    check_no_err(mpi_run_start(&run));
    const int64_t now_ns = activity_now_ns(), hour_ns = (int64_t)3600 * 1000000000;
    bool first = run.mpi->comm.rank == 0;
    trainer_keep_to(&run.trainer, &(JobTimes){.start_ns = first ? now_ns : now_ns - hour_ns});
    check_no_err(trainer_step(&run.trainer, &record));
    assert_int_equal(run.trainer.stop, STOP_NOT);
    if (first)
        trainer_keep_to(&run.trainer, &(JobTimes){.start_ns = now_ns - hour_ns});
    check_err(trainer_run(&run.trainer), ERR_REQUEUE, "stopped by stop_after after 2 updates");
    assert_true(path_exists(temp_path(&run.temp, "out/step_00000002/MANIFEST.json")));
    mpi_run_close(&run);
}

static void test_the_end_of_the_job_ends_the_evaluation_of_all(void **state)
{
    MpiRun run;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    const int64_t now_ns = activity_now_ns(), minute_ns = (int64_t)60 * 1000000000;
    if (run.mpi->comm.rank == 0)
        trainer_keep_to(&run.trainer, &(JobTimes){.start_ns = now_ns - 60 * minute_ns,
                                                  .job_end_ns = now_ns + minute_ns});
    check_err(trainer_run(&run.trainer), ERR_REQUEUE,
              "stopped by the end of the job's time after 0 updates");
    mpi_run_close(&run);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_that_one_rank_cannot_find_stops_all),
        cmocka_unit_test(test_a_bad_token_on_one_rank_in_mid_run_stops_all),
        cmocka_unit_test(test_a_bad_token_on_one_rank_in_evaluation_stops_all),
        cmocka_unit_test(test_all_ranks_wait_for_the_files_of_rank_0),
        cmocka_unit_test(test_a_loss_that_is_not_finite_on_one_rank_skips_the_update_on_all),
        cmocka_unit_test(test_an_overflow_in_float16_lowers_the_loss_scale_on_all),
        cmocka_unit_test(test_a_float16_loss_that_is_not_finite_is_a_bad_step),
        cmocka_unit_test(test_every_rank_has_the_same_parameters_and_loss),
        cmocka_unit_test(test_parameters_are_there_before_they_are_used),
        cmocka_unit_test(test_a_signal_to_one_rank_stops_all_at_the_same_step),
        cmocka_unit_test(test_a_signal_to_one_rank_ends_the_evaluation_of_all),
        cmocka_unit_test(test_stop_after_on_rank_0_stops_all_at_the_same_step),
        cmocka_unit_test(test_the_end_of_the_job_ends_the_evaluation_of_all),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
