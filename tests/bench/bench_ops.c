/* ms, GFLOP/s and share of the roofline of every op of a training step, on any device:
 *
 *     bench_ops [--device=cpu|cuda] [--dtype=auto|float32|bfloat16|float16] [--threads=N]
 *               [--shape=all|small|medium|gpt2|350M|774M|1558M] [--batch=N] [--seconds=0.1]
 *
 * "floor" is the time the op cannot be faster than here: the larger of its FLOP at the rate of a
 * large square product and its bytes (each operand once) at the rate of a large copy, both measured
 * in the same run. "step" is the op's time times how often a step of one micro-batch runs it. */
#include "base/arena.h"
#include "kernels/ops.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    int64_t L, H, C, T, V, B; /* B: sequences at once, unless --batch says otherwise */
    int64_t head_chunk;
} Shape;

static const Shape SHAPES[] = {
    {"small", 4, 4, 128, 64, 65, 12, 768},       {"medium", 6, 6, 384, 256, 65, 64, 16384},
    {"gpt2", 12, 12, 768, 1024, 50257, 1, 512},  {"350M", 24, 16, 1024, 1024, 50257, 1, 512},
    {"774M", 36, 20, 1280, 1024, 50257, 1, 512}, {"1558M", 48, 25, 1600, 1024, 50257, 1, 512},
};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]) };

/* One layer's tensors, the head's and the optimizer's, filled with small random values. */
typedef struct {
    Shape shape;
    Device dev;
    DType dtype; /* of parameters and activations */
    int64_t N, Vp;
    double peak_flops, copy_bytes; /* per second, measured */
    Tensor tokens, targets, wte, wpe, dwte, dwpe;
    Tensor x, y, mean, rstd, ln_w, ln_b, dln_w, dln_b;
    Tensor qkv, dqkv, out, lse, delta, wide, dwide, gelu;
    Tensor w_qkv, w_proj, w_fc, w_out, dw, bias, dbias;
    Tensor logits, rows, drows, losses, total;
    Tensor param, master, m, v, grad;
    Tensor random; /* (RANDOM_FLOATS) f32 in [-0.25, 0.25) */
    void *memory;
} Bench;

enum { RANDOM_FLOATS = 1 << 20 };

/* ---- tensors ----------------------------------------------------------------------------- */

static Tensor floats(Arena *arena, const char *name, int64_t rows, int64_t cols)
{
    return arena_2d(arena, REGION_SCRATCH, name, DTYPE_F32, rows, cols);
}

/* In the compute dtype. */
static Tensor values(const Bench *b, Arena *arena, const char *name, int64_t rows, int64_t cols)
{
    return arena_2d(arena, REGION_SCRATCH, name, b->dtype, rows, cols);
}

static void layout_layer(Bench *b, Arena *arena)
{
    int64_t N = b->N, C = b->shape.C, H = b->shape.H, B = b->shape.B, T = b->shape.T;
    int64_t statistics[] = {B, H, T};
    b->x = values(b, arena, "x", N, C);
    b->y = values(b, arena, "y", N, C);
    b->mean = floats(arena, "mean", 1, N);
    b->rstd = floats(arena, "rstd", 1, N);
    b->ln_w = values(b, arena, "ln_w", 1, C);
    b->ln_b = values(b, arena, "ln_b", 1, C);
    b->dln_w = floats(arena, "dln_w", 1, C);
    b->dln_b = floats(arena, "dln_b", 1, C);
    b->qkv = values(b, arena, "qkv", N, 3 * C);
    b->dqkv = values(b, arena, "dqkv", N, 3 * C);
    b->out = values(b, arena, "out", N, C);
    b->lse = arena_tensor(arena, REGION_SCRATCH, "lse", DTYPE_F32, 3, statistics);
    b->delta = arena_tensor(arena, REGION_SCRATCH, "delta", DTYPE_F32, 3, statistics);
    b->wide = values(b, arena, "wide", N, 4 * C);
    b->dwide = values(b, arena, "dwide", N, 4 * C);
    b->gelu = values(b, arena, "gelu", N, 4 * C);
    b->w_qkv = values(b, arena, "w_qkv", C, 3 * C);
    b->w_proj = values(b, arena, "w_proj", C, C);
    b->w_fc = values(b, arena, "w_fc", C, 4 * C);
    b->w_out = values(b, arena, "w_out", 4 * C, C);
    b->dw = floats(arena, "dw", 4 * C, C);
    b->bias = values(b, arena, "bias", 1, 4 * C);
    b->dbias = floats(arena, "dbias", 1, 4 * C);
}

