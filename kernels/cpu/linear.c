#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/outer_sum.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/product.h"

#include "base/check.h"

void cpu_linear_forward(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    int64_t N = x.dim[0], I = x.dim[1], O = w.dim[1];
    cpu_product(dev, &(Product){.m = N,
                                .n = O,
                                .k = I,
                                .a = {x.data, I, false},
                                .b = {w.data, O, false},
                                .bias = tensor_present(b) ? b.data : NULL,
                                .c = y.data,
                                .ldc = O});
}

void cpu_linear_backward_data(Device *dev, Tensor dx, Tensor dy, Tensor w)
{
    int64_t N = dy.dim[0], I = w.dim[0], O = w.dim[1];
    cpu_product(dev, &(Product){.m = N,
                                .n = I,
                                .k = O,
                                .a = {dy.data, O, false},
                                .b = {w.data, O, true},
                                .c = dx.data,
                                .ldc = I});
}

/* Rows are added in blocks, so that the error of a sum grows with the number of blocks, not of
 * rows. */
enum { SUM_COLUMNS = 512, SUM_ROWS = 256 };

/* sums[0..n) += the columns [0, n) of rows rows of dy, n <= SUM_COLUMNS. */
static void add_block(float *sums, const float *dy, int64_t ld, int64_t rows, int64_t n)
{
    float block[SUM_COLUMNS] = {0};
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            block[j] += dy[r * ld + j];
    }
    for (int64_t j = 0; j < n; j++)
        sums[j] += block[j];
}

/* db (O) += column sums of dy (N,O), each column by one thread from top to bottom. */
static void add_column_sums(const Device *dev, float *db, const float *dy, int64_t N, int64_t O)
{
#pragma omp parallel for schedule(static) num_threads(dev->n_threads)
    for (int32_t part = 0; part < dev->n_threads; part++) {
        Span span = cpu_span(O, dev->n_threads, part, 16);
        for (int64_t r = 0; r < N; r += SUM_ROWS)
            for (int64_t c = span.begin; c < span.end; c += SUM_COLUMNS) {
                int64_t rows = N - r < SUM_ROWS ? N - r : SUM_ROWS, left = span.end - c;
                add_block(db + c, dy + r * O + c, O, rows, left < SUM_COLUMNS ? left : SUM_COLUMNS);
            }
    }
}

/* dw (I,O) += x^T dy, in the library's place: what it is slowest at. */
static void add_outer_sum(Device *dev, Tensor dw, Tensor x, Tensor dy)
{
    size_t wanted = cpu_outer_sum_scratch_bytes(dev->n_threads);
    ASSERT(tensor_bytes(dev->workspace) >= wanted,
           "weight gradients want %zu bytes of workspace, have %zu", wanted,
           tensor_bytes(dev->workspace));
    cpu_outer_sum(dev->n_threads, dev->workspace.data, dw.data, x.data, dy.data, x.dim[0], x.dim[1],
                  dy.dim[1]);
}

void cpu_linear_backward_weight(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy)
{
    int64_t N = x.dim[0], I = x.dim[1], O = dy.dim[1];
    if (tensor_present(db))
        add_column_sums(dev, db.data, dy.data, N, O);
    Product product = {.m = I,
                       .n = O,
                       .k = N,
                       .a = {x.data, I, true},
                       .b = {dy.data, O, false},
                       .add = true,
                       .c = dw.data,
                       .ldc = O};
    if (cpu_product_on_amx(dev, &product))
        cpu_product(dev, &product);
    else
        add_outer_sum(dev, dw, x, dy);
}
