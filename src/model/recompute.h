/* Recompute levels: what a block keeps from forward for backward. What it does not keep is computed
 * again by the same ops on the same inputs, so gradients are the same bits under every mix.
 *
 * N = B*T rows of C channels, T tokens in a sequence; costs are per token and block:
 *
 *     level      kept, in buffers of (N,C)         computed again          FLOP
 *     none       16: every op's output             nothing                 0
 *     gelu_ln    10: without ln_1, ln_2, gelu      these (elementwise)     0
 *     ffn         6: without fc                    fc too                  8 C^2
 *     qkv         3: without qkv                   qkv too                 14 C^2
 *     block       1: the block's input             all but fc_proj         16 C^2 + 2 T C
 *
 * Every level but gelu_ln needs one block's worth of what it drops as scratch. The idea: Chen et
 * al. 2016, "Training Deep Nets with Sublinear Memory Cost"; per kind of activation: Korthikanti et
 * al. 2022, "Reducing Activation Recomputation in Large Transformer Models". */
#ifndef GPT_MODEL_RECOMPUTE_H
#define GPT_MODEL_RECOMPUTE_H

#include "model/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Each also drops what those before it drop. */
typedef enum {
    RECOMPUTE_NONE,
    RECOMPUTE_GELU_LN,
    RECOMPUTE_FFN,
    RECOMPUTE_QKV,
    RECOMPUTE_BLOCK,
    N_RECOMPUTES
} Recompute;

/* How many blocks are at each level; the sum is n_layer. Those that keep more come first: all that
 * is kept lives at the end of forward at once, so which block keeps it makes no difference. */
typedef struct {
    int32_t n_at[N_RECOMPUTES];
} RecomputeMix;

/* As the setting spells it: "none", "gelu_ln", ... */
const char *recompute_name(Recompute recompute);

/* All blocks at one level. */
RecomputeMix recompute_all(Recompute recompute, int32_t n_layer);
int32_t recompute_n_layers(const RecomputeMix *mix);
/* The level of block `layer`, 0 <= layer < n_layer. */
Recompute recompute_at(const RecomputeMix *mix, int32_t layer);
/* How many blocks keep what level `drops` and those above it do not: blocks 0 ... n - 1. */
int32_t recompute_n_below(const RecomputeMix *mix, Recompute drops);

/* FLOP per token of what backward computes again. The last block's activations are still there when
 * backward begins, so it is not among them. */
double recompute_flop_per_token(const RecomputeMix *mix, const GptDims *dims);

typedef struct {
    char text[96];
} RecomputeText;
/* "gelu_ln"; "gelu_ln x 3, ffn x 9". */
RecomputeText recompute_text(const RecomputeMix *mix);

#ifdef __cplusplus
}
#endif
#endif
