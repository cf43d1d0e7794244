/* How long a step of a plan takes: arithmetic over what the step computes and moves, for choosing
 * between plans and for telling users what to expect. Nothing is measured; see PlanEstimate for
 * what is left out. */
#ifndef GPT_PLAN_ESTIMATE_H
#define GPT_PLAN_ESTIMATE_H

#include "plan/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A card by its data sheet. Rates are per second. */
struct GpuSpec {
    const char *name;    /* "rtx3060", as --gpu takes it */
    const char *product; /* "NVIDIA GeForce RTX 3060": what the driver's name for it begins with */
    double flop_rate;    /* dense bfloat16 products, accumulated in float32 */
    double reach;        /* the part of it that training of such models reaches */
    double memory_rate;  /* bytes */
    double host_rate;    /* bytes each way over PCIe, pinned memory, as seen in practice */
    double link_rate;    /* bytes a rank sends in a ring over the cards of one host */
    size_t memory_bytes; /* what the driver reports */
};

/* By name ("rtx3060") or by the driver's name of the card; NULL: not in the table. */
const GpuSpec *gpu_spec_find(const char *name);
/* The names, separated by spaces. */
const char *gpu_spec_names(void);

/* What a process takes on a card beside the plan: context, kernels, cuBLASLt, and NCCL with more
 * than one rank. */
size_t gpu_reserve_bytes(int32_t world);

/* Seconds of one rank's step, one after the other. Left out: input, logging, evaluation and saving;
 * launch gaps of very small micro-batches; reductions are taken to hide behind the last backward as
 * far as they are shorter. */
typedef struct {
    double forward_backward; /* FLOP of the model at the rate reached */
    double recompute;
    double accumulate;   /* reading and writing float32 gradients once more per micro-step */
    double optimizer;    /* AdamW's traffic in device memory */
    double offload;      /* and over PCIe */
    double reduce;       /* of gradients and parameters, what does not hide */
    double step;         /* the sum */
    double tokens_per_s; /* of all ranks */
    double extra_flop;   /* recomputed over model FLOP: 0.05 is 5 % */
} PlanEstimate;

/* gpu NULL: a card like those of 12 GB; a CPU plan is timed as a CPU of 0.1 TFLOP/s. */
PlanEstimate plan_estimate(const Plan *plan, const GpuSpec *gpu);

#ifdef __cplusplus
}
#endif
#endif
