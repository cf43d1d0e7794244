/* The search. A choice's time is estimated without its bytes where that is enough to pass it over;
 * of what is left, memory is bought where it costs least: for every micro-batch, with AdamW's state
 * on the device and off it, the recompute mix of fewest FLOP that fits. */
#include <inttypes.h>
#include <math.h>

#include "plan/draft.h"

/* On the CPU a step of 8192 tokens at 384 channels took the same time in micro-batches of 1024 to
 * 2048 tokens, a little more in smaller and in larger ones. */
int64_t plan_token_cap(DeviceKind device)
{
    return device == DEVICE_CPU ? 2048 : 32768;
}

int64_t plan_divisor(int64_t n, int64_t most)
{
    int64_t divisor = most < n ? most : n;
    while (divisor > 1 && n % divisor != 0)
        divisor--;
    return divisor > 1 ? divisor : 1;
}

/* ---- the best so far --------------------------------------------------------------------- */

typedef struct {
    PlanDraft *draft;
    PlanChoice fastest, smallest;
    double step_s;      /* of fastest; INFINITY: none fits */
    size_t total_bytes; /* of smallest; SIZE_MAX: none was measured */
} Search;

static double seconds_of(const Search *s)
{
    const Plan *plan = s->draft->plan;
    return plan_estimate(plan, plan->target.gpu).step;
}

/* Measure one, and remember it when it is the best yet. */
static Err try_choice(Search *s, const PlanChoice *choice, bool *fits)
{
    const Plan *plan = s->draft->plan;
    TRY(draft_measure(s->draft, choice));
    *fits = plan_fits(plan);
    double step_s = seconds_of(s);
    if (*fits && step_s < s->step_s) {
        s->fastest = *choice;
        s->step_s = step_s;
    }
    if (plan->total_bytes < s->total_bytes) {
        s->smallest = *choice;
        s->total_bytes = plan->total_bytes;
    }
    return OK;
}

/* ---- recompute --------------------------------------------------------------------------- */

enum { ALL_MIXES_LAYERS = 64 }; /* beyond it, no more than two levels together */

/* The cheapest mix found for one choice of everything else. */
typedef struct {
    RecomputeMix mix;
    double flop; /* per token; INFINITY: none found */
} CheapestMix;

static RecomputeMix mix_of(int32_t n_layer, int32_t n_ffn, int32_t n_qkv, int32_t n_block)
{
    return (RecomputeMix){.n_at = {[RECOMPUTE_GELU_LN] = n_layer - n_ffn - n_qkv - n_block,
                                   [RECOMPUTE_FFN] = n_ffn,
                                   [RECOMPUTE_QKV] = n_qkv,
                                   [RECOMPUTE_BLOCK] = n_block}};
}

/* Would it be better than the best, were it to fit? Everything else is as last measured. */
static bool is_cheaper(Search *s, const RecomputeMix *mix, const CheapestMix *best)
{
    Plan *plan = s->draft->plan;
    if (recompute_flop_per_token(mix, &plan->dims) >= best->flop)
        return false;
    plan->shape.recompute = *mix;
    return seconds_of(s) < s->step_s;
}

/* With so many blocks at qkv and block: as few at ffn as fit, the others at gelu_ln. No more than
 * are cheaper than the best: where they do not fit, no fewer do. */
static Err fewest_at_ffn(Search *s, PlanChoice choice, int32_t n_qkv, int32_t n_block,
                         CheapestMix *best)
{
    const Plan *plan = s->draft->plan;
    int32_t L = plan->dims.n_layer, low = 0, high = L - n_qkv - n_block;
    choice.recompute = mix_of(L, high, n_qkv, n_block);
    while (high > 0 && !is_cheaper(s, &choice.recompute, best))
        choice.recompute = mix_of(L, --high, n_qkv, n_block);
    TRY(draft_measure(s->draft, &choice));
    if (!plan_fits(plan))
        return OK;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        choice.recompute = mix_of(L, middle, n_qkv, n_block);
        TRY(draft_measure(s->draft, &choice));
        if (plan_fits(plan))
            high = middle;
        else
            low = middle + 1;
    }
    choice.recompute = mix_of(L, high, n_qkv, n_block);
    *best =
        (CheapestMix){choice.recompute, recompute_flop_per_token(&choice.recompute, &plan->dims)};
    return OK;
}

/* All mixes but those that cost as much as the best before their blocks at ffn are counted. None
 * when none that fits is faster than the fastest plan so far. */
static Err find_cheapest_mix(Search *s, const PlanChoice *choice, CheapestMix *best)
{
    int32_t L = s->draft->plan->dims.n_layer;
    *best = (CheapestMix){.flop = INFINITY};
    for (int32_t n_block = 0; n_block <= L; n_block++) {
        int32_t most_qkv = L > ALL_MIXES_LAYERS && n_block > 0 ? 0 : L - n_block;
        for (int32_t n_qkv = 0; n_qkv <= most_qkv; n_qkv++) {
            RecomputeMix least = mix_of(L, 0, n_qkv, n_block);
            if (!is_cheaper(s, &least, best))
                break;
            TRY(fewest_at_ffn(s, *choice, n_qkv, n_block, best));
        }
    }
    return OK;
}

