#include "plan/plan.h"

#include <inttypes.h>

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

/* ---- measuring --------------------------------------------------------------------------- */

static Tensor arena_tokens(Arena *arena, const Plan *plan, const char *name, int64_t n_batches)
{
    return arena_2d(arena, REGION_DATA, name, DTYPE_I32, n_batches * plan->shape.micro_batch,
                    plan->shape.n_tokens);
}

/* A save moves the model through this much host memory: the largest bucket, within bounds. */
static int64_t staging_bytes(const Layout *layout)
{
    int64_t largest = STAGING_MIN_BYTES;
    for (int32_t b = 0; b < layout->n_buckets; b++)
        if (layout->bucket[b].count * 4 > largest)
            largest = layout->bucket[b].count * 4;
    return largest < STAGING_MAX_BYTES ? largest : STAGING_MAX_BYTES;
}

static Tensor arena_staging(Arena *arena, const PlanMemory *memory)
{
    return arena_1d(arena, REGION_DATA, "checkpoint staging", DTYPE_U8,
                    staging_bytes(memory->model->layout));
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

    gpt2_layout(memory->model, arena);
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
    }
}

void plan_carve_host(const Plan *plan, Arena *arena, PlanMemory *memory)
{
    if (plan->target.device == DEVICE_CPU)
        return;
    memory->host_tokens = arena_tokens(arena, plan, "tokens", plan->n_micro_steps);
    memory->host_targets = arena_tokens(arena, plan, "targets", plan->n_micro_steps);
    memory->staging = arena_staging(arena, memory);
}

/* The bytes of plan->shape: opens host-side tables only, and lays out nothing. */
static Err measure(Plan *plan, const Config *cfg)
{
    Layout layout = {0};
    Shard owned = {0};
    GPT2 model = {0};
    AdamW optim = {0};
    PlanMemory memory = {.model = &model, .optim = &optim};
    Err err = OK;
    TRY_GOTO(err, done,
             layout_make(&layout, &plan->dims, plan->bucket_elements, plan->pad_elements));
    TRY_GOTO(err, done, shard_make(&owned, &layout, 0, plan->n_owners));
    TRY_GOTO(err, done, gpt2_open(&model, &plan->dims, &plan->shape, &layout));
    adamw_init(&optim, &owned, &cfg->optim, plan->shape.dtype);

    arena_init(&plan->regions, NULL, 0);
    plan_carve_host(plan, &plan->regions, &memory); /* measured first: its table is not kept */
    plan->host_bytes = plan->regions.peak_bytes;
    arena_init(&plan->regions, NULL, 0);
    plan_carve(plan, &plan->regions, &memory);
    plan->total_bytes = plan->regions.peak_bytes;
    plan->optimizer_bytes = adamw_state_bytes(&optim);
    plan->optimizer_whole_bytes = plan->optimizer_bytes * (size_t)plan->n_owners;
done:
    gpt2_close(&model);
    shard_free(&owned);
    layout_free(&layout);
    return err;
}

static bool fits(const Plan *plan)
{
    return plan->target.limit_bytes == 0 || plan->total_bytes <= plan->target.limit_bytes;
}

/* ---- choosing ---------------------------------------------------------------------------- */

/* Tokens beyond which a larger micro-batch no longer buys speed, only memory. On the CPU a step of
 * 8192 tokens at 384 channels took the same time in micro-batches of 1024 to 2048 tokens, a little
 * more in smaller and in larger ones. */
static int64_t micro_batch_token_cap(DeviceKind device)
{
    return device == DEVICE_CPU ? 2048 : 32768;
}

/* Rows of logits at once, when left to us: each chunk adds to the whole gradient of wte, so few
 * chunks, of equal length; but never (B*T, V). */
static int64_t auto_head_chunk(const Plan *plan, int64_t n_rows)
{
    enum { CPU_LOGITS = 32 << 20, CPU_MIN_ROWS = 128, CUDA_ROWS = 2048 };
    if (plan->target.device != DEVICE_CPU)
        return CUDA_ROWS;
    int64_t most = CPU_LOGITS / plan->dims.vocab_padded;
    most = most > CPU_MIN_ROWS ? most : CPU_MIN_ROWS;
    int64_t n_chunks = (n_rows + most - 1) / most;
    return (n_rows + n_chunks - 1) / n_chunks;
}

