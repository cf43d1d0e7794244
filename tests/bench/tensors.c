#include "tests/bench/bench.h"

#include <stdlib.h>

#include "base/arena.h"

enum { LEAST_COPY_BYTES = 64 << 20 };
enum { GPU_HEAD_CHUNK = 8192 }; /* rows: as the plan's 4 GiB of logits would */
enum { RANDOM_FLOATS = 1 << 20 };

/* ---- memory ------------------------------------------------------------------------------ */

static Tensor floats(Arena *arena, const char *name, int64_t rows, int64_t cols)
{
    return arena_2d(arena, REGION_SCRATCH, name, DTYPE_F32, rows, cols);
}

/* In the compute dtype. */
static Tensor values(const Bench *b, Arena *arena, const char *name, int64_t rows, int64_t cols)
{
    return arena_2d(arena, REGION_SCRATCH, name, b->dtype, rows, cols);
}

static void layout_rows(Bench *b, Arena *arena)
{
    int64_t N = b->N, C = b->shape.C;
    b->tokens = arena_2d(arena, REGION_DATA, "tokens", DTYPE_I32, b->shape.B, b->shape.T);
    b->x = values(b, arena, "x", N, C);
    b->y = values(b, arena, "y", N, C);
    b->mean = floats(arena, "mean", 1, N);
    b->rstd = floats(arena, "rstd", 1, N);
    b->wide = values(b, arena, "wide", N, 4 * C);
    b->dwide = values(b, arena, "dwide", N, 4 * C);
    b->gelu = values(b, arena, "gelu", N, 4 * C);
}

static void layout_attention(Bench *b, Arena *arena)
{
    const int64_t statistics[] = {b->shape.B, b->shape.H, b->shape.T};
    int64_t N = b->N, C = b->shape.C;
    b->qkv = values(b, arena, "qkv", N, 3 * C);
    b->dqkv = values(b, arena, "dqkv", N, 3 * C);
    b->out = values(b, arena, "out", N, C);
    b->lse = arena_tensor(arena, REGION_SCRATCH, "lse", DTYPE_F32, 3, statistics);
    b->delta = arena_tensor(arena, REGION_SCRATCH, "delta", DTYPE_F32, 3, statistics);
}

/* One layer's and the embeddings'; float32 gradients. */
static void layout_weights(Bench *b, Arena *arena)
{
    int64_t C = b->shape.C, T = b->shape.T;
    b->ln_w = values(b, arena, "ln_w", 1, C);
    b->ln_b = values(b, arena, "ln_b", 1, C);
    b->dln_w = floats(arena, "dln_w", 1, C);
    b->dln_b = floats(arena, "dln_b", 1, C);
    b->w_qkv = values(b, arena, "w_qkv", C, 3 * C);
    b->w_proj = values(b, arena, "w_proj", C, C);
    b->w_fc = values(b, arena, "w_fc", C, 4 * C);
    b->w_out = values(b, arena, "w_out", 4 * C, C);
    b->dw = floats(arena, "dw", 4 * C, C);
    b->bias = values(b, arena, "bias", 1, 4 * C);
    b->dbias = floats(arena, "dbias", 1, 4 * C);
    b->wte = values(b, arena, "wte", b->Vp, C);
    b->wpe = values(b, arena, "wpe", T, C);
    b->dwte = floats(arena, "dwte", b->Vp, C);
    b->dwpe = floats(arena, "dwpe", T, C);
}

static void layout_head(Bench *b, Arena *arena)
{
    int64_t n = b->shape.head_chunk, C = b->shape.C;
    b->targets = arena_1d(arena, REGION_DATA, "targets", DTYPE_I32, n);
    b->logits = values(b, arena, "logits", n, b->Vp);
    b->rows = values(b, arena, "rows", n, C);
    b->drows = values(b, arena, "drows", n, C);
    b->losses = arena_1d(arena, REGION_DATA, "losses", DTYPE_F32, n);
}