static void layout_rest(Bench *b, Arena *arena)
{
    int64_t N = b->N, C = b->shape.C, T = b->shape.T, n = b->shape.head_chunk, Vp = b->Vp;
    int64_t params = Vp * C + T * C + b->shape.L * (12 * C * C + 13 * C) + 2 * C;
    b->tokens = arena_2d(arena, REGION_DATA, "tokens", DTYPE_I32, b->shape.B, T);
    b->targets = arena_1d(arena, REGION_DATA, "targets", DTYPE_I32, n);
    b->wte = values(b, arena, "wte", Vp, C);
    b->wpe = values(b, arena, "wpe", T, C);
    b->dwte = floats(arena, "dwte", Vp, C);
    b->dwpe = floats(arena, "dwpe", T, C);
    b->logits = values(b, arena, "logits", n, Vp);
    b->rows = values(b, arena, "rows", n, C);
    b->drows = values(b, arena, "drows", n, C);
    b->losses = arena_1d(arena, REGION_DATA, "losses", DTYPE_F32, n);
    b->total = arena_1d(arena, REGION_DATA, "total", DTYPE_F64, 1);
    b->param = values(b, arena, "param", 1, params);
    b->master = b->dtype == DTYPE_F32 ? tensor_none() : floats(arena, "master", 1, params);
    b->m = floats(arena, "m", 1, params);
    b->v = floats(arena, "v", 1, params);
    b->grad = floats(arena, "grad", 1, params);
    OpLimits limits = {N, T, C, (int32_t)b->shape.H, Vp};
    b->random = arena_1d(arena, REGION_DATA, "random", DTYPE_F32, RANDOM_FLOATS);
    size_t bytes = ops_workspace_bytes(b->dev.kind, b->dev.n_threads, &limits);
    device_set_workspace(&b->dev,
                         arena_1d(arena, REGION_WORKSPACE, "workspace", DTYPE_U8, (int64_t)bytes));
}

static void layout(Bench *b, Arena *arena)
{
    layout_layer(b, arena);
    layout_rest(b, arena);
}

static void fill_host(float *to, int64_t n)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (float)(state >> 8) * 0x1p-25f - 0.25f;
    }
}

/* t = the random values, again and again. */
static void fill(Bench *b, Tensor t)
{
    int64_t n = tensor_count(t);
    for (int64_t begin = 0; begin < n; begin += RANDOM_FLOATS) {
        int64_t part = n - begin < RANDOM_FLOATS ? n - begin : RANDOM_FLOATS;
        op_convert(&b->dev, tensor_range(t, begin, part), tensor_range(b->random, 0, part));
    }
}

/* Uploads the numbers i * 7919 mod vocab. */
static Err fill_tokens(Bench *b, Tensor tokens)
{
    int64_t n = tensor_count(tokens);
    int32_t *host = malloc((size_t)n * sizeof *host);
    if (!host)
        FAIL(ERR_SYSTEM, "no memory for %lld tokens", (long long)n);
    for (int64_t i = 0; i < n; i++)
        host[i] = (int32_t)(i * 7919 % b->shape.V);
    device_upload(&b->dev, tokens, host);
    Err err = device_sync(&b->dev);
    free(host);
    return err;
}

static Err fill_random(Bench *b)
{
    float *host = malloc(RANDOM_FLOATS * sizeof *host);
    if (!host)
        FAIL(ERR_SYSTEM, "no memory for random numbers");
    fill_host(host, RANDOM_FLOATS);
    device_upload(&b->dev, b->random, host);
    Err err = device_sync(&b->dev);
    free(host);
    return err;
}

/* Every float tensor but the ones that want something else. */
static Err fill_all(Bench *b)
{
    const Tensor all[] = {b->x,      b->y,     b->mean,  b->rstd, b->ln_w,  b->ln_b, b->qkv,
                          b->dqkv,   b->out,   b->lse,   b->wide, b->dwide, b->gelu, b->w_qkv,
                          b->w_proj, b->w_fc,  b->w_out, b->bias, b->wte,   b->wpe,  b->logits,
                          b->rows,   b->drows, b->param, b->m,    b->grad,  b->dw,   b->dbias,
                          b->dln_w,  b->dln_b, b->dwte,  b->dwpe};
    TRY(fill_random(b));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fill(b, all[i]);
    if (tensor_present(b->master))
        fill(b, b->master);
    device_zero(&b->dev, b->v); /* a mean of squares */
    device_zero(&b->dev, b->total);
    TRY(fill_tokens(b, b->tokens));
    return fill_tokens(b, b->targets);
}

