/* The backward pass: forward.c read from the end. Parameter gradients are added to m->grads; the
 * gradient of the residual stream goes from the head to the embedding in one buffer, to which each
 * sublayer adds.
 *
 * Every weight's gradient is formed as soon as both its factors are there, so that its bucket can
 * leave early. The order is the same under all recompute levels, and so are the bits. */
#include "model/acts.h"

typedef struct {
    GPT2 *m;
    Device *dev;
    const GptBatch *batch;
    double scale;
    GradReadyFn *ready; /* may be NULL */
    void *arg;
    int32_t n_waiting; /* buckets 0 ... n_waiting - 1 are not final yet */
    Tensor dx;         /* (N,C) gradient of the residual stream */
    Tensor narrow; /* (N,C) gradients of a sublayer's inputs; free once ln_f's backward is done */
} Pass;

/* Everything from this tensor to the end of the flat vector is final, and nothing in front of it
 * has been touched but the head's share of wte's: buckets end at these places (layout.c). */
static void final_from(Pass *p, ParamKind kind, int32_t layer)
{
    const Layout *layout = p->m->layout;
    int32_t first = (int32_t)(layout_find(layout, kind, layer) - layout->param);
    while (p->n_waiting > 0 && layout->bucket[p->n_waiting - 1].first_param >= first) {
        p->n_waiting--;
        if (p->ready)
            p->ready(p->arg, p->n_waiting);
    }
}

/* ln_f's output is overwritten by its gradient, chunk by chunk. */
static void head_backward(Pass *p, NormActs ln_f)
{
    GPT2 *m = p->m;
    const GptActs *a = m->acts;
    int64_t N = batch_rows(p->batch), chunk = m->shape.head_chunk;
    for (int64_t row = 0; row < N; row += chunk) {
        int64_t n = N - row < chunk ? N - row : chunk;
        Tensor logits = tensor_rows(a->logits, 0, n), x = tensor_rows(ln_f.y, row, n);
        op_head_forward(p->dev, logits, x, m->param.wte);
        op_cross_entropy_forward_backward(p->dev, tensor_range(a->losses, row, n), logits,
                                          tensor_range(p->batch->targets, row, n),
                                          m->dims.vocab_size, (float)p->scale);
        op_head_backward(p->dev, x, m->grad.wte, logits, x, m->param.wte);
    }
    op_add_sum(p->dev, m->loss_total, tensor_range(a->losses, 0, N), p->scale);
}

/* p->dx += the gradient through a LayerNorm whose output's gradient is dy; y as wanted again, or
 * none. */
static void norm_backward(Pass *p, NormActs norm, Tensor dy, Tensor y)
{
    op_layernorm_backward(p->dev, &(LayernormBackward){
                                      .dx = p->dx,
                                      .dw = norm.dw,
                                      .db = norm.db,
                                      .y = y,
                                      .dy = dy,
                                      .x = norm.x,
                                      .w = norm.w,
                                      .b = norm.b,
                                      .mean = norm.mean,
                                      .rstd = norm.rstd,
                                  });
}

static void final_norm_backward(Pass *p)
{
    NormActs ln_f = acts_norm(p->m, p->batch, 2 * p->m->dims.n_layer);
    head_backward(p, ln_f);
    device_zero(p->dev, p->dx);
    norm_backward(p, ln_f, ln_f.y, tensor_none());
    p->narrow = ln_f.x;
    final_from(p, PARAM_LN_F_W, -1);
}

/* norm.y again, from norm.x; and the same statistics. */
static void norm_again(Pass *p, NormActs norm)
{
    op_layernorm_forward(p->dev, norm.y, norm.mean, norm.rstd, norm.x, norm.w, norm.b);
}

/* What the MLP's backward needs of a block that dropped it. What the last block left in the shared
 * slices is still there. */
static void restore_mlp(Pass *p, int32_t layer)
{
    GPT2 *m = p->m;
    Recompute level = recompute_at(&m->shape.recompute, layer);
    if (level < RECOMPUTE_FFN || layer == m->dims.n_layer - 1)
        return;
    if (level == RECOMPUTE_BLOCK) {
        norm_again(p, acts_norm(m, p->batch, 2 * layer));
        block_qkv(m, p->dev, p->batch, layer);
        block_middle(m, p->dev, p->batch, layer,
                     acts_scratch(m->acts->wide, p->batch, m->dims.n_embd));
    } else {
        norm_again(p, acts_norm(m, p->batch, 2 * layer + 1));
    }
    block_fc(m, p->dev, p->batch, layer);
}

/* And the attention's, where restore_mlp has not been there. */
static void restore_attention(Pass *p, int32_t layer)
{
    GPT2 *m = p->m;
    if (recompute_at(&m->shape.recompute, layer) != RECOMPUTE_QKV || layer == m->dims.n_layer - 1)
        return;
    norm_again(p, acts_norm(m, p->batch, 2 * layer));
    block_qkv(m, p->dev, p->batch, layer);
}

