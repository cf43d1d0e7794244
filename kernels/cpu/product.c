#include "kernels/cpu/product.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/row_product.h"

#include "base/check.h"

#include <string.h>

/* Every row of c (m,n) = bias. */
static void fill_rows(const Device *dev, const Product *p)
{
#pragma omp parallel for schedule(static) num_threads(dev->n_threads)
    for (int64_t r = 0; r < p->m; r++)
        memcpy(p->c + r * p->ldc, p->bias, (size_t)p->n * sizeof(float));
}

/* Tiles that are not full, and packing, cost more than AMX wins where a side is short. */
enum { SHORTEST = 128 };

bool cpu_product_on_amx(const Device *dev, const Product *p)
{
    return dev->amx && p->m >= SHORTEST && p->n >= SHORTEST && p->k >= SHORTEST;
}

void cpu_product(Device *dev, const Product *p)
{
    if (p->m == 1 && !p->add && !p->a.transposed) {
        cpu_row_product(dev->n_threads, p);
        return;
    }
    if (cpu_product_on_amx(dev, p)) {
        size_t wanted = amx_scratch_bytes(dev->n_threads), have = tensor_bytes(dev->workspace);
        ASSERT(have >= wanted, "a product wants %zu bytes of workspace, has %zu", wanted, have);
        amx_product(dev->n_threads, dev->workspace.data, p);
        return;
    }
    if (p->bias)
        fill_rows(dev, p);
    float beta = p->add || p->bias ? 1 : 0;
    dev->err = cpu_gemm(p->m, p->n, p->k, p->a, p->b, beta, p->c, p->ldc);
}
