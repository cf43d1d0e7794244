/* Checkpoints over ranks: whoever saved, everybody can load; and all ranks hear the same. */
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "checkpoint/safetensors.h"
#include "tests/support/check_err.h"
#include "tests/support/mpi_main.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

enum { FILL = 11, MAX_WORLD = 5 };

/* One directory for all ranks. */
static void shared_temp(MpiTest *t, Temp *temp)
{
    memset(temp, 0, sizeof *temp);
    if (t->comm.rank == 0)
        temp_make(temp);
    check_no_err(comm_broadcast_bytes(&t->comm, temp, sizeof *temp, 0));
}

static void drop_temp(MpiTest *t, Temp *temp)
{
    check_no_err(comm_barrier(&t->comm));
    if (t->comm.rank == 0)
        temp_remove(temp);
}

/* This rank's part of a run over all ranks; zero_stage 0: every rank has all. */
static void open_part(MpiTest *t, ToyRun *run, ToyArgs args, int zero_stage, const char *out_dir)
{
    if (zero_stage == 1) {
        args.rank = t->comm.rank;
        args.world = t->comm.world;
    }
    toy_open(run, &args, &t->comm, &t->dev, out_dir);
}

static const Progress PROGRESS = {7, 3360, 1.25, 2, 6, {1024, 5}, {0}, 6};

static void save_part(MpiTest *t, const ToyArgs *args, int zero_stage, const char *out_dir,
                      uint64_t fill)
{
    ToyRun run;
    open_part(t, &run, *args, zero_stage, out_dir);
    toy_fill(&run, fill);
    check_no_err(checkpoint_save(&run.state, &PROGRESS));
    toy_close(&run);
}

/* Is the world of that many ranks this rank's to play? The ranks share the work. */
static bool is_mine(const Comm *comm, int32_t world)
{
    return world % comm->world == comm->rank;
}

/* Load as each rank of a world of `world` would, one after another, without the others. */
static void check_loads_in_world(MpiTest *t, ToyArgs args, int32_t world, const char *dir)
{
    Comm alone;
    check_no_err(comm_open(&alone, false));
    for (int32_t rank = 0; rank < world; rank++) {
        ToyRun run;
        Progress got;
        args.rank = rank;
        args.world = world;
        toy_open(&run, &args, &alone, &t->dev, "unused");
        check_no_err(checkpoint_load(&run.state, dir, &got));
        toy_check(&run, FILL);
        assert_int_equal(got.step, PROGRESS.step);
        assert_int_equal(got.n_sequences, PROGRESS.n_sequences);
        assert_true(got.best_val_loss == PROGRESS.best_val_loss);
        toy_close(&run);
    }
    comm_close(&alone);
}

/* What `args` saved, loaded as `into`. */
static void check_any_world_loads_as(MpiTest *t, const ToyArgs *args, const ToyArgs *into,
                                     int zero_stage)
{
    Temp temp;
    shared_temp(t, &temp);
    save_part(t, args, zero_stage, temp.dir, FILL);
    for (int32_t world = 1; world <= MAX_WORLD; world++)
        if (is_mine(&t->comm, world))
            check_loads_in_world(t, *into, world, temp_path(&temp, "step_00000007"));
    drop_temp(t, &temp);
}

static void check_any_world_loads(MpiTest *t, const ToyArgs *args, int zero_stage)
{
    check_any_world_loads_as(t, args, args, zero_stage);
}

static void test_any_world_loads_what_this_one_saved(void **state)
{
    for (int bias = 0; bias < 2; bias++) {
        for (int zero_stage = 0; zero_stage < 2; zero_stage++) {
            ToyArgs args = toy_args(bias);
            check_any_world_loads(*state, &args, zero_stage);
            args.dtype = DTYPE_BF16; /* master weights */
            check_any_world_loads(*state, &args, zero_stage);
        }
    }
}

/* Master weights whole or in halves, on the device or in host memory: the files are the same. */
static void test_any_form_of_the_optimizer_loads(void **state)
{
    enum { N_FORMS = 4 };
    for (int save = 0; save < N_FORMS; save++) {
        ToyArgs args = toy_args(false), into = args;
        int load = (save + 1 + save / 2) % N_FORMS; /* 0 to 1, 1 to 2, 2 to 0, 3 to 1 */
        args.dtype = into.dtype = DTYPE_BF16;
        args.halves = save & 1;
        args.offload = save >> 1;
        into.halves = load & 1;
        into.offload = load >> 1;
        check_any_world_loads_as(*state, &args, &into, 1);
        into = args;
        check_any_world_loads_as(*state, &args, &into, 0);
    }
}

