#include "tests/support/mpi_run.h"

enum { VOCAB = 17, N_TOKENS = 3000 };

void mpi_run_set(MpiRun *run, const char *key, const char *value)
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

void mpi_run_open(MpiRun *run, MpiTest *mpi)
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
        {"gradient_accumulation_steps", "3"},
    };
    *run = (MpiRun){.mpi = mpi};
    if (mpi->comm.rank == 0) {
        temp_make(&run->temp);
        write_tokens(&run->temp, "train.bin");
        write_tokens(&run->temp, "val.bin");
    }
    check_no_err(comm_broadcast_bytes(&mpi->comm, run->temp.dir, sizeof run->temp.dir, 0));
    config_defaults(&run->cfg);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        mpi_run_set(run, settings[i][0], settings[i][1]);
    mpi_run_set(run, "dataset", run->temp.dir);
    mpi_run_set(run, "out_dir", temp_path(&run->temp, "out"));
}

Err mpi_run_start(MpiRun *run)
{
    return trainer_open(&run->trainer, &run->cfg, &run->mpi->comm, &run->mpi->dev, &run->stop, "");
}

void mpi_run_close(MpiRun *run)
{
    trainer_close(&run->trainer);
    check_no_err(comm_barrier(&run->mpi->comm));
    if (run->mpi->comm.rank == 0)
        temp_remove(&run->temp);
}

void *mpi_run_copy(MpiRun *run, Tensor tensor)
{
    void *copy = malloc(tensor_bytes(tensor));
    assert_non_null(copy);
    device_download(&run->mpi->dev, copy, tensor);
    check_no_err(device_sync(&run->mpi->dev));
    return copy;
}

bool mpi_run_is_last_rank(const MpiRun *run)
{
    return run->mpi->comm.rank == run->mpi->comm.world - 1;
}
