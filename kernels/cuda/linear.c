#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm.h"

void cuda_linear_forward(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    int64_t N = x.dim[0], I = x.dim[1], O = w.dim[1];
    CudaGemmIn input = {x.data, x.dtype, I, false}, weight = {w.data, w.dtype, O, false};
    cuda_gemm(dev, N, O, I, input, weight, 0, (CudaGemmOut){y.data, y.dtype, O}, b.data);
}

void cuda_linear_backward_data(Device *dev, Tensor dx, Tensor dy, Tensor w)
{
    int64_t N = dy.dim[0], I = w.dim[0], O = w.dim[1];
    CudaGemmIn gradient = {dy.data, dy.dtype, O, false}, weight = {w.data, w.dtype, O, true};
    cuda_gemm(dev, N, I, O, gradient, weight, 0, (CudaGemmOut){dx.data, dx.dtype, I}, NULL);
}

void cuda_linear_backward_weight(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy)
{
    int64_t N = x.dim[0], I = x.dim[1], O = dy.dim[1];
    if (tensor_present(db))
        cuda_add_column_sums(dev, db, dy);
    CudaGemmIn input = {x.data, x.dtype, I, true}, gradient = {dy.data, dy.dtype, O, false};
    cuda_gemm(dev, I, O, N, input, gradient, 1, (CudaGemmOut){dw.data, dw.dtype, O}, NULL);
}
