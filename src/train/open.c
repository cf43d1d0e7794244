/* Everything before step 0, in phases that each end in an agreement of all ranks. Nothing is
 * written to out_dir until the last phase, when all that can be wrong with the input has been
 * looked at. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/human.h"
#include "kernels/carve.h"
#include "plan/estimate.h"
#include "train/ballast.h"
#include "train/eval.h"
#include "train/hellaswag.h"
#include "train/run_file.h"
#include "train/trainer.h"
#include "train/tune.h"

/* ---- phase 1: data ----------------------------------------------------------------------- */

static Err open_loaders(Trainer *t, int64_t vocab_size)
{
    const Config *cfg = t->cfg;
    ConfigSampling sampling = (ConfigSampling)cfg->data.sampling;
    uint64_t seed = (uint64_t)cfg->run.seed;
    TRY(loader_init(&t->train_loader, &t->data.train, sampling, seed, cfg->model.block_size,
                    vocab_size));
    return loader_init(&t->val_loader, &t->data.val, sampling, seed, cfg->model.block_size,
                       vocab_size);
}

/* This rank's share of the tokens, all of them below vocab_size. */
static Err check_share(const Trainer *t, const TokenFiles *files, int64_t vocab_size)
{
    int64_t world = t->comm->world, rank = t->comm->rank;
    int64_t per_rank = (files->n_tokens + world - 1) / world;
    int64_t begin = rank * per_rank < files->n_tokens ? rank * per_rank : files->n_tokens;
    int64_t n = files->n_tokens - begin < per_rank ? files->n_tokens - begin : per_rank;
    return n > 0 ? token_files_check(files, begin, n, vocab_size) : OK;
}

/* Asked first: the first file is written after all else is known to work. Looked at by rank 0. */
static Err check_out_dir(const Trainer *t)
{
    if (t->comm->rank != 0 || t->cfg->run.eval_only)
        return OK;
    Err err = dir_check_writable(t->cfg->run.out_dir);
    return err ? err_prefix(err, "out_dir = %s", t->cfg->run.out_dir) : OK;
}

static Err open_data(Trainer *t, int64_t *vocab_size)
{
    TRY(check_out_dir(t));
    trainer_enter(t, PHASE_START, "open the data", 0);
    TRY(dataset_open(&t->data, t->cfg));
    trainer_enter(t, PHASE_START, "check the tokens", 2 * t->data.train.n_tokens / t->comm->world);
    *vocab_size = plan_vocab_size(t->cfg, t->data.vocab_size);
    TRY(open_loaders(t, *vocab_size));
    TRY(hellaswag_read(&t->hellaswag, t->cfg, &t->data));
    TRY(samples_read(&t->samples, t->cfg, &t->data));
    TRY(check_share(t, &t->data.train, *vocab_size));
    return check_share(t, &t->data.val, *vocab_size);
}

/* ---- phase 2: plan ----------------------------------------------------------------------- */

/* Bytes this rank may use, at least 1: memory_limit, or its share of what is free. */
static int64_t own_limit(const Trainer *t, const DeviceInfo *info)
{
    int64_t bytes = t->cfg->memory.memory_limit;
    if (bytes == CONFIG_AUTO)
        bytes = ((int64_t)info->memory_free_bytes - MEMORY_RESERVE_BYTES) / t->dev->n_sharers;
    return bytes > 1 ? bytes : 1;
}

/* Rank 0's card stands for all; NULL: not one of the table. */
static Err agree_on_gpu(Trainer *t, const DeviceInfo *info, const GpuSpec **gpu)
{
    char name[sizeof info->name];
    memcpy(name, info->name, sizeof name);
    TRY(comm_broadcast_bytes(t->comm, name, sizeof name, 0));
    *gpu = t->dev->kind == DEVICE_CUDA ? gpu_spec_find(name) : NULL;
    return OK;
}

/* Bytes of host memory this rank may use, at least 1: its share of what its host has free. */
static int64_t own_host_limit(const Trainer *t, const DeviceInfo *info)
{
    int64_t bytes = ((int64_t)info->host_free_bytes - MEMORY_RESERVE_BYTES) / t->comm->local_world;
    return bytes > 1 ? bytes : 1;
}

/* The least memory, the most threads and the dtype of the least able of all ranks, so that all plan
 * alike: ranks with different micro-batches would not meet in the evaluation. */
