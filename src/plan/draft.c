#include "plan/draft.h"

Err draft_open(PlanDraft *d)
{
    Plan *plan = d->plan;
    TRY(layout_make(&d->layout, &plan->dims, plan->bucket_elements, plan->pad_elements));
    TRY(shard_make(&d->owned, &d->layout, 0, plan->n_owners));
    plan->n_elements = d->layout.count;
    return OK;
}

void draft_close(PlanDraft *d)
{
    shard_free(&d->owned);
    layout_free(&d->layout);
}

bool plan_fits(const Plan *plan)
{
    const PlanTarget *target = &plan->target;
    return (target->limit_bytes == 0 || plan->total_bytes <= target->limit_bytes) &&
           (target->host_limit_bytes == 0 || plan->host_bytes <= target->host_limit_bytes);
}

/* Rows of logits at once, when left to us: each chunk adds to the whole gradient of wte, so few
 * chunks, of equal length; but never (B*T, V). On a GPU always the same, so that the order of sums
 * does not depend on the plan. */
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

static void take_choice(PlanDraft *d, const PlanChoice *choice)
{
    Plan *plan = d->plan;
    int64_t n_rows = choice->micro_batch * plan->shape.n_tokens;
    int64_t chunk = d->cfg->memory.head_chunk;
    if (chunk == CONFIG_AUTO)
        chunk = auto_head_chunk(plan, n_rows);
    plan->shape.micro_batch = choice->micro_batch;
    plan->shape.head_chunk = chunk < n_rows ? chunk : n_rows;
    plan->shape.recompute = choice->recompute;
    plan->n_micro_steps = plan->rank_sequences / choice->micro_batch;
    plan->offload = choice->offload;
    plan->zero_stage = choice->zero_stage;
    plan->shape.bucket_grads = choice->zero_stage == 2;
}

static void measure(PlanDraft *d, GPT2 *model, Decoder *decoder)
{
    Plan *plan = d->plan;
    AdamW optim;
    PlanMemory memory = {.model = model, .optim = &optim, .decoder = decoder};
    adamw_init(&optim, &d->owned, &d->cfg->optim, plan_adamw_form(plan));
    arena_init(&plan->regions, NULL, 0);
    plan_carve_host(plan, &plan->regions, &memory); /* measured first: its table is not kept */
    plan->host_bytes = plan->regions.peak_bytes;
    arena_init(&plan->regions, NULL, 0);
    plan_carve(plan, &plan->regions, &memory);
    plan->total_bytes = plan->regions.peak_bytes;
    plan->optimizer_bytes = adamw_state_bytes(&optim);
    plan->optimizer_whole_bytes = plan->optimizer_bytes * (size_t)plan->n_owners;
}

Err draft_measure(PlanDraft *d, const PlanChoice *choice)
{
    const Plan *plan = d->plan;
    GPT2 model = {0}, writer = {0};
    Decoder decoder = {0};
    take_choice(d, choice);
    Err err = gpt2_open(&model, &plan->dims, &plan->shape, &d->layout);
    if (!err && plan->sample_ids > 0)
        err = plan_open_decoder(plan, &d->layout, &writer, &decoder);
    if (!err)
        measure(d, &model, plan->sample_ids > 0 ? &decoder : NULL);
    decoder_close(&decoder);
    gpt2_close(&writer);
    gpt2_close(&model);
    return err;
}