static Err measure_micro_batch(Plan *plan, const Config *cfg, int64_t micro_batch)
{
    int64_t n_rows = micro_batch * plan->shape.n_tokens;
    int64_t chunk = cfg->memory.head_chunk;
    if (chunk == CONFIG_AUTO)
        chunk = auto_head_chunk(plan, n_rows);
    plan->shape.micro_batch = micro_batch;
    plan->shape.head_chunk = chunk < n_rows ? chunk : n_rows;
    plan->n_micro_steps = plan->rank_sequences / micro_batch;
    return measure(plan, cfg);
}

/* The largest divisor of rank_sequences not above `most`; at least 1. */
static int64_t largest_divisor(int64_t n, int64_t most)
{
    int64_t divisor = most < n ? most : n;
    while (divisor > 1 && n % divisor != 0)
        divisor--;
    return divisor > 1 ? divisor : 1;
}

/* Leaves the plan at the largest micro_batch from `most` down that fits, or at 1. */
static Err shrink_until_it_fits(Plan *plan, const Config *cfg, int64_t most)
{
    int64_t micro_batch = largest_divisor(plan->rank_sequences, most);
    TRY(measure_micro_batch(plan, cfg, micro_batch));
    while (!fits(plan) && micro_batch > 1) {
        micro_batch = largest_divisor(plan->rank_sequences, micro_batch - 1);
        TRY(measure_micro_batch(plan, cfg, micro_batch));
    }
    return OK;
}

static Err choose_micro_batch(Plan *plan, const Config *cfg)
{
    int64_t cap = micro_batch_token_cap(plan->target.device) / plan->shape.n_tokens;
    if (cfg->batch.micro_batch == CONFIG_AUTO)
        return shrink_until_it_fits(plan, cfg, cap > 1 ? cap : 1);
    if (plan->rank_sequences % cfg->batch.micro_batch != 0)
        FAIL(ERR_USAGE,
             "micro_batch = %" PRId64 " does not divide the %" PRId64
             " sequences of a rank's step: use %" PRId64 " or auto",
             cfg->batch.micro_batch, plan->rank_sequences,
             largest_divisor(plan->rank_sequences, cfg->batch.micro_batch));
    return measure_micro_batch(plan, cfg, cfg->batch.micro_batch);
}

/* Recomputing GELU and LayerNorm outputs is the default everywhere: on a GPU it costs next to
 * nothing (elementwise only), and on the CPU it is faster than keeping them, for backward reads
 * their inputs anyway. */
static Err choose_shape(Plan *plan, const Config *cfg)
{
    static const Recompute named[] = {[CONFIG_RECOMPUTE_AUTO] = RECOMPUTE_GELU_LN,
                                      [CONFIG_RECOMPUTE_NONE] = RECOMPUTE_NONE,
                                      [CONFIG_RECOMPUTE_GELU_LN] = RECOMPUTE_GELU_LN,
                                      [CONFIG_RECOMPUTE_FFN] = RECOMPUTE_FFN,
                                      [CONFIG_RECOMPUTE_QKV] = RECOMPUTE_QKV,
                                      [CONFIG_RECOMPUTE_BLOCK] = RECOMPUTE_BLOCK};
    plan->shape.recompute = recompute_all(named[cfg->memory.recompute], plan->dims.n_layer);
    return choose_micro_batch(plan, cfg);
}

/* For the message of a plan that does not fit: what would. Restores the plan as it was chosen. */
static Err find_fitting_micro_batch(Plan *plan, const Config *cfg)
{
    int64_t chosen = plan->shape.micro_batch;
    if (chosen > 1) {
        TRY(shrink_until_it_fits(plan, cfg, chosen - 1));
        plan->fitting_micro_batch = fits(plan) ? plan->shape.micro_batch : 0;
        TRY(measure_micro_batch(plan, cfg, chosen));
    }
    return OK;
}

Err plan_build(Plan *plan, const Config *cfg, const PlanTarget *target)
{
    *plan = (Plan){.target = *target};
    ASSERT(target->world >= 1 && target->vocab_size >= 1, "world %d", target->world);
    TRY(divide_over_ranks(plan, cfg));
    plan->dims = gpt_dims(cfg, target->vocab_size);
    TRY(check_heads(plan));
    plan->needs_wire = reducer_needs_wire(&cfg->system, target->world);
    plan->n_owners = cfg->system.zero_stage == 0 ? 1 : target->world;
    plan->bucket_elements = cfg->system.bucket_mb * ((1 << 20) / 4);
    plan->pad_elements = shard_pad_elements(target->world);
    plan->shape =
        (GptShape){.n_tokens = plan->dims.block_size, .dtype = target->dtype, .training = true};
    TRY(choose_shape(plan, cfg));
    if (!fits(plan))
        TRY(find_fitting_micro_batch(plan, cfg));
    return OK;
}