static Err make_target(Trainer *t, const DeviceInfo *info, int64_t vocab_size, PlanTarget *target)
{
    int64_t most[5] = {-own_limit(t, info), t->dev->n_threads, info->storage_dtype == DTYPE_F16,
                       -own_host_limit(t, info), t->comm->local_world};
    TRY(comm_max_i64(t->comm, most, 5));
    *target = (PlanTarget){.device = t->dev->kind,
                           .dtype = most[2] ? DTYPE_F16 : info->storage_dtype,
                           .world = t->comm->world,
                           .n_threads = (int32_t)most[1],
                           .vocab_size = vocab_size,
                           .limit_bytes = (size_t)-most[0],
                           .host_limit_bytes = (size_t)-most[3],
                           .host_ranks = (int32_t)most[4]};
    return agree_on_gpu(t, info, &target->gpu);
}

/* When all that is free is not enough: who has the rest, where that is known. */
static Err name_other_users(Trainer *t, Err refused)
{
    char others[256];
    if (!refused || t->cfg->memory.memory_limit != CONFIG_AUTO)
        return refused;
    device_other_users(t->dev, others, sizeof others);
    if (!others[0])
        return refused;
    Err err = ERR_NEW(err_code(refused), "%s; on this GPU %s", err_message(refused), others);
    err_free(refused);
    return err;
}

/* The plan of the run that left a checkpoint, if this one has as many ranks and it fits: then sums
 * are taken in the same order, and the run goes on as if it had never stopped. */
static Err plan_as_before(Trainer *t, const PlanTarget *target, const char *checkpoint, bool *made)
{
    StepCut before = {0};
    *made = false;
    if (checkpoint[0])
        TRY(checkpoint_read_cut(checkpoint, &before));
    if (before.world != target->world)
        return OK;
    Config cfg = *t->cfg;
    config_keep_cut(&cfg, &before);
    Err err = plan_build(t->plan, &cfg, target);
    err = err_first(err, err ? OK : plan_check(t->plan));
    if (err)
        log_say(&t->log,
                "notice: the checkpoint's micro_batch of %" PRId64
                " cannot be kept, results may differ in the last bits: %s",
                before.micro_batch, err_message(err));
    *made = !err;
    err_free(err);
    return OK;
}

static Err make_plan(Trainer *t, PlanTarget target, const char *checkpoint)
{
    bool made;
    if (t->cfg->system.dtype != CONFIG_DTYPE_AUTO)
        TRY(plan_dtype(t->cfg, t->dev->kind, &target.dtype));
    t->plan = malloc(sizeof *t->plan);
    if (!t->plan)
        FAIL(ERR_SYSTEM, "out of memory for the plan");
    TRY(plan_as_before(t, &target, checkpoint, &made));
    if (made)
        return OK;
    TRY(plan_build(t->plan, t->cfg, &target));
    return name_other_users(t, plan_check(t->plan));
}

/* ---- phase 3: memory and what lives in it ------------------------------------------------ */

static void carve(void *trainer, Arena *arena)
{
    Trainer *t = trainer;
    t->mem = (PlanMemory){.model = &t->model,
                          .optim = &t->optim,
                          .decoder = t->plan->sample_ids > 0 ? &t->samples.decoder : NULL};
    plan_carve(t->plan, arena, &t->mem);
}

/* Beside a GPU: what it reads and writes while the host goes on. */
static void carve_host(void *trainer, Arena *arena)
{
    Trainer *t = trainer;
    plan_carve_host(t->plan, arena, &t->mem);
}

static Err allocate(Trainer *t)
{
    const Plan *plan = t->plan;
    size_t n_bytes, n_host;
    TRY(device_carve(t->dev, CARVE_DEVICE, carve, t, &t->memory, &n_bytes));
    TRY(device_carve(t->dev, CARVE_HOST, carve_host, t, &t->host_memory, &n_host));
    ASSERT(n_bytes == plan->total_bytes && n_host == plan->host_bytes,
           "carved %zu bytes and %zu of host memory, planned %zu and %zu", n_bytes, n_host,
           plan->total_bytes, plan->host_bytes);
    return OK;
}

