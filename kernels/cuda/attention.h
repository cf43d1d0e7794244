/* The two ways to compute attention on a GPU, chosen by attention.c: tensor cores where the dtype,
 * the head size and the card allow it, else plain arithmetic. Both are deterministic, without
 * atomics, and agree to rounding; dropout masks are the same bit for bit. */
#ifndef GPT_KERNELS_CUDA_ATTENTION_H
#define GPT_KERNELS_CUDA_ATTENTION_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* attention_forward_sm80.cu, attention_backward_sm80.cu: bfloat16 and float16, head sizes 32, 64,
 * 80, 96, 128; 16-byte aligned rows; compute capability 8.0 and newer. */
bool cuda_attention_mma_supports(DType dtype, int64_t head_size);
void cuda_attention_forward_mma(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout);
void cuda_attention_backward_mma(Device *dev, const AttentionBackward *args);

enum { CUDA_MAX_HEAD_SIZE = 256 };

/* attention_simt.cu: any dtype, head sizes up to CUDA_MAX_HEAD_SIZE, any card. */
void cuda_attention_forward_simt(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout);
void cuda_attention_backward_simt(Device *dev, const AttentionBackward *args);

#ifdef __cplusplus
}
#endif
#endif
