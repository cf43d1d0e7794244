/* bench_ops [n_threads] [shape] [seconds per op]: ms and GFLOP/s of every op of a training step on
 * the CPU, at three shapes. "of peak" compares with the best that the engine of matrix products
 * reaches in the same run on squares of 1024, "step" is the op's time times how often a step runs
 * it. */
#include "base/arena.h"
#include "kernels/ops.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    int64_t L, H, C, T, V, B;
    int64_t head_chunk;
} Shape;

static const Shape SHAPES[] = {
    {"small", 4, 4, 128, 64, 65, 12, 768},
    {"medium", 6, 6, 384, 256, 65, 64, 16384},
    {"gpt2", 12, 12, 768, 1024, 50257, 1, 512},
};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]) };

/* One layer's tensors, the head's and the optimizer's, filled with small random values. */
typedef struct {
    Shape shape;
    Device dev;
    int64_t N, Vp;
    Tensor tokens, targets, wte, wpe, dwte, dwpe;
    Tensor x, y, mean, rstd, ln_w, ln_b, dln_w, dln_b;
    Tensor qkv, dqkv, out, lse, delta, wide, dwide, gelu;
    Tensor w_qkv, w_proj, w_fc, w_out, dw, bias, dbias;
    Tensor logits, rows, drows, losses, total;
    Tensor param, m, v, grad;
} Bench;

/* ---- tensors ----------------------------------------------------------------------------- */

static Tensor floats(Arena *arena, const char *name, int64_t rows, int64_t cols)
{
    return arena_2d(arena, REGION_SCRATCH, name, DTYPE_F32, rows, cols);
}

static void layout_layer(Bench *b, Arena *arena)
{
    int64_t N = b->N, C = b->shape.C, H = b->shape.H, B = b->shape.B, T = b->shape.T;
    int64_t statistics[] = {B, H, T};
    b->x = floats(arena, "x", N, C);
    b->y = floats(arena, "y", N, C);
    b->mean = floats(arena, "mean", 1, N);
    b->rstd = floats(arena, "rstd", 1, N);
    b->ln_w = floats(arena, "ln_w", 1, C);
    b->ln_b = floats(arena, "ln_b", 1, C);
    b->dln_w = floats(arena, "dln_w", 1, C);
    b->dln_b = floats(arena, "dln_b", 1, C);
    b->qkv = floats(arena, "qkv", N, 3 * C);
    b->dqkv = floats(arena, "dqkv", N, 3 * C);
    b->out = floats(arena, "out", N, C);
    b->lse = arena_tensor(arena, REGION_SCRATCH, "lse", DTYPE_F32, 3, statistics);
    b->delta = arena_tensor(arena, REGION_SCRATCH, "delta", DTYPE_F32, 3, statistics);
    b->wide = floats(arena, "wide", N, 4 * C);
    b->dwide = floats(arena, "dwide", N, 4 * C);
    b->gelu = floats(arena, "gelu", N, 4 * C);
    b->w_qkv = floats(arena, "w_qkv", C, 3 * C);
    b->w_proj = floats(arena, "w_proj", C, C);
    b->w_fc = floats(arena, "w_fc", C, 4 * C);
    b->w_out = floats(arena, "w_out", 4 * C, C);
    b->dw = floats(arena, "dw", 4 * C, C);
    b->bias = floats(arena, "bias", 1, 4 * C);
    b->dbias = floats(arena, "dbias", 1, 4 * C);
}

static void layout_rest(Bench *b, Arena *arena)
{
    int64_t N = b->N, C = b->shape.C, T = b->shape.T, n = b->shape.head_chunk, Vp = b->Vp;
    int64_t params = Vp * C + T * C + b->shape.L * (12 * C * C + 13 * C) + 2 * C;
    b->tokens = arena_2d(arena, REGION_DATA, "tokens", DTYPE_I32, b->shape.B, T);
    b->targets = arena_1d(arena, REGION_DATA, "targets", DTYPE_I32, n);
    b->wte = floats(arena, "wte", Vp, C);
    b->wpe = floats(arena, "wpe", T, C);
    b->dwte = floats(arena, "dwte", Vp, C);
    b->dwpe = floats(arena, "dwpe", T, C);
    b->logits = floats(arena, "logits", n, Vp);
    b->rows = floats(arena, "rows", n, C);
    b->drows = floats(arena, "drows", n, C);
    b->losses = arena_1d(arena, REGION_DATA, "losses", DTYPE_F32, n);
    b->total = arena_1d(arena, REGION_DATA, "total", DTYPE_F64, 1);
    b->param = floats(arena, "param", 1, params);
    b->m = floats(arena, "m", 1, params);
    b->v = floats(arena, "v", 1, params);
    b->grad = floats(arena, "grad", 1, params);
    OpLimits limits = {N, T, C, (int32_t)b->shape.H, Vp};
    size_t bytes = ops_workspace_bytes(DEVICE_CPU, b->dev.n_threads, &limits);
    device_set_workspace(&b->dev,
                         arena_1d(arena, REGION_WORKSPACE, "workspace", DTYPE_U8, (int64_t)bytes));
}

