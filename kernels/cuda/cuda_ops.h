/* The CUDA backend's ops, in float32, bfloat16 and float16. The contracts are in kernels/ops.h; the
 * arguments are the same, already checked. One file per op, the twin of kernels/cpu/<op>.c;
 * cuda_device.c puts them into the table. An entry point queues kernels on the device's stream and
 * calls cuda_launched; nothing waits. Scratch is dev->workspace from its start (scratch.h). */
#ifndef GPT_KERNELS_CUDA_OPS_H
#define GPT_KERNELS_CUDA_OPS_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* embedding.cu */
void cuda_embedding_forward(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe);
void cuda_embedding_backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens);

/* layernorm.cu */
void cuda_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                            Tensor b);
void cuda_residual_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                     Tensor x, Tensor delta, Tensor w, Tensor b);
void cuda_layernorm_backward(Device *dev, const LayernormBackward *args);

/* dropout.cu */
void cuda_dropout(Device *dev, Tensor y, Tensor x, Dropout dropout);

/* linear.c, column_sums.cu */
void cuda_linear_forward(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b);
void cuda_linear_backward_data(Device *dev, Tensor dx, Tensor dy, Tensor w);
void cuda_linear_backward_weight(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy);

/* gelu.cu */
void cuda_gelu_forward(Device *dev, Tensor y, Tensor x, GeluKind kind);
void cuda_gelu_backward(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind);

/* attention.c: chooses tensor cores (attention_*_sm80.cu) or plain arithmetic (attention_simt.cu) */
void cuda_attention_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout);
void cuda_attention_backward(Device *dev, const AttentionBackward *args);

/* attention_cached.cu */
void cuda_cache_append(Device *dev, KvCache cache, Tensor qkv, int64_t first);
void cuda_attention_cached(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                           int32_t n_head);

/* head.c */
void cuda_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte);
void cuda_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte);

/* cross_entropy.cu */
void cuda_cross_entropy_forward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                int64_t vocab_size);
void cuda_cross_entropy_forward_backward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                         int64_t vocab_size, float dloss);

/* reduce.cu */
void cuda_add_sum(Device *dev, Tensor total, Tensor x, double scale);
void cuda_add_sum_squares(Device *dev, Tensor total, Tensor x);

/* convert.cu: f64, f32, bf16 and f16 (a checkpoint's dtypes) in any combination */
void cuda_convert(Device *dev, Tensor dst, Tensor src);

/* add.cu */
void cuda_add(Device *dev, Tensor dst, Tensor src);

/* checksum.cu */
void cuda_checksum(Device *dev, Tensor sum, Tensor x);

/* adamw.cu */
void cuda_adamw(Device *dev, const AdamwArgs *args);

/* column_sums.cu: db (O) f32 += column sums of dy (N,O) */
void cuda_add_column_sums(Device *dev, Tensor db, Tensor dy);

#ifdef __cplusplus
}
#endif
#endif
