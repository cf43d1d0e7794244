#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vexp.h"

#define INLINE static inline __attribute__((always_inline))

static const float SQRT_2_OVER_PI = 0.79788456f, SQRT_HALF = 0.70710678f, CUBIC = 0.044715f;
static const float INV_SQRT_2_PI = 0.39894228f;

/* gelu(x) = x * gate(x). Forward and backward share it, so that y is the same bits in both.
 * tanh: 0.5 (1 + tanh u) = 1 / (1 + e^(-2u)). erf: the normal distribution function. */
INLINE float gate(float x, GeluKind kind)
{
    if (kind == GELU_ERF)
        return 0.5f + 0.5f * verf(x * SQRT_HALF);
    float cubic = 1.0f + CUBIC * (x * x);
    float z = -2.0f * SQRT_2_OVER_PI * (x * cubic);
    z = z > 60.0f ? 60.0f : z; /* a gate of 9e-27 is 0, but not denormal, which would be slow */
    return 1.0f / (1.0f + vexp(z));
}

/* d gate / dx, given the gate. */
INLINE float gate_slope(float x, float g, GeluKind kind)
{
    if (kind == GELU_ERF)
        return INV_SQRT_2_PI * vexp(-0.5f * (x * x));
    float du = SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * (x * x));
    return 2.0f * g * (1.0f - g) * du;
}

/* A thread's elements at a time; `kind` and the presence of y are constants in each copy. */
INLINE void forward_span(float *y, const float *x, int64_t n, GeluKind kind)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * gate(x[i], kind);
}

INLINE void backward_span(float *dx, float *y, const float *dy, const float *x, int64_t n,
                          GeluKind kind, bool want_y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = gate(x[i], kind);
        float slope = g + x[i] * gate_slope(x[i], g, kind);
        if (want_y)
            y[i] = x[i] * g;
        dx[i] = dy[i] * slope;
    }
}

enum { SPAN_UNIT = 1024 };

void cpu_gelu_forward(Device *dev, Tensor y, Tensor x, GeluKind kind)
{
    int64_t n = tensor_count(x);
    float *out = y.data;
    const float *in = x.data;
#pragma omp parallel for schedule(static) num_threads(dev->n_threads)
    for (int32_t part = 0; part < dev->n_threads; part++) {
        Span s = cpu_span(n, dev->n_threads, part, SPAN_UNIT);
        if (kind == GELU_ERF)
            forward_span(out + s.begin, in + s.begin, s.end - s.begin, GELU_ERF);
        else
            forward_span(out + s.begin, in + s.begin, s.end - s.begin, GELU_TANH);
    }
}

static void backward_part(float *dx, float *y, const float *dy, const float *x, int64_t n,
                          GeluKind kind)
{
    if (kind == GELU_ERF && y)
        backward_span(dx, y, dy, x, n, GELU_ERF, true);
    else if (kind == GELU_ERF)
        backward_span(dx, NULL, dy, x, n, GELU_ERF, false);
    else if (y)
        backward_span(dx, y, dy, x, n, GELU_TANH, true);
    else
        backward_span(dx, NULL, dy, x, n, GELU_TANH, false);
}

void cpu_gelu_backward(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind)
{
    int64_t n = tensor_count(x);
    float *dx_data = dx.data, *y_data = y.data;
    const float *dy_data = dy.data, *x_data = x.data;
#pragma omp parallel for schedule(static) num_threads(dev->n_threads)
    for (int32_t part = 0; part < dev->n_threads; part++) {
        Span s = cpu_span(n, dev->n_threads, part, SPAN_UNIT);
        backward_part(dx_data + s.begin, y_data ? y_data + s.begin : NULL, dy_data + s.begin,
                      x_data + s.begin, s.end - s.begin, kind);
    }
}