static void fill(float *values, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) * 0x1p-25f - 0.25f;
    }
}

static void fill_tokens(Tensor tokens, int64_t vocab)
{
    for (int64_t i = 0; i < tensor_count(tokens); i++)
        ((int32_t *)tokens.data)[i] = (int32_t)(i * 7919 % vocab);
}

static Err bench_open(Bench *b, const Shape *shape, int32_t n_threads, void **memory)
{
    memset(b, 0, sizeof(*b));
    b->shape = *shape;
    b->N = shape->B * shape->T;
    b->Vp = (shape->V + 127) / 128 * 128;
    TRY(device_open(&b->dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = n_threads}));
    static const Arena EMPTY;
    Arena arena = EMPTY;
    arena_init(&arena, NULL, 0);
    layout_layer(b, &arena);
    layout_rest(b, &arena);
    size_t bytes = arena.peak_bytes;
    TRY(device_alloc(&b->dev, bytes, memory));
    fill(*memory, bytes / sizeof(float));
    arena_init(&arena, *memory, bytes);
    layout_layer(b, &arena);
    layout_rest(b, &arena);
    device_zero(&b->dev, b->v); /* a mean of squares */
    fill_tokens(b->tokens, shape->V);
    fill_tokens(b->targets, shape->V);
    return OK;
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
                                   .m = b->m,
                                   .v = b->v,
                                   .grad = b->grad,
                                   .grad_scale = 1,
                                   .lr = 1e-3f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .step = 10});
}

/* ---- measuring --------------------------------------------------------------------------- */

/* How often a step runs an op. */
typedef enum { ONCE, PER_LAYER, TWO_PER_LAYER, PER_CHUNK, NOT_IN_STEP } Often;

typedef struct {
    const char *name;
    void (*run)(Bench *b);
    Often often;
    double flop; /* in units of N C^2, or n C Vp for the head, or N T C for attention */
    char unit;   /* 'l', 'h', 'a'; 0: none */
} Line;

static const Line LINES[] = {
    {"embedding", run_embedding, ONCE, 0, 0},
    {"embedding backward", run_embedding_back, ONCE, 0, 0},
    {"layernorm", run_layernorm, PER_LAYER, 0, 0},
    {"residual + layernorm", run_residual_layernorm, PER_LAYER, 0, 0},
    {"layernorm backward", run_layernorm_back, TWO_PER_LAYER, 0, 0},
    {"qkv", run_qkv, PER_LAYER, 6, 'l'},
    {"qkv data", run_qkv_data, PER_LAYER, 6, 'l'},
    {"qkv weight", run_qkv_weight, PER_LAYER, 6, 'l'},
    {"proj", run_proj, PER_LAYER, 2, 'l'},
    {"proj data", run_proj_data, PER_LAYER, 2, 'l'},
    {"proj weight", run_proj_weight, PER_LAYER, 2, 'l'},
    {"fc", run_fc, PER_LAYER, 8, 'l'},
    {"fc data", run_fc_data, PER_LAYER, 8, 'l'},
    {"fc weight", run_fc_weight, PER_LAYER, 8, 'l'},
    {"fc_proj", run_out, PER_LAYER, 8, 'l'},
    {"fc_proj data", run_out_data, PER_LAYER, 8, 'l'},
    {"fc_proj weight", run_out_weight, PER_LAYER, 8, 'l'},
    {"gelu tanh", run_gelu, PER_LAYER, 0, 0},
    {"gelu tanh backward", run_gelu_back, PER_LAYER, 0, 0},
    {"gelu erf", run_gelu_erf, NOT_IN_STEP, 0, 0},
    {"gelu erf backward", run_gelu_erf_back, NOT_IN_STEP, 0, 0},
    {"attention", run_attention, PER_LAYER, 2, 'a'},
    {"attention backward", run_attention_back, PER_LAYER, 5, 'a'},
    {"attention, dropout", run_attention_dropout, NOT_IN_STEP, 2, 'a'},
    {"attention backward, dropout", run_attention_dropout_back, NOT_IN_STEP, 5, 'a'},
    {"dropout", run_dropout, NOT_IN_STEP, 0, 0},
    {"head", run_head, PER_CHUNK, 2, 'h'},
    {"cross-entropy, both", run_cross_entropy, PER_CHUNK, 0, 0},
    {"head backward", run_head_back, PER_CHUNK, 4, 'h'},
    {"sum of squares", run_sum_squares, ONCE, 0, 0},
    {"adamw", run_adamw, ONCE, 0, 0},
};

