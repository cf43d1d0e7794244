#include "kernels/cuda/common.cuh"

#include <math.h>

enum { THREADS = 256, QUAD = 4 };

/* What is the same for every element. Computed in double from the settings, as torch does. */
struct AdamwFactors {
    float grad_scale, decay, one_minus_beta1, beta2, one_minus_beta2;
    float sqrt_correction2, step_size, eps;
};

static AdamwFactors factors_of(const AdamwArgs *a)
{
    double correction1 = 1 - pow(a->beta1, (double)a->step);
    double correction2 = 1 - pow(a->beta2, (double)a->step);
    AdamwFactors f;
    f.grad_scale = (float)a->grad_scale;
    f.decay = (float)(1 - a->lr * a->weight_decay);
    f.one_minus_beta1 = (float)(1 - a->beta1);
    f.beta2 = (float)a->beta2;
    f.one_minus_beta2 = (float)(1 - a->beta2);
    f.sqrt_correction2 = (float)sqrt(correction2);
    f.step_size = (float)(a->lr / correction1);
    f.eps = (float)a->eps;
    return f;
}

__device__ __forceinline__ void update(float *p, float *m, float *v, float grad,
                                       const AdamwFactors &f)
{
    float g = grad * f.grad_scale;
    *m = *m + f.one_minus_beta1 * (g - *m);
    *v = *v * f.beta2 + f.one_minus_beta2 * g * g;
    float denominator = sqrtf(*v) / f.sqrt_correction2 + f.eps;
    *p = *p * f.decay - f.step_size * (*m / denominator);
}

/* param (n) = master (n) rounded to T; param is NULL when the master is the parameter. */
template <class T, int N>
__global__ void __launch_bounds__(THREADS) adamw(T *param, float *master, float *m, float *v,
                                                 const float *grad, int64_t n, AdamwFactors factors)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= n)
        return;
    float p[N], first[N], second[N], g[N];
    load_lanes<float, N>(p, master + i);
    load_lanes<float, N>(first, m + i);
    load_lanes<float, N>(second, v + i);
    load_lanes<float, N>(g, grad + i);
#pragma unroll
    for (int k = 0; k < N; k++)
        update(&p[k], &first[k], &second[k], g[k], factors);
    store_lanes<float, N>(master + i, p);
    store_lanes<float, N>(m + i, first);
    store_lanes<float, N>(v + i, second);
    if (param)
        store_lanes<T, N>(param + i, p);
}

template <class T, int N>
static void launch_lanes(cudaStream_t stream, T *param, float *master, const AdamwArgs *a)
{
    int64_t n = tensor_count(a->m);
    LAUNCH((adamw<T, N>), blocks_for(n, THREADS * N), THREADS, 0, stream, param, master,
           (float *)a->m.data, (float *)a->v.data, (const float *)a->grad.data, n, factors_of(a));
}

template <class T> static void launch(cudaStream_t stream, const AdamwArgs *a)
{
    bool has_master = tensor_present(a->master);
    T *param = has_master ? (T *)a->param.data : NULL;
    float *master = (float *)(has_master ? a->master.data : a->param.data);
    if (fits_lanes<float>(tensor_count(a->m), param, master, a->m.data, a->v.data, a->grad.data))
        launch_lanes<T, QUAD>(stream, param, master, a);
    else
        launch_lanes<T, 1>(stream, param, master, a);
}

void cuda_adamw(Device *dev, const AdamwArgs *a)
{
    BY_DTYPE(a->param.dtype, launch<T>(cuda_device(dev)->stream, a));
    cuda_launched(dev, "adamw");
}
