#include "tests/bench/bench.h"

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

const Line BENCH_LINES[] = {
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
    {NULL, NULL, NOT_IN_STEP, ROWS, 0, 0, 0, 0, 0, 0},
};

double bench_line_flop(const Bench *b, const Line *line)
{
    double N = (double)b->N, C = (double)b->shape.C, n = (double)b->shape.head_chunk;
    if (line->scale == CHUNK)
        return line->linear * n * C * (double)b->Vp;
    /* causal attention: half of the square */
    return line->linear * N * C * C + line->attention * N * (double)b->shape.T * C;
}

double bench_line_bytes(const Bench *b, const Line *line)
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

double bench_line_times(const Bench *b, const Line *line)
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
