/* The plan for people: the table, and the message when it does not fit. */
#include "plan/plan.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"

/* Regions alike in all but the layer number, shown as one line: "h.*.qkv", 12 of them. */
typedef struct {
    char name[REGION_NAME_BYTES];
    const Region *first;
    int32_t n_regions;
    size_t bytes;
} Family;

/* name with every run of digits replaced by one '*'. */
static void family_name(char *out, const char *name)
{
    while (*name) {
        if (!isdigit((unsigned char)*name)) {
            *out++ = *name++;
            continue;
        }
        *out++ = '*';
        while (isdigit((unsigned char)*name))
            name++;
    }
    *out = '\0';
}

static bool same_family(const Family *f, const Region *r, const char *name)
{
    return f->first->group == r->group && f->first->dtype == r->dtype &&
           f->first->rank == r->rank && memcmp(f->first->dim, r->dim, sizeof r->dim) == 0 &&
           strcmp(f->name, name) == 0;
}

/* In order of first appearance. family has room for ARENA_MAX_REGIONS. */
static int32_t find_families(const Arena *arena, Family *family)
{
    int32_t n = 0;
    for (int32_t i = 0; i < arena->n_regions; i++) {
        const Region *r = &arena->region[i];
        char name[REGION_NAME_BYTES];
        family_name(name, r->name);
        int32_t f = 0;
        while (f < n && !same_family(&family[f], r, name))
            f++;
        if (f == n) {
            family[n] = (Family){.first = r};
            memcpy(family[n++].name, name, sizeof name);
        }
        family[f].n_regions++;
        family[f].bytes += r->bytes;
    }
    /* A family of one keeps its own name. */
    for (int32_t f = 0; f < n; f++)
        if (family[f].n_regions == 1)
            memcpy(family[f].name, family[f].first->name, sizeof family[f].name);
    return n;
}

static void print_shape(const Region *r, FILE *out)
{
    char text[96];
    int used = 0;
    for (int32_t d = 0; d < r->rank; d++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%" PRId64, d ? " x " : "",
                         r->dim[d]);
    fprintf(out, "%-9s %-24s", dtype_name(r->dtype), text);
}

static void print_family(const Family *f, FILE *out)
{
    char times[16] = "";
    if (f->n_regions > 1)
        snprintf(times, sizeof times, "%d x", f->n_regions);
    fprintf(out, "    %-30s %6s ", f->name, times);
    print_shape(f->first, out);
    fprintf(out, " %12s\n", human_bytes(f->bytes).text);
}

static void print_group(const Family *family, int32_t n, RegionGroup group, FILE *out)
{
    size_t total = 0;
    for (int32_t f = 0; f < n; f++)
        total += family[f].first->group == group ? family[f].bytes : 0;
    if (total == 0)
        return;
    fprintf(out, "  %-73s %12s\n", region_group_name(group), human_bytes(total).text);
    for (int32_t f = 0; f < n; f++)
        if (family[f].first->group == group)
            print_family(&family[f], out);
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
    fprintf(out, "  recompute             %s\n",
            shape->recompute == RECOMPUTE_NONE ? "none" : "gelu_ln");
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
        fprintf(out, "  %-73s %12s\n", "less what shares memory because it is never live together",
                human_bytes(sum - plan->total_bytes).text);
    fprintf(out, "  %-73s %12s   (%zu bytes)\n", "total per rank",
            human_bytes(plan->total_bytes).text, plan->total_bytes);
    if (plan->target.limit_bytes > 0)
        fprintf(out, "  %-73s %12s\n", "limit per rank",
                human_bytes(plan->target.limit_bytes).text);
}

void plan_print(const Plan *plan, FILE *out)
{
    print_choices(plan, out);
    Family *family = calloc(ARENA_MAX_REGIONS, sizeof *family);
    if (!family) {
        fprintf(out, "  (out of memory for the table of regions)\n");
        return;
    }
    int32_t n = find_families(&plan->regions, family);
    for (int32_t group = 0; group < N_REGION_GROUPS; group++)
        print_group(family, n, (RegionGroup)group, out);
    print_totals(plan, out);
    free(family);
}

static int larger_first(const void *a, const void *b)
{
    size_t x = ((const Family *)a)->bytes, y = ((const Family *)b)->bytes;
    return (x < y) - (x > y);
}

static void describe_largest(const Plan *plan, char *out, size_t out_bytes)
{
    out[0] = '\0';
    Family *family = calloc(ARENA_MAX_REGIONS, sizeof *family);
    if (!family)
        return;
    int32_t n = find_families(&plan->regions, family);
    qsort(family, (size_t)n, sizeof *family, larger_first);
    size_t used = 0;
    for (int32_t f = 0; f < n && f < 3; f++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s %s", f ? ", " : "",
                                 family[f].name, human_bytes(family[f].bytes).text);
    free(family);
}

Err plan_check(const Plan *plan)
{
    if (plan->target.limit_bytes == 0 || plan->total_bytes <= plan->target.limit_bytes)
        return OK;
    char largest[256], fix[128];
    describe_largest(plan, largest, sizeof largest);
    if (plan->fitting_micro_batch > 0)
        snprintf(fix, sizeof fix, "micro_batch = %" PRId64 " fits (or auto)",
                 plan->fitting_micro_batch);
    else if (plan->n_owners < plan->target.world)
        snprintf(fix, sizeof fix, "no micro_batch fits; zero_stage = 1 shares the AdamW state");
    else
        snprintf(fix, sizeof fix,
                 "no micro_batch fits; use more ranks, a smaller model or block_size");
    FAIL(ERR_USAGE, "the run needs %s per rank, the limit is %s; largest: %s; %s",
         human_bytes(plan->total_bytes).text, human_bytes(plan->target.limit_bytes).text, largest,
         fix);
}