static void layout_optimizer(Bench *b, Arena *arena)
{
    int64_t C = b->shape.C, embeddings = (b->Vp + b->shape.T) * C;
    int64_t params = embeddings + b->shape.L * (12 * C * C + 13 * C) + 2 * C;
    b->total = arena_1d(arena, REGION_DATA, "total", DTYPE_F64, 1);
    b->param = values(b, arena, "param", 1, params);
    b->master = b->dtype == DTYPE_F32 ? tensor_none() : floats(arena, "master", 1, params);
    b->m = floats(arena, "m", 1, params);
    b->v = floats(arena, "v", 1, params);
    b->grad = floats(arena, "grad", 1, params);
}

static void layout_tools(Bench *b, Arena *arena, const OpLimits *limits)
{
    int64_t bytes = (int64_t)ops_workspace_bytes(b->dev.kind, b->dev.n_threads, limits);
    b->random = arena_1d(arena, REGION_DATA, "random", DTYPE_F32, RANDOM_FLOATS);
    device_set_workspace(&b->dev, arena_1d(arena, REGION_WORKSPACE, "workspace", DTYPE_U8, bytes));
}

static void layout_shape(Bench *b, Arena *arena)
{
    const Shape *s = &b->shape;
    layout_rows(b, arena);
    layout_attention(b, arena);
    layout_weights(b, arena);
    layout_head(b, arena);
    layout_optimizer(b, arena);
    layout_tools(b, arena, &(OpLimits){b->N, s->T, s->C, (int32_t)s->H, b->Vp});
}

static void layout_roofs(Bench *b, Arena *arena)
{
    int64_t n = b->N, square = n * n * (int64_t)dtype_bytes(b->dtype);
    int64_t copied = square < LEAST_COPY_BYTES ? LEAST_COPY_BYTES : square;
    b->x = values(b, arena, "x", n, n);
    b->w_proj = values(b, arena, "w_proj", n, n);
    b->y = values(b, arena, "y", n, n);
    b->m = arena_1d(arena, REGION_SCRATCH, "m", DTYPE_U8, copied);
    b->v = arena_1d(arena, REGION_SCRATCH, "v", DTYPE_U8, copied);
    layout_tools(b, arena, &(OpLimits){n, n, n, 1, 128});
}

/* b->memory, with its tensors where the layout puts them. */
static Err allocate(Bench *b, void (*layout)(Bench *b, Arena *arena))
{
    static const Arena EMPTY;
    Arena arena = EMPTY;
    arena_init(&arena, NULL, 0);
    layout(b, &arena);
    size_t bytes = arena.peak_bytes;
    TRY(device_alloc(&b->dev, bytes, &b->memory));
    arena_init(&arena, b->memory, bytes);
    layout(b, &arena);
    return OK;
}

/* ---- values ------------------------------------------------------------------------------ */

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

/* ---- life -------------------------------------------------------------------------------- */

Err bench_open_shape(Bench *b, const Shape *shape, int64_t batch)
{
    b->shape = *shape;
    b->shape.B = batch > 0 ? batch : shape->B;
    b->N = b->shape.B * shape->T;
    b->shape.head_chunk = b->N < shape->head_chunk ? b->N : shape->head_chunk;
    if (!device_is_host(&b->dev) && b->N >= GPU_HEAD_CHUNK)
        b->shape.head_chunk = GPU_HEAD_CHUNK;
    b->Vp = (shape->V + 127) / 128 * 128;
    TRY(allocate(b, layout_shape));
    return fill_all(b);
}

Err bench_open_roofs(Bench *b, int64_t n)
{
    b->N = n;
    TRY(allocate(b, layout_roofs));
    TRY(fill_random(b));
    fill(b, b->x);
    fill(b, b->w_proj);
    device_zero(&b->dev, b->v);
    return OK;
}

void bench_release(Bench *b)
{
    device_set_workspace(&b->dev, tensor_none());
    device_free(&b->dev, b->memory);
    b->memory = NULL;
}
