#include "optim/adamw.h"

#include "base/check.h"

void adamw_init(AdamW *opt, const Shard *shard, const OptimConfig *hyper, DType param_dtype)
{
    *opt = (AdamW){.shard = shard,
                   .hyper = hyper,
                   .has_master = param_dtype != DTYPE_F32,
                   .m = tensor_none(),
                   .v = tensor_none(),
                   .master = tensor_none(),
                   .sum_squares = tensor_none()};
}

void adamw_layout(AdamW *opt, Arena *arena)
{
    int64_t n = opt->shard->count;
    opt->m = arena_1d(arena, REGION_OPTIMIZER, "exp_avg", DTYPE_F32, n);
    opt->v = arena_1d(arena, REGION_OPTIMIZER, "exp_avg_sq", DTYPE_F32, n);
    if (opt->has_master)
        opt->master = arena_1d(arena, REGION_OPTIMIZER, "master weights", DTYPE_F32, n);
    opt->sum_squares = arena_1d(arena, REGION_OPTIMIZER, "gradient sum of squares", DTYPE_F64, 1);
}

size_t adamw_state_bytes(const AdamW *opt)
{
    size_t vectors = opt->has_master ? 3 : 2;
    return (size_t)opt->shard->count * vectors * dtype_bytes(DTYPE_F32);
}

void adamw_reset(AdamW *opt, Device *dev)
{
    device_zero(dev, opt->m);
    device_zero(dev, opt->v);
    if (opt->has_master)
        device_zero(dev, opt->master);
}

Err adamw_set_master(AdamW *opt, Device *dev, int32_t index, const float *values)
{
    if (!opt->has_master)
        return OK;
    for (int32_t i = 0; i < opt->shard->n_segments; i++) {
        const Segment *s = &opt->shard->segment[i];
        if (s->param == index)
            device_upload(dev, tensor_range(opt->master, s->local, s->count), values + s->within);
    }
    return device_sync(dev);
}

void adamw_sum_squares(AdamW *opt, Device *dev, Tensor grads, const Shard *part)
{
    device_zero(dev, opt->sum_squares);
    for (int32_t i = 0; i < part->n_segments; i++) {
        const Segment *s = &part->segment[i];
        op_add_sum_squares(dev, opt->sum_squares, tensor_range(grads, s->flat, s->count));
    }
}

void adamw_update(AdamW *opt, Device *dev, Tensor params, Tensor grads, double lr,
                  double grad_scale, int64_t step)
{
    const OptimConfig *hyper = opt->hyper;
    ASSERT(step >= 1, "step %lld", (long long)step);
    for (int32_t i = 0; i < opt->shard->n_segments; i++) {
        const Segment *s = &opt->shard->segment[i];
        bool decay = opt->shard->layout->param[s->param].decay;
        const AdamwArgs args = {
            .param = tensor_range(params, s->flat, s->count),
            .master =
                opt->has_master ? tensor_range(opt->master, s->local, s->count) : tensor_none(),
            .m = tensor_range(opt->m, s->local, s->count),
            .v = tensor_range(opt->v, s->local, s->count),
            .grad = tensor_range(grads, s->flat, s->count),
            .grad_scale = grad_scale,
            .lr = lr,
            .beta1 = hyper->beta1,
            .beta2 = hyper->beta2,
            .eps = hyper->eps,
            .weight_decay = decay ? hyper->weight_decay : 0.0,
            .step = step,
        };
        op_adamw(dev, &args);
    }
}
