#include "tests/fault/saver.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check_err.h"

/* Small enough for thousands of saves: 1 layer, 2 channels. */
static ToyArgs smallest(void)
{
    ToyArgs args = toy_args(true);
    args.dims.n_layer = args.dims.n_head = 1;
    args.dims.n_embd = 2;
    args.dims.block_size = 3;
    args.dims.vocab_size = 5;
    return args;
}

void saver_open(Saver *s)
{
    const DeviceArgs cpu = {.kind = DEVICE_CPU, .n_threads = 1};
    const ToyArgs args = smallest();
    memset(s, 0, sizeof *s);
    temp_make(&s->temp);
    check_no_err(comm_open(&s->comm, false));
    check_no_err(device_open(&s->dev, &cpu));
    toy_open(&s->run, &args, &s->comm, &s->dev, "");
    temp_write_text(&s->temp, "meta.json", "{}\n");
    check_no_err(tokenizer_files_read(&s->tokenizer, temp_path(&s->temp, ".")));
    s->run.state.tokenizer = &s->tokenizer;
    s->run.state.tuning = "gemm 1\n";
    bool can = false;
    writer_init(&s->writer, &s->run.state);
    check_no_err(writer_reserve(&s->writer, &can));
    assert_true(can);
}

void saver_close(Saver *s)
{
    writer_close(&s->writer);
    tokenizer_files_free(&s->tokenizer);
    toy_close(&s->run);
    device_close(&s->dev);
    comm_close(&s->comm);
    temp_remove(&s->temp);
}

const char *saver_folder(Saver *s)
{
    char name[32];
    snprintf(name, sizeof name, "folder_%05d", s->n_folders++);
    temp_make_dir(&s->temp, name);
    const char *path = temp_path(&s->temp, name);
    char *out_dir = s->run.cfg.run.out_dir;
    int used = snprintf(out_dir, sizeof s->run.cfg.run.out_dir, "%s/out", path);
    assert_in_range(used, 1, sizeof s->run.cfg.run.out_dir - 1);
    return path;
}

const char *saver_out_dir(const Saver *s)
{
    return s->run.cfg.run.out_dir;
}

Err saver_save(Saver *s, int64_t step, int64_t fill)
{
    const Progress progress = {.step = step, .n_sequences = fill, .best_val_loss = INFINITY};
    toy_fill(&s->run, (uint64_t)fill);
    if (!s->beside)
        return checkpoint_save(&s->run.state, &progress);
    TRY(writer_save(&s->writer, &progress));
    toy_fill(&s->run, 998);
    return writer_publish(&s->writer);
}

Err saver_prune(Saver *s, int64_t keep)
{
    const CheckpointKeep rule = {.newest = keep};
    if (!s->beside)
        return checkpoint_prune(&s->comm, saver_out_dir(s), rule);
    writer_prune(&s->writer, rule);
    return writer_join(&s->writer);
}

Saved saver_found(Saver *s)
{
    char dir[FILE_PATH_BYTES];
    bool found = false;
    Progress progress;
    check_no_err(checkpoint_find(&s->comm, saver_out_dir(s), &found, dir));
    if (!found)
        return (Saved){-1, -1};
    toy_fill(&s->run, 999);
    check_no_err(checkpoint_load(&s->run.state, dir, &progress));
    toy_check(&s->run, (uint64_t)progress.n_sequences);
    return (Saved){progress.step, progress.n_sequences};
}
