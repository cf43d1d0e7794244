#include "model/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/acts.h"

Err decoder_open(Decoder *d, GPT2 *model)
{
    const GptShape *shape = &model->shape;
    ASSERT(shape->micro_batch == 1 && shape->n_tokens == model->dims.block_size,
           "a decoder of %lld sequences of %lld tokens", (long long)shape->micro_batch,
           (long long)shape->n_tokens);
    *d = (Decoder){.model = model, .keep = true};
    d->layer = calloc((size_t)model->dims.n_layer, sizeof *d->layer);
    d->ids = calloc((size_t)shape->n_tokens, sizeof *d->ids);
    if (!d->layer || !d->ids) {
        decoder_close(d);
        FAIL(ERR_SYSTEM, "no memory for the tables of a decoder");
    }
    return OK;
}

void decoder_close(Decoder *d)
{
    free(d->layer);
    free(d->ids);
    *d = (Decoder){0};
}

void decoder_layout(Decoder *d, Arena *arena)
{
    const GPT2 *m = d->model;
    int64_t T = m->shape.n_tokens, C = m->dims.n_embd, L = m->dims.n_layer;
    Tensor k = arena_2d(arena, REGION_ACTIVATIONS, "cache.k", m->shape.dtype, L * T, C);
    Tensor v = arena_2d(arena, REGION_ACTIVATIONS, "cache.v", m->shape.dtype, L * T, C);
    d->tokens = arena_1d(arena, REGION_DATA, "decoder tokens", DTYPE_I32, T);
    d->n_ids = 0;
    for (int32_t layer = 0; layer < L; layer++)
        d->layer[layer] = (KvCache){tensor_rows(k, layer * T, T), tensor_rows(v, layer * T, T)};
}

void decoder_forget(Decoder *d)
{
    d->n_ids = 0;
}

/* How many of the tokens are kept already; the last is always computed. */
static int64_t n_shared(const Decoder *d, const int32_t *ids, int64_t n_ids)
{
    int64_t n = 0;
    while (n < d->n_ids && n < n_ids - 1 && d->ids[n] == ids[n])
        n++;
    return n;
}

/* Queries of the batch, from position `first` on, against what is kept. Without anything before
 * them that is the attention of a whole sequence, which is made for many. */
static void attend(Decoder *d, Device *dev, const GptBatch *batch, int64_t first, int32_t layer)
{
    GPT2 *m = d->model;
    BlockActs a = acts_block(m, batch, layer);
    op_cache_append(dev, d->layer[layer], a.qkv, first);
    if (first == 0)
        block_attention(m, dev, batch, layer);
    else
        op_attention_cached(dev, a.att, a.qkv, d->layer[layer], first, m->dims.n_head);
}

static void forward(Decoder *d, Device *dev, const GptBatch *batch, int64_t first)
{
    GPT2 *m = d->model;
    Tensor branch = acts_scratch(m->acts->branch, batch, m->dims.n_embd);
    embed_tokens(m, dev, batch, first);
    for (int32_t layer = 0; layer < m->dims.n_layer; layer++) {
        block_qkv(m, dev, batch, layer);
        attend(d, dev, batch, first, layer);
        block_join(m, dev, batch, layer, branch);
        block_fc(m, dev, batch, layer);
        block_end(m, dev, batch, layer, branch);
    }
}

/* The tokens from `first` on, at most the cache's. */
static GptBatch upload(Decoder *d, Device *dev, const int32_t *ids, int64_t n_ids, int64_t first)
{
    int64_t n = n_ids - first;
    Tensor tokens = tensor_as_2d(tensor_range(d->tokens, 0, n), 1, n);
    device_upload(dev, tokens, ids + first);
    return (GptBatch){.tokens = tokens, .targets = tensor_none()};
}

static Err next_kept(Decoder *d, Device *dev, const int32_t *ids, int64_t n_ids, float *logits)
{
    int64_t first = n_shared(d, ids, n_ids);
    d->n_ids = 0; /* until all of it is there */
    GptBatch batch = upload(d, dev, ids, n_ids, first);
    forward(d, dev, &batch, first);
    TRY(gpt2_logits(d->model, dev, &batch, 0, n_ids - first - 1, logits));
    memcpy(d->ids + first, ids + first, (size_t)(n_ids - first) * sizeof *ids);
    d->n_ids = n_ids;
    return OK;
}

static Err next_whole(Decoder *d, Device *dev, const int32_t *ids, int64_t n_ids, float *logits)
{
    GptBatch batch = upload(d, dev, ids, n_ids, 0);
    gpt2_forward(d->model, dev, &batch);
    return gpt2_logits(d->model, dev, &batch, 0, n_ids - 1, logits);
}

Err decoder_next(Decoder *d, Device *dev, const int32_t *ids, int64_t n_ids, float *logits)
{
    int64_t T = d->model->shape.n_tokens, n = n_ids < T ? n_ids : T;
    ASSERT(n_ids >= 1, "a text of %lld tokens", (long long)n_ids);
    ids += n_ids - n;
    return d->keep ? next_kept(d, dev, ids, n, logits) : next_whole(d, dev, ids, n, logits);
}
