/* One flipped bit in one replica is found and told by rank and tensor, wherever it is; nothing is
 * saved of it. 60 random bits for each zero_stage (on a GPU 10); with GPT_FULL in the environment
 * 1000. */
#include "train/replicas.h"

#include "base/rng.h"
#include "tests/support/mpi_run.h"

enum { FLIPS = 60, FLIPS_ON_GPU = 10, FULL_FLIPS = 1000, SEED = 11 };

static int64_t n_flips(const Device *dev)
{
    if (getenv("GPT_FULL"))
        return FULL_FLIPS;
    return device_is_host(dev) ? FLIPS : FLIPS_ON_GPU;
}

static void open_after_a_step(MpiRun *run, MpiTest *mpi, const char *zero_stage)
{
    StepRecord record;
    mpi_run_open(run, mpi);
    mpi_run_set(run, "zero_stage", zero_stage);
    check_no_err(mpi_run_start(run));
    check_no_err(trainer_step(&run->trainer, &record));
    check_no_err(replicas_check(&run->trainer));
}

static void flip(Device *dev, Tensor vector, int64_t bit)
{
    Tensor byte = tensor_1d((char *)vector.data + bit / 8, DTYPE_U8, 1);
    uint8_t value = 0;
    device_download(dev, &value, byte);
    check_no_err(device_sync(dev));
    value ^= (uint8_t)(1 << bit % 8);
    device_upload(dev, byte, &value);
    check_no_err(device_sync(dev));
}

/* The tensor that element i is in, or in whose padding. */
static const char *name_at(const Layout *layout, int64_t i)
{
    int32_t p = layout->n_params - 1;
    while (layout->param[p].offset > i)
        p--;
    return layout->param[p].name;
}

static void check_named(MpiRun *run, int32_t rank, const char *vector, const char *tensor)
{
    const Comm *comm = &run->mpi->comm;
    char wanted[256];
    if (comm->world == 2)
        snprintf(wanted, sizeof wanted,
                 "after 1 steps rank 0 on %s and rank 1 on %s hold different bits of %s%s (1 of ",
                 comm->host, comm->host, vector, tensor);
    else
        snprintf(wanted, sizeof wanted,
                 "after 1 steps rank %d on %s holds other bits of %s%s than the %d that agree (1 ",
                 rank, comm->host, vector, tensor, comm->world - 1);
    check_err(replicas_check(&run->trainer), ERR_REPLICA, wanted);
}

static int64_t random_below(int64_t trial, int64_t what, int64_t n)
{
    return (int64_t)rng_below(SEED, RNG_DATA, (uint64_t)trial, (uint64_t)what, (uint64_t)n);
}

/* One bit of one rank, and back. */
static void check_flip(MpiRun *run, int64_t trial, Tensor vector, const char *name)
{
    Device *dev = &run->mpi->dev;
    int64_t n_bits = 8 * (int64_t)tensor_bytes(vector), bit = random_below(trial, 0, n_bits);
    int64_t element = bit / (8 * (int64_t)dtype_bytes(vector.dtype));
    int32_t rank = (int32_t)random_below(trial, 1, run->mpi->comm.world);
    bool here = run->mpi->comm.rank == rank;
    if (here)
        flip(dev, vector, bit);
    check_named(run, rank, name, name_at(&run->trainer.layout, element));
    if (here)
        flip(dev, vector, bit);
}

static void test_single_bits_of_parameters_are_named(void **state)
{
    MpiRun run;
    MpiTest *mpi = *state;
    if (mpi->comm.world == 1)
        skip();
    open_after_a_step(&run, mpi, "1");
    int64_t n = n_flips(&mpi->dev);
    for (int64_t i = 0; i < n; i++)
        check_flip(&run, i, run.trainer.model.params, "");
    check_no_err(replicas_check(&run.trainer));
    printf("%lld of %lld flipped bits of parameters named\n", (long long)n, (long long)n);
    mpi_run_close(&run);
}

