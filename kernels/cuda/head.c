#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm.h"

void cuda_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    CudaGemmIn input = {x.data, x.dtype, C, false}, embedding = {wte.data, wte.dtype, C, true};
    cuda_gemm(dev, n, Vp, C, input, embedding, 0, (CudaGemmOut){logits.data, logits.dtype, Vp},
              NULL);
}

void cuda_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    CudaGemmIn columns = {dlogits.data, dlogits.dtype, Vp, true};
    CudaGemmIn rows = {dlogits.data, dlogits.dtype, Vp, false};
    CudaGemmIn input = {x.data, x.dtype, C, false}, embedding = {wte.data, wte.dtype, C, false};
    /* dwte first: dx may be x */
    cuda_gemm(dev, Vp, C, n, columns, input, 1, (CudaGemmOut){dwte.data, dwte.dtype, C}, NULL);
    cuda_gemm(dev, n, C, Vp, rows, embedding, 0, (CudaGemmOut){dx.data, dx.dtype, C}, NULL);
}
