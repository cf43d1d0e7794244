/* Plan: config + world -> every byte of the run by name, before anything is allocated.
 *
 * The plan is the measuring run of the same x_layout functions that later carve real memory, so it cannot
 * differ from what is allocated. It also makes the choices left to it (micro_batch, head_chunk, recompute): they
 * never change the mathematics, only how the same step is cut up. Pure: no device, no MPI, no GPU needed. */
#ifndef GPT_PLAN_PLAN_H
#define GPT_PLAN_PLAN_H

#include <stdio.h>

#include "base/arena.h"
#include "config/config.h"
#include "model/gpt2.h"
#include "optim/adamw.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the plan is for. */
typedef struct {
    DeviceKind device;
    DType dtype;        /* of parameters and activations: f32 on the CPU, bf16 or f16 on a GPU */
    int32_t world;
    int32_t n_threads;  /* CPU threads per rank */
    int64_t vocab_size; /* resolved: data, else config, else 50257 */
    size_t limit_bytes; /* per rank; 0: none known */
} PlanTarget;

typedef struct {
    PlanTarget target;
    GptDims dims;
    GptShape shape; /* micro_batch, head_chunk, recompute as chosen */
    int64_t step_sequences, rank_sequences, n_micro_steps; /* rank_sequences = micro_batch * n_micro_steps */
    int64_t bucket_elements, pad_elements;
    size_t optimizer_bytes; /* AdamW state on one rank */
    size_t total_bytes;     /* one allocation: the arena's peak */
    Arena regions;          /* the measured arena: names, shapes, bytes */
} Plan;

/* Where the memory of a run ends up. plan_carve fills it; members are laid out in this order. */
typedef struct {
    GPT2 *model;
    AdamW *optim;
    Tensor workspace;       /* bytes, for device_set_workspace */
    Tensor tokens, targets; /* (B,T) i32 on the device */
    Tensor host_tokens, host_targets; /* (B,T) i32 staging; on the CPU device they are the two above */
    Tensor staging;         /* bytes, host: checkpoint traffic */
} PlanMemory;

/* Choose and measure. ERR_USAGE: rank counts or batches that do not divide, micro_batch that does not fit. The
 * caller compares with the limit by plan_check, so that a plan too large can still be printed. */
Err plan_build(Plan *plan, const Config *cfg, const PlanTarget *target);

/* ERR_USAGE when total_bytes exceeds the limit: names the three largest regions, and the largest
 * micro_batch that would fit. */
Err plan_check(const Plan *plan);

/* Lay out everything a rank holds: the one sequence of x_layout calls, for measuring and for carving. model and
 * optim must be open with the plan's dims and shape. */
void plan_carve(const Plan *plan, Arena *arena, PlanMemory *memory);

/* The table users read: what was chosen, every region with shape and bytes by group, subtotals, total, limit. */
void plan_print(const Plan *plan, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
