#include "kernels/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

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

/* One copy of it for all kinds of masters: the compiler may fuse differently in another. */
static __attribute__((noinline)) void update(float *p, float *m, float *v, const float *grad,
                                             int64_t n, const Factors *factors)
{
    const Factors f = *factors;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * f.grad_scale;
        m[i] = m[i] + f.one_minus_beta1 * (g - m[i]);
        v[i] = v[i] * f.beta2 + f.one_minus_beta2 * g * g;
        float denominator = sqrtf(v[i]) / f.sqrt_correction2 + f.eps;
        p[i] = p[i] * f.decay - f.step_size * (m[i] / denominator);
    }
}

/* ---- where masters are: blocks of at most BLOCK elements, from element `at` --------------- */

enum { BLOCK = 1024 };

/* The float32 masters: in place, or put together in `block`. */
static float *load_masters(const AdamwArgs *a, int64_t at, int64_t n, float *block)
{
    if (!tensor_present(a->master))
        return (float *)a->param.data + at;
    if (a->master.dtype == DTYPE_F32)
        return (float *)a->master.data + at;
    const uint16_t *high = (const uint16_t *)a->param.data + at;
    const uint16_t *low = (const uint16_t *)a->master.data + at;
    for (int64_t i = 0; i < n; i++)
        block[i] = f32_join((Halves){high[i], low[i]});
    return block;
}

/* Their rounded values, and halves, from where load_masters had them. */
static void store_masters(const AdamwArgs *a, int64_t at, int64_t n, const float *master)
{
    uint16_t *param = (uint16_t *)a->param.data + at;
    uint16_t *low = a->master.dtype == DTYPE_U16 ? (uint16_t *)a->master.data + at : NULL;
    for (int64_t i = 0; i < n; i++) {
        Halves halves = f32_split(master[i]);
        param[i] = a->param.dtype == DTYPE_BF16 ? halves.high : f16_from_f32(master[i]);
        if (low)
            low[i] = halves.low;
    }
}

static void update_span(const AdamwArgs *a, Span span, const Factors *factors)
{
    float block[BLOCK];
    for (int64_t at = span.begin, n; at < span.end; at += n) {
        n = span.end - at < BLOCK ? span.end - at : BLOCK;
        float *p = load_masters(a, at, n, block);
        update(p, (float *)a->m.data + at, (float *)a->v.data + at, (float *)a->grad.data + at, n,
               factors);
        if (a->param.dtype != DTYPE_F32)
            store_masters(a, at, n, p);
        else if (tensor_present(a->master))
            memcpy((float *)a->param.data + at, p, (size_t)n * sizeof *p);
    }
}

void cpu_adamw(Device *dev, const AdamwArgs *a)
{
    int64_t n = tensor_count(a->param);
    Factors factors = factors_of(a);
#pragma omp parallel for num_threads(dev->n_threads) schedule(static)
    for (int32_t i = 0; i < dev->n_threads; i++)
        update_span(a, cpu_span(n, dev->n_threads, i, 16), &factors);
}
