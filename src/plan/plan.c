#include "plan/draft.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/human.h"
#include "kernels/ops.h"
#include "optim/shard.h"

enum { GPT2_VOCAB_SIZE = 50257, STAGING_MIN_BYTES = 64 << 10, STAGING_MAX_BYTES = 16 << 20 };

/* ---- what is given ----------------------------------------------------------------------- */

int64_t plan_vocab_size(const Config *cfg, int64_t data_vocab_size)
{
    if (cfg->model.vocab_size != CONFIG_AUTO)
        return cfg->model.vocab_size;
    return data_vocab_size != CONFIG_AUTO ? data_vocab_size : GPT2_VOCAB_SIZE;
}

Err plan_dtype(const Config *cfg, DeviceKind device, DType *dtype)
{
    static const DType named[] = {[CONFIG_DTYPE_BF16] = DTYPE_BF16,
                                  [CONFIG_DTYPE_F16] = DTYPE_F16,
                                  [CONFIG_DTYPE_F32] = DTYPE_F32};
    DType best = device == DEVICE_CPU ? DTYPE_F32 : DTYPE_BF16;
    *dtype = cfg->system.dtype == CONFIG_DTYPE_AUTO ? best : named[cfg->system.dtype];
    if (device == DEVICE_CPU && *dtype != DTYPE_F32)
        FAIL(ERR_USAGE, "dtype = %s: the CPU trains in float32; use dtype = auto or device = cuda",
             dtype_name(*dtype));
    return OK;
}

static Err divide_over_ranks(Plan *plan, const Config *cfg)
{
    int64_t sequences = config_step_sequences(cfg);
    int32_t world = plan->target.world;
    if (sequences < world)
        FAIL(ERR_USAGE,
             "%d ranks, but a step has only %" PRId64
             " sequences (gradient_accumulation_steps %" PRId64 " x batch_size %" PRId64
             "): use at most %" PRId64 " ranks or a larger batch",
             world, sequences, cfg->batch.gradient_accumulation_steps, cfg->batch.batch_size,
             sequences);
    if (sequences % world != 0)
        FAIL(ERR_USAGE,
             "a step of %" PRId64 " sequences (gradient_accumulation_steps %" PRId64
             " x batch_size %" PRId64
             ") does not divide over %d ranks: make the product a multiple of %d",
             sequences, cfg->batch.gradient_accumulation_steps, cfg->batch.batch_size, world,
             world);
    plan->step_sequences = sequences;
    plan->rank_sequences = sequences / world;
    return OK;
}

/* Attention has kernels for heads up to some size. */
static Err check_heads(const Plan *plan)
{
    int64_t most = ops_max_head_size(plan->target.device);
    int64_t head_size = plan->dims.n_embd / plan->dims.n_head;
    if (head_size > most)
        FAIL(ERR_USAGE,
             "n_embd / n_head = %" PRId64 ": on a GPU a head has at most %" PRId64
             " channels; use a larger n_head, or device = cpu",
             head_size, most);
    return OK;
}

/* ---- the optimizer's form ---------------------------------------------------------------- */

/* 16 bits beside bfloat16 parameters are as good as 32 more. Those of float16 are no part of a
 * float32; float32 ones are their own masters. */
static Err set_master(Plan *plan, const Config *cfg)
{
    DType dtype = plan->target.dtype;
    bool wants_halves = cfg->memory.master == CONFIG_MASTER_REMAINDER16;
    if (wants_halves && dtype != DTYPE_BF16)
        FAIL(ERR_USAGE,
             "master = remainder16 goes with bfloat16 parameters, here they are %s; use master = "
             "auto",
             dtype_name(dtype));
    bool in_halves = dtype == DTYPE_BF16 && cfg->memory.master != CONFIG_MASTER_F32;
    plan->master = in_halves ? MASTER_REMAINDER16 : dtype == DTYPE_F32 ? MASTER_NONE : MASTER_F32;
    return OK;
}

