#include "model/gpt2.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"
#include "model/acts.h"

/* ---- life -------------------------------------------------------------------------------- */

Err gpt2_open(GPT2 *m, const GptDims *dims, const GptShape *shape, const Layout *layout)
{
    int64_t n_rows = shape->micro_batch * shape->n_tokens;
    ASSERT(shape->n_tokens >= 1 && shape->n_tokens <= dims->block_size, "n_tokens %lld",
           (long long)shape->n_tokens);
    ASSERT(shape->head_chunk >= 1 && shape->head_chunk <= n_rows, "head_chunk %lld of %lld rows",
           (long long)shape->head_chunk, (long long)n_rows);
    ASSERT(!shape->training || recompute_n_layers(&shape->recompute) == dims->n_layer,
           "recompute levels of %d blocks", recompute_n_layers(&shape->recompute));
    ASSERT(!shape->bucket_grads || layout->n_buckets > LAYOUT_TABLES, "%d buckets",
           layout->n_buckets);
    *m = (GPT2){.dims = *dims, .shape = *shape, .layout = layout};
    m->param_bucket = calloc((size_t)layout->n_buckets, sizeof *m->param_bucket);
    m->grad_bucket = calloc((size_t)layout->n_buckets, sizeof *m->grad_bucket);
    m->param.block = calloc((size_t)dims->n_layer, sizeof *m->param.block);
    m->grad.block = calloc((size_t)dims->n_layer, sizeof *m->grad.block);
    m->acts = calloc(1, sizeof *m->acts);
    if (!m->param_bucket || !m->grad_bucket || !m->param.block || !m->grad.block || !m->acts) {
        gpt2_close(m);
        FAIL(ERR_SYSTEM, "no memory for the views of %d layers", (int)dims->n_layer);
    }
    return OK;
}

void gpt2_close(GPT2 *m)
{
    free(m->param_bucket);
    free(m->grad_bucket);
    free(m->param.block);
    free(m->grad.block);
    free(m->acts);
    *m = (GPT2){0};
}

/* ---- views of the flat vectors ----------------------------------------------------------- */

static Tensor view(const Tensor *bucket, const Layout *layout, ParamKind kind, int32_t layer)
{
    const Param *p = layout_find(layout, kind, layer);
    if (!p)
        return tensor_none();
    int64_t within = p->offset - layout->bucket[p->bucket].offset;
    Tensor t = tensor_range(bucket[p->bucket], within, param_count(p));
    return p->rank == 1 ? t : tensor_as_2d(t, p->dim[0], p->dim[1]);
}

static BlockTensors view_block(const Tensor *bucket, const Layout *layout, int32_t layer)
{
    return (BlockTensors){
        .ln_1_w = view(bucket, layout, PARAM_LN_1_W, layer),
        .ln_1_b = view(bucket, layout, PARAM_LN_1_B, layer),
        .attn_w = view(bucket, layout, PARAM_ATTN_W, layer),
        .attn_b = view(bucket, layout, PARAM_ATTN_B, layer),
        .attn_proj_w = view(bucket, layout, PARAM_ATTN_PROJ_W, layer),
        .attn_proj_b = view(bucket, layout, PARAM_ATTN_PROJ_B, layer),
        .ln_2_w = view(bucket, layout, PARAM_LN_2_W, layer),
        .ln_2_b = view(bucket, layout, PARAM_LN_2_B, layer),
        .fc_w = view(bucket, layout, PARAM_FC_W, layer),
        .fc_b = view(bucket, layout, PARAM_FC_B, layer),
        .fc_proj_w = view(bucket, layout, PARAM_FC_PROJ_W, layer),
        .fc_proj_b = view(bucket, layout, PARAM_FC_PROJ_B, layer),
    };
}

