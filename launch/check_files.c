/* --check: data, where the run begins, out_dir. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "checkpoint/checkpoint.h"
#include "data/loader.h"
#include "launch/check_line.h"
#include "plan/plan.h"
#include "train/hellaswag.h"

enum { SAMPLES = 64, SAMPLE_TOKENS = 1 << 16, TEST_BYTES = 16 << 20, VERIFY_BYTES = 256 << 20 };

/* ---- data -------------------------------------------------------------------------------- */

/* Tokens at SAMPLES places, spread over the files and then over the ranks. */
static Err check_tokens(const Comm *comm, const TokenFiles *files, int64_t vocab_size)
{
    for (int64_t i = comm->rank; i < SAMPLES; i += comm->world) {
        int64_t begin = files->n_tokens / SAMPLES * i;
        int64_t left = files->n_tokens - begin;
        int64_t n = left < SAMPLE_TOKENS ? left : SAMPLE_TOKENS;
        if (n > 0)
            TRY(token_files_check(files, begin, n, vocab_size));
    }
    return OK;
}

static Err check_dataset(const Check *c, const Dataset *set)
{
    const Config *cfg = c->cfg;
    const TokenFiles *files[] = {&set->train, &set->val};
    int64_t vocab_size = plan_vocab_size(cfg, set->vocab_size);
    for (int32_t i = 0; i < 2; i++) {
        Loader loader;
        TRY(loader_init(&loader, files[i], (ConfigSampling)cfg->data.sampling,
                        (uint64_t)cfg->run.seed, cfg->model.block_size, vocab_size));
        TRY(check_tokens(c->comm, files[i], vocab_size));
    }
    return OK;
}

void check_data(Check *c)
{
    Dataset *set = &c->data;
    Err err = comm_agree(c->comm, dataset_open(set, c->cfg));
    if (!err)
        err = comm_agree(c->comm, check_dataset(c, set));
    c->has_data = !err;
    if (check_passed(c, "data", err))
        check_ok(c, "data", "%s: %s tokens to train, %s to validate, vocabulary of %s",
                 c->cfg->data.dataset, human_count(set->train.n_tokens).text,
                 human_count(set->val.n_tokens).text, human_count(check_vocab_size(c)).text);
    if (c->has_data && dataset_is_foreign(set, c->cfg))
        check_warn(c, "data",
                   "a vocabulary of %s, the model one of %s: its tokens mean other texts",
                   human_count(set->vocab_size).text, human_count(check_vocab_size(c)).text);
}

int64_t check_vocab_size(const Check *c)
{
    return plan_vocab_size(c->cfg, c->has_data ? c->data.vocab_size : CONFIG_AUTO);
}

static bool has_data(Check *c, const char *what)
{
    if (!c->has_data)
        check_warn(c, what, "not tested: see \"data\"");
    return c->has_data;
}

void check_samples(Check *c)
{
    Samples samples = {0};
    if (c->cfg->run.sample_interval == 0 || !has_data(c, "samples"))
        return;
    if (check_passed(c, "samples", comm_agree(c->comm, samples_read(&samples, c->cfg, &c->data))))
        check_ok(c, "samples", "a tokenizer of %d tokens, a prompt of %" PRId64,
                 samples.tokenizer.vocab_size, samples.n_prompt);
    samples_close(&samples);
}

void check_hellaswag(Check *c)
{
    ScoreTask task = {0};
    const char *path = c->cfg->run.eval_hellaswag;
    if (!path[0] || !has_data(c, "hellaswag"))
        return;
    if (check_passed(c, "hellaswag", comm_agree(c->comm, hellaswag_read(&task, c->cfg, &c->data))))
        check_ok(c, "hellaswag", "%s: %s items, the longest of %d tokens", path,
                 human_count(task.n_items).text, task.order[0].n_tokens + 1);
    score_task_close(&task);
}

/* ---- where it begins --------------------------------------------------------------------- */

/* The checkpoint that a run would go on from, as far as some seconds can tell. */
static Err find_whole(const char *out_dir, const GptDims *dims, char *text, size_t n_bytes)
{
    char dir[FILE_PATH_BYTES];
    CheckpointSample sample;
    bool found = false;
    TRY(checkpoint_find_sampled(out_dir, VERIFY_BYTES, &found, dir, &sample));
    if (!found)
        FAIL(ERR_DATA,
             "no checkpoint in %s is whole (gpt_ddp --verify %s says what is damaged): put a copy "
             "of one there, or start anew in another out_dir",
             out_dir, out_dir);
    TRY(checkpoint_check(dir, dims, true));
    if (sample.n_read == sample.n_bytes)
        snprintf(text, n_bytes, "goes on from %.3900s (verified)", dir);
    else
        snprintf(text, n_bytes, "goes on from %.3900s (verified: sizes, and %s of %s)", dir,
                 human_bytes(sample.n_read).text, human_bytes(sample.n_bytes).text);
    return OK;
}

