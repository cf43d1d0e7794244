/* GPT2: the model as views into flat memory, and its forward and backward passes.
 *
 * forward.c reads like the paper, backward.c is its mirror; both are written once for every
 * device. The model knows no rank. Memory comes from gpt2_layout: run on a measuring arena it
 * is the plan, run on real memory it carves (base/arena.h). Nothing here allocates device
 * memory. */
#ifndef GPT_MODEL_GPT2_H
#define GPT_MODEL_GPT2_H

#include "base/arena.h"
#include "model/recompute.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How much a GPT2 is built for. */
typedef struct {
    int64_t micro_batch;    /* B: sequences at once */
    int64_t n_tokens;       /* T <= block_size */
    int64_t head_chunk;     /* rows of logits held at once, <= B*T */
    DType dtype;            /* of parameters and activations */
    RecomputeMix recompute; /* over n_layer blocks; not looked at when not training */
    bool training;          /* false: no gradients, one layer's activations */
    bool bucket_grads; /* gradients have places for four buckets, not for all: the tables' own two
                          and two that the others take by turns. backward then needs a GradReadyFn
                          that takes a bucket out and zeroes it before the next but one begins */
} GptShape;

typedef struct {
    Tensor ln_1_w, ln_1_b, attn_w, attn_b, attn_proj_w, attn_proj_b;
    Tensor ln_2_w, ln_2_b, fc_w, fc_b, fc_proj_w, fc_proj_b;
} BlockTensors; /* biases are tensor_none() when bias is off */

typedef struct {
    Tensor wte, wpe, ln_f_w, ln_f_b;
    BlockTensors *block; /* [n_layer] */
} GptTensors;

typedef struct GptActs GptActs; /* forward.c's and backward.c's buffers: model/acts.h */

typedef struct {
    GptDims dims;
    GptShape shape;
    const Layout *layout; /* borrowed */
    Tensor params;        /* (layout->count) shape.dtype */
    Tensor grads;         /* (layout->count) f32, less with bucket_grads; none when not training */
    Tensor *param_bucket; /* [n_buckets]: where each bucket lies in params */
    Tensor *grad_bucket;  /* [n_buckets]: and in grads */
    GptTensors param, grad; /* views into the two */
    Tensor loss_total;      /* (1) f64, += by gpt2_loss and gpt2_backward; the caller zeroes it */
    GptActs *acts;
} GPT2;

/* One micro-batch on the device. */
typedef struct {
    Tensor tokens, targets; /* (B,T) i32; a target of -1 is ignored. T at most the shape's, B * T at
                             * most its n_tokens * micro_batch */
    int64_t first_sample;   /* global index of row 0; rows are consecutive samples. Keys dropout */
    uint64_t seed;          /* of dropout */
    bool training;          /* dropout acts */
} GptBatch;

/* Host-side tables only (malloc); gpt2_close frees them. `layout` must outlive the model. */
Err gpt2_open(GPT2 *m, const GptDims *dims, const GptShape *shape, const Layout *layout);
void gpt2_close(GPT2 *m);
/* Lay out parameters, gradients, activations, head and scratch. May be called again, on another
 * arena. */
void gpt2_layout(GPT2 *m, Arena *arena);
/* In place of gpt2_layout_vectors: m, which is not for training, looks at the parameters of another
 * model of the same layout, which are there. */
void gpt2_borrow_params(GPT2 *m, const GPT2 *owner);
/* The two parts of it: parameters and gradients; and the rest, of which nothing is alive between a
 * backward, when its loss_total has been looked at, and the next forward. */
void gpt2_layout_vectors(GPT2 *m, Arena *arena);
void gpt2_layout_activations(GPT2 *m, Arena *arena);

/* nanoGPT's initial parameters: N(0, 0.02), c_proj weights N(0, 0.02 / sqrt(2 L)), biases 0,
 * LayerNorm 1 and 0; padded rows 0. A function of (seed, tensor, element) only: the same for
 * every world and device. Values of tensor `index` in float32, count = param_count; for the
 * optimizer's master copy too. */
void gpt2_init_tensor(const GptDims *dims, const Param *p, int32_t index, uint64_t seed,
                      float *values);
/* What else the initial values of a tensor are for: they are float32, whatever m->params holds. */
typedef Err GptInitFn(void *arg, int32_t index, const float *values);
/* Fill m->params so, through a host buffer of the largest tensor. `also` (may be NULL) is shown
 * each tensor before it is rounded; the values are gone when it returns. ERR_SYSTEM. */
Err gpt2_init_params(GPT2 *m, Device *dev, uint64_t seed, GptInitFn *also, void *arg);

/* Embedding, blocks, final LayerNorm. Keeps what backward needs. */
void gpt2_forward(GPT2 *m, Device *dev, const GptBatch *batch);
/* After forward: loss_total += scale * sum of the losses. No gradients. */
void gpt2_loss(GPT2 *m, Device *dev, const GptBatch *batch, double scale);

/* After forward: losses (B*T) of the rows, in float32 in host memory; 0 where the target is -1.
 * Waits. */
Err gpt2_row_losses(GPT2 *m, Device *dev, const GptBatch *batch, float *losses);

/* bucket's gradients are final (all work queued). Called once per bucket in each backward, from the
 * last one down, so wpe's and wte's come last. */
typedef void GradReadyFn(void *arg, int32_t bucket);
/* After forward of the same batch: loss_total += scale * sum of the losses, and m->grads += the
 * gradient of that. scale is 1 / (tokens of the whole step), never a mean of means. ready may be
 * NULL. */
void gpt2_backward(GPT2 *m, Device *dev, const GptBatch *batch, double scale, GradReadyFn *ready,
                   void *arg);

/* After forward: logits (vocab_size) of row (b, t), in float32 in host memory. For sampling.
 * Waits. */
Err gpt2_logits(GPT2 *m, Device *dev, const GptBatch *batch, int64_t b, int64_t t, float *logits);

#ifdef __cplusplus
}
#endif
#endif
