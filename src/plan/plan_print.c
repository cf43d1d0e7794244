/* The plan for people. */
#include "plan/estimate.h"

#include <inttypes.h>

#include "base/human.h"

static void print_region(const Region *r, FILE *out)
{
    char shape[96] = "";
    int used = 0;
    for (int32_t d = 0; d < r->rank; d++)
        used += snprintf(shape + used, sizeof shape - (size_t)used, "%s%" PRId64, d ? " x " : "",
                         r->dim[d]);
    fprintf(out, "    %-28s %-9s %-24s %12s\n", r->name, dtype_name(r->dtype), shape,
            human_bytes(r->bytes).text);
}

/* A line of the table without dtype and shape. */
static void print_sum(const char *name, size_t n_bytes, FILE *out)
{
    fprintf(out, "  %-65s %12s\n", name, human_bytes(n_bytes).text);
}

static void print_group(const Arena *arena, RegionGroup group, FILE *out)
{
    size_t sum = 0;
    for (int32_t i = 0; i < arena->n_regions; i++)
        sum += arena->region[i].group == group ? arena->region[i].bytes : 0;
    if (sum == 0)
        return;
    print_sum(region_group_name(group), sum, out);
    for (int32_t i = 0; i < arena->n_regions; i++)
        if (arena->region[i].group == group)
            print_region(&arena->region[i], out);
}

static void print_run(const Plan *plan, FILE *out)
{
    const GptShape *shape = &plan->shape;
    const PlanTarget *target = &plan->target;
    fprintf(out, "plan for %s in %s, %d rank%s", device_kind_name(target->device),
            dtype_name(target->dtype), target->world, target->world == 1 ? "" : "s");
    if (target->device == DEVICE_CPU)
        fprintf(out, " of %d thread%s", target->n_threads, target->n_threads == 1 ? "" : "s");
    fprintf(out, "\n");
    fprintf(out,
            "  parameters            %s (%s without position embeddings), vocabulary %" PRId64 "\n",
            human_count(gpt_param_count(&plan->dims, true)).text,
            human_count(gpt_param_count(&plan->dims, false)).text, plan->dims.vocab_size);
    fprintf(out, "  tokens per step       %s = %" PRId64 " sequences x %" PRId64 "\n",
            human_count(plan->step_sequences * shape->n_tokens).text, plan->step_sequences,
            shape->n_tokens);
}

static void print_choices(const Plan *plan, FILE *out)
{
    static const char *const stages[] = {"ranks share nothing", "ranks share AdamW's state",
                                         "ranks share AdamW's state and gradients"};
    static const char *const masters[] = {[MASTER_NONE] = "",
                                          [MASTER_F32] = " (master = float32)",
                                          [MASTER_REMAINDER16] = " (master = remainder16)"};
    const GptShape *shape = &plan->shape;
    fprintf(out, "  micro_batch           %" PRId64 " x %" PRId64 " micro-steps on each rank\n",
            shape->micro_batch, plan->n_micro_steps);
    fprintf(out, "  head_chunk            %" PRId64 " rows of logits at once\n", shape->head_chunk);
    fprintf(out, "  recompute             %s\n", recompute_text(&shape->recompute).text);
    if (plan->target.world > 1)
        fprintf(out, "  zero_stage            %d: %s\n", plan->zero_stage,
                stages[plan->zero_stage]);
    fprintf(out, "  AdamW state           %s per rank, 1/%d of %s%s%s\n",
            human_bytes(plan->optimizer_bytes).text, plan->n_owners,
            human_bytes(plan->optimizer_whole_bytes).text, masters[plan->master],
            plan->offload ? ", in host memory (offload = optimizer)" : "");
}

/* Why these: what each costs. Only what takes part of the step worth naming. */
static void print_cost(const char *name, double seconds, double step, FILE *out)
{
    if (seconds >= 0.0005 * step)
        fprintf(out, ", %s %.1f %%", name, 100 * seconds / step);
}

static void print_estimate(const Plan *plan, FILE *out)
{
    PlanEstimate e = plan_estimate(plan, plan->target.gpu);
    if (!plan->target.gpu)
        return;
    fprintf(out, "  estimate              %.4g s a step, %s tokens/s on %d x %s:\n", e.step,
            human_count((int64_t)e.tokens_per_s).text, plan->target.world,
            plan->target.gpu->product);
    fprintf(out, "                        forward and backward %.1f %%",
            100 * e.forward_backward / e.step);
    print_cost("recompute", e.recompute, e.step, out);
    print_cost("accumulation", e.accumulate, e.step, out);
    print_cost("AdamW", e.optimizer, e.step, out);
    print_cost("offload", e.offload, e.step, out);
    print_cost("reduction", e.reduce, e.step, out);
    fprintf(out, "\n  extra FLOP            %.1f %%\n", 100 * e.extra_flop);
}

static void print_totals(const Plan *plan, FILE *out)
{
    const PlanTarget *target = &plan->target;
    size_t sum = 0;
    for (int32_t i = 0; i < plan->regions.n_regions; i++)
        sum += plan->regions.region[i].bytes;
    if (sum > plan->total_bytes)
        print_sum("less what shares memory because it is never live together",
                  sum - plan->total_bytes, out);
    print_sum("total per rank", plan->total_bytes, out);
    if (target->limit_bytes > 0)
        print_sum("limit per rank", target->limit_bytes, out);
    if (plan->host_bytes > 0)
        print_sum("and of host memory per rank", plan->host_bytes, out);
    if (target->device == DEVICE_CUDA)
        print_sum("reserve beside the plan: CUDA context, cuBLASLt, NCCL (about)",
                  gpu_reserve_bytes(target->world), out);
}

void plan_print(const Plan *plan, FILE *out)
{
    print_run(plan, out);
    print_choices(plan, out);
    print_estimate(plan, out);
    for (int32_t group = 0; group < N_REGION_GROUPS; group++)
        print_group(&plan->regions, (RegionGroup)group, out);
    print_totals(plan, out);
}