static void test_single_bits_of_replicated_state_are_named(void **state)
{
    MpiRun run;
    MpiTest *mpi = *state;
    if (mpi->comm.world == 1)
        skip();
    open_after_a_step(&run, mpi, "0");
    const Trainer *t = &run.trainer;
    int64_t n = n_flips(&mpi->dev);
    for (int64_t i = 0; i < n; i++) {
        if (i % 3 == 0)
            check_flip(&run, i, t->model.params, "");
        else
            check_flip(&run, i, i % 3 == 1 ? t->optim.state.m : t->optim.state.v,
                       i % 3 == 1 ? "exp_avg of " : "exp_avg_sq of ");
    }
    check_no_err(replicas_check(&run.trainer));
    printf("%lld of %lld flipped bits of replicated state named\n", (long long)n, (long long)n);
    mpi_run_close(&run);
}

/* A replica that differs ends the run before anything of it is saved; of one rank there is none. */
static void test_nothing_is_saved_of_ranks_that_differ(void **state)
{
    MpiRun run;
    MpiTest *mpi = *state;
    mpi_run_open(&run, mpi);
    mpi_run_set(&run, "zero_stage", "0");
    mpi_run_set(&run, "checkpoint_interval", "2");
    mpi_run_set(&run, "eval_interval", "100");
    check_no_err(mpi_run_start(&run));
    if (mpi_run_is_last_rank(&run))
        flip(&mpi->dev, run.trainer.model.params, 3);
    Err err = trainer_run(&run.trainer);
    bool saved = path_exists(temp_path(&run.temp, "out/step_00000002"));
    if (mpi->comm.world == 1) {
        check_no_err(err);
        assert_true(saved);
    } else {
        check_err(err, ERR_REPLICA, "after 2 steps");
        assert_false(saved);
    }
    mpi_run_close(&run);
}

static void test_a_difference_is_found_at_the_interval(void **state)
{
    MpiRun run;
    MpiTest *mpi = *state;
    if (mpi->comm.world == 1)
        skip();
    mpi_run_open(&run, mpi);
    mpi_run_set(&run, "zero_stage", "0");
    mpi_run_set(&run, "replica_check_interval", "3");
    mpi_run_set(&run, "eval_interval", "100");
    check_no_err(mpi_run_start(&run));
    if (mpi_run_is_last_rank(&run))
        flip(&mpi->dev, run.trainer.model.params, 3);
    check_err(trainer_run(&run.trainer), ERR_REPLICA, "after 3 steps");
    mpi_run_close(&run);
}

/* ---- the vote -------------------------------------------------------------------------------- */

static void check_vote(const uint64_t *sum, int32_t world, bool clear, int32_t most,
                       const char *outvoted)
{
    bool is[8] = {false};
    int32_t n = 0;
    assert_int_equal(replicas_vote(sum, 1, world, &n, is), clear);
    assert_int_equal(n, most);
    for (int32_t r = 0; r < world && clear; r++)
        assert_int_equal(is[r], outvoted[r] == 'x');
}

static void test_a_majority_names_the_others(void **state)
{
    (void)state;
    check_vote((const uint64_t[]){7, 7, 7}, 3, true, 3, "...");
    check_vote((const uint64_t[]){7, 9, 7}, 3, true, 2, ".x.");
    check_vote((const uint64_t[]){9, 7, 7, 7}, 4, true, 3, "x...");
    check_vote((const uint64_t[]){1, 7, 2, 7, 7}, 5, true, 3, "x.x..");
    check_vote((const uint64_t[]){7, 9}, 2, false, 1, "");
    check_vote((const uint64_t[]){7, 9, 9, 7}, 4, false, 2, "");
    check_vote((const uint64_t[]){7, 9, 8}, 3, false, 1, "");
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_bits_of_parameters_are_named),
        cmocka_unit_test(test_single_bits_of_replicated_state_are_named),
        cmocka_unit_test(test_nothing_is_saved_of_ranks_that_differ),
        cmocka_unit_test(test_a_difference_is_found_at_the_interval),
        cmocka_unit_test(test_a_majority_names_the_others),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