/* Memory for one shape on an open device. */
static Err bench_shape_open(Bench *b, const Shape *shape, int64_t batch)
{
    static const Arena EMPTY;
    Arena arena = EMPTY;
    b->shape = *shape;
    b->shape.B = batch > 0 ? batch : shape->B;
    b->N = b->shape.B * shape->T;
    b->shape.head_chunk = b->N < shape->head_chunk ? b->N : shape->head_chunk;
    if (!device_is_host(&b->dev) && b->N >= 8192)
        b->shape.head_chunk = 8192; /* as the plan's 4 GiB of logits would */
    b->Vp = (shape->V + 127) / 128 * 128;
    arena_init(&arena, NULL, 0);
    layout(b, &arena);
    size_t bytes = arena.peak_bytes;
    TRY(device_alloc(&b->dev, bytes, &b->memory));
    arena_init(&arena, b->memory, bytes);
    layout(b, &arena);
    return fill_all(b);
}

/* ---- the ops ----------------------------------------------------------------------------- */

static void run_embedding(Bench *b)
{
    op_embedding_forward(&b->dev, b->x, b->tokens, b->wte, b->wpe);
}
static void run_embedding_back(Bench *b)
{
    op_embedding_backward(&b->dev, b->dwte, b->dwpe, b->x, b->tokens);
}
static void run_layernorm(Bench *b)
{
    op_layernorm_forward(&b->dev, b->y, b->mean, b->rstd, b->x, b->ln_w, b->ln_b);
}
static void run_residual_layernorm(Bench *b)
{
    op_residual_layernorm_forward(&b->dev, b->y, b->mean, b->rstd, b->out, b->x, b->out, b->ln_w,
                                  b->ln_b);
}
static void run_layernorm_back(Bench *b)
{
    op_layernorm_backward(&b->dev, &(LayernormBackward){.dx = b->out,
                                                        .dw = b->dln_w,
                                                        .db = b->dln_b,
                                                        .dy = b->y,
                                                        .x = b->x,
                                                        .w = b->ln_w,
                                                        .b = b->ln_b,
                                                        .mean = b->mean,
                                                        .rstd = b->rstd});
}

static Tensor bias_of(const Bench *b, int64_t n)
{
    return tensor_range(b->bias, 0, n);
}
static void run_qkv(Bench *b)
{
    op_linear_forward(&b->dev, b->qkv, b->x, b->w_qkv, bias_of(b, 3 * b->shape.C));
}
static void run_proj(Bench *b)
{
    op_linear_forward(&b->dev, b->y, b->x, b->w_proj, bias_of(b, b->shape.C));
}
static void run_fc(Bench *b)
{
    op_linear_forward(&b->dev, b->wide, b->x, b->w_fc, bias_of(b, 4 * b->shape.C));
}
static void run_out(Bench *b)
{
    op_linear_forward(&b->dev, b->y, b->gelu, b->w_out, bias_of(b, b->shape.C));
}
static void run_qkv_data(Bench *b)
{
    op_linear_backward_data(&b->dev, b->y, b->qkv, b->w_qkv);
}
static void run_proj_data(Bench *b)
{
    op_linear_backward_data(&b->dev, b->y, b->x, b->w_proj);
}
static void run_fc_data(Bench *b)
{
    op_linear_backward_data(&b->dev, b->y, b->wide, b->w_fc);
}
static void run_out_data(Bench *b)
{
    op_linear_backward_data(&b->dev, b->wide, b->y, b->w_out);
}

static void weight(Bench *b, Tensor x, Tensor dy)
{
    int64_t in = x.dim[1], out = dy.dim[1];
    Tensor dw = tensor_as_2d(tensor_range(b->dw, 0, in * out), in, out);
    op_linear_backward_weight(&b->dev, dw, tensor_range(b->dbias, 0, out), x, dy);
}
static void run_qkv_weight(Bench *b)
{
    weight(b, b->x, b->qkv);
}
static void run_proj_weight(Bench *b)
{
    weight(b, b->x, b->y);
}
static void run_fc_weight(Bench *b)
{
    weight(b, b->x, b->wide);
}
static void run_out_weight(Bench *b)
{
    weight(b, b->wide, b->y);
}

