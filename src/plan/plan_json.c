/* The plan for programs. Bytes are bytes, times seconds; a limit that is not known is null.
 *
 *     device dtype world parameters step_tokens
 *     micro_batch n_micro_steps head_chunk recompute {level: blocks} offload zero_stage master
 * n_owners regions [{group name dtype shape [] offset bytes}] total_bytes limit_bytes host_bytes
 * host_limit_bytes reserve_bytes optimizer_bytes fits fix estimate {gpu, step_s, tokens_per_s,
 * extra_flop, and the parts of step_s}, or null */
#include <jansson.h>

#include "plan/draft.h"

static json_t *bytes_or_null(size_t n_bytes)
{
    return n_bytes > 0 ? json_integer((json_int_t)n_bytes) : json_null();
}

static json_t *recompute_json(const RecomputeMix *mix)
{
    json_t *levels = json_object();
    for (int32_t level = 0; level < N_RECOMPUTES; level++)
        if (mix->n_at[level] > 0)
            json_object_set_new(levels, recompute_name((Recompute)level),
                                json_integer(mix->n_at[level]));
    return levels;
}

static json_t *region_json(const Region *r)
{
    json_t *shape = json_array();
    for (int32_t d = 0; d < r->rank; d++)
        json_array_append_new(shape, json_integer(r->dim[d]));
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:I}", "group", region_group_name(r->group), "name",
                     r->name, "dtype", dtype_name(r->dtype), "shape", shape, "offset",
                     (json_int_t)r->offset, "bytes", (json_int_t)r->bytes);
}

static json_t *regions_json(const Arena *arena)
{
    json_t *regions = json_array();
    for (int32_t i = 0; i < arena->n_regions; i++)
        json_array_append_new(regions, region_json(&arena->region[i]));
    return regions;
}

static json_t *estimate_json(const Plan *plan)
{
    const GpuSpec *gpu = plan->target.gpu;
    PlanEstimate e = plan_estimate(plan, gpu);
    if (!gpu)
        return json_null();
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "gpu", gpu->name,
                     "step_s", e.step, "tokens_per_s", e.tokens_per_s, "extra_flop", e.extra_flop,
                     "forward_backward_s", e.forward_backward, "recompute_s", e.recompute,
                     "accumulate_s", e.accumulate, "optimizer_s", e.optimizer, "offload_s",
                     e.offload, "reduce_s", e.reduce);
}

static const char *master_name(AdamwMaster master)
{
    static const char *const NAMES[] = {
        [MASTER_NONE] = "none", [MASTER_F32] = "float32", [MASTER_REMAINDER16] = "remainder16"};
    return NAMES[master];
}

static json_t *choices_json(const Plan *plan)
{
    const GptShape *shape = &plan->shape;
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:o, s:b, s:i, s:s, s:i}", "device",
        device_kind_name(plan->target.device), "dtype", dtype_name(plan->target.dtype), "world",
        plan->target.world, "parameters", (json_int_t)gpt_param_count(&plan->dims, true),
        "step_tokens", (json_int_t)(plan->step_sequences * shape->n_tokens), "micro_batch",
        (json_int_t)shape->micro_batch, "n_micro_steps", (json_int_t)plan->n_micro_steps,
        "head_chunk", (json_int_t)shape->head_chunk, "recompute", recompute_json(&shape->recompute),
        "offload", plan->offload, "zero_stage", plan->zero_stage, "master",
        master_name(plan->master), "n_owners", plan->n_owners);
}

static json_t *bytes_json(const Plan *plan)
{
    const PlanTarget *target = &plan->target;
    bool on_gpu = target->device == DEVICE_CUDA, fits = plan_fits(plan);
    return json_pack("{s:o, s:I, s:o, s:I, s:o, s:I, s:I, s:b, s:o, s:o}", "regions",
                     regions_json(&plan->regions), "total_bytes", (json_int_t)plan->total_bytes,
                     "limit_bytes", bytes_or_null(target->limit_bytes), "host_bytes",
                     (json_int_t)plan->host_bytes, "host_limit_bytes",
                     bytes_or_null(target->host_limit_bytes), "reserve_bytes",
                     (json_int_t)(on_gpu ? gpu_reserve_bytes(target->world) : 0), "optimizer_bytes",
                     (json_int_t)plan->optimizer_bytes, "fits", fits, "fix",
                     fits ? json_null() : json_string(plan->fix), "estimate", estimate_json(plan));
}

Err plan_print_json(const Plan *plan, FILE *out)
{
    json_t *doc = choices_json(plan), *bytes = bytes_json(plan);
    bool written = doc && bytes && json_object_update(doc, bytes) == 0 &&
                   json_dumpf(doc, out, JSON_INDENT(1) | JSON_PRESERVE_ORDER) == 0;
    json_decref(doc);
    json_decref(bytes);
    if (!written)
        FAIL(ERR_SYSTEM, "out of memory for the plan, or its output was closed");
    return OK;
}
