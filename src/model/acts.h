/* GptActs: what forward keeps for backward, and the scratch of both. Private to src/model.
 *
 * The residual stream takes 2 L + 1 values: value 2 l is the input of block l and enters its
 * attention, value 2 l + 1 (its middle) enters its MLP, and value 2 L is what the head sees. Each
 * is normalised: by ln_1, ln_2, and ln_f. So "norm i" is LayerNorm number i together with its
 * input, i = 0 ... 2 L.
 *
 * There is one region per kind of activation with a slice for each block that keeps it (by its
 * recompute level, recompute.h) and one more that the other blocks share: forward overwrites it
 * block by block, backward fills it again. A micro-batch smaller than the shape uses the first rows
 * of each slice. Buffers serve twice where lives do not overlap; every such reuse is written here:
 *
 *     branch        (N,C)   forward: a sublayer's output before it is added
 *                           backward: the gradient of the residual stream
 *     norm_shared   (N,C)   forward: LayerNorm outputs that are not kept; last, ln_f's
 *                           backward: its gradient, in place; then those outputs again, and
 *                           masked gradients (dropout)
 *     wide          (N,4C)  forward: gelu's output when it is not kept
 *                           backward: the attention's output again, before it is added; dgelu,
 *                           dfc, then dqkv
 *     logits                lies over wide: the head and a block are never at work together
 *     residual 2 L  (N,C)   after ln_f's backward: gradients of a sublayer's (N,C) inputs
 *     fc            (N,4C)  backward unless gelu is kept: gelu's output again
 *
 * In buffers of (N,C), beside statistics and logits: 10 L + 7 with every block at gelu_ln, 6 L + 11
 * at ffn, 3 L + 14 at qkv, L + 16 at block. */
#ifndef GPT_MODEL_ACTS_H
#define GPT_MODEL_ACTS_H

#include "model/gpt2.h"

#ifdef __cplusplus
extern "C" {
#endif

struct GptActs {
    Tensor residual;     /* (L+1 slices of N, C): values 0, 2, ... 2 L */
    Tensor middle;       /* (slices of N, C): values 1, 3, ... */
    Tensor norm;         /* (2 slices of N, C for each block that keeps them) */
    Tensor mean, rstd;   /* (2 slices of N for each block, and ln_f's) f32 */
    Tensor qkv, att, fc; /* (slices of N, 3C / C / 4C) */
    Tensor gelu;         /* (slices of N, 4C) of the blocks that keep it */
    Tensor lse;          /* (slices of B*H*T) f32 */
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

/* The forward pass in parts that backward may need again, or a decoder, forward.c. Each makes what
 * it is named for out of what is there; `out` (N,C) is scratch. */
/* tokens, the first of each sequence at position `first` -> the first block's input and ln_1's y */
void embed_tokens(GPT2 *m, Device *dev, const GptBatch *batch, int64_t first);
void block_qkv(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer); /* ln_1's y -> qkv */
void block_attention(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer); /* qkv -> att */
/* att -> the block's middle and ln_2's y */
void block_join(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer, Tensor out);
/* The two before. */
void block_middle(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer, Tensor out);
void block_fc(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer); /* ln_2's y -> fc */
/* fc -> the next block's input and its ln_1's y, or ln_f's */
void block_end(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer, Tensor out);

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
