/* Every op of GPT-2, forward and backward: the contracts. Table of contents of the mathematics.
 *
 * ops.c checks shapes and dtypes once (ASSERT: a wrong shape is our bug), then calls the
 * device's table; kernels/cpu/<op>.c and kernels/cuda/<op>.cu hold the twins. Nothing here
 * knows layers or ranks.
 *
 * Dimensions: B sequences, T tokens each, N = B*T rows, C channels, H heads, V vocabulary, Vp
 * padded V. "compute dtype" is the dtype of parameters and activations (float32 on the CPU).
 * Sums, means, softmax, losses, norms and parameter gradients are float32 or wider whatever the
 * compute dtype.
 *
 * "=" overwrites, "+=" adds. Parameter gradients are +=, activation gradients =, the residual
 * stream +=. Optional arguments may be tensor_none(). Reductions have a fixed order: same
 * inputs, same bits. None of these is collective. */
#ifndef GPT_KERNELS_OPS_H
#define GPT_KERNELS_OPS_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { GELU_TANH, GELU_ERF } GeluKind;

/* ---- scratch ----------------------------------------------------------------------------- */

/* The largest shapes a run will use; what op-internal scratch depends on. */
typedef struct {
    int64_t n_rows;     /* B*T */
    int64_t block_size; /* T */
    int64_t n_embd;     /* C */
    int32_t n_head;
    int64_t vocab_padded;
} OpLimits;

/* Bytes of Device.workspace that ops need within these limits. Arithmetic: no device needed. */
size_t ops_workspace_bytes(DeviceKind kind, int32_t n_threads, const OpLimits *limits);

/* The most channels a head of attention may have on such a device. */
int64_t ops_max_head_size(DeviceKind kind);

/* ---- dropout ----------------------------------------------------------------------------- */

/* A mask that is a function of (seed, global sample, site, element), so that it can be
 * recomputed and does not depend on the micro-batch, the rank or the number of ranks. Element e
 * of sample s at a site is kept, and scaled by 1 / (1 - rate), when
 *
 *     rng_unit(rng_block(seed, RNG_DROPOUT, s << 16 | site, e / 4).word[e % 4]) >= rate
 *
 * Row r of an (N, C) tensor belongs to sample first_sample + r / tokens_per_sample. */
typedef struct {
    float rate; /* 0: no dropout, everything else ignored */
    uint64_t seed;
    uint32_t site; /* < 65536; layer * 4 + place */
    int64_t first_sample, tokens_per_sample;
} Dropout;

/* y (N,C) = x masked and scaled; y may be x. With rate 0 it copies (nothing when y is x). Its
 * own backward: call it on the gradient. e = (row within the sample) * C + column. */
void op_dropout(Device *dev, Tensor y, Tensor x, Dropout dropout);

/* ---- embedding --------------------------------------------------------------------------- */

/* x (N,C) = wte[token] + wpe[position]; tokens (B,T) i32, wte (Vp,C), wpe (>= T, C). GPT-2
 * section 2. */
void op_embedding_forward(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe);

/* dwte (Vp,C) f32 +=, dwpe f32 += from dx (N,C). Rows with the same token are added in order. */
void op_embedding_backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens);

/* ---- LayerNorm (Ba, Kiros, Hinton 2016; eps 1e-5) ---------------------------------------- */

/* y (N,C) = (x - mean) * rstd * w + b; mean, rstd (N) f32 are saved. b is optional. */
void op_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                          Tensor b);

/* sum (N,C) = x + delta, then y = LayerNorm(sum) as above. sum may be x. */
void op_residual_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                   Tensor x, Tensor delta, Tensor w, Tensor b);

typedef struct {
    Tensor dx;         /* (N,C) += : the residual stream's gradient */
    Tensor dw, db;     /* (C) f32 += ; db optional */
    Tensor y;          /* (N,C) = the forward output again, bit for bit; optional */
    Tensor dy, x;      /* (N,C) */
    Tensor w, b;       /* (C); b optional */
    Tensor mean, rstd; /* (N) f32 from forward */
} LayernormBackward;
void op_layernorm_backward(Device *dev, const LayernormBackward *args);

/* ---- linear: y = x W + b, W stored (in, out) as Hugging Face's Conv1D -------------------- */

/* y (N,O) = x (N,I) w (I,O) + b (O); b optional. */
void op_linear_forward(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b);
/* dx (N,I) = dy (N,O) w^T. */
void op_linear_backward_data(Device *dev, Tensor dx, Tensor dy, Tensor w);
/* dw (I,O) f32 += x^T dy; db (O) f32 += column sums of dy; db optional. */
void op_linear_backward_weight(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy);

/* ---- GELU -------------------------------------------------------------------------------- */

/* y = gelu(x), any shape. tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as OpenAI's;
 * erf: exact, as nanoGPT's. Hendrycks and Gimpel 2016. */