/* The gradient before dropout: p->dx itself when there is none. */
static Tensor undrop(Pass *p, Tensor buffer, Dropout dropout)
{
    if (dropout.rate == 0.0f)
        return p->dx;
    op_dropout(p->dev, buffer, p->dx, dropout);
    return buffer;
}

static void mlp_backward(Pass *p, int32_t layer)
{
    GPT2 *m = p->m;
    const BlockTensors *w = &m->param.block[layer], *dw = &m->grad.block[layer];
    BlockActs a = acts_block(m, p->batch, layer);
    NormActs ln_2 = acts_norm(m, p->batch, 2 * layer + 1);
    Tensor dfc = acts_scratch(m->acts->wide, p->batch, 4 * m->dims.n_embd);
    Tensor gelu = a.gelu_kept ? a.gelu : a.fc;

    Tensor dout = undrop(p, p->narrow, acts_dropout(m, p->batch, layer, DROP_FC_PROJ));
    op_linear_backward_data(p->dev, dfc, dout, w->fc_proj_w);
    op_gelu_backward(p->dev, dfc, a.gelu_kept ? tensor_none() : gelu, dfc, a.fc, m->dims.gelu);
    op_linear_backward_weight(p->dev, dw->fc_proj_w, dw->fc_proj_b, gelu, dout);
    final_from(p, PARAM_FC_PROJ_W, layer);

    op_linear_backward_data(p->dev, p->narrow, dfc, w->fc_w);
    norm_backward(p, ln_2, p->narrow, ln_2.kept ? tensor_none() : ln_2.y);
    op_linear_backward_weight(p->dev, dw->fc_w, dw->fc_b, ln_2.y, dfc);
    final_from(p, PARAM_LN_2_W, layer);
}

static void attention_backward(Pass *p, int32_t layer)
{
    GPT2 *m = p->m;
    const BlockTensors *w = &m->param.block[layer], *dw = &m->grad.block[layer];
    BlockActs a = acts_block(m, p->batch, layer);
    NormActs ln_1 = acts_norm(m, p->batch, 2 * layer);
    Tensor dqkv = acts_scratch(m->acts->wide, p->batch, 3 * m->dims.n_embd);
    Tensor masked = acts_scratch(m->acts->norm_shared, p->batch, m->dims.n_embd);
    Tensor delta = tensor_range(m->acts->delta, 0, tensor_count(a.lse));

    Tensor dout = undrop(p, masked, acts_dropout(m, p->batch, layer, DROP_ATTN_PROJ));
    op_linear_backward_data(p->dev, p->narrow, dout, w->attn_proj_w);
    op_linear_backward_weight(p->dev, dw->attn_proj_w, dw->attn_proj_b, a.att, dout);
    final_from(p, PARAM_ATTN_PROJ_W, layer);

    op_attention_backward(p->dev, &(AttentionBackward){
                                      .dqkv = dqkv,
                                      .delta = tensor_3d(delta.data, delta.dtype, a.lse.dim[0],
                                                         a.lse.dim[1], a.lse.dim[2]),
                                      .dout = p->narrow,
                                      .out = a.att,
                                      .lse = a.lse,
                                      .qkv = a.qkv,
                                      .dropout = acts_dropout(m, p->batch, layer, DROP_ATTENTION),
                                  });
    op_linear_backward_data(p->dev, p->narrow, dqkv, w->attn_w);
    norm_backward(p, ln_1, p->narrow, ln_1.kept ? tensor_none() : ln_1.y);
    op_linear_backward_weight(p->dev, dw->attn_w, dw->attn_b, ln_1.y, dqkv);
    final_from(p, PARAM_LN_1_W, layer);
}

/* wte's gradient began in the head: it and wpe's are final here, and not before. */
static void embed_backward(Pass *p)
{
    GPT2 *m = p->m;
    op_dropout(p->dev, p->dx, p->dx, acts_dropout(m, p->batch, 0, DROP_EMBEDDING));
    op_embedding_backward(p->dev, m->grad.wte, m->grad.wpe, p->dx, p->batch->tokens);
    final_from(p, PARAM_WTE, -1);
}

void gpt2_backward(GPT2 *m, Device *dev, const GptBatch *batch, double scale, GradReadyFn *ready,
                   void *arg)
{
    Pass p = {
        .m = m,
        .dev = dev,
        .batch = batch,
        .scale = scale,
        .ready = ready,
        .arg = arg,
        .n_waiting = m->layout->n_buckets,
        .dx = acts_scratch(m->acts->branch, batch, m->dims.n_embd),
    };
    final_norm_backward(&p);
    for (int32_t layer = m->dims.n_layer - 1; layer >= 0; layer--) {
        restore_mlp(&p, layer);
        mlp_backward(&p, layer);
        restore_attention(&p, layer);
        attention_backward(&p, layer);
    }
    embed_backward(&p);
}
