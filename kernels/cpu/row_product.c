#include "kernels/cpu/row_product.h"
#include "kernels/cpu/parallel.h"

#include <string.h>

/* Columns whose sums stay in the nearest cache while their rows pass by. */
enum { BLOCK_COLUMNS = 2048, ROWS_AT_ONCE = 4 };

/* c[0..n) += the sum over ROWS_AT_ONCE rows, ld apart, of x[r] row[r]. */
static void add_rows(float *restrict c, const float *x, const float *row, int64_t ld, int64_t n)
{
    const float *row1 = row + ld, *row2 = row1 + ld, *row3 = row2 + ld;
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        c[j] += x[0] * row[j] + x[1] * row1[j] + x[2] * row2[j] + x[3] * row3[j];
}

static void add_row(float *restrict c, float x, const float *row, int64_t n)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        c[j] += x * row[j];
}

/* Columns [columns.begin, columns.end) of c, with b stored as (k,n): row after row is added. */
static void combine_rows(const Product *p, Span columns)
{
    for (int64_t begin = columns.begin; begin < columns.end; begin += BLOCK_COLUMNS) {
        int64_t left = columns.end - begin, n = left < BLOCK_COLUMNS ? left : BLOCK_COLUMNS, i = 0;
        float *c = p->c + begin;
        if (p->bias)
            memcpy(c, p->bias + begin, (size_t)n * sizeof *c);
        else
            memset(c, 0, (size_t)n * sizeof *c);
        for (; i + ROWS_AT_ONCE <= p->k; i += ROWS_AT_ONCE)
            add_rows(c, p->a.data + i, p->b.data + i * p->b.ld + begin, p->b.ld, n);
        for (; i < p->k; i++)
            add_row(c, p->a.data[i], p->b.data + i * p->b.ld + begin, n);
    }
}

/* The same with b stored as (n,k): each of c is the inner product of a and a row. */
static void multiply_rows(const Product *p, Span columns)
{
    for (int64_t j = columns.begin; j < columns.end; j++) {
        const float *row = p->b.data + j * p->b.ld;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < p->k; i++)
            sum += p->a.data[i] * row[i];
        p->c[j] = p->bias ? sum + p->bias[j] : sum;
    }
}

void cpu_row_product(int32_t n_threads, const Product *p)
{
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int32_t part = 0; part < n_threads; part++) {
        Span columns = cpu_span(p->n, n_threads, part, 16);
        if (p->b.transposed)
            multiply_rows(p, columns);
        else
            combine_rows(p, columns);
    }
}