void op_gelu_forward(Device *dev, Tensor y, Tensor x, GeluKind kind);
/* dx = dy * gelu'(x); dx may be dy. y = gelu(x) again, bit for bit as forward gave it; optional,
 * may be x. */
void op_gelu_backward(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind);

/* ---- causal self-attention (Vaswani et al. 2017; blocks as in Dao et al. 2022) ----------- */

/* out (N,C) = softmax(q k^T / sqrt(C/H), causal) v for each head, with qkv (N,3C) = [q|k|v],
 * heads contiguous inside each third. lse (B,H,T) f32 = log-sum-exp of the scaled scores, for
 * backward. Never holds (T,T) for a batch: blocks of rows per head, in the workspace.
 * Dropout acts on the probabilities, after the softmax, element e = (h*T + i)*T + j. B and T
 * come from lse's shape. */
void op_attention_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout);

typedef struct {
    Tensor dqkv;     /* (N,3C) = */
    Tensor delta;    /* (B,H,T) f32 scratch: row sums of dout * out */
    Tensor dout;     /* (N,C) */
    Tensor out, lse; /* from forward */
    Tensor qkv;      /* (N,3C) */
    Dropout dropout; /* as in forward */
} AttentionBackward;
void op_attention_backward(Device *dev, const AttentionBackward *args);

/* ---- attention over kept keys: a text that grows by a few tokens ------------------------- */

/* The keys and values of one layer and one sequence: row t is token t's. */
typedef struct {
    Tensor k, v; /* (most tokens, C) */
} KvCache;

/* Rows [first, first + n) of the cache = keys and values in qkv (n,3C). */
void op_cache_append(Device *dev, KvCache cache, Tensor qkv, int64_t first);

/* out (n,C) = softmax(q k^T / sqrt(C/H), causal) v for each of H heads, with q in qkv (n,3C), whose
 * keys and values are not looked at: its row i is token first + i and sees rows 0 .. first + i of
 * the cache. The result is op_attention_forward's but for rounding; each pair of query and key is
 * computed by itself, so it is meant for few queries. */
void op_attention_cached(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                         int32_t n_head);

/* ---- LM head and loss, on a chunk of n rows ---------------------------------------------- */

/* logits (n,Vp) = x (n,C) wte (Vp,C)^T. */
void op_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte);
/* dx (n,C) = dlogits (n,Vp) wte; dwte (Vp,C) f32 += dlogits^T x. dx may be x: dwte is formed
 * first. */
void op_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte);

/* losses (n) f32 = -log softmax(logits[:V])[target]; a row with target -1 gives 0. Columns
 * V..Vp-1 take no part. logits unchanged. */
void op_cross_entropy_forward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                              int64_t vocab_size);
/* The same, and logits are overwritten by dloss * (softmax - onehot): 0 for padded columns and
 * for rows with target -1. One read and one write of the logits. */
void op_cross_entropy_forward_backward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                       int64_t vocab_size, float dloss);

/* ---- sums and updates -------------------------------------------------------------------- */

/* total (1) f64 += scale * sum of x (f32), in a fixed order. */
void op_add_sum(Device *dev, Tensor total, Tensor x, double scale);
/* total (1) f64 += sum of squares of x (f32), in a fixed order. A NaN or infinity makes total not
 * finite. */
void op_add_sum_squares(Device *dev, Tensor total, Tensor x);
/* dst = src in dst's dtype, rounding to nearest even; same count. */
void op_convert(Device *dev, Tensor dst, Tensor src);
/* dst f32 += src (f32, bf16 or f16), element by element; same count, the two do not overlap. */
void op_add(Device *dev, Tensor dst, Tensor src);
/* sum (8) u8 = a number of 64 bits, as the host stores one, made of all bits of x (any dtype; a
 * whole number of words of 8 bytes; both at multiples of 8 bytes): the sum over words w[i] of
 * mix(w[i] + i * K), mod 2^64, with a mix that can be undone. So any change within one word changes
 * it for certain, and others all but 2^-64 of them. The same on all devices. */
void op_checksum(Device *dev, Tensor sum, Tensor x);

/* AdamW with decoupled decay (Loshchilov and Hutter 2019), torch's order of operations. All (n). */
typedef struct {
    Tensor param; /* compute dtype, = rounded master: bf16 as by f32_split, f16 to nearest even */
    /* f32, updated; or u16, updated: the low halves of the masters whose high halves are the bf16
     * param; tensor_none() when param is f32 and is its own master. The same results each way. */
    Tensor master;
    Tensor m, v;                                /* f32, updated: exp_avg, exp_avg_sq */
    Tensor grad;                                /* f32 */
    double grad_scale;                          /* multiplies grad: the clipping factor */
    double lr, beta1, beta2, eps, weight_decay; /* double, as in torch: 1 - beta2 is exact enough */
    int64_t step; /* 1 for the first update: bias corrections 1 - beta^step */
} AdamwArgs;
void op_adamw(Device *dev, const AdamwArgs *args);

#ifdef __cplusplus
}
#endif
#endif