/* text (n_bytes) = what a run with a model of this shape would begin from. */
static Err find_start(const Config *cfg, const GptDims *dims, char *text, size_t n_bytes)
{
    ConfigInit init = config_init_kind(cfg);
    const char *out_dir = cfg->run.out_dir;
    char newest[FILE_PATH_BYTES];
    bool found = false;
    TRY(checkpoint_newest(out_dir, &found, newest));
    bool goes_on = init == INIT_RESUME || init == INIT_AUTO;
    if (found && goes_on)
        return find_whole(out_dir, dims, text, n_bytes);
    if (found && !cfg->run.eval_only)
        FAIL(ERR_USAGE,
             "out_dir %s holds checkpoints of an earlier run (%s): continue it with init_from = "
             "resume or auto, choose another out_dir, or remove them",
             out_dir, newest);
    if (init == INIT_RESUME)
        FAIL(ERR_MISSING, "init_from = resume: no checkpoint in %s; init_from = auto starts then",
             out_dir);
    if (init == INIT_DIRECTORY)
        TRY(checkpoint_check(cfg->model.init_from, dims, false));
    snprintf(text, n_bytes, "from %s", init == INIT_DIRECTORY ? cfg->model.init_from : "scratch");
    return OK;
}

void check_start(Check *c)
{
    char text[FILE_PATH_BYTES] = "";
    const GptDims dims = gpt_dims(c->cfg, check_vocab_size(c));
    Err err = c->comm->rank == 0 ? find_start(c->cfg, &dims, text, sizeof text) : OK;
    if (check_passed(c, "start", comm_agree(c->comm, err)))
        check_ok(c, "start", "%s", text);
}

/* ---- out_dir ----------------------------------------------------------------------------- */

/* out (FILE_PATH_BYTES) = path, or the nearest folder above that exists. */
static Err nearest_dir(const char *path, char *out)
{
    if (strlen(path) >= FILE_PATH_BYTES)
        FAIL(ERR_USAGE, "the path %.200s... is too long", path);
    strcpy(out, path);
    while (!path_is_dir(out)) {
        if (path_exists(out))
            FAIL(ERR_WRITE, "%s is no directory: choose another out_dir", out);
        if (strcmp(out, ".") == 0)
            FAIL(ERR_WRITE, "%s: the present directory cannot be looked at", path);
        char *slash = strrchr(out, '/');
        if (slash == out)
            slash[1] = '\0';
        else
            strcpy(slash ? slash : out, slash ? "" : ".");
    }
    return OK;
}

static Err write_file(const char *dir, const char *path)
{
    char renamed[FILE_PATH_BYTES];
    FileWriter *w = NULL;
    char *zeros = calloc(1, FILE_BLOCK_BYTES);
    Err err = zeros ? file_create(&w, path) : ERR_NEW(ERR_SYSTEM, "out of memory for a block");
    for (int32_t n = 0; n < TEST_BYTES && !err; n += FILE_BLOCK_BYTES)
        err = file_write(w, zeros, FILE_BLOCK_BYTES);
    free(zeros);
    if (err) {
        file_abandon(w);
        return err;
    }
    TRY(file_close(w, NULL));
    TRY(path_join(renamed, dir, "renamed"));
    return path_rename(path, renamed);
}

/* As a save does it: a folder, a file that is synced, a rename; and all of it away again. */
static Err try_writing(const char *dir, double *seconds)
{
    char inside[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    TRY(path_join(inside, dir, "x"));
    TRY(path_temporary(temporary, inside));
    TRY(path_join(path, temporary, "written"));
    int64_t begin_ns = activity_now_ns();
    TRY(dir_make_new(temporary));
    Err err = write_file(temporary, path);
    *seconds = (double)(activity_now_ns() - begin_ns) * 1e-9;
    return err_first(err, dir_remove(temporary));
}

static Err check_room(const Config *cfg, const char *dir, size_t wanted, size_t *free_bytes)
{
    if (!dir_free_bytes(dir, free_bytes))
        *free_bytes = SIZE_MAX;
    if (*free_bytes < checkpoint_room(wanted))
        FAIL(ERR_WRITE,
             "%s: %s are free, and a checkpoint takes %s and a tenth more to be safe: make room or "
             "choose another out_dir",
             cfg->run.out_dir, human_bytes(*free_bytes).text, human_bytes(wanted).text);
    return OK;
}

void check_out_dir(Check *c)
{
    const Config *cfg = c->cfg;
    char dir[FILE_PATH_BYTES] = "";
    GptDims dims = gpt_dims(cfg, check_vocab_size(c));
    size_t one = checkpoint_bytes(&dims), free_bytes = 0;
    double seconds = 1;
    Err err = OK;
    if (c->comm->rank == 0) {
        err = nearest_dir(cfg->run.out_dir, dir);
        if (!err)
            err = check_room(cfg, dir, one, &free_bytes);
        if (!err)
            err = err_prefix(try_writing(dir, &seconds), "a test file of %s",
                             human_bytes(TEST_BYTES).text);
    }
    if (!check_passed(c, "out_dir", comm_agree(c->comm, err)))
        return;
    check_ok(c, "out_dir", "%s: written, synced and renamed %s in %.2f s; a checkpoint takes %s",
             cfg->run.out_dir, human_bytes(TEST_BYTES).text, seconds, human_bytes(one).text);
    int64_t few = c->comm->rank == 0 && free_bytes / one < (size_t)cfg->run.keep_checkpoints + 1;
    bool known = check_passed(c, "out_dir", comm_max_i64(c->comm, &few, 1));
    if (known && few)
        check_warn(c, "out_dir",
                   "%s are free, keep_checkpoints = %" PRId64 " and the one being written want %s",
                   human_bytes(free_bytes).text, cfg->run.keep_checkpoints,
                   human_bytes(one * ((size_t)cfg->run.keep_checkpoints + 1)).text);
}