/* Buckets of one tensor and one bucket for all; slices longer than the 64 KiB of staging. */
static void test_bucket_and_staging_do_not_matter(void **state)
{
    static const int64_t BUCKETS[] = {1, 1000000};
    for (int i = 0; i < 2; i++) {
        ToyArgs args = toy_args(true);
        args.bucket_elements = BUCKETS[i];
        args.dims.n_embd = 96;
        args.dims.vocab_size = 700;
        args.dims.vocab_padded = 768;
        args.dtype = DTYPE_BF16;
        args.halves = i == 0;
        check_any_world_loads(*state, &args, 1);
    }
}

/* ---- the files are the same -------------------------------------------------------------- */

static void check_same_file(const char *a_dir, const char *b_dir, const char *name)
{
    char a_path[FILE_PATH_BYTES], b_path[FILE_PATH_BYTES];
    FileMap a, b;
    check_no_err(path_join(a_path, a_dir, name));
    check_no_err(path_join(b_path, b_dir, name));
    check_no_err(file_map(&a, a_path));
    check_no_err(file_map(&b, b_path));
    assert_int_equal(a.n_bytes, b.n_bytes);
    assert_memory_equal(a.data, b.data, a.n_bytes);
    file_unmap(&a);
    file_unmap(&b);
}

/* What a world of one writes, so that no file can know how many ranks there were. */
static void test_files_do_not_depend_on_the_world(void **state)
{
    static const char *const NAMES[] = {"step_00000007/model.safetensors",
                                        "step_00000007/optimizer.safetensors",
                                        "step_00000007/config.json"};
    MpiTest *t = *state;
    Temp temp;
    char all_dir[FILE_PATH_BYTES], one_dir[FILE_PATH_BYTES];
    shared_temp(t, &temp);
    check_no_err(path_join(all_dir, temp.dir, "all"));
    check_no_err(path_join(one_dir, temp.dir, "one"));
    const ToyArgs args = toy_args(false);
    save_part(t, &args, 1, all_dir, FILL);
    if (t->comm.rank == 0) {
        Comm alone;
        ToyRun run;
        check_no_err(comm_open(&alone, false));
        toy_open(&run, &args, &alone, &t->dev, one_dir);
        toy_fill(&run, FILL);
        check_no_err(checkpoint_save(&run.state, &PROGRESS));
        for (int i = 0; i < 3; i++)
            check_same_file(all_dir, one_dir, NAMES[i]);
        toy_close(&run);
        comm_close(&alone);
    }
    drop_temp(t, &temp);
}

/* ---- agreement --------------------------------------------------------------------------- */

static void test_load_together(void **state)
{
    MpiTest *t = *state;
    const ToyArgs args = toy_args(true);
    for (int zero_stage = 0; zero_stage < 2; zero_stage++) {
        Temp temp;
        ToyRun run;
        Progress got;
        bool found;
        char dir[FILE_PATH_BYTES];
        shared_temp(t, &temp);
        save_part(t, &args, 1 - zero_stage, temp.dir, FILL);
        open_part(t, &run, args, zero_stage, temp.dir);
        check_no_err(checkpoint_find(&t->comm, temp.dir, &found, dir));
        assert_true(found);
        assert_string_equal(dir, temp_path(&temp, "step_00000007"));
        check_no_err(checkpoint_load(&run.state, dir, &got));
        toy_check(&run, FILL);
        assert_int_equal(got.n_bad_steps, PROGRESS.n_bad_steps);
        assert_int_equal(got.n_updates, PROGRESS.n_updates);
        assert_true(got.loss_scale.scale == PROGRESS.loss_scale.scale);
        assert_int_equal(got.loss_scale.n_good, PROGRESS.loss_scale.n_good);
        toy_close(&run);
        drop_temp(t, &temp);
    }
}

/* Every rank has this error, with the same words. */
static void check_same_err(MpiTest *t, Err err, ErrCode code, const char *part)
{
    char mine[256] = "", first[256];
    snprintf(mine, sizeof mine, "%s", err_message(err));
    check_err(err, code, part);
    memcpy(first, mine, sizeof first);
    check_no_err(comm_broadcast_bytes(&t->comm, first, sizeof first, 0));
    assert_string_equal(mine, first);
}

static void test_mismatch_is_told_to_all(void **state)
{
    MpiTest *t = *state;
    Temp temp;
    ToyRun run;
    Progress got;
    ToyArgs args = toy_args(true);
    shared_temp(t, &temp);
    save_part(t, &args, 1, temp.dir, FILL);
    args.dims.vocab_size = 64;
    open_part(t, &run, args, 1, temp.dir);
    check_same_err(t, checkpoint_load(&run.state, temp_path(&temp, "step_00000007"), &got),
                   ERR_DATA, "vocab_size is 65 in the checkpoint, 64 in this run");
    toy_close(&run);
    drop_temp(t, &temp);
}

