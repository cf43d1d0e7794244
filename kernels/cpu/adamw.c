#include "kernels/cpu/cpu_ops.h"

#include <math.h>

#include "kernels/cpu/parallel.h"

/* What is the same for every element. Computed in double from the settings, as torch does. */
typedef struct {
    float grad_scale, decay, one_minus_beta1, beta2, one_minus_beta2;
    float sqrt_correction2, step_size, eps;
} Factors;

static Factors factors_of(const AdamwArgs *a)
{
    double correction1 = 1 - pow(a->beta1, (double)a->step);
    double correction2 = 1 - pow(a->beta2, (double)a->step);
    return (Factors){
        .grad_scale = (float)a->grad_scale,
        .decay = (float)(1 - a->lr * a->weight_decay),
        .one_minus_beta1 = (float)(1 - a->beta1),
        .beta2 = (float)a->beta2,
        .one_minus_beta2 = (float)(1 - a->beta2),
        .sqrt_correction2 = (float)sqrt(correction2),
        .step_size = (float)(a->lr / correction1),
        .eps = (float)a->eps,
    };
}

static void update(float *p, float *m, float *v, const float *grad, Span span, Factors f)
{
#pragma omp simd
    for (int64_t i = span.begin; i < span.end; i++) {
        float g = grad[i] * f.grad_scale;
        m[i] = m[i] + f.one_minus_beta1 * (g - m[i]);
        v[i] = v[i] * f.beta2 + f.one_minus_beta2 * g * g;
        float denominator = sqrtf(v[i]) / f.sqrt_correction2 + f.eps;
        p[i] = p[i] * f.decay - f.step_size * (m[i] / denominator);
    }
}

void cpu_adamw(Device *dev, const AdamwArgs *a)
{
    bool has_master = tensor_present(a->master);
    float *p = has_master ? a->master.data : a->param.data;
    int64_t n = tensor_count(a->param);
    Factors factors = factors_of(a);
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int32_t i = 0; i < dev->n_threads; i++)
        update(p, a->m.data, a->v.data, a->grad.data, cpu_span(n, dev->n_threads, i, 16), factors);
    if (has_master)
        cpu_convert(dev, a->param, a->master);
}