static double flop_of(const Bench *b, const Line *line)
{
    double N = (double)b->N, C = (double)b->shape.C, n = (double)b->shape.head_chunk;
    if (line->unit == 'l')
        return line->flop * N * C * C;
    if (line->unit == 'h')
        return line->flop * n * C * (double)b->Vp;
    return line->flop * N * (double)b->shape.T * C; /* causal: half of the square */
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

/* The least time of one run, in seconds, over runs for `seconds` and at least three. */
static double least_time(void (*run)(Bench *b), Bench *b, double seconds)
{
    double begin = omp_get_wtime(), least = INFINITY;
    for (int32_t i = 0; i < 3 || omp_get_wtime() - begin < seconds; i++) {
        double start = omp_get_wtime();
        run(b);
        double took = omp_get_wtime() - start;
        least = took < least ? took : least;
    }
    return least;
}

enum { SQUARE = 1024 };

static void run_square(Bench *b)
{
    op_linear_forward(&b->dev, b->y, b->x, b->w_proj, tensor_none());
}

/* FLOP/s of the engine on a product of squares. */
static Err measure_peak(int32_t n_threads, double seconds, double *peak)
{
    Bench b = {0};
    void *memory = NULL;
    size_t bytes = (size_t)SQUARE * SQUARE * sizeof(float);
    TRY(device_open(&b.dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = n_threads}));
    Err err = device_alloc(&b.dev, 3 * bytes, &memory);
    if (!err) {
        fill(memory, 3 * bytes / sizeof(float));
        char *base = memory;
        b.x = tensor_2d(base, DTYPE_F32, SQUARE, SQUARE);
        b.w_proj = tensor_2d(base + bytes, DTYPE_F32, SQUARE, SQUARE);
        b.y = tensor_2d(base + 2 * bytes, DTYPE_F32, SQUARE, SQUARE);
        *peak = 2.0 * SQUARE * SQUARE * SQUARE / least_time(run_square, &b, seconds);
        err = device_sync(&b.dev);
    }
    device_free(&b.dev, memory);
    device_close(&b.dev);
    return err;
}

static void print_lines(Bench *b, double seconds, double peak)
{
    double step = 0;
    printf("\n%s: L%lld H%lld C%lld T%lld V%lld B%lld, %d threads\n", b->shape.name,
           (long long)b->shape.L, (long long)b->shape.H, (long long)b->shape.C,
           (long long)b->shape.T, (long long)b->shape.V, (long long)b->shape.B,
           (int)b->dev.n_threads);
    printf("%-28s %10s %10s %8s %12s\n", "op", "ms", "GFLOP/s", "of peak", "step, ms");
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        double took = least_time(LINES[i].run, b, seconds), rate = flop_of(b, &LINES[i]) / took;
        double in_step = took * times_in_step(b, &LINES[i]);
        step += in_step;
        printf("%-28s %10.3f ", LINES[i].name, took * 1e3);
        if (LINES[i].flop > 0)
            printf("%10.1f %7.0f%% ", rate * 1e-9, 100 * rate / peak);
        else
            printf("%10s %8s ", "", "");
        printf("%12.2f\n", in_step * 1e3);
    }
    printf("%-28s %10s %10s %8s %12.2f = %.0f tokens/s\n", "all", "", "", "", step * 1e3,
           (double)b->N / step);
}

static Err bench_shape(const Shape *shape, int32_t n_threads, double seconds, double peak)
{
    Bench bench;
    void *memory = NULL;
    Err err = bench_open(&bench, shape, n_threads, &memory);
    if (!err) {
        print_lines(&bench, seconds, peak);
        err = device_sync(&bench.dev);
    }
    device_free(&bench.dev, memory);
    device_close(&bench.dev);
    return err;
}

static Err bench_all(int32_t n_threads, const char *only, double seconds)
{
    double peak = 0;
    TRY(measure_peak(n_threads, seconds, &peak));
    printf("%d threads, squares of %d: %.1f GFLOP/s\n", (int)n_threads, SQUARE, peak * 1e-9);
    for (size_t i = 0; i < N_SHAPES; i++)
        if (!only || strcmp(only, SHAPES[i].name) == 0 || strcmp(only, "all") == 0)
            TRY(bench_shape(&SHAPES[i], n_threads, seconds, peak));
    return OK;
}

int main(int argc, char **argv)
{
    int32_t n_threads = argc > 1 ? (int32_t)atoi(argv[1]) : omp_get_max_threads();
    double seconds = argc > 3 ? atof(argv[3]) : 0.1;
    Err err = bench_all(n_threads, argc > 2 ? argv[2] : NULL, seconds);
    if (err)
        fprintf(stderr, "bench_ops: %s\n", err_message(err));
    int status = err ? 1 : 0;
    err_free(err);
    return status;
}