static Err build_model(Trainer *t)
{
    const Plan *plan = t->plan;
    int32_t world = t->comm->world, rank = t->comm->rank;
    bool sharded = plan->n_owners > 1;
    TRY(layout_make(&t->layout, &plan->dims, plan->bucket_elements, plan->pad_elements));
    TRY(shard_make(&t->owned, &t->layout, sharded ? rank : 0, plan->n_owners));
    TRY(shard_make(&t->disjoint, &t->layout, rank, world));
    TRY(gpt2_open(&t->model, &plan->dims, &plan->shape, &t->layout));
    if (plan->sample_ids > 0)
        TRY(plan_open_decoder(plan, &t->layout, &t->samples.model, &t->samples.decoder));
    adamw_init(&t->optim, &t->owned, &t->cfg->optim, plan_adamw_form(plan));
    TRY(allocate(t));
    if (plan->sample_ids > 0)
        gpt2_borrow_params(&t->samples.model, &t->model);
    device_set_workspace(t->dev, t->mem.workspace);
    const ReducerMemory memory = {.layout = &t->layout,
                                  .grads = t->model.grad_bucket,
                                  .params = t->model.param_bucket,
                                  .wire = t->mem.wire,
                                  .shard = t->mem.grad_shard};
    reducer_init(&t->reducer, t->comm, t->dev, &memory, plan->zero_stage,
                 (ConfigGradReduce)t->cfg->system.grad_reduce);
    return OK;
}

/* ---- phase 4: where to begin, and the parameters there -------------------------------------- */

/* A new run must not mix its checkpoints with those of an older one: a later resume would take the
 * wrong ones, and pruning would delete them. Looked at by rank 0. */
static Err refuse_old_checkpoints(const Trainer *t)
{
    const char *out_dir = t->cfg->run.out_dir;
    char newest[FILE_PATH_BYTES];
    bool found = false;
    if (t->comm->rank != 0 || t->cfg->run.eval_only)
        return OK;
    TRY(checkpoint_newest(out_dir, &found, newest));
    if (found)
        FAIL(ERR_USAGE,
             "out_dir %s holds checkpoints of an earlier run (%s): continue it with init_from = "
             "resume or auto, choose another out_dir, or remove them",
             out_dir, newest);
    return OK;
}

static Err keep_master(void *trainer, int32_t index, const float *values)
{
    Trainer *t = trainer;
    return adamw_set_master(&t->optim, t->dev, index, values);
}

static Err init_parameters(Trainer *t)
{
    TRY(adamw_reset(&t->optim, t->dev));
    return gpt2_init_params(&t->model, t->dev, (uint64_t)t->cfg->run.seed, keep_master, t);
}

static Err start_from_scratch(Trainer *t)
{
    TRY(comm_agree(t->comm, init_parameters(t)));
    log_say(&t->log, "initializing a new model from scratch");
    return OK;
}

static Err start_from_weights(Trainer *t, const char *dir)
{
    TRY(comm_agree(t->comm, checkpoint_load_weights(dir, &t->model, &t->optim, t->dev)));
    log_say(&t->log, "initializing from the weights in %s", dir);
    if (t->log.console && dataset_is_foreign(&t->data, t->cfg))
        log_say(&t->log,
                "warning: dataset %s has a vocabulary of %s, the model one of %s: its tokens mean "
                "other texts there",
                t->cfg->data.dataset, human_count(t->data.vocab_size).text,
                human_count(t->model.dims.vocab_size).text);
    return OK;
}

/* Said when a resumed run is at its end: raising max_iters is easily forgotten. */
static void notice_nothing_left(Trainer *t)
{
    int64_t max_iters = t->cfg->optim.max_iters;
    if (t->progress.step >= max_iters && !t->cfg->run.eval_only)
        log_say(&t->log,
                "notice: the checkpoint has %" PRId64 " steps and max_iters is %" PRId64
                ": nothing is left to train; a larger max_iters goes on",
                t->progress.step, max_iters);
}

/* Said when the samples consumed are not what this config would have consumed in as many steps. */
static void notice_changed_batch(Trainer *t)
{
    const Progress *p = &t->progress;
    if (p->n_sequences != p->step * t->plan->step_sequences)
        log_say(&t->log,
                "notice: the checkpoint used %s sequences in %" PRId64
                " steps, this config makes steps of %" PRId64 ": the data goes on where it stood",
                human_count(p->n_sequences).text, p->step, t->plan->step_sequences);
}

