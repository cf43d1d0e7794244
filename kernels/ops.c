/* The front end: every op's shapes and dtypes are checked here, once for all backends, and nothing
 * runs on a device that already has a fault. The contracts are in ops.h. */
#include "kernels/ops.h"

#include "base/check.h"
#include "kernels/checksum.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/scratch.h"
#include "kernels/ops_table.h"

/* ---- checks ------------------------------------------------------------------------------ */

#define CHECK_DTYPE(t, want)                                                                       \
    ASSERT((t).dtype == (want), "wanted %s, got %s", dtype_name(want), dtype_name((t).dtype))

/* t is a present (rows, cols) matrix. */
#define CHECK_2D(t, want, rows, cols)                                                              \
    do {                                                                                           \
        ASSERT(tensor_present(t) && (t).rank == 2 && (t).dim[0] == (rows) && (t).dim[1] == (cols), \
               "wanted (%lld, %lld), got rank %d (%lld, %lld)", (long long)(rows),                 \
               (long long)(cols), (int)(t).rank, (long long)(t).dim[0], (long long)(t).dim[1]);    \
        CHECK_DTYPE(t, want);                                                                      \
    } while (0)

/* t is present and has n elements, in any shape. */
#define CHECK_COUNT(t, want, n)                                                                    \
    do {                                                                                           \
        ASSERT(tensor_present(t) && tensor_count(t) == (n), "wanted %lld elements, got %lld",      \
               (long long)(n), (long long)tensor_count(t));                                        \
        CHECK_DTYPE(t, want);                                                                      \
    } while (0)

#define CHECK_OPTIONAL(t, want, n)                                                                 \
    do {                                                                                           \
        if (tensor_present(t))                                                                     \
            CHECK_COUNT(t, want, n);                                                               \
    } while (0)

static void check_dropout(Dropout d)
{
    if (d.rate == 0)
        return;
    ASSERT(d.rate > 0 && d.rate < 1, "dropout rate %g", (double)d.rate);
    ASSERT(d.site < 65536, "dropout site %u", (unsigned)d.site);
    ASSERT(d.tokens_per_sample > 0, "dropout without tokens per sample");
}

/* ---- dropout ----------------------------------------------------------------------------- */

void op_dropout(Device *dev, Tensor y, Tensor x, Dropout dropout)
{
    CHECK_2D(y, x.dtype, x.dim[0], x.dim[1]);
    check_dropout(dropout);
    if (dev->err)
        return;
    if (dropout.rate > 0)
        dev->ops->dropout(dev, y, x, dropout);
    else if (y.data != x.data)
        device_copy(dev, y, x);
}

/* ---- embedding --------------------------------------------------------------------------- */

static void check_tokens(Tensor x, Tensor tokens, Tensor wpe)
{
    ASSERT(tokens.rank == 2 && tokens.dim[1] <= wpe.dim[0], "%lld tokens, %lld positions",
           (long long)tokens.dim[1], (long long)wpe.dim[0]);
    CHECK_COUNT(tokens, DTYPE_I32, x.dim[0]);
}

void op_embedding_forward(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe)
{
    int64_t C = x.dim[1];
    CHECK_2D(x, x.dtype, x.dim[0], C);
    CHECK_2D(wte, x.dtype, wte.dim[0], C);
    CHECK_2D(wpe, x.dtype, wpe.dim[0], C);
    check_tokens(x, tokens, wpe);
    if (!dev->err)
        dev->ops->embedding_forward(dev, x, tokens, wte, wpe);
}

void op_embedding_backward(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens)
{
    int64_t C = dx.dim[1];
    CHECK_2D(dx, dx.dtype, dx.dim[0], C);
    CHECK_2D(dwte, DTYPE_F32, dwte.dim[0], C);
    CHECK_2D(dwpe, DTYPE_F32, dwpe.dim[0], C);
    check_tokens(dx, tokens, dwpe);
    if (!dev->err)
        dev->ops->embedding_backward(dev, dwte, dwpe, dx, tokens);
}

/* ---- LayerNorm --------------------------------------------------------------------------- */

void op_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                          Tensor b)
{
    int64_t N = x.dim[0], C = x.dim[1];
    CHECK_2D(x, x.dtype, N, C);
    CHECK_2D(y, x.dtype, N, C);
    CHECK_COUNT(mean, DTYPE_F32, N);
    CHECK_COUNT(rstd, DTYPE_F32, N);
    CHECK_COUNT(w, x.dtype, C);
    CHECK_OPTIONAL(b, x.dtype, C);
    if (!dev->err)
        dev->ops->layernorm_forward(dev, y, mean, rstd, x, w, b);
}