static Err check_offload(const Plan *plan, const Config *cfg)
{
    if (cfg->memory.offload == CONFIG_OFFLOAD_OPTIMIZER && plan->target.device == DEVICE_CPU)
        FAIL(ERR_USAGE, "offload = optimizer: on device = cpu the optimizer's state is in host "
                        "memory already; use offload = auto");
    return OK;
}

AdamwForm plan_adamw_form(const Plan *plan)
{
    return (AdamwForm){.master = plan->master, .offload = plan->offload};
}

StepCut plan_cut(const Plan *plan)
{
    return (StepCut){.world = plan->target.world,
                     .micro_batch = plan->shape.micro_batch,
                     .head_chunk = plan->shape.head_chunk,
                     .zero_stage = plan->zero_stage};
}

/* ---- measuring --------------------------------------------------------------------------- */

static Tensor arena_tokens(Arena *arena, const Plan *plan, const char *name, int64_t n_batches)
{
    return arena_2d(arena, REGION_DATA, name, DTYPE_I32, n_batches * plan->shape.micro_batch,
                    plan->shape.n_tokens);
}

/* A save moves the model through this much host memory: the largest bucket, within bounds. */
static int64_t staging_bytes(const Layout *layout)
{
    int64_t largest = layout_largest_bucket(layout, 0) * (int64_t)dtype_bytes(DTYPE_F32);
    if (largest < STAGING_MIN_BYTES)
        return STAGING_MIN_BYTES;
    return largest < STAGING_MAX_BYTES ? largest : STAGING_MAX_BYTES;
}

static Tensor arena_staging(Arena *arena, const PlanMemory *memory)
{
    return arena_1d(arena, REGION_DATA, "checkpoint staging", DTYPE_U8,
                    staging_bytes(memory->model->layout));
}

/* Host memory of evaluations and samples; what is not wanted has no elements. */
static void carve_watching(const Plan *plan, Arena *arena, PlanMemory *memory)
{
    int64_t n_losses = plan->scores_rows ? plan->shape.micro_batch * plan->shape.n_tokens : 0;
    int64_t n_logits = plan->sample_ids > 0 ? 2 * plan->dims.vocab_size : 0;
    memory->row_losses = arena_1d(arena, REGION_DATA, "row losses", DTYPE_F32, n_losses);
    memory->sample_ids = arena_1d(arena, REGION_DATA, "text ids", DTYPE_I32, plan->sample_ids);
    memory->sample_logits = arena_1d(arena, REGION_DATA, "text logits", DTYPE_F32, n_logits);
}

Err plan_open_decoder(const Plan *plan, const Layout *layout, GPT2 *model, Decoder *decoder)
{
    const GptShape shape = {.micro_batch = 1,
                            .n_tokens = plan->shape.n_tokens,
                            .head_chunk = 1,
                            .dtype = plan->shape.dtype};
    *decoder = (Decoder){0};
    TRY(gpt2_open(model, &plan->dims, &shape, layout));
    return decoder_open(decoder, model);
}

/* Its regions have names of their own: they are not training's. */
static void carve_decoder(Arena *arena, Decoder *decoder)
{
    int32_t first = arena->n_regions;
    if (!decoder)
        return;
    gpt2_layout_activations(decoder->model, arena);
    decoder_layout(decoder, arena);
    for (int32_t i = first; i < arena->n_regions; i++) {
        char name[REGION_NAME_BYTES];
        snprintf(name, sizeof name, "sample %.*s", REGION_NAME_BYTES - 8, arena->region[i].name);
        memcpy(arena->region[i].name, name, sizeof name);
    }
}

/* Activations, and over them the optimizer's chunks and what samples need: when these are in use,
 * those are dead. */
static void carve_activations(Arena *arena, PlanMemory *memory)
{
    size_t begin = arena_mark(arena);
    gpt2_layout_activations(memory->model, arena);
    size_t end = arena_mark(arena);
    arena_rewind(arena, begin);
    adamw_layout_chunks(memory->optim, arena);
    arena_forward(arena, end);
    end = arena_mark(arena);
    arena_rewind(arena, begin);
    carve_decoder(arena, memory->decoder);
    arena_forward(arena, end);
}