static Err resume_from(Trainer *t, const char *dir)
{
    CheckpointState state = {.comm = t->comm,
                             .dev = t->dev,
                             .cfg = t->cfg,
                             .model = &t->model,
                             .optim = &t->optim,
                             .staging = t->mem.staging};
    TRY(checkpoint_load(&state, dir, &t->progress));
    t->saves.saved_step = t->progress.step;
    log_say(&t->log, "resuming from %s", dir);
    notice_changed_batch(t);
    notice_nothing_left(t);
    return OK;
}

/* Why none of out_dir can be gone on with, though that was asked for. Looked at by rank 0. */
static Err explain_nothing_found(const Trainer *t)
{
    const char *out_dir = t->cfg->run.out_dir;
    char newest[FILE_PATH_BYTES];
    bool any = false;
    if (t->comm->rank != 0)
        return OK;
    TRY(checkpoint_newest(out_dir, &any, newest));
    if (any)
        FAIL(ERR_DATA,
             "no checkpoint in %s is whole (gpt_ddp --verify %s says what is damaged): put a copy "
             "of one there, or start anew in another out_dir",
             out_dir, out_dir);
    if (config_init_kind(t->cfg) == INIT_RESUME)
        FAIL(ERR_MISSING,
             "init_from = resume: no usable checkpoint in %s; init_from = auto starts from scratch "
             "then",
             out_dir);
    return OK;
}

/* dir (FILE_PATH_BYTES) = the checkpoint to go on from, "" when the run begins anew. */
static Err find_checkpoint(Trainer *t, char *dir)
{
    ConfigInit init = config_init_kind(t->cfg);
    bool found = false;
    dir[0] = '\0';
    if (init != INIT_RESUME && init != INIT_AUTO)
        return comm_agree(t->comm, refuse_old_checkpoints(t));
    TRY(checkpoint_find(t->comm, t->cfg->run.out_dir, &found, dir));
    return found ? OK : comm_agree(t->comm, explain_nothing_found(t));
}

/* Only float16 needs one; a checkpoint of another dtype has none to go on with. */
static void begin_loss_scale(Trainer *t)
{
    LossScale *scale = &t->progress.loss_scale;
    if (t->plan->shape.dtype != DTYPE_F16)
        *scale = (LossScale){0};
    else if (scale->scale == 0)
        scale->scale = LOSS_SCALE_START;
    if (scale->scale > 0)
        log_say(&t->log, "float16: the loss is scaled by %g", scale->scale);
}

static Err set_parameters(Trainer *t, const char *checkpoint)
{
    t->progress = (Progress){.best_val_loss = INFINITY, .best_step = -1};
    if (checkpoint[0])
        TRY(resume_from(t, checkpoint));
    else if (config_init_kind(t->cfg) == INIT_DIRECTORY)
        TRY(start_from_weights(t, t->cfg->model.init_from));
    else
        TRY(start_from_scratch(t));
    begin_loss_scale(t);
    saves_init(t);
    return OK;
}

/* Of the data, then true; where they say nothing of one, of the model that the run began from, or
 * the checkpoint it goes on from, whose tokens they are then taken to be. "" in dir
 * (FILE_PATH_BYTES): none. */
static bool find_tokenizer(const Trainer *t, const char *checkpoint, char *dir)
{
    if (dataset_find_tokenizer(&t->data, dir))
        return true;
    if (!checkpoint[0] && config_init_kind(t->cfg) == INIT_DIRECTORY)
        checkpoint = t->cfg->model.init_from;
    snprintf(dir, FILE_PATH_BYTES, "%s", checkpoint);
    return false;
}

/* The same ids of another vocabulary go unnoticed otherwise. */
static void warn_of_other_tokenizer(Trainer *t, const char *checkpoint)
{
    TokenizerFiles before = {0};
    Err err = tokenizer_files_read(&before, checkpoint);
    if (!err && tokenizer_files_differ(&before, &t->tokenizer))
        log_say(
            &t->log,
            "warning: the tokenizer beside the tokens of dataset %s is not that of %s: they may "
            "mean other texts",
            t->cfg->data.dataset, checkpoint);
    err_free(err); /* it is only looked at */
    tokenizer_files_free(&before);
}