static void run_gelu(Bench *b)
{
    op_gelu_forward(&b->dev, b->gelu, b->wide, GELU_TANH);
}
/* Not in place as a step does it: dy would shrink from run to run until it is denormal, and slow.
 */
static void run_gelu_back(Bench *b)
{
    op_gelu_backward(&b->dev, b->dwide, b->gelu, b->wide, b->wide, GELU_TANH);
}
static void run_gelu_erf(Bench *b)
{
    op_gelu_forward(&b->dev, b->gelu, b->wide, GELU_ERF);
}
static void run_gelu_erf_back(Bench *b)
{
    op_gelu_backward(&b->dev, b->dwide, b->gelu, b->wide, b->wide, GELU_ERF);
}

static Dropout dropout_of(const Bench *b, float rate)
{
    return (Dropout){.rate = rate, .seed = 1, .site = 1, .tokens_per_sample = b->shape.T};
}
static void attention(Bench *b, float rate)
{
    op_attention_forward(&b->dev, b->out, b->lse, b->qkv, dropout_of(b, rate));
}
static void attention_back(Bench *b, float rate)
{
    op_attention_backward(&b->dev, &(AttentionBackward){.dqkv = b->dqkv,
                                                        .delta = b->delta,
                                                        .dout = b->x,
                                                        .out = b->out,
                                                        .lse = b->lse,
                                                        .qkv = b->qkv,
                                                        .dropout = dropout_of(b, rate)});
}
static void run_attention(Bench *b)
{
    attention(b, 0);
}
static void run_attention_back(Bench *b)
{
    attention_back(b, 0);
}
static void run_attention_dropout(Bench *b)
{
    attention(b, 0.1f);
}
static void run_attention_dropout_back(Bench *b)
{
    attention_back(b, 0.1f);
}
static void run_dropout(Bench *b)
{
    op_dropout(&b->dev, b->y, b->x, dropout_of(b, 0.1f));
}

static void run_head(Bench *b)
{
    op_head_forward(&b->dev, b->logits, b->rows, b->wte);
}
static void run_head_back(Bench *b)
{
    op_head_backward(&b->dev, b->drows, b->dwte, b->logits, b->rows, b->wte);
}
static void run_cross_entropy(Bench *b)
{
    op_cross_entropy_forward_backward(&b->dev, b->losses, b->logits, b->targets, b->shape.V, 1);
}
static void run_sum_squares(Bench *b)
{
    op_add_sum_squares(&b->dev, b->total, b->grad);
}
static void run_adamw(Bench *b)
{
    op_adamw(&b->dev, &(AdamwArgs){.param = b->param,
                                   .master = b->master,
                                   .m = b->m,
                                   .v = b->v,
                                   .grad = b->grad,
                                   .grad_scale = 1,
                                   .lr = 1e-3,
                                   .beta1 = 0.9,
                                   .beta2 = 0.95,
                                   .eps = 1e-8,
                                   .weight_decay = 0.1,
                                   .step = 10});
}

/* ---- what each op computes and moves ----------------------------------------------------- */

/* How often a step of one micro-batch runs an op. */
typedef enum { ONCE, PER_LAYER, TWO_PER_LAYER, PER_CHUNK, NOT_IN_STEP } Often;
/* What its numbers count. */
typedef enum { ROWS, CHUNK, PARAMS } Scale;

/* Operands are counted once each: activations in N*C elements (or n*C and n*Vp of a chunk of n rows
 * of logits), weights in C*C, all in the compute dtype; float32 gradients are read and written. */
typedef struct {
    const char *name;
    void (*run)(Bench *b);
    Often often;
    Scale scale;
    double linear, attention; /* FLOP: in N*C*C (n*C*Vp of a chunk), in N*T*C */
    double rows, logits;      /* elements: in N*C (n*C), in n*Vp */
    double weights, grads; /* elements: in C*C (Vp*C of a chunk); bytes of PARAMS per parameter */
} Line;