void op_residual_layernorm_forward(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                   Tensor x, Tensor delta, Tensor w, Tensor b)
{
    int64_t N = x.dim[0], C = x.dim[1];
    CHECK_2D(x, x.dtype, N, C);
    CHECK_2D(delta, x.dtype, N, C);
    CHECK_2D(sum, x.dtype, N, C);
    CHECK_2D(y, x.dtype, N, C);
    CHECK_COUNT(mean, DTYPE_F32, N);
    CHECK_COUNT(rstd, DTYPE_F32, N);
    CHECK_COUNT(w, x.dtype, C);
    CHECK_OPTIONAL(b, x.dtype, C);
    if (!dev->err)
        dev->ops->residual_layernorm_forward(dev, y, mean, rstd, sum, x, delta, w, b);
}

void op_layernorm_backward(Device *dev, const LayernormBackward *a)
{
    int64_t N = a->x.dim[0], C = a->x.dim[1];
    DType dtype = a->x.dtype;
    CHECK_2D(a->x, dtype, N, C);
    CHECK_2D(a->dy, dtype, N, C);
    CHECK_2D(a->dx, dtype, N, C);
    CHECK_OPTIONAL(a->y, dtype, N * C);
    CHECK_COUNT(a->dw, DTYPE_F32, C);
    CHECK_OPTIONAL(a->db, DTYPE_F32, C);
    CHECK_COUNT(a->w, dtype, C);
    CHECK_OPTIONAL(a->b, dtype, C);
    CHECK_COUNT(a->mean, DTYPE_F32, N);
    CHECK_COUNT(a->rstd, DTYPE_F32, N);
    if (!dev->err)
        dev->ops->layernorm_backward(dev, a);
}

/* ---- linear ------------------------------------------------------------------------------ */

void op_linear_forward(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    int64_t N = x.dim[0], I = x.dim[1], O = w.dim[1];
    CHECK_2D(x, x.dtype, N, I);
    CHECK_2D(w, x.dtype, I, O);
    CHECK_2D(y, x.dtype, N, O);
    CHECK_OPTIONAL(b, x.dtype, O);
    if (!dev->err)
        dev->ops->linear_forward(dev, y, x, w, b);
}

void op_linear_backward_data(Device *dev, Tensor dx, Tensor dy, Tensor w)
{
    int64_t N = dy.dim[0], I = w.dim[0], O = dy.dim[1];
    CHECK_2D(dy, dy.dtype, N, O);
    CHECK_2D(w, dy.dtype, I, O);
    CHECK_2D(dx, dy.dtype, N, I);
    if (!dev->err)
        dev->ops->linear_backward_data(dev, dx, dy, w);
}

void op_linear_backward_weight(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy)
{
    int64_t N = x.dim[0], I = x.dim[1], O = dy.dim[1];
    CHECK_2D(x, x.dtype, N, I);
    CHECK_2D(dy, x.dtype, N, O);
    CHECK_2D(dw, DTYPE_F32, I, O);
    CHECK_OPTIONAL(db, DTYPE_F32, O);
    if (!dev->err)
        dev->ops->linear_backward_weight(dev, dw, db, x, dy);
}

/* ---- GELU -------------------------------------------------------------------------------- */

void op_gelu_forward(Device *dev, Tensor y, Tensor x, GeluKind kind)
{
    CHECK_COUNT(x, x.dtype, tensor_count(x));
    CHECK_COUNT(y, x.dtype, tensor_count(x));
    if (!dev->err)
        dev->ops->gelu_forward(dev, y, x, kind);
}

void op_gelu_backward(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind)
{
    int64_t n = tensor_count(x);
    CHECK_COUNT(x, x.dtype, n);
    CHECK_COUNT(dy, x.dtype, n);
    CHECK_COUNT(dx, x.dtype, n);
    CHECK_OPTIONAL(y, x.dtype, n);
    if (!dev->err)
        dev->ops->gelu_backward(dev, dx, y, dy, x, kind);
}

/* ---- attention --------------------------------------------------------------------------- */

