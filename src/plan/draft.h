/* PlanDraft: a plan while it is chosen. Private to src/plan.
 *
 * draft.c turns one choice into bytes, choose.c searches the choices, refuse.c says what would
 * help when none fits. */
#ifndef GPT_PLAN_DRAFT_H
#define GPT_PLAN_DRAFT_H

#include "plan/estimate.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is left to the plan. head_chunk follows from micro_batch. */
typedef struct {
    int64_t micro_batch;
    RecomputeMix recompute;
    bool offload;
    int32_t zero_stage;
} PlanChoice;

typedef struct {
    Plan *plan;        /* borrowed: what no choice changes is set; the rest as last measured */
    const Config *cfg; /* borrowed */
    Layout layout;     /* with tables on the host; rank 0's shard, for all are alike */
    Shard owned;
} PlanDraft;

/* ERR_SYSTEM. draft_close accepts a zero-initialised one. */
Err draft_open(PlanDraft *draft);
void draft_close(PlanDraft *draft);
/* The plan of this choice: its bytes and regions. Lays out nothing. */
Err draft_measure(PlanDraft *draft, const PlanChoice *choice);

bool plan_fits(const Plan *plan);
/* The largest divisor of n not above `most`; at least 1. */
int64_t plan_divisor(int64_t n, int64_t most);
/* Tokens beyond which a larger micro-batch no longer buys speed, only memory. */
int64_t plan_token_cap(DeviceKind device);

/* Leaves the plan at the best choice: the one estimated fastest of those that fit, else the
 * smallest. */
Err plan_choose(PlanDraft *draft);

/* Build without looking for what would help. */
Err plan_build_only(Plan *plan, const Config *cfg, const PlanTarget *target);
/* plan->fix of a plan that does not fit. */
Err plan_find_fix(Plan *plan, const Config *cfg);

#ifdef __cplusplus
}
#endif
#endif
