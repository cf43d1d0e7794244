/* A row is small enough to stay in the first-level cache, so the passes over it cost one read of
 * memory. The weight gradients are sums over rows: one partial sum per chunk of rows, then added in
 * chunk order. */
#include "kernels/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/parallel.h"

static const float EPSILON = 1e-5f;

/* y = (x - mean) * rstd * w + b: the one place where it is written, so that backward's y has
 * forward's bits. */
static void normalise(float *y, const float *x, float mean, float rstd, const float *w,
                      const float *b, int64_t c)
{
    if (b) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++)
            y[i] = (x[i] - mean) * rstd * w[i] + b[i];
    } else {
#pragma omp simd
        for (int64_t i = 0; i < c; i++)
            y[i] = (x[i] - mean) * rstd * w[i];
    }
}

/* Two passes: the variance of the differences from the mean does not cancel. */
static void moments(const float *x, int64_t c, float *mean, float *rstd)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < c; i++)
        sum += x[i];
    float m = sum / (float)c;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < c; i++)
        squares += (x[i] - m) * (x[i] - m);
    *mean = m;
    *rstd = 1.0f / sqrtf(squares / (float)c + EPSILON);
}

void cpu_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                           Tensor b)
{
    int64_t n = x.dim[0], c = x.dim[1];
    float *m = mean.data, *s = rstd.data;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t r = 0; r < n; r++) {
        const float *row = (const float *)x.data + r * c;
        moments(row, c, &m[r], &s[r]);
        normalise((float *)y.data + r * c, row, m[r], s[r], w.data, b.data, c);
    }
}

void cpu_residual_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                    Tensor x, Tensor delta, Tensor w, Tensor b)
{
    int64_t n = x.dim[0], c = x.dim[1];
    float *m = mean.data, *s = rstd.data;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int64_t r = 0; r < n; r++) {
        const float *xr = (const float *)x.data + r * c, *dr = (const float *)delta.data + r * c;
        float *row = (float *)sum.data + r * c;
#pragma omp simd
        for (int64_t i = 0; i < c; i++)
            row[i] = xr[i] + dr[i];
        moments(row, c, &m[r], &s[r]);
        normalise((float *)y.data + r * c, row, m[r], s[r], w.data, b.data, c);
    }
}

/* dw += dy * norm, db += dy, dx += rstd * (dy * w - mean(dy * w) - norm * mean(dy * w * norm)),
 * with norm = (x - mean) * rstd. */
static void backward_row(float *dx, float *dw, float *db, const float *dy, const float *x,
                         float mean, float rstd, const float *w, int64_t c)
{
    float sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
    for (int64_t i = 0; i < c; i++) {
        float norm = (x[i] - mean) * rstd, d = dy[i] * w[i];
        sum += d;
        dot += d * norm;
        dw[i] += dy[i] * norm;
        db[i] += dy[i];
    }
    sum /= (float)c;
    dot /= (float)c;
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
        float norm = (x[i] - mean) * rstd;
        dx[i] += rstd * (dy[i] * w[i] - sum - norm * dot);
    }
}

static void backward_rows(const LayernormBackward *a, Span rows, float *dw, float *db)
{
    int64_t c = a->x.dim[1];
    const float *mean = a->mean.data, *rstd = a->rstd.data;
    memset(dw, 0, (size_t)c * sizeof *dw);
    memset(db, 0, (size_t)c * sizeof *db);
    for (int64_t r = rows.begin; r < rows.end; r++) {
        const float *dy = (const float *)a->dy.data + r * c, *x = (const float *)a->x.data + r * c;
        backward_row((float *)a->dx.data + r * c, dw, db, dy, x, mean[r], rstd[r], a->w.data, c);
        if (tensor_present(a->y))
            normalise((float *)a->y.data + r * c, x, mean[r], rstd[r], a->w.data, a->b.data, c);
    }
}

/* A partial sum's length in floats: whole cache lines, so that threads do not share one. */
static int64_t partial_stride(int64_t c)
{
    return (c + 15) / 16 * 16;
}

size_t cpu_layernorm_scratch_bytes(const OpLimits *limits)
{
    return (size_t)partial_stride(limits->n_embd) * 2 * CPU_CHUNKS * sizeof(float);
}

/* sum += the partial sums in chunk order, columns [columns.begin, columns.end). */
static void add_partials(float *sum, const float *partial, int64_t stride, Span columns)
{
    for (int64_t k = 0; k < CPU_CHUNKS; k++) {
#pragma omp simd
        for (int64_t i = columns.begin; i < columns.end; i++)
            sum[i] += partial[k * stride + i];
    }
}

void cpu_layernorm_backward(Device *dev, const LayernormBackward *a)
{
    int64_t n = a->x.dim[0], c = a->x.dim[1], stride = partial_stride(c);
    float *dw = dev->workspace.data, *db = dw + stride * CPU_CHUNKS;
#pragma omp parallel num_threads(dev->n_threads)
    {
#pragma omp for schedule(static)
        for (int64_t k = 0; k < CPU_CHUNKS; k++)
            backward_rows(a, cpu_span(n, CPU_CHUNKS, k, 1), dw + k * stride, db + k * stride);
#pragma omp for schedule(static)
        for (int32_t i = 0; i < dev->n_threads; i++) {
            Span columns = cpu_span(c, dev->n_threads, i, 16);
            add_partials(a->dw.data, dw, stride, columns);
            if (tensor_present(a->db))
                add_partials(a->db.data, db, stride, columns);
        }
    }
}