/* lse is (B,H,T) and qkv (B*T, 3C) with H a divisor of C; returns C. */
static int64_t check_attention(Tensor lse, Tensor qkv, Dropout dropout)
{
    int64_t N = lse.dim[0] * lse.dim[2], C = qkv.dim[1] / 3;
    ASSERT(lse.rank == 3 && C % lse.dim[1] == 0, "%lld channels in %lld heads", (long long)C,
           (long long)lse.dim[1]);
    CHECK_COUNT(lse, DTYPE_F32, N * lse.dim[1]);
    CHECK_2D(qkv, qkv.dtype, N, 3 * C);
    check_dropout(dropout);
    return C;
}

void op_attention_forward(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout)
{
    int64_t C = check_attention(lse, qkv, dropout);
    CHECK_2D(out, qkv.dtype, qkv.dim[0], C);
    if (!dev->err)
        dev->ops->attention_forward(dev, out, lse, qkv, dropout);
}

void op_attention_backward(Device *dev, const AttentionBackward *a)
{
    int64_t N = a->qkv.dim[0], C = check_attention(a->lse, a->qkv, a->dropout);
    DType dtype = a->qkv.dtype;
    CHECK_2D(a->dqkv, dtype, N, 3 * C);
    CHECK_2D(a->dout, dtype, N, C);
    CHECK_2D(a->out, dtype, N, C);
    CHECK_COUNT(a->delta, DTYPE_F32, tensor_count(a->lse));
    if (!dev->err)
        dev->ops->attention_backward(dev, a);
}

/* ---- attention over kept keys ------------------------------------------------------------ */

static void check_cache(KvCache cache, Tensor qkv, int64_t first)
{
    int64_t n = qkv.dim[0], T = cache.k.dim[0], C = qkv.dim[1] / 3;
    ASSERT(first >= 0 && first + n <= T, "tokens %lld to %lld of %lld", (long long)first,
           (long long)(first + n - 1), (long long)T);
    CHECK_2D(qkv, qkv.dtype, n, 3 * C);
    CHECK_2D(cache.k, qkv.dtype, T, C);
    CHECK_2D(cache.v, qkv.dtype, T, C);
}

void op_cache_append(Device *dev, KvCache cache, Tensor qkv, int64_t first)
{
    check_cache(cache, qkv, first);
    if (!dev->err)
        dev->ops->cache_append(dev, cache, qkv, first);
}

void op_attention_cached(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                         int32_t n_head)
{
    int64_t C = qkv.dim[1] / 3;
    check_cache(cache, qkv, first);
    CHECK_2D(out, qkv.dtype, qkv.dim[0], C);
    ASSERT(n_head >= 1 && C % n_head == 0, "%lld channels in %d heads", (long long)C, (int)n_head);
    if (!dev->err)
        dev->ops->attention_cached(dev, out, qkv, cache, first, n_head);
}

/* ---- head and loss ----------------------------------------------------------------------- */

void op_head_forward(Device *dev, Tensor logits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    CHECK_2D(x, x.dtype, n, C);
    CHECK_2D(wte, x.dtype, Vp, C);
    CHECK_2D(logits, x.dtype, n, Vp);
    if (!dev->err)
        dev->ops->head_forward(dev, logits, x, wte);
}

void op_head_backward(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x, Tensor wte)
{
    int64_t n = x.dim[0], C = x.dim[1], Vp = wte.dim[0];
    CHECK_2D(x, x.dtype, n, C);
    CHECK_2D(dx, x.dtype, n, C);
    CHECK_2D(wte, x.dtype, Vp, C);
    CHECK_2D(dlogits, x.dtype, n, Vp);
    CHECK_2D(dwte, DTYPE_F32, Vp, C);
    if (!dev->err)
        dev->ops->head_backward(dev, dx, dwte, dlogits, x, wte);
}

static void check_losses(Tensor losses, Tensor logits, Tensor targets, int64_t vocab_size)
{
    int64_t n = logits.dim[0], Vp = logits.dim[1];
    ASSERT(vocab_size > 0 && vocab_size <= Vp, "vocabulary %lld of %lld columns",
           (long long)vocab_size, (long long)Vp);
    CHECK_2D(logits, logits.dtype, n, Vp);
    CHECK_COUNT(losses, DTYPE_F32, n);
    CHECK_COUNT(targets, DTYPE_I32, n);
}

void op_cross_entropy_forward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                              int64_t vocab_size)
{
    check_losses(losses, logits, targets, vocab_size);
    if (!dev->err)
        dev->ops->cross_entropy_forward(dev, losses, logits, targets, vocab_size);
}

