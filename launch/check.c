#include "launch/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/human.h"
#include "launch/check_line.h"
#include "launch/machine.h"
#include "launch/report.h"
#include "train/trainer.h"

/* ---- lines ------------------------------------------------------------------------------- */

static void say(const Check *c, const char *what, const char *result, const char *fmt, va_list args)
{
    if (c->comm->rank != 0)
        return;
    printf("%-12s %-9s ", what, result);
    vprintf(fmt, args);
    printf("\n");
    fflush(stdout);
}

void check_ok(Check *c, const char *what, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(c, what, "ok", fmt, args);
    va_end(args);
    c->n_checks++;
}

void check_warn(Check *c, const char *what, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(c, what, "warning", fmt, args);
    va_end(args);
    c->n_checks++;
    c->n_warnings++;
}

bool check_passed(Check *c, const char *what, Err err)
{
    if (!err)
        return true;
    if (c->comm->rank == 0)
        printf("%-12s %-9s %s\n", what, "FAILED", err_message(err));
    fflush(stdout);
    c->n_checks++;
    c->n_failed++;
    c->first = c->first ? c->first : err_code(err);
    err_free(err);
    return false;
}

/* ---- what is checked here ---------------------------------------------------------------- */

static void check_settings(Check *c, const Launcher *launcher)
{
    const Config *cfg = c->cfg;
    check_ok(c, "settings", "the same on %d rank%s; %s sequences of %s tokens in a step",
             c->comm->world, c->comm->world == 1 ? "" : "s",
             human_count(config_step_sequences(cfg)).text, human_count(cfg->model.block_size).text);
    if (cfg->notice[0])
        check_warn(c, "settings", "%s", cfg->notice);
    if (launcher->job_tasks > 1)
        check_warn(c, "settings",
                   "this Slurm job is for %d tasks, and here is one process: start it with srun "
                   "--mpi=pmix or mpirun",
                   launcher->job_tasks);
}

static void check_memory(Check *c, Device *dev)
{
    Trainer *t = calloc(1, sizeof *t);
    Err err = t ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the trainer");
    err = comm_agree(c->comm, err);
    if (!err)
        err = trainer_plan(t, c->cfg, c->comm, dev, check_vocab_size(c));
    if (check_passed(c, "memory", err)) {
        const Plan *plan = t->plan;
        check_ok(c, "memory", "%s per rank of %s allowed; micro_batch %lld x %lld micro-steps",
                 human_bytes(plan->total_bytes).text, human_bytes(plan->target.limit_bytes).text,
                 (long long)plan->shape.micro_batch, (long long)plan->n_micro_steps);
    }
    if (t)
        trainer_close(t);
    free(t);
}

static void check_machine(Check *c)
{
    Device dev = {0};
    bool opened = check_passed(c, "machine", machine_open(c->cfg, c->comm, &dev));
    check_ranks(c, &dev, opened);
    check_limits(c, &dev);
    if (opened) {
        check_memory(c, &dev);
        check_collectives(c, &dev);
    } else {
        check_warn(c, "memory", "not tested, nor the network: see \"machine\"");
    }
    comm_unbind(c->comm, &dev);
    device_close(&dev);
}

Err check_run(const Config *cfg, Comm *comm, const Launcher *launcher)
{
    Check c = {.cfg = cfg, .comm = comm};
    check_settings(&c, launcher);
    check_data(&c);
    check_hellaswag(&c);
    check_samples(&c);
    check_start(&c);
    check_out_dir(&c);
    check_machine(&c);
    dataset_close(&c.data);
    if (c.n_failed > 0)
        FAIL(c.first, "%d of %d checks failed, %d warned", c.n_failed, c.n_checks, c.n_warnings);
    if (comm->rank == 0)
        printf("%d checks: %d warned, none failed\n", c.n_checks, c.n_warnings);
    return OK;
}
