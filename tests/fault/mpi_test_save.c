/* Every file operation of a save of several ranks, failing in every way, beside training and not
 * (every eighth, unless GPT_FULL is set); and a device that breaks on a rank that writes nothing.
 * All ranks hear the same, and what is found afterwards is the old checkpoint or the new one, bit
 * for bit.
 *
 * A process that dies at an operation leaves what "dead" leaves, where nothing works from there on:
 * test_operations.sh kills for real. */
#include <math.h>
#include <string.h>

#include "checkpoint/writer.h"
#include "tests/fault/shim.h"
#include "tests/support/mpi_main.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

typedef struct {
    MpiTest *mpi;
    Temp temp; /* of rank 0; the others know its name */
    ToyRun run;
    Writer writer;
    bool beside;
    int32_t n_folders;
} World;

static bool is_first(const World *w)
{
    return w->mpi->comm.rank == 0;
}

static void open_world(World *w, MpiTest *mpi)
{
    bool can = false;
    ToyArgs args = toy_args(true);
    *w = (World){.mpi = mpi};
    if (mpi->comm.rank == 0)
        temp_make(&w->temp);
    check_no_err(comm_broadcast_bytes(&mpi->comm, w->temp.dir, sizeof w->temp.dir, 0));
    args.dims.n_layer = args.dims.n_head = 1;
    args.dims.n_embd = 2;
    args.rank = mpi->comm.rank;
    args.world = mpi->comm.world;
    toy_open(&w->run, &args, &mpi->comm, &mpi->dev, "");
    writer_init(&w->writer, &w->run.state);
    check_no_err(writer_reserve(&w->writer, &can));
    assert_true(can);
}

static void close_world(World *w)
{
    writer_close(&w->writer);
    toy_close(&w->run);
    check_no_err(comm_barrier(&w->mpi->comm));
    if (is_first(w))
        temp_remove(&w->temp);
}

static Err save(World *w, int64_t step)
{
    const Progress progress = {.step = step, .best_val_loss = INFINITY};
    toy_fill(&w->run, (uint64_t)step);
    if (!w->beside)
        return checkpoint_save(&w->run.state, &progress);
    TRY(writer_save(&w->writer, &progress));
    toy_fill(&w->run, 998);
    return writer_publish(&w->writer);
}

/* An empty folder with a checkpoint of step 1 in it. */
static void begin_case(World *w)
{
    char name[32];
    char *out_dir = w->run.cfg.run.out_dir;
    snprintf(name, sizeof name, "folder_%d", w->n_folders++);
    int used = snprintf(out_dir, sizeof w->run.cfg.run.out_dir, "%s/%s", w->temp.dir, name);
    assert_in_range(used, 1, sizeof w->run.cfg.run.out_dir - 1);
    check_no_err(save(w, 1));
    if (is_first(w))
        fault_watch(out_dir);
}

/* The step of the newest whole checkpoint, loaded and compared bit for bit by every rank. */
static int64_t found_step(World *w)
{
    char dir[FILE_PATH_BYTES];
    bool found = false;
    Progress progress;
    check_no_err(checkpoint_find(&w->mpi->comm, w->run.cfg.run.out_dir, &found, dir));
    assert_true(found);
    toy_fill(&w->run, 999);
    check_no_err(checkpoint_load(&w->run.state, dir, &progress));
    toy_check(&w->run, (uint64_t)progress.step);
    return progress.step;
}

/* All ranks heard of the same end. */
static bool worked_for_all(World *w, Err err)
{
    int64_t code[2] = {(int64_t)err_code(err), -(int64_t)err_code(err)};
    err_free(err);
    check_no_err(comm_max_i64(&w->mpi->comm, code, 2));
    assert_int_equal(code[0], -code[1]);
    return code[0] == 0;
}

static int64_t count_operations(World *w)
{
    begin_case(w);
    fault_arm(FAULT_NONE, 0);
    check_no_err(save(w, 2));
    int64_t n = fault_disarm();
    check_no_err(comm_broadcast_bytes(&w->mpi->comm, &n, sizeof n, 0));
    return n;
}

static void run_case(World *w, FaultKind kind, int64_t at)
{
    begin_case(w);
    if (is_first(w))
        fault_arm(kind, at);
    bool worked = worked_for_all(w, save(w, 2));
    fault_disarm();
    int64_t step = found_step(w);
    if (step != 2 && (worked || step != 1))
        fail_msg("%s at operation %lld: found step %lld", fault_name(kind), (long long)at,
                 (long long)step);
    check_no_err(save(w, 3));
    assert_int_equal(found_step(w), 3);
}

static void check_every_operation(MpiTest *mpi, bool beside)
{
    World w;
    open_world(&w, mpi);
    w.beside = beside;
    int64_t n = count_operations(&w), n_cases = 0;
    assert_true(n > 20);
    const int64_t stride = getenv("GPT_FULL") ? 1 : 8;
    for (FaultKind kind = FAULT_ENOSPC; kind < N_FAULTS; kind++)
        for (int64_t at = 1 + kind % stride; at <= n; at += stride, n_cases++)
            run_case(&w, kind, at);
    fault_watch(NULL);
    printf("%d ranks%s: %lld operations, %lld cases\n", mpi->comm.world,
           beside ? ", beside training" : "", (long long)n, (long long)n_cases);
    close_world(&w);
}

static void test_every_operation(void **state)
{
    check_every_operation(*state, false);
}

static void test_every_operation_beside_training(void **state)
{
    check_every_operation(*state, true);
}

/* Rank 0 has written what it got from there: none of it may become a checkpoint. */
static void test_nothing_is_published_before_all_ranks_have_done_their_part(void **state)
{
    MpiTest *mpi = *state;
    World w;
    open_world(&w, mpi);
    for (int beside = 0; beside < 2; beside++) {
        w.beside = beside;
        begin_case(&w);
        if (mpi->comm.rank == mpi->comm.world - 1)
            mpi->dev.err = ERR_NEW(ERR_SYSTEM, "the device broke");
        assert_false(worked_for_all(&w, save(&w, 2)));
        assert_int_equal(found_step(&w), 1);
    }
    close_world(&w);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_published_before_all_ranks_have_done_their_part),
        cmocka_unit_test(test_every_operation),
        cmocka_unit_test(test_every_operation_beside_training),
    };
    return MPI_MAIN(tests);
}
