/* What happens to one rank happens to all: faults, signals and bad numbers are agreed upon, and
 * nobody waits for ever. */
#include "train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/mpi_main.h"
#include "tests/support/temp.h"
#include "train/eval.h"

enum { VOCAB = 17, N_TOKENS = 3000 };

static const uint8_t NAN_BITS[4] = {0xff, 0xff, 0xff, 0xff}; /* in any dtype */

typedef struct {
    MpiTest *mpi;
    Temp temp; /* of rank 0; the others know its name */
    Config cfg;
    Trainer trainer;
    int stop; /* what launch/ would set */
} Run;

static void set(Run *run, const char *key, const char *value)
{
    check_no_err(config_set(&run->cfg, "test", key, value));
}

static void write_tokens(Temp *temp, const char *name)
{
    uint16_t tokens[N_TOKENS];
    for (int32_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (uint16_t)(i % 7 == 3 ? (i * i) % VOCAB : i % VOCAB);
    temp_write(temp, name, tokens, sizeof tokens);
}

static void open_run(Run *run, MpiTest *mpi)
{
    static const char *const settings[][2] = {
        {"n_layer", "2"},
        {"n_head", "2"},
        {"n_embd", "16"},
        {"block_size", "8"},
        {"vocab_size", "17"},
        {"batch_size", "4"},
        {"learning_rate", "1e-2"},
        {"warmup_iters", "2"},
        {"max_iters", "6"},
        {"eval_iters", "3"},
        {"gradient_accumulation_steps", "3"}, /* 12 sequences: any number of ranks up to 4 */
    };
    *run = (Run){.mpi = mpi};
    if (mpi->comm.rank == 0) {
        temp_make(&run->temp);
        write_tokens(&run->temp, "train.bin");
        write_tokens(&run->temp, "val.bin");
    }
    check_no_err(comm_broadcast_bytes(&mpi->comm, run->temp.dir, sizeof run->temp.dir, 0));
    config_defaults(&run->cfg);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        set(run, settings[i][0], settings[i][1]);
    set(run, "dataset", run->temp.dir);
    set(run, "out_dir", temp_path(&run->temp, "out"));
}

static Err start(Run *run)
{
    return trainer_open(&run->trainer, &run->cfg, &run->mpi->comm, &run->mpi->dev, &run->stop, "");
}

static void close_run(Run *run)
{
    trainer_close(&run->trainer);
    check_no_err(comm_barrier(&run->mpi->comm));
    if (run->mpi->comm.rank == 0)
        temp_remove(&run->temp);
}

/* A copy of this rank's parameters; the caller frees. */
static void *params_of(Run *run)
{
    Tensor params = run->trainer.model.params;
    void *copy = malloc(tensor_bytes(params));
    assert_non_null(copy);
    device_download(&run->mpi->dev, copy, params);
    check_no_err(device_sync(&run->mpi->dev));
    return copy;
}

static bool is_last_rank(const Run *run)
{
    return run->mpi->comm.rank == run->mpi->comm.world - 1;
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void test_data_that_one_rank_cannot_find_stops_all(void **state)
{
    Run run;
    open_run(&run, *state);
    if (is_last_rank(&run))
        set(&run, "dataset", "/nowhere/at/all");
    check_err(start(&run), ERR_MISSING, "/nowhere/at/all");
    close_run(&run);
}

static void test_a_bad_token_on_one_rank_in_mid_run_stops_all(void **state)
{
    Run run;
    StepRecord record;
    open_run(&run, *state);
    check_no_err(start(&run));
    check_no_err(trainer_step(&run.trainer, &record));
    if (is_last_rank(&run))
        run.trainer.train_loader.vocab_size = 1;
    check_err(trainer_step(&run.trainer, &record), ERR_DATA, "train.bin");
    close_run(&run);
}

static void test_a_bad_token_on_one_rank_in_evaluation_stops_all(void **state)
{
    Run run;
    double loss;
    open_run(&run, *state);
    check_no_err(start(&run));
    if (is_last_rank(&run))
        run.trainer.val_loader.vocab_size = 1;
    check_err(eval_loss(&run.trainer, &run.trainer.val_loader, &loss), ERR_DATA, "val.bin");
    close_run(&run);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void test_a_loss_that_is_not_finite_on_one_rank_skips_the_update_on_all(void **state)
{
    Run run;
    StepRecord record;
    open_run(&run, *state);
    check_no_err(start(&run));
    Tensor params = run.trainer.model.params;
    if (is_last_rank(&run))
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
    close_run(&run);
}

/* On a GPU in float16: a scale at which every gradient overflows is halved until one does not, and
 * no step of these counts as bad, nor as an update of AdamW. */
static void check_overflow(MpiTest *mpi, const char *zero_stage)
{
    enum { HALVINGS = 2 };
    Run run;
    StepRecord record;
    open_run(&run, mpi);
    set(&run, "dtype", "float16");
    set(&run, "zero_stage", zero_stage);
    set(&run, "micro_batch", "1"); /* so that there is more than one place to overflow in */
    check_no_err(start(&run));
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
    close_run(&run);
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
    Run run;
    StepRecord record;
    MpiTest *mpi = *state;
    if (mpi->dev.kind == DEVICE_CPU)
        skip();
    open_run(&run, mpi);
    set(&run, "dtype", "float16");
    check_no_err(start(&run));
    device_upload(&mpi->dev, tensor_range(run.trainer.model.params, 0, 1), NAN_BITS);
    check_no_err(trainer_step(&run.trainer, &record));
    assert_true(record.skipped);
    assert_int_equal(run.trainer.progress.n_bad_steps, 1);
    assert_true(run.trainer.progress.loss_scale.scale == LOSS_SCALE_START);
    close_run(&run);
}

static void test_every_rank_has_the_same_parameters_and_loss(void **state)
{
    enum { N_STEPS = 50 };
    Run run;
    StepRecord record;
    open_run(&run, *state);
    check_no_err(start(&run));
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
    close_run(&run);
}

/* The parameters after some steps with this zero_stage; the caller frees. */
static void *params_by_stage(MpiTest *mpi, const char *zero_stage, size_t *n_bytes)
{
    Run run;
    StepRecord record;
    open_run(&run, mpi);
    set(&run, "zero_stage", zero_stage);
    check_no_err(start(&run));
    for (int i = 0; i < 4; i++)
        check_no_err(trainer_step(&run.trainer, &record));
    check_no_err(reducer_await(&run.trainer.reducer));
    *n_bytes = tensor_bytes(run.trainer.model.params);
    void *params = params_of(&run);
    close_run(&run);
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
    Run run;
    StepRecord record;
    open_run(&run, *state);
    check_no_err(start(&run));
    check_no_err(trainer_step(&run.trainer, &record));
    assert_false(run.trainer.stop);
    if (is_last_rank(&run))
        run.stop = SIGUSR1;
    check_err(trainer_run(&run.trainer), ERR_REQUEUE, "after 2 updates");
    assert_true(path_exists(temp_path(&run.temp, "out/step_00000002/MANIFEST.json")));
    close_run(&run);
}

static void test_a_signal_to_one_rank_ends_the_evaluation_of_all(void **state)
{
    Run run;
    open_run(&run, *state);
    check_no_err(start(&run));
    if (is_last_rank(&run))
        run.stop = SIGTERM;
    check_err(trainer_run(&run.trainer), ERR_REQUEUE, "after 0 updates");
    close_run(&run);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_that_one_rank_cannot_find_stops_all),
        cmocka_unit_test(test_a_bad_token_on_one_rank_in_mid_run_stops_all),
        cmocka_unit_test(test_a_bad_token_on_one_rank_in_evaluation_stops_all),
        cmocka_unit_test(test_a_loss_that_is_not_finite_on_one_rank_skips_the_update_on_all),
        cmocka_unit_test(test_an_overflow_in_float16_lowers_the_loss_scale_on_all),
        cmocka_unit_test(test_a_float16_loss_that_is_not_finite_is_a_bad_step),
        cmocka_unit_test(test_every_rank_has_the_same_parameters_and_loss),
        cmocka_unit_test(test_parameters_are_there_before_they_are_used),
        cmocka_unit_test(test_a_signal_to_one_rank_stops_all_at_the_same_step),
        cmocka_unit_test(test_a_signal_to_one_rank_ends_the_evaluation_of_all),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