static void limit_file_bytes(rlim_t n_bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = n_bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Only rank 0 meets the full disk; MPI's own shared memory must not. */
static void test_failed_save_is_told_to_all(void **state)
{
    MpiTest *t = *state;
    Temp temp;
    ToyRun run;
    Progress next = PROGRESS, got;
    const ToyArgs args = toy_args(true);
    shared_temp(t, &temp);
    signal(SIGXFSZ, SIG_IGN);
    open_part(t, &run, args, 1, temp.dir);
    toy_fill(&run, FILL);
    check_no_err(checkpoint_save(&run.state, &PROGRESS));
    for (int64_t limit = 0; limit < 100000; limit += 19000) {
        toy_fill(&run, 99);
        next.step = 8;
        if (t->comm.rank == 0)
            limit_file_bytes((rlim_t)limit);
        Err err = checkpoint_save(&run.state, &next);
        if (t->comm.rank == 0)
            limit_file_bytes(RLIM_INFINITY);
        check_same_err(t, err, ERR_WRITE, "cannot write");
        assert_false(path_exists(temp_path(&temp, ".tmp_step_00000008")));
        assert_false(path_exists(temp_path(&temp, "step_00000008")));
        check_no_err(checkpoint_load(&run.state, temp_path(&temp, "step_00000007"), &got));
        toy_check(&run, FILL);
    }
    check_no_err(checkpoint_save(&run.state, &next));
    check_no_err(checkpoint_load(&run.state, temp_path(&temp, "step_00000008"), &got));
    toy_check(&run, FILL);
    toy_close(&run);
    drop_temp(t, &temp);
}

static void test_out_dir_that_cannot_be_made_is_told_to_all(void **state)
{
    MpiTest *t = *state;
    ToyRun run;
    open_part(t, &run, toy_args(true), 1, "/proc/none");
    toy_fill(&run, FILL);
    check_same_err(t, checkpoint_save(&run.state, &PROGRESS), ERR_WRITE, "/proc/none");
    toy_close(&run);
}

static void test_prune_acts_once(void **state)
{
    MpiTest *t = *state;
    Temp temp;
    ToyRun run;
    shared_temp(t, &temp);
    open_part(t, &run, toy_args(true), 1, temp.dir);
    toy_fill(&run, FILL);
    for (int64_t step = 1; step <= 4; step++)
        check_no_err(checkpoint_save(&run.state, &(Progress){.step = step, .best_val_loss = 1}));
    check_no_err(checkpoint_prune(&t->comm, temp.dir, (CheckpointKeep){.newest = 2}));
    assert_false(path_exists(temp_path(&temp, "step_00000002")));
    assert_true(path_exists(temp_path(&temp, "step_00000003")));
    assert_true(path_exists(temp_path(&temp, "step_00000004")));
    toy_close(&run);
    drop_temp(t, &temp);
}

/* A device that broke on the last rank only: nobody hangs, everybody gets that rank's error. */
static void test_broken_device_is_told_to_all(void **state)
{
    MpiTest *t = *state;
    Temp temp;
    ToyRun run;
    shared_temp(t, &temp);
    open_part(t, &run, toy_args(true), 1, temp.dir);
    toy_fill(&run, FILL);
    if (t->comm.rank == t->comm.world - 1)
        t->dev.err = ERR_NEW(ERR_SYSTEM, "the device broke");
    check_same_err(t, checkpoint_save(&run.state, &PROGRESS), ERR_SYSTEM, "the device broke");
    assert_false(path_exists(temp_path(&temp, ".tmp_step_00000007")));
    toy_close(&run);
    drop_temp(t, &temp);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_world_loads_what_this_one_saved),
        cmocka_unit_test(test_any_form_of_the_optimizer_loads),
        cmocka_unit_test(test_bucket_and_staging_do_not_matter),
        cmocka_unit_test(test_files_do_not_depend_on_the_world),
        cmocka_unit_test(test_load_together),
        cmocka_unit_test(test_mismatch_is_told_to_all),
        cmocka_unit_test(test_failed_save_is_told_to_all),
        cmocka_unit_test(test_out_dir_that_cannot_be_made_is_told_to_all),
        cmocka_unit_test(test_prune_acts_once),
        cmocka_unit_test(test_broken_device_is_told_to_all),
    };
    return MPI_MAIN(tests);
}
