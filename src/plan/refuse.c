/* What is said of a plan that does not fit: what takes most, and the smallest changes that would
 * fit. Each change is planned for, so that what is advised is known to work. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "plan/draft.h"

/* ---- what would help --------------------------------------------------------------------- */

typedef struct {
    Config cfg;
    PlanTarget target;
    Plan *plan; /* of these two, when it was built last */
    char *text; /* the fix so far: the `fix` of the plan that does not fit */
} Attempt;

/* Does this setting and target fit? An input that cannot be planned does not. */
static bool attempt_fits(Attempt *a)
{
    Err err = plan_build_only(a->plan, &a->cfg, &a->target);
    bool fits = !err && plan_fits(a->plan);
    err_free(err);
    return fits;
}

static void add_fix(Attempt *a, const char *change)
{
    size_t used = strlen(a->text), size = sizeof a->plan->fix;
    snprintf(a->text + used, size - used, "%s%s", used ? ", or " : "", change);
}

static void add_number(Attempt *a, const char *before, int64_t value, const char *after)
{
    char change[64];
    snprintf(change, sizeof change, "%s%" PRId64 "%s", before, value, after);
    add_fix(a, change);
}

/* A smaller micro-batch, when one was given. */
static bool try_micro_batch(Attempt *a)
{
    if (a->cfg.batch.micro_batch == CONFIG_AUTO)
        return false;
    a->cfg.batch.micro_batch = CONFIG_AUTO;
    if (!attempt_fits(a))
        return false;
    add_number(a, "micro_batch = ", a->plan->shape.micro_batch, " (or auto)");
    return true;
}

static bool try_key(Attempt *a, bool is_set, const char *advice)
{
    if (!is_set || !attempt_fits(a))
        return false;
    add_fix(a, advice);
    return true;
}

/* One key after the other is left to the plan, and stays so. */
static bool try_keys(Attempt *a)
{
    MemoryConfig *memory = &a->cfg.memory;
    const MemoryConfig given = *memory;
    const int64_t zero_stage = a->cfg.system.zero_stage;
    if (try_micro_batch(a))
        return true;
    memory->recompute = CONFIG_RECOMPUTE_AUTO;
    if (try_key(a, given.recompute != CONFIG_RECOMPUTE_AUTO, "recompute = auto"))
        return true;
    memory->master = CONFIG_MASTER_AUTO;
    if (try_key(a, given.master == CONFIG_MASTER_F32, "master = auto"))
        return true;
    memory->head_chunk = CONFIG_AUTO;
    if (try_key(a, given.head_chunk != CONFIG_AUTO, "head_chunk = auto"))
        return true;
    a->cfg.system.zero_stage = CONFIG_AUTO;
    if (try_key(a, zero_stage != CONFIG_AUTO && a->target.world > 1, "zero_stage = auto"))
        return true;
    memory->offload = CONFIG_OFFLOAD_AUTO;
    return try_key(a, given.offload != CONFIG_OFFLOAD_AUTO, "offload = auto");
}

/* With everything left to the plan. */
static bool try_more_ranks(Attempt *a)
{
    enum { MOST_RANKS = 1024 };
    PlanTarget *target = &a->target;
    const int32_t world = target->world;
    for (target->world = world + 1; target->world <= MOST_RANKS; target->world++)
        if (a->plan->step_sequences % target->world == 0 && attempt_fits(a)) {
            add_number(a, "", target->world, " ranks");
            target->world = world;
            return true;
        }
    target->world = world;
    return false;
}

static void try_shorter_blocks(Attempt *a)
{
    enum { SHORTEST = 64 };
    while (a->cfg.model.block_size >= 2 * SHORTEST) {
        a->cfg.model.block_size /= 2;
        if (attempt_fits(a)) {
            add_number(a, "block_size = ", a->cfg.model.block_size, "");
            return;
        }
    }
}

Err plan_find_fix(Plan *plan, const Config *cfg)
{
    Plan *other = malloc(sizeof *other);
    if (!other)
        FAIL(ERR_SYSTEM, "out of memory for another plan");
    Attempt a = {.cfg = *cfg, .target = plan->target, .plan = other, .text = plan->fix};
    other->step_sequences = plan->step_sequences;
    if (!try_keys(&a)) {
        try_more_ranks(&a);
        try_shorter_blocks(&a);
    }
    free(other);
    return OK;
}

/* ---- the message ------------------------------------------------------------------------- */

/* The largest region that comes after `last` in the order by bytes, then by place; NULL: none. */
static const Region *next_largest(const Arena *arena, const Region *last)
{
    const Region *best = NULL;
    for (int32_t i = 0; i < arena->n_regions; i++) {
        const Region *r = &arena->region[i];
        bool is_after = !last || r->bytes < last->bytes || (r->bytes == last->bytes && r > last);
        if (is_after && (!best || r->bytes > best->bytes))
            best = r;
    }
    return best;
}

static void describe_largest(const Plan *plan, char *out, size_t out_bytes)
{
    size_t used = 0;
    const Region *r = next_largest(&plan->regions, NULL);
    out[0] = '\0';
    for (int32_t i = 0; r && i < 3; i++) {
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s %s", i ? ", " : "", r->name,
                                 human_bytes(r->bytes).text);
        r = next_largest(&plan->regions, r);
    }
}

/* Pinned memory cannot be swapped: what a host lacks is refused here, not late. */
static Err refuse_host(const Plan *plan, const char *fix)
{
    const PlanTarget *target = &plan->target;
    int32_t n_ranks = target->host_ranks > 0 ? target->host_ranks : 1;
    FAIL(ERR_USAGE,
         "the run needs %s of host memory per rank, %s for the %d rank%s of a host, %s can be had; "
         "would fit: %s",
         human_bytes(plan->host_bytes).text, human_bytes(plan->host_bytes * (size_t)n_ranks).text,
         n_ranks, n_ranks == 1 ? "" : "s",
         human_bytes(target->host_limit_bytes * (size_t)n_ranks).text, fix);
}

Err plan_check(const Plan *plan)
{
    const PlanTarget *target = &plan->target;
    char largest[256];
    if (plan_fits(plan))
        return OK;
    const char *fix = plan->fix[0] ? plan->fix : "a smaller model";
    if (target->limit_bytes == 0 || plan->total_bytes <= target->limit_bytes)
        return refuse_host(plan, fix);
    describe_largest(plan, largest, sizeof largest);
    FAIL(ERR_USAGE,
         "the run needs at least %s per rank, the limit is %s; largest: %s; would fit: %s",
         human_bytes(plan->total_bytes).text, human_bytes(target->limit_bytes).text, largest, fix);
}
