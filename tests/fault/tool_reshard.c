/* tool_reshard MAX_RANKS STAGES FOLDER: one training run whose checkpoints go from each number of
 * ranks (1 to MAX_RANKS) and zero_stage (0 to STAGES - 1) to each other one. At every hop the state
 * is loaded, saved again before a step is done, and must have the checksums it came with; then a
 * step is trained and saved for the next hop. Prints hops and violations.
 *
 * One mpirun -np MAX_RANKS for all hops: the first so many ranks are the world of a hop. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#include "base/check.h"
#include "base/file.h"
#include "train/trainer.h"

enum { MAX_FORMS = 4 * 3, N_TOKENS = 400, VOCAB = 31 };

typedef struct {
    int32_t world, zero_stage;
} Form;

/* What a Comm takes for the world. */
static MPI_Comm world_of_hop = MPI_COMM_NULL;

/* Stands before MPI's, as the standard allows tools to. */
int MPI_Comm_dup(MPI_Comm from, MPI_Comm *to)
{
    bool ours = from == MPI_COMM_WORLD && world_of_hop != MPI_COMM_NULL;
    return PMPI_Comm_dup(ours ? world_of_hop : from, to);
}

static void must(Err err, const char *what)
{
    if (!err)
        return;
    fprintf(stderr, "%s: %s\n", what, err_message(err));
    err_free(err);
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
}

/* ---- the run ----------------------------------------------------------------------------- */

static void set(Config *cfg, const char *key, const char *value)
{
    must(config_set(cfg, "tool_reshard", key, value), key);
}

static void set_number(Config *cfg, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    set(cfg, key, text);
}

/* Sizes that 2, 3 and 4 do not divide, in several buckets. */
static void make_config(Config *cfg, const char *dir, Form form, int64_t step)
{
    static const char *const SETTINGS[][2] = {
        {"device", "cpu"},
        {"n_layer", "3"},
        {"n_head", "5"},
        {"n_embd", "85"},
        {"block_size", "7"},
        {"vocab_size", "31"},
        {"batch_size", "4"},
        {"gradient_accumulation_steps", "3"},
        {"bucket_mb", "1"},
        {"learning_rate", "1e-3"},
        {"min_lr", "1e-4"},
        {"warmup_iters", "5"},
        {"lr_decay_iters", "50"},
        {"eval_iters", "1"},
        {"eval_interval", "100000"},
        {"keep_checkpoints", "2"},
        {"init_from", "auto"},
        {"data_dir", "/"},
    };
    char out_dir[FILE_PATH_BYTES];
    config_defaults(cfg);
    for (size_t i = 0; i < sizeof SETTINGS / sizeof *SETTINGS; i++)
        set(cfg, SETTINGS[i][0], SETTINGS[i][1]);
    must(path_join(out_dir, dir, "out"), "out_dir");
    set(cfg, "dataset", dir);
    set(cfg, "out_dir", out_dir);
    set_number(cfg, "zero_stage", form.zero_stage);
    set_number(cfg, "max_iters", step + 1);
}

static void write_data(const char *dir)
{
    uint16_t tokens[N_TOKENS];
    char path[FILE_PATH_BYTES];
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (uint16_t)((i * i + i / 5) % VOCAB);
    for (int i = 0; i < 2; i++) {
        must(path_join(path, dir, i ? "val.bin" : "train.bin"), "data");
        must(file_publish(path, tokens, sizeof tokens), "data");
    }
}

/* ---- a hop ------------------------------------------------------------------------------- */

static bool same_digest(const char *a_path, const char *b_path)
{
    FileDigest a, b;
    must(file_digest(a_path, &a), a_path);
    must(file_digest(b_path, &b), b_path);
    bool same = a.n_bytes == b.n_bytes && a.n_blocks == b.n_blocks && a.n_bytes > 0 &&
                memcmp(a.block_hash, b.block_hash, (size_t)a.n_blocks * sizeof *a.block_hash) == 0;
    file_digest_free(&a);
    file_digest_free(&b);
    return same;
}

/* The weights and AdamW's state of two checkpoint directories. */
static bool same_state(const char *a_dir, const char *b_dir)
{
    static const char *const NAMES[] = {"model.safetensors", "optimizer.safetensors"};
    bool same = true;
    for (int i = 0; i < 2; i++) {
        char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
        must(path_join(a, a_dir, NAMES[i]), NAMES[i]);
        must(path_join(b, b_dir, NAMES[i]), NAMES[i]);
        same = same && same_digest(a, b);
    }
    return same;
}

static void step_dir(char *out, const char *dir, const char *folder, int64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "%s/step_%08" PRId64, folder, step);
    must(path_join(out, dir, name), name);
}