static const Line LINES[] = {
    {"embedding", run_embedding, ONCE, ROWS, 0, 0, 2, 0, 0, 0},
    {"embedding backward", run_embedding_back, ONCE, ROWS, 0, 0, 1, 0, 0, 0},
    {"layernorm", run_layernorm, PER_LAYER, ROWS, 0, 0, 2, 0, 0, 0},
    {"residual + layernorm", run_residual_layernorm, PER_LAYER, ROWS, 0, 0, 4, 0, 0, 0},
    {"layernorm backward", run_layernorm_back, TWO_PER_LAYER, ROWS, 0, 0, 4, 0, 0, 0},
    {"qkv", run_qkv, PER_LAYER, ROWS, 6, 0, 4, 0, 3, 0},
    {"qkv data", run_qkv_data, PER_LAYER, ROWS, 6, 0, 4, 0, 3, 0},
    {"qkv weight", run_qkv_weight, PER_LAYER, ROWS, 6, 0, 4, 0, 0, 3},
    {"proj", run_proj, PER_LAYER, ROWS, 2, 0, 2, 0, 1, 0},
    {"proj data", run_proj_data, PER_LAYER, ROWS, 2, 0, 2, 0, 1, 0},
    {"proj weight", run_proj_weight, PER_LAYER, ROWS, 2, 0, 2, 0, 0, 1},
    {"fc", run_fc, PER_LAYER, ROWS, 8, 0, 5, 0, 4, 0},
    {"fc data", run_fc_data, PER_LAYER, ROWS, 8, 0, 5, 0, 4, 0},
    {"fc weight", run_fc_weight, PER_LAYER, ROWS, 8, 0, 5, 0, 0, 4},
    {"fc_proj", run_out, PER_LAYER, ROWS, 8, 0, 5, 0, 4, 0},
    {"fc_proj data", run_out_data, PER_LAYER, ROWS, 8, 0, 5, 0, 4, 0},
    {"fc_proj weight", run_out_weight, PER_LAYER, ROWS, 8, 0, 5, 0, 0, 4},
    {"gelu tanh", run_gelu, PER_LAYER, ROWS, 0, 0, 8, 0, 0, 0},
    {"gelu tanh backward", run_gelu_back, PER_LAYER, ROWS, 0, 0, 16, 0, 0, 0},
    {"gelu erf", run_gelu_erf, NOT_IN_STEP, ROWS, 0, 0, 8, 0, 0, 0},
    {"gelu erf backward", run_gelu_erf_back, NOT_IN_STEP, ROWS, 0, 0, 16, 0, 0, 0},
    {"attention", run_attention, PER_LAYER, ROWS, 0, 2, 4, 0, 0, 0},
    {"attention backward", run_attention_back, PER_LAYER, ROWS, 0, 5, 8, 0, 0, 0},
    {"attention, dropout", run_attention_dropout, NOT_IN_STEP, ROWS, 0, 2, 4, 0, 0, 0},
    {"attention backward, dropout", run_attention_dropout_back, NOT_IN_STEP, ROWS, 0, 5, 8, 0, 0,
     0},
    {"dropout", run_dropout, NOT_IN_STEP, ROWS, 0, 0, 2, 0, 0, 0},
    {"head", run_head, PER_CHUNK, CHUNK, 2, 0, 1, 1, 1, 0},
    {"cross-entropy, both", run_cross_entropy, PER_CHUNK, CHUNK, 0, 0, 0, 2, 0, 0},
    {"head backward", run_head_back, PER_CHUNK, CHUNK, 4, 0, 2, 1, 1, 1},
    {"sum of squares", run_sum_squares, ONCE, PARAMS, 0, 0, 0, 0, 0, 4},
    {"adamw", run_adamw, ONCE, PARAMS, 0, 0, 0, 0, 1, 28},
};

static double flop_of(const Bench *b, const Line *line)
{
    double N = (double)b->N, C = (double)b->shape.C, n = (double)b->shape.head_chunk;
    if (line->scale == CHUNK)
        return line->linear * n * C * (double)b->Vp;
    /* causal attention: half of the square */
    return line->linear * N * C * C + line->attention * N * (double)b->shape.T * C;
}

static double bytes_of(const Bench *b, const Line *line)
{
    double width = (double)dtype_bytes(b->dtype), C = (double)b->shape.C, Vp = (double)b->Vp;
    double n = line->scale == CHUNK ? (double)b->shape.head_chunk : (double)b->N;
    double weights = line->scale == CHUNK ? Vp * C : C * C;
    if (line->scale == PARAMS) {
        double per_param = line->grads + (line->weights > 0 && width < 4 ? width : 0);
        return per_param * (double)tensor_count(b->param);
    }
    double elements = line->rows * n * C + line->logits * n * Vp + line->weights * weights;
    return elements * width + 8 * line->grads * weights;
}

