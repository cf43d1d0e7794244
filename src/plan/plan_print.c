/* The plan for people: the table, and the message when it does not fit. */
#include "plan/plan.h"

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

static void print_choices(const Plan *plan, FILE *out)
{
    const GptShape *shape = &plan->shape;
    const PlanTarget *target = &plan->target;
    fprintf(out, "plan for %s in %s, %d rank%s\n", device_kind_name(target->device),
            dtype_name(target->dtype), target->world, target->world == 1 ? "" : "s");
    fprintf(out,
            "  parameters            %s (%s without position embeddings), vocabulary %" PRId64 "\n",
            human_count(gpt_param_count(&plan->dims, true)).text,
            human_count(gpt_param_count(&plan->dims, false)).text, plan->dims.vocab_size);
    fprintf(out, "  tokens per step       %s = %" PRId64 " sequences x %" PRId64 "\n",
            human_count(plan->step_sequences * shape->n_tokens).text, plan->step_sequences,
            shape->n_tokens);
    fprintf(out, "  each rank             micro_batch %" PRId64 " x %" PRId64 " micro-steps\n",
            shape->micro_batch, plan->n_micro_steps);
    fprintf(out, "  head_chunk            %" PRId64 " rows of logits at once\n", shape->head_chunk);
    fprintf(out, "  recompute             %s\n", recompute_text(&shape->recompute).text);
    fprintf(out, "  AdamW state           %s per rank, 1/%d of %s\n",
            human_bytes(plan->optimizer_bytes).text, plan->n_owners,
            human_bytes(plan->optimizer_whole_bytes).text);
}

static void print_totals(const Plan *plan, FILE *out)
{
    size_t sum = 0;
    for (int32_t i = 0; i < plan->regions.n_regions; i++)
        sum += plan->regions.region[i].bytes;
    if (sum > plan->total_bytes)
        print_sum("less what shares memory because it is never live together",
                  sum - plan->total_bytes, out);
    print_sum("total per rank", plan->total_bytes, out);
    if (plan->host_bytes > 0)
        print_sum("and of host memory", plan->host_bytes, out);
    if (plan->target.limit_bytes > 0)
        print_sum("limit per rank", plan->target.limit_bytes, out);
}

void plan_print(const Plan *plan, FILE *out)
{
    print_choices(plan, out);
    for (int32_t group = 0; group < N_REGION_GROUPS; group++)
        print_group(&plan->regions, (RegionGroup)group, out);
    print_totals(plan, out);
}
