#include "plan/estimate.h"

#include <ctype.h>
#include <string.h>

#define GIB ((size_t)1 << 30)
#define MIB ((size_t)1 << 20)

/* Rates: NVIDIA's data sheets and architecture papers, without sparsity; GeForce cards with float32
 * accumulation. What is reached of them: about what LLM.q publishes for bfloat16 training on cards
 * of each kind. PCIe and rings: what is commonly reached on the boxes these cards sit in, without
 * peer access on GeForce. An RTX 3060 reports 11.75 GiB. */
static const GpuSpec SPECS[] = {
    {"rtx3060", "NVIDIA GeForce RTX 3060", 25.5e12, 0.75, 360e9, 12e9, 6e9, 11 * GIB + 768 * MIB},
    {"rtx4090", "NVIDIA GeForce RTX 4090", 165.2e12, 0.7, 1008e9, 25e9, 12e9, 23 * GIB + 662 * MIB},
    {"a100", "NVIDIA A100", 312e12, 0.6, 2039e9, 25e9, 200e9, 79 * GIB + 256 * MIB},
    {"h100", "NVIDIA H100", 989.4e12, 0.5, 3350e9, 50e9, 300e9, 79 * GIB + 256 * MIB},
    {"h200", "NVIDIA H200", 989.4e12, 0.5, 4800e9, 50e9, 300e9, 139 * GIB + 512 * MIB},
};
enum { N_SPECS = sizeof SPECS / sizeof *SPECS };

/* Stands for a CPU; only the order of plans matters there. */
static const GpuSpec CPU = {"cpu", "", 0.1e12, 1, 10e9, 10e9, 5e9, 0};

/* "NVIDIA A100-SXM4-80GB" and "NVIDIA H100 80GB HBM3" are the products; an "RTX 3060 Ti" or an
 * "H100 PCIe" are other cards. */
static bool is_product(const char *name, const char *product)
{
    size_t n = strlen(product);
    if (strncmp(name, product, n) != 0)
        return false;
    return name[n] == '\0' || name[n] == '-' ||
           (name[n] == ' ' && isdigit((unsigned char)name[n + 1]));
}

const GpuSpec *gpu_spec_find(const char *name)
{
    for (int32_t i = 0; i < N_SPECS; i++)
        if (strcmp(name, SPECS[i].name) == 0 || is_product(name, SPECS[i].product))
            return &SPECS[i];
    return NULL;
}

const char *gpu_spec_names(void)
{
    return "rtx3060 rtx4090 a100 h100 h200";
}

size_t gpu_reserve_bytes(int32_t world)
{
    return world > 1 ? 768 * MIB : 665 * MIB;
}

/* FLOP of one token, forward and backward: every product three times; attention's backward in two
 * kernels has 7 products for the forward's 2, half of them masked. */
static double model_flop_per_token(const GptDims *d)
{
    double L = d->n_layer, C = (double)d->n_embd, T = (double)d->block_size;
    return L * (72 * C * C + 9 * T * C) + 6 * (double)d->vocab_padded * C;
}

/* Every micro-step reads and writes all gradients; the head's once more for each chunk of rows. */
static double accumulated_bytes(const Plan *plan)
{
    double n_rows = (double)(plan->shape.micro_batch * plan->shape.n_tokens);
    double n_chunks = n_rows / (double)plan->shape.head_chunk;
    double head = (double)(plan->dims.vocab_padded * plan->dims.n_embd);
    double elements = (double)plan->n_elements + n_chunks * head;
    return (double)plan->n_micro_steps * 2 * 4 * elements;
}

/* Bytes a rank sends: 4 or 2 per gradient, 4 or 2 per parameter, each (w - 1) / w times; without
 * shares of AdamW's state sums go to all instead of parameters. */
static double reduce_seconds(const Plan *plan, const GpuSpec *gpu, double micro_step)
{
    double world = plan->target.world, elements = (double)plan->n_elements;
    double share = (world - 1) / world / gpu->link_rate;
    double gradients = (plan->needs_wire ? 2 : 4) * elements * share;
    double parameters = (double)dtype_bytes(plan->shape.dtype) * elements * share;
    if (plan->zero_stage == 0) {
        gradients *= 2;
        parameters = 0;
    }
    double n_reductions = plan->zero_stage == 2 ? (double)plan->n_micro_steps : 1;
    double hidden = micro_step * 2 / 3;
    return n_reductions * (gradients > hidden ? gradients - hidden : 0) + parameters;
}

/* The state is read and written once, and so are parameters; gradients are read. */
static double optimizer_bytes(const Plan *plan)
{
    double own = (double)plan->n_elements / plan->n_owners;
    return 2 * (double)plan->optimizer_bytes +
           own * (2.0 * (double)dtype_bytes(plan->shape.dtype) + 4);
}

PlanEstimate plan_estimate(const Plan *plan, const GpuSpec *gpu)
{
    if (plan->target.device == DEVICE_CPU)
        gpu = &CPU;
    else if (!gpu)
        gpu = &SPECS[0];
    double n_tokens = (double)(plan->rank_sequences * plan->shape.n_tokens);
    double flop = model_flop_per_token(&plan->dims);
    double again = recompute_flop_per_token(&plan->shape.recompute, &plan->dims);
    double rate = gpu->flop_rate * gpu->reach;
    PlanEstimate e = {
        .forward_backward = n_tokens * flop / rate,
        .recompute = n_tokens * again / rate,
        .accumulate = accumulated_bytes(plan) / gpu->memory_rate,
        .optimizer = optimizer_bytes(plan) / gpu->memory_rate,
        .offload = plan->offload ? (double)plan->optimizer_bytes / gpu->host_rate : 0,
        .extra_flop = again / flop,
    };
    double micro_step = (e.forward_backward + e.recompute) / (double)plan->n_micro_steps;
    e.reduce = plan->target.world > 1 ? reduce_seconds(plan, gpu, micro_step) : 0;
    e.step = e.forward_backward + e.recompute + e.accumulate + e.optimizer + e.offload + e.reduce;
    e.tokens_per_s = n_tokens * plan->target.world / e.step;
    return e;
}