static Err read_tokenizer(Trainer *t, const char *checkpoint)
{
    char dir[FILE_PATH_BYTES];
    if (t->comm->rank != 0)
        return OK;
    bool of_data = find_tokenizer(t, checkpoint, dir);
    if (dir[0])
        TRY(tokenizer_files_read(&t->tokenizer, dir));
    if (!tokenizer_files_any(&t->tokenizer))
        log_say(&t->log,
                "notice: no tokenizer (meta.json, or vocab.json and merges.txt) is beside the "
                "tokens: checkpoints will have none");
    if (of_data && checkpoint[0])
        warn_of_other_tokenizer(t, checkpoint);
    return OK;
}

/* ---- what is said ------------------------------------------------------------------------ */

static void say_machine(Trainer *t, const DeviceInfo *info, int32_t n_hosts)
{
    const Comm *comm = t->comm;
    log_say(&t->log, "%d rank%s on %d host%s, %s (%s), %s, comm %s", comm->world,
            comm->world == 1 ? "" : "s", n_hosts, n_hosts == 1 ? "" : "s",
            device_kind_name(t->dev->kind), info->name, dtype_name(t->plan->shape.dtype),
            comm_kind_name(comm->kind));
    if (info->peak_flops > 0)
        log_say(&t->log, "peak %.1f GFLOP/s per rank (%s); mfu is of this", info->peak_flops * 1e-9,
                info->peak_source);
}

/* What sharing gradients saves and costs: a rank sends all slices but its own. */
static void say_zero_stage(Trainer *t)
{
    const Plan *plan = t->plan;
    size_t world = (size_t)plan->target.world, flat = (size_t)t->layout.count * sizeof(float);
    size_t held = tensor_bytes(t->model.grads) + flat / world;
    if (plan->zero_stage == 2)
        log_say(&t->log,
                "zero_stage 2: %s of gradients per rank instead of %s; each of %" PRId64
                " micro-steps sends %s per rank",
                human_bytes(held).text, human_bytes(flat).text, plan->n_micro_steps,
                human_bytes(flat / world * (world - 1)).text);
    else if (t->cfg->system.zero_stage == 2)
        log_say(&t->log, "notice: zero_stage = 2 is zero_stage 1 where one rank has all gradients");
}

static void say_run(Trainer *t)
{
    const Plan *plan = t->plan;
    log_say(&t->log, "dataset %s: %s tokens to train, %s to validate, vocabulary of %s",
            t->cfg->data.dataset, human_count(t->data.train.n_tokens).text,
            human_count(t->data.val.n_tokens).text, human_count(plan->dims.vocab_size).text);
    log_say(&t->log, "tokens per iteration will be: %s",
            human_count(plan->step_sequences * plan->shape.n_tokens).text);
    log_say(&t->log, "number of parameters: %.2fM",
            (double)gpt_param_count(&plan->dims, false) * 1e-6);
    log_say(&t->log,
            "memory: %s per rank of %s allowed; micro_batch %" PRId64 " x %" PRId64
            " micro-steps, head_chunk %" PRId64
            ", recompute %s; AdamW state: %s per rank, 1/%d of %s%s",
            human_bytes(plan->total_bytes).text, human_bytes(plan->target.limit_bytes).text,
            plan->shape.micro_batch, plan->n_micro_steps, plan->shape.head_chunk,
            recompute_text(&plan->shape.recompute).text, human_bytes(plan->optimizer_bytes).text,
            plan->n_owners, human_bytes(plan->optimizer_whole_bytes).text,
            plan->offload ? ", in host memory" : "");
    say_zero_stage(t);
    if (t->cfg->notice[0])
        log_say(&t->log, "notice: %s", t->cfg->notice);
}

static Err say_start(Trainer *t, const DeviceInfo *info)
{
    double n_hosts = t->comm->local_rank == 0;
    TRY(comm_sum_f64(t->comm, &n_hosts, 1));
    say_machine(t, info, (int32_t)n_hosts);
    say_run(t);
    t->log.peak_flops = info->peak_flops * t->comm->world;
    t->log.flop_per_token = gpt_flop_per_token(&t->plan->dims);
    t->log.max_iters = t->cfg->optim.max_iters;
    t->log.memory_bytes = t->plan->total_bytes;
    return OK;
}

/* This run's out_dir, and nobody else's. */
static Err take_out_dir(Trainer *t)
{
    const char *out_dir = t->cfg->run.out_dir;
    TRY(dir_make(out_dir));
    Err err = dir_lock(&t->out_dir, out_dir);
    if (err)
        return err_prefix(err, "two runs in one out_dir: end the other, or choose another out_dir");
    dir_remove_temporaries(out_dir);
    return OK;
}