static void view_all(GptTensors *tensors, const Tensor *bucket, const Layout *layout,
                     int32_t n_layer)
{
    tensors->wte = view(bucket, layout, PARAM_WTE, -1);
    tensors->wpe = view(bucket, layout, PARAM_WPE, -1);
    tensors->ln_f_w = view(bucket, layout, PARAM_LN_F_W, -1);
    tensors->ln_f_b = view(bucket, layout, PARAM_LN_F_B, -1);
    for (int32_t layer = 0; layer < n_layer; layer++)
        tensors->block[layer] = view_block(bucket, layout, layer);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void cut_into_buckets(Tensor *bucket, Tensor flat, const Layout *layout)
{
    for (int32_t b = 0; b < layout->n_buckets; b++)
        bucket[b] = tensor_range(flat, layout->bucket[b].offset, layout->bucket[b].count);
}

/* The tables' gradients, then two places for the others. */
static int64_t n_gradients(const GPT2 *m)
{
    const Layout *layout = m->layout;
    if (!m->shape.bucket_grads)
        return layout->count;
    return layout->bucket[LAYOUT_TABLES].offset + 2 * layout_largest_bucket(layout, LAYOUT_TABLES);
}

static void cut_into_places(GPT2 *m)
{
    const Layout *layout = m->layout;
    int64_t tables = layout->bucket[LAYOUT_TABLES].offset;
    int64_t place = (tensor_count(m->grads) - tables) / 2;
    for (int32_t b = 0; b < layout->n_buckets; b++) {
        int64_t begin = b < LAYOUT_TABLES ? layout->bucket[b].offset : tables + b % 2 * place;
        m->grad_bucket[b] = tensor_range(m->grads, begin, layout->bucket[b].count);
    }
}

static void view_vectors(GPT2 *m)
{
    cut_into_buckets(m->param_bucket, m->params, m->layout);
    view_all(&m->param, m->param_bucket, m->layout, m->dims.n_layer);
    if (!m->shape.training)
        return;
    if (m->shape.bucket_grads)
        cut_into_places(m);
    else
        cut_into_buckets(m->grad_bucket, m->grads, m->layout);
    view_all(&m->grad, m->grad_bucket, m->layout, m->dims.n_layer);
}

/* A measuring run makes no views: a plan measures thousands of times. */
void gpt2_layout_vectors(GPT2 *m, Arena *arena)
{
    const char *grads = m->shape.bucket_grads ? "gradient buckets" : "grads";
    m->params = arena_1d(arena, REGION_PARAMETERS, "params", m->shape.dtype, m->layout->count);
    if (m->shape.training)
        m->grads = arena_1d(arena, REGION_GRADIENTS, grads, DTYPE_F32, n_gradients(m));
    if (arena->base)
        view_vectors(m);
}

void gpt2_borrow_params(GPT2 *m, const GPT2 *owner)
{
    ASSERT(!m->shape.training && m->layout == owner->layout, "models of different layouts");
    m->params = owner->params;
    view_vectors(m);
}

/* How many blocks keep what level `drops` does not: the first ones. None when not training. */
static int32_t n_keeping(const GPT2 *m, Recompute drops)
{
    return m->shape.training ? recompute_n_below(&m->shape.recompute, drops) : 0;
}

/* A slice for each block that keeps it, and one that the others share. */
static int64_t n_slices(const GPT2 *m, Recompute drops)
{
    int32_t n = n_keeping(m, drops);
    return n < m->dims.n_layer ? n + 1 : n;
}

/* Which of these slices is a block's. */
static int64_t slice_index(const GPT2 *m, Recompute drops, int32_t layer)
{
    int32_t n = n_keeping(m, drops);
    return layer < n ? layer : n;
}

static Tensor slices(GPT2 *m, Arena *arena, const char *name, int64_t n, int64_t cols)
{
    int64_t n_rows = m->shape.micro_batch * m->shape.n_tokens;
    return arena_2d(arena, REGION_ACTIVATIONS, name, m->shape.dtype, n * n_rows, cols);
}

/* `per_row` floats for each row of each slice. */
static Tensor float_slices(GPT2 *m, Arena *arena, const char *name, int64_t n, int64_t per_row)
{
    int64_t n_rows = m->shape.micro_batch * m->shape.n_tokens;
    return arena_1d(arena, REGION_ACTIVATIONS, name, DTYPE_F32, n * n_rows * per_row);
}

static void layout_kept(GPT2 *m, Arena *arena)
{
    GptActs *a = m->acts;
    bool training = m->shape.training;
    int64_t L = m->dims.n_layer, C = m->dims.n_embd;
    int64_t n_blocks = n_slices(m, RECOMPUTE_BLOCK);
    int32_t n_whole = n_keeping(m, RECOMPUTE_GELU_LN);

    a->residual = slices(m, arena, "residual", training ? L + 1 : 1, C);
    a->middle = training ? slices(m, arena, "h.*.middle", n_blocks, C) : a->residual;
    a->mean = float_slices(m, arena, "ln.mean", 2 * n_blocks + 1, 1);
    a->rstd = float_slices(m, arena, "ln.rstd", 2 * n_blocks + 1, 1);
    a->qkv = slices(m, arena, "h.*.qkv", n_slices(m, RECOMPUTE_QKV), 3 * C);
    a->att = slices(m, arena, "h.*.att", n_blocks, C);
    a->lse = float_slices(m, arena, "h.*.lse", n_blocks, m->dims.n_head);
    a->fc = slices(m, arena, "h.*.fc", n_slices(m, RECOMPUTE_FFN), 4 * C);
    a->norm = n_whole > 0 ? slices(m, arena, "h.*.ln", 2 * n_whole, C) : tensor_none();
    a->gelu = n_whole > 0 ? slices(m, arena, "h.*.gelu", n_whole, 4 * C) : tensor_none();
}

/* The head's logits lie over the blocks' widest scratch. The larger of the two is carved last, so
 * that what follows in the arena starts behind both. */
static void layout_shared(GPT2 *m, Arena *arena)
{
    GptActs *a = m->acts;
    int64_t n_rows = m->shape.micro_batch * m->shape.n_tokens, cols = 4 * m->dims.n_embd;
    bool wide_last = n_rows * cols > m->shape.head_chunk * m->dims.vocab_padded;
    for (int turn = 0; turn < 2; turn++) {
        size_t mark = arena_mark(arena);
        if ((turn == 1) == wide_last)
            a->wide = arena_2d(arena, REGION_SCRATCH, "wide", m->shape.dtype, n_rows, cols);
        else
            a->logits = arena_2d(arena, REGION_HEAD, "logits", m->shape.dtype, m->shape.head_chunk,
                                 m->dims.vocab_padded);
        if (turn == 0)
            arena_rewind(arena, mark);
    }
}

static void layout_scratch(GPT2 *m, Arena *arena)
{
    GptActs *a = m->acts;
    int64_t C = m->dims.n_embd, n_rows = m->shape.micro_batch * m->shape.n_tokens;
    DType dtype = m->shape.dtype;
    a->branch = arena_2d(arena, REGION_SCRATCH, "branch", dtype, n_rows, C);
    a->norm_shared = arena_2d(arena, REGION_SCRATCH, "norm_shared", dtype, n_rows, C);
    if (m->shape.training)
        a->delta = arena_1d(arena, REGION_SCRATCH, "delta", DTYPE_F32, n_rows * m->dims.n_head);
    a->losses = arena_1d(arena, REGION_HEAD, "losses", DTYPE_F32, n_rows);
    a->logits_row = arena_1d(arena, REGION_HEAD, "logits_row", DTYPE_F32, m->dims.vocab_padded);
    m->loss_total = arena_1d(arena, REGION_HEAD, "loss_total", DTYPE_F64, 1);
    layout_shared(m, arena);
}

void gpt2_layout_activations(GPT2 *m, Arena *arena)
{
    layout_kept(m, arena);
    layout_scratch(m, arena);
}

void gpt2_layout(GPT2 *m, Arena *arena)
{
    gpt2_layout_vectors(m, arena);
    gpt2_layout_activations(m, arena);
}

/* ---- views of the activations ------------------------------------------------------------ */

int64_t batch_rows(const GptBatch *batch)
{
    return batch->tokens.dim[0] * batch->tokens.dim[1];
}

/* The first `count` elements of slice i of a region of (slices x per_slice) elements. */
static Tensor slice(Tensor region, int64_t i, int64_t per_slice, int64_t count)
{
    return tensor_range(region, i * per_slice, count);
}

static Tensor slice_2d(const GPT2 *m, const GptBatch *batch, Tensor region, int64_t i)
{
    int64_t n = batch_rows(batch), cols = region.dim[1];
    int64_t most = m->shape.micro_batch * m->shape.n_tokens;
    return tensor_as_2d(slice(region, i, most * cols, n * cols), n, cols);
}

Tensor acts_scratch(Tensor buffer, const GptBatch *batch, int64_t cols)
{
    int64_t n = batch_rows(batch);
    return tensor_as_2d(tensor_range(buffer, 0, n * cols), n, cols);
}

static void norm_weights(const GPT2 *m, int32_t i, NormActs *norm)
{
    const GptTensors *param = &m->param, *grad = &m->grad;
    int32_t layer = i / 2;
    if (layer == m->dims.n_layer) {
        norm->w = param->ln_f_w, norm->b = param->ln_f_b;
        norm->dw = grad->ln_f_w, norm->db = grad->ln_f_b;
    } else if (i % 2 == 0) {
        norm->w = param->block[layer].ln_1_w, norm->b = param->block[layer].ln_1_b;
        norm->dw = grad->block[layer].ln_1_w, norm->db = grad->block[layer].ln_1_b;
    } else {
        norm->w = param->block[layer].ln_2_w, norm->b = param->block[layer].ln_2_b;
        norm->dw = grad->block[layer].ln_2_w, norm->db = grad->block[layer].ln_2_b;
    }
}

/* Value i of the residual stream. */
static Tensor residual_value(const GPT2 *m, const GptBatch *batch, int32_t i)
{
    int32_t layer = i / 2;
    if (i % 2 == 0)
        return slice_2d(m, batch, m->acts->residual, m->shape.training ? layer : 0);
    return slice_2d(m, batch, m->acts->middle, slice_index(m, RECOMPUTE_BLOCK, layer));
}

/* Where norm i's statistics lie; ln_f's are behind those of all blocks. */
static int64_t statistics_index(const GPT2 *m, int32_t i)
{
    int32_t layer = i / 2;
    if (layer == m->dims.n_layer)
        return 2 * n_slices(m, RECOMPUTE_BLOCK);
    return 2 * slice_index(m, RECOMPUTE_BLOCK, layer) + i % 2;
}

NormActs acts_norm(const GPT2 *m, const GptBatch *batch, int32_t i)
{
    const GptActs *a = m->acts;
    int64_t n = batch_rows(batch), most = m->shape.micro_batch * m->shape.n_tokens;
    int64_t at = statistics_index(m, i);
    NormActs norm = {
        .x = residual_value(m, batch, i),
        .mean = slice(a->mean, at, most, n),
        .rstd = slice(a->rstd, at, most, n),
        .kept = i / 2 < n_keeping(m, RECOMPUTE_GELU_LN),
    };
    norm.y = norm.kept ? slice_2d(m, batch, a->norm, i)
                       : acts_scratch(a->norm_shared, batch, m->dims.n_embd);
    norm_weights(m, i, &norm);
    return norm;
}

static Tensor block_slice(const GPT2 *m, const GptBatch *batch, Tensor region, Recompute drops,
                          int32_t layer)
{
    return slice_2d(m, batch, region, slice_index(m, drops, layer));
}

BlockActs acts_block(const GPT2 *m, const GptBatch *batch, int32_t layer)
{
    const GptActs *a = m->acts;
    int64_t B = batch->tokens.dim[0], T = batch->tokens.dim[1], H = m->dims.n_head;
    int64_t most = m->shape.micro_batch * m->shape.n_tokens * H;
    Tensor lse = slice(a->lse, slice_index(m, RECOMPUTE_BLOCK, layer), most, B * H * T);
    bool kept = layer < n_keeping(m, RECOMPUTE_GELU_LN);
    return (BlockActs){
        .qkv = block_slice(m, batch, a->qkv, RECOMPUTE_QKV, layer),
        .att = block_slice(m, batch, a->att, RECOMPUTE_BLOCK, layer),
        .lse = tensor_3d(lse.data, lse.dtype, B, H, T),
        .fc = block_slice(m, batch, a->fc, RECOMPUTE_FFN, layer),
        .gelu = kept ? slice_2d(m, batch, a->gelu, layer)
                     : acts_scratch(a->wide, batch, 4 * m->dims.n_embd),
        .gelu_kept = kept,
    };
}

Dropout acts_dropout(const GPT2 *m, const GptBatch *batch, int32_t layer, DropPlace place)
{
    return (Dropout){
        .rate = batch->training ? m->dims.dropout : 0.0f,
        .seed = batch->seed,
        .site = (uint32_t)layer * 4 + (uint32_t)place,
        .first_sample = batch->first_sample,
        .tokens_per_sample = batch->tokens.dim[1],
    };
}

/* ---- initial parameters ------------------------------------------------------------------ */

static void fill(float *values, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = value;
}

void gpt2_init_tensor(const GptDims *dims, const Param *p, int32_t index, uint64_t seed,
                      float *values)
{
    int64_t count = param_count(p), known = param_file_count(p);
    bool is_projection = p->kind == PARAM_ATTN_PROJ_W || p->kind == PARAM_FC_PROJ_W;
    bool is_gain = p->kind == PARAM_LN_1_W || p->kind == PARAM_LN_2_W || p->kind == PARAM_LN_F_W;
    double stddev = is_projection ? 0.02 / sqrt(2.0 * dims->n_layer) : 0.02;
    if (p->rank == 2)
        rng_fill_normal(values, known, (float)stddev, seed, RNG_INIT, (uint64_t)index);
    else
        fill(values, known, is_gain ? 1.0f : 0.0f);
    fill(values + known, count - known, 0.0f);
}

static int64_t largest_tensor(const Layout *layout)
{
    int64_t most = 0;
    for (int32_t i = 0; i < layout->n_params; i++)
        if (param_count(&layout->param[i]) > most)
            most = param_count(&layout->param[i]);
    return most;
}

Err gpt2_init_params(GPT2 *m, Device *dev, uint64_t seed, GptInitFn *also, void *arg)
{
    const Layout *layout = m->layout;
    Err err = OK;
    int64_t most = largest_tensor(layout);
    float *values = malloc((size_t)most * sizeof *values);
    if (!values)
        FAIL(ERR_SYSTEM, "no memory for %lld initial values", (long long)most);
    device_zero(dev, m->params); /* the padding */
    for (int32_t i = 0; i < layout->n_params; i++) {
        const Param *p = &layout->param[i];
        gpt2_init_tensor(&m->dims, p, i, seed, values);
        if (also)
            TRY_GOTO(err, done, also(arg, i, values));
        f32_to_parameters(m->params.dtype, values, param_count(p));
        device_upload(dev, tensor_range(m->params, p->offset, param_count(p)), values);
        TRY_GOTO(err, done, device_sync(dev)); /* values is used again */
    }
done:
    free(values);
    return err;
}