static double times_in_step(const Bench *b, const Line *line)
{
    switch (line->often) {
    case ONCE:
        return 1;
    case PER_LAYER:
        return (double)b->shape.L;
    case TWO_PER_LAYER:
        return 2 * (double)b->shape.L;
    case PER_CHUNK:
        return (double)b->N / (double)b->shape.head_chunk;
    case NOT_IN_STEP:
        break;
    }
    return 0;
}

/* ---- measuring --------------------------------------------------------------------------- */

/* Seconds of `runs` runs, waited for at the end. A fault of the device gives NaN and stays with it.
 */
static double time_runs(void (*run)(Bench *b), Bench *b, int64_t runs)
{
    double start = omp_get_wtime();
    for (int64_t i = 0; i < runs; i++)
        run(b);
    Err err = device_sync(&b->dev);
    double took = omp_get_wtime() - start;
    b->dev.err = err;
    return err ? NAN : took;
}

/* The least time of one run, in seconds. A queue hides what a launch costs, so a GPU's runs are
 * timed several at a time. */
static double least_time(void (*run)(Bench *b), Bench *b, double seconds)
{
    int64_t together = device_is_host(&b->dev) ? 1 : 10;
    double least = INFINITY, all = 0;
    (void)time_runs(run, b, 1); /* the first chooses algorithms, and warms caches */
    for (int32_t i = 0; (i < 3 || all < seconds) && !b->dev.err; i++) {
        double took = time_runs(run, b, together);
        all += took;
        least = fmin(least, took / (double)together);
    }
    return least;
}

/* FLOP/s on a product of squares and bytes/s of a copy, read and written, large enough for this
 * device. */
static void run_square(Bench *b)
{
    op_linear_forward(&b->dev, b->y, b->x, b->w_proj, tensor_none());
}

static void run_copy(Bench *b)
{
    device_copy(&b->dev, b->m, b->v);
}

static Err measure_roofs(Bench *b, double seconds)
{
    int64_t n = device_is_host(&b->dev) ? 1024 : 8192;
    size_t bytes = (size_t)n * (size_t)n * dtype_bytes(b->dtype),
           copied = bytes < (64 << 20) ? 64 << 20 : bytes;
    OpLimits limits = {n, n, n, 1, 128};
    size_t scratch = ops_workspace_bytes(b->dev.kind, b->dev.n_threads, &limits);
    TRY(device_alloc(&b->dev, 3 * bytes + 2 * copied + scratch + RANDOM_FLOATS * 4, &b->memory));
    char *at = b->memory;
    b->x = tensor_2d(at, b->dtype, n, n);
    b->w_proj = tensor_2d(at + bytes, b->dtype, n, n);
    b->y = tensor_2d(at + 2 * bytes, b->dtype, n, n);
    at += 3 * bytes;
    b->m = tensor_1d(at, DTYPE_U8, (int64_t)copied);
    b->v = tensor_1d(at + copied, DTYPE_U8, (int64_t)copied);
    b->random = tensor_1d(at + 2 * copied, DTYPE_F32, RANDOM_FLOATS);
    device_set_workspace(
        &b->dev, tensor_1d(at + 2 * copied + RANDOM_FLOATS * 4, DTYPE_U8, (int64_t)scratch));
    TRY(fill_random(b));
    fill(b, b->x);
    fill(b, b->w_proj);
    device_zero(&b->dev, b->v);
    b->peak_flops = 2.0 * (double)n * (double)n * (double)n / least_time(run_square, b, seconds);
    b->copy_bytes = 2.0 * (double)copied / least_time(run_copy, b, seconds);
    return device_sync(&b->dev);
}

/* ---- printing ---------------------------------------------------------------------------- */

static void print_head(const Bench *b)
{
    const Shape *s = &b->shape;
    printf("\n%s: L%lld H%lld C%lld T%lld V%lld B%lld, %s, head chunk %lld\n", s->name,
           (long long)s->L, (long long)s->H, (long long)s->C, (long long)s->T, (long long)s->V,
           (long long)s->B, dtype_name(b->dtype), (long long)s->head_chunk);
    printf("%-28s %10s %10s %10s %10s %8s %12s\n", "op", "ms", "GFLOP/s", "GB/s", "floor, ms",
           "of floor", "step, ms");
}

