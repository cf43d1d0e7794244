/* The CPU backend's ops, float32. The contracts are in kernels/ops.h; the arguments are the same,
 * already checked. One file per op; cpu_device.c puts them into the table.
 *
 * Each op opens its own parallel region with num_threads(dev->n_threads). Results do not depend on
 * the number of threads: work is divided by elements, or into a fixed number of chunks
 * (parallel.h). Nothing allocates: scratch is dev->workspace, which each op may use as it likes,
 * from the start. The cpu_<op>_scratch_bytes functions say how much; cpu_workspace_bytes is the
 * largest of them. */
#ifndef GPT_KERNELS_CPU_OPS_H
#define GPT_KERNELS_CPU_OPS_H

#include "kernels/ops.h"

/* cpu_device.c: ops_workspace_bytes for the CPU */
size_t cpu_workspace_bytes(int32_t n_threads, const OpLimits *limits);

/* embedding.c */
void cpu_embedding_forward(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe);
void cpu_embedding_backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens);

/* layernorm.c */
void cpu_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                           Tensor b);
void cpu_residual_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                    Tensor x, Tensor delta, Tensor w, Tensor b);
void cpu_layernorm_backward(Device *dev, const LayernormBackward *args);
size_t cpu_layernorm_scratch_bytes(const OpLimits *limits);

/* dropout.c */
void cpu_dropout(Device *dev, Tensor y, Tensor x, Dropout dropout);

/* linear.c */
void cpu_linear_forward(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b);
void cpu_linear_backward_data(Device *dev, Tensor dx, Tensor dy, Tensor w);
void cpu_linear_backward_weight(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy);

/* gelu.c */
void cpu_gelu_forward(Device *dev, Tensor y, Tensor x, GeluKind kind);
void cpu_gelu_backward(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind);

/* attention.c */
void cpu_attention_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout);
void cpu_attention_backward(Device *dev, const AttentionBackward *args);
size_t cpu_attention_scratch_bytes(int32_t n_threads, const OpLimits *limits);

/* attention_cached.c */
void cpu_cache_append(Device *dev, KvCache cache, Tensor qkv, int64_t first);
void cpu_attention_cached(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                          int32_t n_head);
size_t cpu_attention_cached_scratch_bytes(int32_t n_threads, const OpLimits *limits);

/* head.c */
void cpu_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte);
void cpu_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte);

/* cross_entropy.c */
void cpu_cross_entropy_forward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                               int64_t vocab_size);
void cpu_cross_entropy_forward_backward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                        int64_t vocab_size, float dloss);

/* reduce.c */
void cpu_add_sum(Device *dev, Tensor total, Tensor x, double scale);
void cpu_add_sum_squares(Device *dev, Tensor total, Tensor x);

/* convert.c: f64, f32, bf16 and f16 (a checkpoint's dtypes) in any combination */
void cpu_convert(Device *dev, Tensor dst, Tensor src);

/* add.c */
void cpu_add(Device *dev, Tensor dst, Tensor src);

/* checksum.c */
void cpu_checksum(Device *dev, Tensor sum, Tensor x);

/* adamw.c */
void cpu_adamw(Device *dev, const AdamwArgs *args);

#endif