void plan_carve(const Plan *plan, Arena *arena, PlanMemory *memory)
{
    const GptShape *shape = &plan->shape;
    OpLimits limits = {.n_rows = shape->micro_batch * shape->n_tokens,
                       .block_size = shape->n_tokens,
                       .n_embd = plan->dims.n_embd,
                       .n_head = plan->dims.n_head,
                       .vocab_padded = plan->dims.vocab_padded};
    size_t work_bytes = ops_workspace_bytes(plan->target.device, plan->target.n_threads, &limits);

    gpt2_layout_vectors(memory->model, arena);
    memory->grad_shard = tensor_none();
    if (plan->zero_stage == 2)
        reducer_shard_layout(&memory->grad_shard, arena, memory->model->layout, plan->target.world);
    carve_activations(arena, memory);
    adamw_layout(memory->optim, arena);
    memory->wire = (ReducerWire){tensor_none(), tensor_none()};
    if (plan->needs_wire)
        reducer_wire_layout(&memory->wire, arena, memory->model->layout);
    memory->workspace =
        arena_1d(arena, REGION_WORKSPACE, "op workspace", DTYPE_U8, (int64_t)work_bytes);
    memory->tokens = arena_tokens(arena, plan, "tokens", 1);
    memory->targets = arena_tokens(arena, plan, "targets", 1);
    memory->host_tokens = memory->host_targets = memory->staging = tensor_none();
    if (plan->target.device == DEVICE_CPU) {
        memory->host_tokens = memory->tokens;
        memory->host_targets = memory->targets;
        memory->staging = arena_staging(arena, memory);
        carve_watching(plan, arena, memory);
    }
}

void plan_carve_host(const Plan *plan, Arena *arena, PlanMemory *memory)
{
    if (plan->target.device == DEVICE_CPU)
        return;
    memory->host_tokens = arena_tokens(arena, plan, "tokens", plan->n_micro_steps);
    memory->host_targets = arena_tokens(arena, plan, "targets", plan->n_micro_steps);
    memory->staging = arena_staging(arena, memory);
    carve_watching(plan, arena, memory);
    adamw_layout_host(memory->optim, arena);
}

/* ---- the plan ---------------------------------------------------------------------------- */

Err plan_build_only(Plan *plan, const Config *cfg, const PlanTarget *target)
{
    PlanDraft draft = {.plan = plan, .cfg = cfg};
    *plan = (Plan){.target = *target};
    ASSERT(target->world >= 1 && target->vocab_size >= 1, "world %d", target->world);
    TRY(divide_over_ranks(plan, cfg));
    plan->dims = gpt_dims(cfg, target->vocab_size);
    TRY(check_heads(plan));
    TRY(set_master(plan, cfg));
    TRY(check_offload(plan, cfg));
    plan->scores_rows = cfg->run.eval_hellaswag[0] != '\0';
    if (cfg->run.sample_interval > 0) /* a token has at least a byte of the prompt */
        plan->sample_ids = CONFIG_TEXT_BYTES + cfg->run.sample_tokens;
    plan->needs_wire = reducer_needs_wire(&cfg->system, target->world);
    plan->n_owners = cfg->system.zero_stage == 0 ? 1 : target->world;
    plan->bucket_elements = cfg->system.bucket_mb * ((1 << 20) / 4);
    plan->pad_elements = shard_pad_elements(target->world);
    plan->shape =
        (GptShape){.n_tokens = plan->dims.block_size, .dtype = target->dtype, .training = true};
    Err err = draft_open(&draft);
    if (!err)
        err = plan_choose(&draft);
    draft_close(&draft);
    return err;
}

Err plan_build(Plan *plan, const Config *cfg, const PlanTarget *target)
{
    TRY(plan_build_only(plan, cfg, target));
    return plan_fits(plan) ? OK : plan_find_fix(plan, cfg);
}
