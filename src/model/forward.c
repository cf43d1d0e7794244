/* The forward pass. One block, as in GPT-2 (pre-norm; Radford et al. 2019, section 2.3):
 *
 *     x = x + proj(attention(qkv(ln_1(x))))
 *     x = x + proj(gelu(fc(ln_2(x))))
 *
 * The residual sum and the LayerNorm after it are one op, so a sublayer starts with its normalised
 * input and ends by making the next sublayer's. */
#include "base/check.h"
#include "model/acts.h"

static void check_batch(const GPT2 *m, const GptBatch *batch)
{
    int64_t B = batch->tokens.dim[0], T = batch->tokens.dim[1];
    ASSERT(T <= m->shape.n_tokens && B * T <= m->shape.micro_batch * m->shape.n_tokens,
           "batch (%lld,%lld) of (%lld,%lld)", (long long)B, (long long)T,
           (long long)m->shape.micro_batch, (long long)m->shape.n_tokens);
}

/* next.x = x + delta; next.y = LayerNorm(next.x) */
static void add_and_norm(Device *dev, NormActs next, Tensor x, Tensor delta)
{
    op_residual_layernorm_forward(dev, next.y, next.mean, next.rstd, next.x, x, delta, next.w,
                                  next.b);
}

void embed_tokens(GPT2 *m, Device *dev, const GptBatch *batch, int64_t first)
{
    NormActs ln = acts_norm(m, batch, 0);
    Tensor wpe = tensor_rows(m->param.wpe, first, batch->tokens.dim[1]);
    op_embedding_forward(dev, ln.x, batch->tokens, m->param.wte, wpe);
    op_dropout(dev, ln.x, ln.x, acts_dropout(m, batch, 0, DROP_EMBEDDING));
    op_layernorm_forward(dev, ln.y, ln.mean, ln.rstd, ln.x, ln.w, ln.b);
}

void block_qkv(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer)
{
    const BlockTensors *w = &m->param.block[layer];
    BlockActs a = acts_block(m, batch, layer);
    op_linear_forward(dev, a.qkv, acts_norm(m, batch, 2 * layer).y, w->attn_w, w->attn_b);
}

void block_attention(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer)
{
    BlockActs a = acts_block(m, batch, layer);
    op_attention_forward(dev, a.att, a.lse, a.qkv, acts_dropout(m, batch, layer, DROP_ATTENTION));
}

void block_join(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer, Tensor out)
{
    const BlockTensors *w = &m->param.block[layer];
    BlockActs a = acts_block(m, batch, layer);
    NormActs ln_1 = acts_norm(m, batch, 2 * layer), ln_2 = acts_norm(m, batch, 2 * layer + 1);
    op_linear_forward(dev, out, a.att, w->attn_proj_w, w->attn_proj_b);
    op_dropout(dev, out, out, acts_dropout(m, batch, layer, DROP_ATTN_PROJ));
    add_and_norm(dev, ln_2, ln_1.x, out);
}

void block_middle(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer, Tensor out)
{
    block_attention(m, dev, batch, layer);
    block_join(m, dev, batch, layer, out);
}

void block_fc(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer)
{
    const BlockTensors *w = &m->param.block[layer];
    BlockActs a = acts_block(m, batch, layer);
    op_linear_forward(dev, a.fc, acts_norm(m, batch, 2 * layer + 1).y, w->fc_w, w->fc_b);
}

void block_end(GPT2 *m, Device *dev, const GptBatch *batch, int32_t layer, Tensor out)
{
    const BlockTensors *w = &m->param.block[layer];
    BlockActs a = acts_block(m, batch, layer);
    NormActs ln_2 = acts_norm(m, batch, 2 * layer + 1), next = acts_norm(m, batch, 2 * layer + 2);

    op_gelu_forward(dev, a.gelu, a.fc, m->dims.gelu);
    op_linear_forward(dev, out, a.gelu, w->fc_proj_w, w->fc_proj_b);
    op_dropout(dev, out, out, acts_dropout(m, batch, layer, DROP_FC_PROJ));
    add_and_norm(dev, next, ln_2.x, out);
}

void gpt2_forward(GPT2 *m, Device *dev, const GptBatch *batch)
{
    Tensor branch = acts_scratch(m->acts->branch, batch, m->dims.n_embd);
    check_batch(m, batch);
    embed_tokens(m, dev, batch, 0);
    for (int32_t layer = 0; layer < m->dims.n_layer; layer++) {
        block_qkv(m, dev, batch, layer);
        block_middle(m, dev, batch, layer, branch);
        block_fc(m, dev, batch, layer);
        block_end(m, dev, batch, layer, branch);
    }
}

/* acts->losses of every row. The logits are never (N,V): the head works on head_chunk rows at a
 * time. */
static Tensor row_losses(GPT2 *m, Device *dev, const GptBatch *batch)
{
    const GptActs *a = m->acts;
    NormActs ln_f = acts_norm(m, batch, 2 * m->dims.n_layer);
    int64_t N = batch_rows(batch), chunk = m->shape.head_chunk;
    for (int64_t row = 0; row < N; row += chunk) {
        int64_t n = N - row < chunk ? N - row : chunk;
        Tensor logits = tensor_rows(a->logits, 0, n);
        op_head_forward(dev, logits, tensor_rows(ln_f.y, row, n), m->param.wte);
        op_cross_entropy_forward(dev, tensor_range(a->losses, row, n), logits,
                                 tensor_range(batch->targets, row, n), m->dims.vocab_size);
    }
    return tensor_range(a->losses, 0, N);
}

void gpt2_loss(GPT2 *m, Device *dev, const GptBatch *batch, double scale)
{
    op_add_sum(dev, m->loss_total, row_losses(m, dev, batch), scale);
}

Err gpt2_row_losses(GPT2 *m, Device *dev, const GptBatch *batch, float *losses)
{
    device_download(dev, losses, row_losses(m, dev, batch));
    return device_sync(dev);
}

Err gpt2_logits(GPT2 *m, Device *dev, const GptBatch *batch, int64_t b, int64_t t, float *logits)
{
    const GptActs *a = m->acts;
    NormActs ln_f = acts_norm(m, batch, 2 * m->dims.n_layer);
    Tensor row = tensor_rows(ln_f.y, b * batch->tokens.dim[1] + t, 1);
    Tensor stored = tensor_rows(a->logits, 0, 1);
    op_head_forward(dev, stored, row, m->param.wte);
    op_convert(dev, a->logits_row, tensor_range(stored, 0, m->dims.vocab_padded));
    device_download(dev, logits, tensor_range(a->logits_row, 0, m->dims.vocab_size));
    return device_sync(dev);
}
