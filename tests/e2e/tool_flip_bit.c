/* gpt_ddp on ranks with a fault: after STEP updates one bit of RANK's copy of the parameters is
 * flipped, then training goes on.
 *
 *     mpirun -np 3 tool_flip_bit STEP RANK --key=value... */
#include <stdlib.h>

#include "launch/machine.h"
#include "launch/report.h"
#include "train/trainer.h"

enum { BIT = 12 };

static Err flip(Trainer *t, int32_t rank)
{
    uint8_t byte = 0;
    Tensor first = tensor_1d(t->model.params.data, DTYPE_U8, 1);
    if (t->comm->rank != rank)
        return OK;
    device_download(t->dev, &byte, first);
    TRY(device_sync(t->dev));
    byte ^= 1 << BIT % 8;
    device_upload(t->dev, first, &byte);
    return device_sync(t->dev);
}

static Err train(Trainer *t, const Config *cfg, Comm *comm, Device *dev, char **argv)
{
    StepRecord record;
    TRY(machine_open(cfg, comm, dev));
    TRY(trainer_open(t, cfg, comm, dev, NULL, ""));
    while (t->progress.step < atoi(argv[1]))
        TRY(trainer_step(t, &record));
    TRY(reducer_await(&t->reducer));
    TRY(flip(t, atoi(argv[2])));
    return trainer_run(t);
}

int main(int argc, char **argv)
{
    static Config cfg;
    static Trainer trainer;
    Comm comm = {0};
    Device dev = {0};
    if (argc < 3)
        return EXIT_FAILURE;
    Err err = comm_open(&comm, true);
    if (!err)
        err = config_load(&cfg, NULL, argc - 3, argv + 3);
    if (!err)
        err = train(&trainer, &cfg, &comm, &dev, argv);
    int exit_code = report_error("tool_flip_bit", err, comm.rank == 0);
    comm_unbind(&comm, &dev);
    trainer_close(&trainer);
    device_close(&dev);
    comm_close(&comm);
    return exit_code;
}