/* A record that cannot be written (a full disk, say) is no reason not to train. */
static Err without_record(Trainer *t, Err err)
{
    if (err_code(err) != ERR_WRITE)
        return err;
    log_say(&t->log, "warning: %s; training goes on without", err_message(err));
    err_free(err);
    return OK;
}

static Err open_log(Trainer *t)
{
    const RunConfig *run = &t->cfg->run;
    const LogResume from = {t->progress.step, .evaluates = eval_due(t), .scores = hellaswag_due(t)},
                    samples_from = {t->progress.step, .evaluates = samples_due(t)};
    if (t->comm->rank != 0)
        return OK;
    TRY(take_out_dir(t));
    TRY(without_record(t, log_open(&t->log, run->out_dir, &from)));
    TRY(without_record(t, run_file_write(run->out_dir, t->cfg, t->plan)));
    TRY(without_record(t, samples_open_file(&t->samples, run->out_dir, &samples_from)));
    if (!run->tensorboard)
        return OK;
    return without_record(t, log_open_events(&t->log, run->out_dir, &from));
}

/* ---- life -------------------------------------------------------------------------------- */

Err trainer_open(Trainer *t, const Config *cfg, Comm *comm, Device *dev, const int *stop_signal,
                 const char *tuning_cache)
{
    *t = (Trainer){.cfg = cfg,
                   .comm = comm,
                   .dev = dev,
                   .stop_signal = stop_signal,
                   .tuning_cache = tuning_cache,
                   .saves = {.saved_step = -1, .pending_step = -1}};
    log_init(&t->log, comm->rank == 0);
    stragglers_init(&t->stragglers);
    int64_t vocab_size = 0;
    PlanTarget target;
    DeviceInfo info;
    char checkpoint[FILE_PATH_BYTES];
    TRY(comm_agree(comm, open_data(t, &vocab_size)));
    trainer_enter(t, PHASE_LOAD, "find the newest checkpoint", 0);
    TRY(find_checkpoint(t, checkpoint));
    trainer_enter(t, PHASE_START, "plan and allocate memory", 0);
    TRY(comm_agree(comm, device_info(dev, &info)));
    snprintf(t->device_name, sizeof t->device_name, "%s", info.name);
    TRY(make_target(t, &info, vocab_size, &target));
    TRY(comm_agree(comm, make_plan(t, target, checkpoint)));
    TRY(comm_agree(comm, build_model(t)));
    TRY(ballast_take(t));
    TRY(say_start(t, &info));
    trainer_enter(t, PHASE_START, "choose algorithms", 0);
    TRY(tune_device(t, checkpoint));
    trainer_enter(t, PHASE_LOAD, "set the parameters", 0);
    TRY(set_parameters(t, checkpoint));
    if (cfg->run.eval_only)
        return OK;
    TRY(comm_agree(comm, read_tokenizer(t, checkpoint)));
    return comm_agree(comm, open_log(t));
}

Err trainer_plan(Trainer *t, const Config *cfg, Comm *comm, Device *dev, int64_t vocab_size)
{
    PlanTarget target;
    DeviceInfo info;
    *t = (Trainer){.cfg = cfg, .comm = comm, .dev = dev};
    TRY(comm_agree(comm, device_info(dev, &info)));
    TRY(make_target(t, &info, vocab_size, &target));
    return comm_agree(comm, make_plan(t, target, ""));
}

void trainer_close(Trainer *t)
{
    saves_close(t);
    log_close(&t->log);
    dir_unlock(&t->out_dir);
    err_free(t->reducer.err);
    gpt2_close(&t->model);
    shard_free(&t->disjoint);
    shard_free(&t->owned);
    layout_free(&t->layout);
    if (t->memory) {
        device_set_workspace(t->dev, tensor_none());
        device_free(t->dev, t->memory);
    }
    ballast_drop(t);
    if (t->host_memory)
        device_free_host(t->dev, t->host_memory);
    free(t->tuning);
    free(t->plan);
    samples_close(&t->samples);
    score_task_close(&t->hellaswag);
    tokenizer_files_free(&t->tokenizer);
    dataset_close(&t->data);
    *t = (Trainer){0};
}
