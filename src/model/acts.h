/* GptActs: what forward keeps for backward, and the scratch of both. Private to src/model.
 *
 * The residual stream takes 2 L + 1 values: value 2 l enters the attention of block l, value
 * 2 l + 1 its MLP, and value 2 L is what the head sees. Each is normalised: by ln_1, ln_2, and
 * ln_f. So "norm i" is LayerNorm number i together with its input, i = 0 ... 2 L.
 *
 * There is one region per kind of activation with a slice per layer (one slice in all when not
 * training). A micro-batch smaller than the shape uses the first rows of each slice. Buffers
 * serve twice where lives do not overlap; every such reuse is written here:
 *
 *     branch        (N,C)   forward: a sublayer's output before it is added
 *                           backward: the gradient of the residual stream
 *     norm_shared   (N,C)   forward: LayerNorm outputs that are not kept; last, ln_f's
 *                           backward: its gradient, in place; then those outputs again, and
 *                           masked gradients (dropout)
 *     wide          (N,4C)  forward: gelu's output when it is not kept
 *                           backward: dgelu, dfc, then dqkv
 *     logits                lies over wide: the head and a block are never at work together
 *     residual 2 L  (N,C)   after ln_f's backward: gradients of a sublayer's (N,C) inputs
 *     fc            (N,4C)  backward under RECOMPUTE_GELU_LN: gelu's output again
 *
 * With RECOMPUTE_GELU_LN that is 10 L + 7 buffers of (N,C) beside statistics and logits. */
#ifndef GPT_MODEL_ACTS_H
#define GPT_MODEL_ACTS_H

#include "model/gpt2.h"

#ifdef __cplusplus
extern "C" {
#endif

struct GptActs {
    Tensor residual;     /* (2L+1 slices of N, C) */
    Tensor norm;         /* (2L slices of N, C): RECOMPUTE_NONE only */
    Tensor mean, rstd;   /* (2L+1 slices of N) f32 */
    Tensor qkv, att, fc; /* (L slices of N, 3C / C / 4C) */
    Tensor gelu;         /* (L slices of N, 4C): RECOMPUTE_NONE only */
    Tensor lse;          /* (L slices of B*H*T) f32 */
    Tensor branch, norm_shared, wide;
    Tensor delta;      /* (B*H*T) f32: attention's backward */
    Tensor logits;     /* (head_chunk, Vp) */
    Tensor logits_row; /* (Vp) f32: one row for sampling */
    Tensor losses;     /* (N) f32 */
};

/* A micro-batch's views. N = B*T of the batch, not of the shape. */
typedef struct {
    Tensor x, y, mean, rstd; /* y (N,C) = LayerNorm(x), statistics (N) f32 */
    bool kept;               /* y survives until backward */
    Tensor w, b, dw, db;     /* (C); gradients are none when not training */
} NormActs;

typedef struct {
    Tensor qkv, att, lse, fc, gelu; /* lse (B,H,T) */
    bool gelu_kept;
} BlockActs;

/* Rows of a micro-batch: B*T. */
int64_t batch_rows(const GptBatch *batch);
/* Norm i of the model, 0 <= i <= 2 L. */
NormActs acts_norm(const GPT2 *m, const GptBatch *batch, int32_t i);
BlockActs acts_block(const GPT2 *m, const GptBatch *batch, int32_t layer);
/* The first rows of a scratch buffer as (N, cols). */
Tensor acts_scratch(Tensor buffer, const GptBatch *batch, int64_t cols);

/* nanoGPT's four places of dropout. The embedding uses a number no block uses. */
typedef enum { DROP_ATTENTION, DROP_ATTN_PROJ, DROP_FC_PROJ, DROP_EMBEDDING } DropPlace;

/* layer is 0 for the embedding. The rate is 0 when the batch is not for training. */
Dropout acts_dropout(const GPT2 *m, const GptBatch *batch, int32_t layer, DropPlace place);

#ifdef __cplusplus
}
#endif
#endif
