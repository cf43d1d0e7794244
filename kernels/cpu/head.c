#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/product.h"

void cpu_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    cpu_product(dev, &(Product){.m = n,
                                .n = Vp,
                                .k = C,
                                .a = {x.data, C, false},
                                .b = {wte.data, C, true},
                                .c = logits.data,
                                .ldc = Vp});
}

void cpu_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    Product weight = {.m = Vp,
                      .n = C,
                      .k = n,
                      .a = {dlogits.data, Vp, true},
                      .b = {x.data, C, false},
                      .add = true,
                      .c = dwte.data,
                      .ldc = C};
    Product data = {.m = n,
                    .n = C,
                    .k = Vp,
                    .a = {dlogits.data, Vp, false},
                    .b = {wte.data, C, false},
                    .c = dx.data,
                    .ldc = C};
    cpu_product(dev, &weight); /* first: dx may be x */
    if (!dev->err)
        cpu_product(dev, &data);
}
