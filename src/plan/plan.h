/* Plan: config + world -> every byte of the run by name, before anything is allocated.
 *
 * The plan is the measuring run of the same x_layout functions that later carve real memory, so it
 * cannot differ from what is allocated. It also makes the choices left to it (micro_batch,
 * head_chunk, recompute, offload, zero_stage): they never change the mathematics, only how the same
 * step is cut up. Pure: no device, no MPI, no GPU needed. */
#ifndef GPT_PLAN_PLAN_H
#define GPT_PLAN_PLAN_H

#include <stdio.h>

#include "base/arena.h"
#include "config/config.h"
#include "model/decoder.h"
#include "optim/adamw.h"
#include "optim/reducer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct GpuSpec GpuSpec; /* plan/estimate.h */

/* What the plan is for. */
typedef struct {
    DeviceKind device;
    DType dtype; /* of parameters and activations: f32 on the CPU, bf16 or f16 on a GPU */
    int32_t world;
    int32_t n_threads;       /* CPU threads per rank, at most */
    int64_t vocab_size;      /* resolved: plan_vocab_size */
    size_t limit_bytes;      /* per rank; 0: none known */
    size_t host_limit_bytes; /* per rank, of host memory beside a GPU; 0: none known */
    int32_t host_ranks;      /* ranks on a host, at most; 0: not known */
    const GpuSpec *gpu;      /* the card, when it is known; static. The same on all ranks */
} PlanTarget;

typedef struct {
    PlanTarget target;
    GptDims dims;
    GptShape shape;     /* micro_batch, head_chunk, recompute as chosen */
    AdamwMaster master; /* how AdamW keeps float32 weights beside the parameters */
    bool offload;       /* as chosen: AdamW's state lives in host memory */
    int32_t zero_stage; /* as chosen: what ranks share: 0 nothing, 1 AdamW's state, 2 gradients */
    bool scores_rows;   /* eval_hellaswag */
    int64_t sample_ids; /* room for a sample's tokens; 0: none are drawn */
    int64_t step_sequences, rank_sequences,
        n_micro_steps; /* rank_sequences = micro_batch * n_micro_steps */
    int64_t bucket_elements, pad_elements;
    int64_t n_elements;     /* of the flat vectors, padding included */
    bool needs_wire;        /* gradients travel in bfloat16 */
    int32_t n_owners;       /* ranks that share the AdamW state: world, or 1 under zero_stage 0 */
    size_t optimizer_bytes; /* AdamW state on one rank */
    size_t optimizer_whole_bytes; /* and of all its owners together */
    size_t total_bytes;           /* one allocation: the arena's peak */
    size_t host_bytes;            /* another, of host memory, beside a GPU; 0 on the CPU */
    Arena regions;                /* the measured arena: names, shapes, bytes */
    char fix[320]; /* when total_bytes is past the limit: the smallest changes that would fit, or
                    * "a smaller model" */
} Plan;

/* Where the memory of a run ends up. plan_carve fills it; members are laid out in this order. */
typedef struct {
    GPT2 *model;
    AdamW *optim;
    Decoder *decoder;  /* of plan_open_decoder; NULL where no samples are drawn */
    Tensor grad_shard; /* of zero_stage 2 */
    ReducerWire wire;
    Tensor workspace;       /* bytes, for device_set_workspace */
    Tensor tokens, targets; /* (B,T) i32 on the device */
    /* Host memory. On the CPU it is part of the one allocation, and host_tokens are the two above;
     * beside a GPU plan_carve_host fills it. */
    Tensor host_tokens, host_targets; /* (n B, T) i32: n batches, on a GPU as many as a step has */
    Tensor staging;                   /* bytes: checkpoint traffic */
    Tensor row_losses;    /* (B T) f32: what scoring of rows brings home; none where that is off */
    Tensor sample_ids;    /* (plan->sample_ids) i32, host memory like those before */
    Tensor sample_logits; /* (2 vocab_size) f32: a row, and what drawing overwrites */
} PlanMemory;

/* The vocabulary of a run: the config's, else the data's (CONFIG_AUTO: unknown), else GPT-2's
 * 50257. That the first is not below the second is looked at by dataset_open. */
int64_t plan_vocab_size(const Config *cfg, int64_t data_vocab_size);

/* Storage dtype of a device under cfg->system.dtype. ERR_USAGE: the device does not compute in it.
 */
Err plan_dtype(const Config *cfg, DeviceKind device, DType *dtype);

/* Choose and measure: of all plans within the limit the one whose step is estimated to take least
 * (estimate.h), or the smallest when none fits; keys that are not `auto` are kept. ERR_USAGE: rank
 * counts or batches that do not divide, offload on the CPU, a master that does not go with the
 * parameters' dtype. A plan past the limit is still OK here, so that it can be
 * printed: plan_check refuses it. */
Err plan_build(Plan *plan, const Config *cfg, const PlanTarget *target);

/* ERR_USAGE when total_bytes exceeds the limit: names the three largest regions, and the smallest
 * change that would fit. */
Err plan_check(const Plan *plan);

/* The choices that the order of sums depends on. */
StepCut plan_cut(const Plan *plan);

/* What AdamW is opened with. */
AdamwForm plan_adamw_form(const Plan *plan);

/* A decoder and its model for one sequence, to be carved with the rest, over the activations of
 * training. The caller calls decoder_close and gpt2_close whatever comes back. ERR_SYSTEM. */
Err plan_open_decoder(const Plan *plan, const Layout *layout, GPT2 *model, Decoder *decoder);

/* Lay out everything a rank holds: the one sequence of x_layout calls, for measuring and for
 * carving. model and optim must be open with the plan's dims and shape. */
void plan_carve(const Plan *plan, Arena *arena, PlanMemory *memory);
/* The host memory beside a GPU, after plan_carve, from an arena of its own; nothing on the CPU. */
void plan_carve_host(const Plan *plan, Arena *arena, PlanMemory *memory);

/* The table users read: what was chosen and what it costs, every region with shape and bytes by
 * group, subtotals, total, limit. */
void plan_print(const Plan *plan, FILE *out);
/* The same for programs: one JSON object; names and units in plan_json.c. ERR_SYSTEM. */
Err plan_print_json(const Plan *plan, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
