/* What is said of a plan that does not fit: what takes most, and the smallest changes that would
 * fit. Each change is planned for, so that what is advised is known to work. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "plan/draft.h"

/* ---- the keys that can be left to the plan ------------------------------------------------ */

/* In the order in which they are left to it: the cheapest for the run first. */
typedef enum {
    KEY_MICRO_BATCH,
    KEY_RECOMPUTE,
    KEY_MASTER,
    KEY_HEAD_CHUNK,
    KEY_ZERO_STAGE,
    KEY_OFFLOAD,
    N_KEYS
} Key;

static const char *const KEY_NAMES[N_KEYS] = {"micro_batch", "recompute",  "master",
                                              "head_chunk",  "zero_stage", "offload"};

static int64_t key_value(const Config *cfg, Key key)
{
    const int64_t values[N_KEYS] = {cfg->batch.micro_batch, cfg->memory.recompute,
                                    cfg->memory.master,     cfg->memory.head_chunk,
                                    cfg->system.zero_stage, cfg->memory.offload};
    return values[key];
}

static void set_key(Config *cfg, Key key, int64_t value)
{
    switch (key) {
    case KEY_MICRO_BATCH:
        cfg->batch.micro_batch = value;
        break;
    case KEY_RECOMPUTE:
        cfg->memory.recompute = (int32_t)value;
        break;
    case KEY_MASTER:
        cfg->memory.master = (int32_t)value;
        break;
    case KEY_HEAD_CHUNK:
        cfg->memory.head_chunk = value;
        break;
    case KEY_ZERO_STAGE:
        cfg->system.zero_stage = value;
        break;
    default:
        cfg->memory.offload = (int32_t)value;
        break;
    }
}

static int64_t auto_value(Key key)
{
    static const int64_t values[N_KEYS] = {
        [KEY_MICRO_BATCH] = CONFIG_AUTO,   [KEY_RECOMPUTE] = CONFIG_RECOMPUTE_AUTO,
        [KEY_MASTER] = CONFIG_MASTER_AUTO, [KEY_HEAD_CHUNK] = CONFIG_AUTO,
        [KEY_ZERO_STAGE] = CONFIG_AUTO,    [KEY_OFFLOAD] = CONFIG_OFFLOAD_AUTO};
    return values[key];
}

/* ---- what would help --------------------------------------------------------------------- */

typedef struct {
    const Config *given;
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

/* No key stays with the plan that need not. The attempt, which fits, does so still. */
static void keep_given(Attempt *a)
{
    for (int32_t key = 0; key < N_KEYS; key++) {
        set_key(&a->cfg, (Key)key, key_value(a->given, (Key)key));
        if (!attempt_fits(a))
            set_key(&a->cfg, (Key)key, auto_value((Key)key));
    }
    (void)attempt_fits(a); /* a->plan is this one's */
}

static void add_text(Attempt *a, const char *before, const char *change)
{
    size_t used = strlen(a->text), size = sizeof a->plan->fix;
    snprintf(a->text + used, size - used, "%s%s", before, change);
}

/* What an attempt that fits changes: ranks or blocks, if any, and keys. */
static void add_fix(Attempt *a, const char *change)
{
    keep_given(a);
    const char *before = a->text[0] ? ", or " : "";
    if (change[0]) {
        add_text(a, before, change);
        before = " with ";
    }
    for (int32_t key = 0; key < N_KEYS; key++) {
        char number[48];
        if (key_value(&a->cfg, (Key)key) == key_value(a->given, (Key)key))
            continue;
        add_text(a, before, KEY_NAMES[key]);
        snprintf(number, sizeof number, " = %" PRId64 " (or auto)", a->plan->shape.micro_batch);
        add_text(a, "", key == KEY_MICRO_BATCH ? number : " = auto");
        before = " and ";
    }
}

static void add_number(Attempt *a, const char *before, int64_t value, const char *after)
{
    char change[80];
    snprintf(change, sizeof change, "%s%" PRId64 "%s", before, value, after);
    add_fix(a, change);
}

static void leave_all_to_plan(Attempt *a)
{
    for (int32_t key = 0; key < N_KEYS; key++)
        set_key(&a->cfg, (Key)key, auto_value((Key)key));
}

/* One key after the other is left to the plan, and stays so. */
static bool try_keys(Attempt *a)
{
    for (int32_t key = 0; key < N_KEYS; key++) {
        if (key_value(a->given, (Key)key) == auto_value((Key)key))
            continue;
        set_key(&a->cfg, (Key)key, auto_value((Key)key));
        if (!attempt_fits(a))
            continue;
        add_fix(a, "");
        return true;
    }
    return false;
}

/* With everything left to the plan. */
static void try_more_ranks(Attempt *a)
{
    enum { MOST_RANKS = 1024 };
    PlanTarget *target = &a->target;
    const int32_t world = target->world;
    const int64_t sequences = config_step_sequences(a->given);
    leave_all_to_plan(a);
    for (target->world = world + 1; target->world <= MOST_RANKS; target->world++)
        if (sequences % target->world == 0 && attempt_fits(a)) {
            add_number(a, "", target->world, " ranks of as much memory");
            break;
        }
    target->world = world;
}

static void try_shorter_blocks(Attempt *a)
{
    enum { SHORTEST = 64 };
    leave_all_to_plan(a);
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
    Attempt a = {
        .given = cfg, .cfg = *cfg, .target = plan->target, .plan = other, .text = plan->fix};
    if (!try_keys(&a)) {
        try_more_ranks(&a);
        try_shorter_blocks(&a);
    }
    if (!plan->fix[0])
        snprintf(plan->fix, sizeof plan->fix, "a smaller model");
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
static Err refuse_host(const Plan *plan)
{
    const PlanTarget *target = &plan->target;
    int32_t n_ranks = target->host_ranks > 0 ? target->host_ranks : 1;
    FAIL(ERR_USAGE,
         "the run needs %s of host memory per rank, %s for the %d rank%s of a host, %s can be had; "
         "would fit: %s",
         human_bytes(plan->host_bytes).text, human_bytes(plan->host_bytes * (size_t)n_ranks).text,
         n_ranks, n_ranks == 1 ? "" : "s",
         human_bytes(target->host_limit_bytes * (size_t)n_ranks).text, plan->fix);
}

Err plan_check(const Plan *plan)
{
    const PlanTarget *target = &plan->target;
    char largest[256];
    if (plan_fits(plan))
        return OK;
    if (target->limit_bytes == 0 || plan->total_bytes <= target->limit_bytes)
        return refuse_host(plan);
    describe_largest(plan, largest, sizeof largest);
    FAIL(ERR_USAGE,
         "the run needs at least %s per rank, the limit is %s: %s too little; largest: %s; would "
         "fit: %s",
         human_bytes(plan->total_bytes).text, human_bytes(target->limit_bytes).text,
         human_bytes(plan->total_bytes - target->limit_bytes).text, largest, plan->fix);
}