void op_cross_entropy_forward_backward(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                       int64_t vocab_size, float dloss)
{
    check_losses(losses, logits, targets, vocab_size);
    if (!dev->err)
        dev->ops->cross_entropy_forward_backward(dev, losses, logits, targets, vocab_size, dloss);
}

/* ---- sums and updates: a rank's part of a vector may be empty ---------------------------- */

void op_add_sum(Device *dev, Tensor total, Tensor x, double scale)
{
    CHECK_COUNT(total, DTYPE_F64, 1);
    if (dev->err || tensor_count(x) == 0)
        return;
    CHECK_COUNT(x, DTYPE_F32, tensor_count(x));
    dev->ops->add_sum(dev, total, x, scale);
}

void op_add_sum_squares(Device *dev, Tensor total, Tensor x)
{
    CHECK_COUNT(total, DTYPE_F64, 1);
    if (dev->err || tensor_count(x) == 0)
        return;
    CHECK_COUNT(x, DTYPE_F32, tensor_count(x));
    dev->ops->add_sum_squares(dev, total, x);
}

void op_convert(Device *dev, Tensor dst, Tensor src)
{
    ASSERT(tensor_count(dst) == tensor_count(src), "%lld elements from %lld",
           (long long)tensor_count(dst), (long long)tensor_count(src));
    if (!dev->err && tensor_count(src) > 0)
        dev->ops->convert(dev, dst, src);
}

void op_add(Device *dev, Tensor dst, Tensor src)
{
    ASSERT(dst.dtype == DTYPE_F32, "sum in %s", dtype_name(dst.dtype));
    ASSERT(src.dtype == DTYPE_F32 || src.dtype == DTYPE_BF16 || src.dtype == DTYPE_F16, "add %s",
           dtype_name(src.dtype));
    ASSERT(tensor_count(dst) == tensor_count(src), "%lld elements += %lld",
           (long long)tensor_count(dst), (long long)tensor_count(src));
    if (!dev->err && tensor_count(src) > 0)
        dev->ops->add(dev, dst, src);
}

static void check_words(Tensor t)
{
    ASSERT(tensor_bytes(t) % CHECKSUM_WORD_BYTES == 0, "%zu bytes are no whole words",
           tensor_bytes(t));
    ASSERT((uintptr_t)t.data % CHECKSUM_WORD_BYTES == 0, "words at %p", t.data);
}

void op_checksum(Device *dev, Tensor sum, Tensor x)
{
    CHECK_COUNT(sum, DTYPE_U8, CHECKSUM_WORD_BYTES);
    check_words(sum);
    check_words(x);
    if (dev->err)
        return;
    if (tensor_count(x) > 0)
        dev->ops->checksum(dev, sum, x);
    else
        device_zero(dev, sum);
}

/* A master is f32, or half of one beside a bf16 parameter; only f32 parameters need none. */
static void check_master(const AdamwArgs *a, int64_t n)
{
    DType dtype = a->param.dtype;
    bool split = a->master.dtype == DTYPE_U16;
    ASSERT(dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F16, "parameters in %s",
           dtype_name(dtype));
    CHECK_OPTIONAL(a->master, split ? DTYPE_U16 : DTYPE_F32, n);
    ASSERT(!split || dtype == DTYPE_BF16, "half a master of %s", dtype_name(dtype));
    ASSERT(tensor_present(a->master) || dtype == DTYPE_F32, "%s without master weights",
           dtype_name(dtype));
}

void op_adamw(Device *dev, const AdamwArgs *a)
{
    int64_t n = tensor_count(a->param);
    if (dev->err || n == 0)
        return;
    CHECK_COUNT(a->param, a->param.dtype, n);
    check_master(a, n);
    CHECK_COUNT(a->m, DTYPE_F32, n);
    CHECK_COUNT(a->v, DTYPE_F32, n);
    CHECK_COUNT(a->grad, DTYPE_F32, n);
    ASSERT(a->step >= 1, "update %lld", (long long)a->step);
    dev->ops->adamw(dev, a);
}

/* ---- scratch ----------------------------------------------------------------------------- */

size_t ops_workspace_bytes(DeviceKind kind, int32_t n_threads, const OpLimits *limits)
{
    return kind == DEVICE_CPU ? cpu_workspace_bytes(n_threads, limits)
                              : cuda_workspace_bytes(limits);
}

int64_t ops_max_head_size(DeviceKind kind)
{
    return kind == DEVICE_CPU ? INT64_MAX : CUDA_MAX_HEAD_SIZE;
}