static Err try_at(Search *s, PlanChoice choice, Recompute level, bool *fits)
{
    choice.recompute = recompute_all(level, s->draft->plan->dims.n_layer);
    return try_choice(s, &choice, fits);
}

/* GELU and LayerNorm outputs are never kept unless asked for: on a GPU it costs next to nothing to
 * make them again (elementwise only), and on the CPU it is faster than keeping them, for backward
 * reads their inputs anyway. */
static Err try_mixes(Search *s, PlanChoice choice)
{
    bool fits;
    CheapestMix best;
    TRY(try_at(s, choice, RECOMPUTE_GELU_LN, &fits));
    if (fits || seconds_of(s) >= s->step_s)
        return OK;
    TRY(try_at(s, choice, RECOMPUTE_BLOCK, &fits));
    if (!fits)
        return OK;
    TRY(find_cheapest_mix(s, &choice, &best));
    if (!isfinite(best.flop))
        return OK;
    choice.recompute = best.mix;
    return try_choice(s, &choice, &fits);
}

static Err try_recompute(Search *s, const PlanChoice *choice)
{
    static const Recompute named[] = {[CONFIG_RECOMPUTE_NONE] = RECOMPUTE_NONE,
                                      [CONFIG_RECOMPUTE_GELU_LN] = RECOMPUTE_GELU_LN,
                                      [CONFIG_RECOMPUTE_FFN] = RECOMPUTE_FFN,
                                      [CONFIG_RECOMPUTE_QKV] = RECOMPUTE_QKV,
                                      [CONFIG_RECOMPUTE_BLOCK] = RECOMPUTE_BLOCK};
    int32_t given = s->draft->cfg->memory.recompute;
    bool fits;
    if (given == CONFIG_RECOMPUTE_AUTO)
        return try_mixes(s, *choice);
    return try_at(s, *choice, named[given], &fits);
}

/* ---- everything else --------------------------------------------------------------------- */

/* From large to small, for the larger of two that are as fast wins. */
static Err try_micro_batches(Search *s, PlanChoice choice)
{
    const Plan *plan = s->draft->plan;
    int64_t given = s->draft->cfg->batch.micro_batch, sequences = plan->rank_sequences;
    if (given != CONFIG_AUTO) {
        choice.micro_batch = given;
        return try_recompute(s, &choice);
    }
    int64_t cap = plan_token_cap(plan->target.device) / plan->shape.n_tokens;
    choice.micro_batch = plan_divisor(sequences, cap > 1 ? cap : 1);
    for (;;) {
        TRY(try_recompute(s, &choice));
        if (choice.micro_batch == 1)
            return OK;
        choice.micro_batch = plan_divisor(sequences, choice.micro_batch - 1);
    }
}

/* The CPU's memory is the host's. */
static Err try_offloads(Search *s, PlanChoice choice)
{
    int32_t given = s->draft->cfg->memory.offload;
    bool can = s->draft->plan->target.device != DEVICE_CPU && given != CONFIG_OFFLOAD_NONE;
    choice.offload = false;
    if (given != CONFIG_OFFLOAD_OPTIMIZER || !can)
        TRY(try_micro_batches(s, choice));
    choice.offload = true;
    return can ? try_micro_batches(s, choice) : OK;
}

/* A world of one has nothing to share: stage 2 is stage 1 there. */
static Err try_zero_stages(Search *s)
{
    int64_t given = s->draft->cfg->system.zero_stage;
    bool alone = s->draft->plan->target.world == 1;
    PlanChoice choice = {.zero_stage =
                             given == CONFIG_AUTO || (given == 2 && alone) ? 1 : (int32_t)given};
    TRY(try_offloads(s, choice));
    choice.zero_stage = 2;
    return given == CONFIG_AUTO && !alone ? try_offloads(s, choice) : OK;
}

static Err check_micro_batch(const Plan *plan, int64_t given)
{
    if (given != CONFIG_AUTO && plan->rank_sequences % given != 0)
        FAIL(ERR_USAGE,
             "micro_batch = %" PRId64 " does not divide the %" PRId64
             " sequences of a rank's step: use %" PRId64 " or auto",
             given, plan->rank_sequences, plan_divisor(plan->rank_sequences, given));
    return OK;
}

Err plan_choose(PlanDraft *draft)
{
    Search search = {.draft = draft, .step_s = INFINITY, .total_bytes = SIZE_MAX};
    TRY(check_micro_batch(draft->plan, draft->cfg->batch.micro_batch));
    TRY(try_zero_stages(&search));
    return draft_measure(draft, isfinite(search.step_s) ? &search.fastest : &search.smallest);
}