/* Save what was loaded to dir/again; on rank 0: is it what was loaded? */
static bool saves_the_same(const Trainer *t, Config *cfg, const char *dir)
{
    char came[FILE_PATH_BYTES], went[FILE_PATH_BYTES], out_dir[CONFIG_TEXT_BYTES];
    CheckpointState state = {.comm = t->comm,
                             .dev = t->dev,
                             .cfg = cfg,
                             .model = (GPT2 *)&t->model,
                             .optim = (AdamW *)&t->optim,
                             .staging = t->mem.staging};
    memcpy(out_dir, cfg->run.out_dir, sizeof out_dir);
    snprintf(cfg->run.out_dir, sizeof cfg->run.out_dir, "%s/again", dir);
    must(checkpoint_save(&state, &t->progress), "save again");
    memcpy(cfg->run.out_dir, out_dir, sizeof out_dir);
    step_dir(came, dir, "out", t->progress.step);
    step_dir(went, dir, "again", t->progress.step);
    bool same = t->comm->rank != 0 || same_state(came, went);
    if (t->comm->rank == 0)
        must(dir_remove(went), went);
    return same;
}

/* Collective among the ranks of the hop. Was the state loaded whole? */
static bool hop(const char *dir, Form form, int64_t step)
{
    Config cfg;
    Comm comm = {0};
    Device dev = {0};
    Trainer trainer;
    make_config(&cfg, dir, form, step);
    must(comm_open(&comm, true), "comm_open");
    ASSERT(comm.world == form.world, "%d ranks, wanted %d", comm.world, form.world);
    must(device_open(&dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = 1}), "device_open");
    must(comm_bind(&comm, &dev, comm.world == 1 ? COMM_SINGLE : COMM_MPI), "comm_bind");
    must(trainer_open(&trainer, &cfg, &comm, &dev, NULL, ""), "trainer_open");
    ASSERT(trainer.progress.step == step, "loaded step %" PRId64 ", wanted %" PRId64,
           trainer.progress.step, step);
    bool same = step == 0 || saves_the_same(&trainer, &cfg, dir);
    must(trainer_run(&trainer), "trainer_run");
    comm_unbind(&comm, &dev);
    trainer_close(&trainer);
    device_close(&dev);
    comm_close(&comm);
    return same;
}

/* ---- all hops ---------------------------------------------------------------------------- */

/* The order in which each form follows each, itself included, once: 0 | 0 1 | 0 2 | ... | 1 | 1 2 |
 * ... and 0 again. Returns how many. */
static int make_tour(int n_forms, int tour[])
{
    int n = 0;
    for (int i = 0; i < n_forms; i++) {
        tour[n++] = i;
        for (int j = i + 1; j < n_forms; j++) {
            tour[n++] = i;
            tour[n++] = j;
        }
    }
    tour[n++] = 0;
    return n;
}

static int run_tour(const char *dir, int max_ranks, int n_stages)
{
    int tour[MAX_FORMS * MAX_FORMS + 1], rank, violations = 0;
    int n = make_tour(max_ranks * n_stages, tour);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int i = 0; i < n; i++) {
        Form form = {tour[i] / n_stages + 1, tour[i] % n_stages};
        bool mine = rank < form.world;
        MPI_Comm_split(MPI_COMM_WORLD, mine ? 0 : MPI_UNDEFINED, rank, &world_of_hop);
        if (mine && !hop(dir, form, i)) {
            fprintf(stderr, "hop %d, to %d ranks, zero_stage %d: the state differs\n", i,
                    form.world, form.zero_stage);
            violations++;
        }
        if (mine)
            MPI_Comm_free(&world_of_hop);
        world_of_hop = MPI_COMM_NULL;
        MPI_Barrier(MPI_COMM_WORLD);
    }
    if (rank == 0)
        fprintf(stderr, "%d hops, %d violations\n", n - 1, violations);
    return violations;
}

int main(int argc, char **argv)
{
    int level, rank, world;
    char dir[FILE_PATH_BYTES] = "";
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    int max_ranks = argc == 4 ? atoi(argv[1]) : 0, n_stages = argc == 4 ? atoi(argv[2]) : 0;
    if (max_ranks != world || max_ranks > 4 || n_stages < 1 || n_stages > 3) {
        fprintf(stderr, "usage: mpirun -np MAX_RANKS tool_reshard MAX_RANKS STAGES FOLDER\n");
        MPI_Abort(MPI_COMM_WORLD, 64);
    }
    snprintf(dir, sizeof dir, "%s", argv[3]);
    if (rank == 0)
        write_data(dir);
    if (!freopen("/dev/null", "w", stdout))
        return EXIT_FAILURE;
    MPI_Barrier(MPI_COMM_WORLD);
    int violations = run_tour(dir, max_ranks, n_stages);
    MPI_Bcast(&violations, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Finalize();
    return violations ? EXIT_FAILURE : EXIT_SUCCESS;
}
