#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"

void cpu_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    GemmIn a = {x.data, C, false}, b = {wte.data, C, true};
    dev->err = cpu_gemm(n, Vp, C, a, b, 0, logits.data, Vp);
}

void cpu_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    GemmIn columns = {dlogits.data, Vp, true}, rows = {dlogits.data, Vp, false};
    GemmIn input = {x.data, C, false}, embedding = {wte.data, C, false};
    dev->err = cpu_gemm(Vp, C, n, columns, input, 1, dwte.data, C); /* first: dx may be x */
    if (!dev->err)
        dev->err = cpu_gemm(n, C, Vp, rows, embedding, 0, dx.data, C);
}
