/* Which of the two implementations of attention computes what. Forward and backward decide alike,
 * from dtype, head size, card and addresses. */
#include "kernels/cuda/attention.h"

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_ops.h"

enum { MMA_CAPABILITY = 80, MMA_ALIGNMENT = 16 };

/* The head size, or 0 and a sticky error when no kernel takes it. */
static int64_t checked_head_size(Device *dev, Tensor out, Tensor lse)
{
    int64_t head_size = out.dim[1] / lse.dim[1];
    if (head_size <= CUDA_MAX_HEAD_SIZE)
        return head_size;
    dev->err = ERR_NEW(ERR_SYSTEM,
                       "attention: a head has %lld channels, the GPU's kernels take at most %d",
                       (long long)head_size, CUDA_MAX_HEAD_SIZE);
    return 0;
}

static bool aligned(Tensor t)
{
    return (uintptr_t)t.data % MMA_ALIGNMENT == 0;
}

static bool mma_takes(const Device *dev, DType dtype, int64_t head_size)
{
    return cuda_device(dev)->compute_capability >= MMA_CAPABILITY &&
           cuda_attention_mma_supports(dtype, head_size);
}

void cuda_attention_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    int64_t head_size = checked_head_size(dev, out, lse);
    if (head_size == 0)
        return;
    if (mma_takes(dev, qkv.dtype, head_size) && aligned(out) && aligned(qkv))
        cuda_attention_forward_mma(dev, out, lse, qkv, dropout);
    else
        cuda_attention_forward_simt(dev, out, lse, qkv, dropout);
}

void cuda_attention_backward(Device *dev, const AttentionBackward *args)
{
    int64_t head_size = checked_head_size(dev, args->out, args->lse);
    if (head_size == 0)
        return;
    if (mma_takes(dev, args->qkv.dtype, head_size) && aligned(args->dqkv) && aligned(args->dout) &&
        aligned(args->out) && aligned(args->qkv))
        cuda_attention_backward_mma(dev, args);
    else
        cuda_attention_backward_simt(dev, args);
}