static double print_line(Bench *b, const Line *line, double seconds)
{
    double took = least_time(line->run, b, seconds), flop = flop_of(b, line),
           bytes = bytes_of(b, line);
    double floor = fmax(flop / b->peak_flops, bytes / b->copy_bytes);
    double in_step = took * times_in_step(b, line);
    printf("%-28s %10.3f ", line->name, took * 1e3);
    if (flop > 0)
        printf("%10.1f ", flop / took * 1e-9);
    else
        printf("%10s ", "");
    printf("%10.1f %10.3f %7.0f%% %12.2f\n", bytes / took * 1e-9, floor * 1e3, 100 * floor / took,
           in_step * 1e3);
    return in_step;
}

static Err print_shape(Bench *b, double seconds)
{
    double step = 0;
    print_head(b);
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++)
        step += print_line(b, &LINES[i], seconds);
    printf("%-28s %10s %10s %10s %10s %8s %12.2f = %.0f tokens/s\n", "all", "", "", "", "", "",
           step * 1e3, (double)b->N / step);
    return device_sync(&b->dev);
}

/* ---- the command ------------------------------------------------------------------------- */

typedef struct {
    DeviceKind kind;
    const char *dtype, *shape;
    int32_t n_threads;
    int64_t batch;
    double seconds;
} Options;

/* The part of `arg` after "--name=", or NULL. */
static const char *option(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 ? arg + n : NULL;
}

static bool parse_one(Options *o, const char *arg)
{
    const char *value;
    if ((value = option(arg, "--device=")))
        o->kind = strcmp(value, "cuda") == 0 ? DEVICE_CUDA : DEVICE_CPU;
    else if ((value = option(arg, "--dtype=")))
        o->dtype = value;
    else if ((value = option(arg, "--shape=")))
        o->shape = value;
    else if ((value = option(arg, "--threads=")))
        o->n_threads = (int32_t)atoi(value);
    else if ((value = option(arg, "--batch=")))
        o->batch = atoll(value);
    else if ((value = option(arg, "--seconds=")))
        o->seconds = atof(value);
    else
        return false;
    return true;
}

static DType dtype_of(const char *name, DType best)
{
    const DType all[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(dtype_name(all[i]), name) == 0)
            return all[i];
    return best;
}

static void bench_release(Bench *b)
{
    device_set_workspace(&b->dev, tensor_none());
    device_free(&b->dev, b->memory);
    b->memory = NULL;
}

static Err bench_one(Bench *b, const Options *o, const Shape *shape)
{
    Err err = bench_shape_open(b, shape, o->batch);
    if (!err)
        err = print_shape(b, o->seconds);
    bench_release(b);
    return err;
}

static Err bench_on(Bench *b, const Options *o)
{
    DeviceInfo info;
    TRY(device_info(&b->dev, &info));
    b->dtype = dtype_of(o->dtype, info.storage_dtype);
    device_tune(&b->dev, true);
    Err err = measure_roofs(b, o->seconds);
    bench_release(b);
    if (err)
        return err;
    printf("%s, %s: %.1f GFLOP/s on squares, copies at %.1f GB/s\n", info.name,
           dtype_name(b->dtype), b->peak_flops * 1e-9, b->copy_bytes * 1e-9);
    for (size_t i = 0; i < N_SHAPES; i++)
        if (strcmp(o->shape, SHAPES[i].name) == 0 || strcmp(o->shape, "all") == 0)
            TRY(bench_one(b, o, &SHAPES[i]));
    return OK;
}

static Err bench(const Options *o)
{
    Bench b = {0};
    TRY(device_open(&b.dev,
                    &(DeviceArgs){.kind = o->kind, .n_threads = o->n_threads, .tf32 = true}));
    Err err = bench_on(&b, o);
    device_close(&b.dev);
    return err;
}

int main(int argc, char **argv)
{
    Options o = {
        .dtype = "auto", .shape = "all", .n_threads = omp_get_max_threads(), .seconds = 0.1};
    for (int i = 1; i < argc; i++)
        if (!parse_one(&o, argv[i])) {
            fprintf(stderr, "bench_ops: unknown argument %s\n", argv[i]);
            return 64;
        }
    Err err = bench(&o);
    if (err)
        fprintf(stderr, "bench_ops: %s\n", err_message(err));
    int status = err ? 1 : 0;
    err_free(err);
    return status;
}
