#include "tests/support/oracle.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

static double *zeros(int64_t n)
{
    double *out = calloc((size_t)n, sizeof *out);
    ASSERT(out, "no memory for %lld doubles", (long long)n);
    return out;
}

/* ---- dropout ----------------------------------------------------------------------------- */

double oracle_dropout_factor(Dropout d, int64_t sample, int64_t e)
{
    if (d.rate == 0)
        return 1;
    uint64_t stream = (uint64_t)sample << 16 | d.site;
    RngBlock block = rng_block(d.seed, RNG_DROPOUT, stream, (uint64_t)e / 4);
    return rng_unit(block.word[e % 4]) >= d.rate ? 1 / (1 - (double)d.rate) : 0;
}

void oracle_dropout(double *y, const double *x, int64_t n, int64_t c, Dropout d)
{
    for (int64_t r = 0; r < n; r++) {
        int64_t sample = d.rate == 0 ? 0 : d.first_sample + r / d.tokens_per_sample;
        int64_t row = d.rate == 0 ? 0 : r % d.tokens_per_sample;
        for (int64_t i = 0; i < c; i++)
            y[r * c + i] = x[r * c + i] * oracle_dropout_factor(d, sample, row * c + i);
    }
}

/* ---- embedding --------------------------------------------------------------------------- */

void oracle_embedding_forward(double *x, const double *tokens, const double *wte, const double *wpe,
                              int64_t n, int64_t t, int64_t c)
{
    for (int64_t r = 0; r < n * t; r++)
        for (int64_t i = 0; i < c; i++)
            x[r * c + i] = wte[(int64_t)tokens[r] * c + i] + wpe[r % t * c + i];
}

void oracle_embedding_backward(double *dwte, double *dwpe, const double *dx, const double *tokens,
                               int64_t n, int64_t t, int64_t c)
{
    for (int64_t r = 0; r < n * t; r++) {
        for (int64_t i = 0; i < c; i++) {
            dwte[(int64_t)tokens[r] * c + i] += dx[r * c + i];
            dwpe[r % t * c + i] += dx[r * c + i];
        }
    }
}

/* ---- LayerNorm --------------------------------------------------------------------------- */

static void row_moments(const double *x, int64_t c, double *mean, double *rstd)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < c; i++)
        sum += x[i];
    *mean = sum / (double)c;
    for (int64_t i = 0; i < c; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *rstd = 1 / sqrt(squares / (double)c + 1e-5);
}

void oracle_layernorm_forward(double *y, double *mean, double *rstd, const double *x,
                              const double *w, const double *b, int64_t n, int64_t c)
{
    for (int64_t r = 0; r < n; r++) {
        row_moments(x + r * c, c, &mean[r], &rstd[r]);
        for (int64_t i = 0; i < c; i++)
            y[r * c + i] = (x[r * c + i] - mean[r]) * rstd[r] * w[i] + (b ? b[i] : 0);
    }
}

void oracle_layernorm_backward(double *dx, double *dw, double *db, const double *dy,
                               const double *x, const double *w, int64_t n, int64_t c)
{
    for (int64_t r = 0; r < n; r++) {
        double mean, rstd, sum = 0, dot = 0;
        row_moments(x + r * c, c, &mean, &rstd);
        for (int64_t i = 0; i < c; i++) {
            double norm = (x[r * c + i] - mean) * rstd, d = dy[r * c + i];
            sum += d * w[i];
            dot += d * w[i] * norm;
            dw[i] += d * norm;
            if (db)
                db[i] += d;
        }
        for (int64_t i = 0; i < c; i++) {
            double norm = (x[r * c + i] - mean) * rstd;
            dx[r * c + i] +=
                rstd * (dy[r * c + i] * w[i] - sum / (double)c - norm * dot / (double)c);
        }
    }
}

/* ---- linear ------------------------------------------------------------------------------ */

void oracle_linear_forward(double *y, const double *x, const double *w, const double *b, int64_t n,
                           int64_t i, int64_t o)
{
    for (int64_t r = 0; r < n; r++) {
        for (int64_t k = 0; k < o; k++) {
            double sum = b ? b[k] : 0;
            for (int64_t j = 0; j < i; j++)
                sum += x[r * i + j] * w[j * o + k];
            y[r * o + k] = sum;
        }
    }
}

void oracle_linear_backward_data(double *dx, const double *dy, const double *w, int64_t n,
                                 int64_t i, int64_t o)
{
    for (int64_t r = 0; r < n; r++) {
        for (int64_t j = 0; j < i; j++) {
            double sum = 0;
            for (int64_t k = 0; k < o; k++)
                sum += dy[r * o + k] * w[j * o + k];
            dx[r * i + j] = sum;
        }
    }
}

void oracle_linear_backward_weight(double *dw, double *db, const double *x, const double *dy,
                                   int64_t n, int64_t i, int64_t o)
{
    for (int64_t r = 0; r < n; r++) {
        for (int64_t j = 0; j < i; j++)
            for (int64_t k = 0; k < o; k++)
                dw[j * o + k] += x[r * i + j] * dy[r * o + k];
        for (int64_t k = 0; db && k < o; k++)
            db[k] += dy[r * o + k];
    }
}

/* ---- GELU -------------------------------------------------------------------------------- */

static const double SQRT_2_OVER_PI = 0.79788456080286535588, SQRT_1_2 = 0.70710678118654752440;

double oracle_gelu(double x, GeluKind kind)
{
    if (kind == GELU_ERF)
        return 0.5 * x * (1 + erf(x * SQRT_1_2));
    return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)));
}

double oracle_gelu_derivative(double x, GeluKind kind)
{
    if (kind == GELU_ERF)
        return 0.5 * (1 + erf(x * SQRT_1_2)) + 0.5 * x * SQRT_2_OVER_PI * exp(-0.5 * x * x);
    double t = tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x));
    double inner = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x);
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner;
}

/* ---- attention --------------------------------------------------------------------------- */

/* Row of q (part 0), k (1) or v (2) of one token and head inside qkv or dqkv. */
static int64_t part_offset(OracleAttention s, int64_t b, int64_t t, int part, int64_t h)
{
    return ((b * s.t + t) * 3 + part) * s.h * s.head + h * s.head;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* p[0..i] = softmax of row i's scores; returns their log-sum-exp. */
static double attention_row(double *p, const double *qkv, OracleAttention s, int64_t b, int64_t h,
                            int64_t i)
{
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= i; j++) {
        p[j] = dot(qkv + part_offset(s, b, i, 0, h), qkv + part_offset(s, b, j, 1, h), s.head) /
               sqrt((double)s.head);
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j <= i; j++)
        sum += exp(p[j] - max);
    for (int64_t j = 0; j <= i; j++)
        p[j] = exp(p[j] - max) / sum;
    return max + log(sum);
}

/* The dropout factor of probability (h, i, j) of sequence b. */
static double attention_factor(Dropout d, OracleAttention s, int64_t b, int64_t h, int64_t i,
                               int64_t j)
{
    return oracle_dropout_factor(d, d.first_sample + b, (h * s.t + i) * s.t + j);
}

static void attention_forward_row(double *out, double *lse, const double *qkv, OracleAttention s,
                                  Dropout dropout, int64_t b, int64_t h, int64_t i)
{
    double *p = zeros(s.t), *o = out + (b * s.t + i) * s.h * s.head + h * s.head;
    *lse = attention_row(p, qkv, s, b, h, i);
    for (int64_t c = 0; c < s.head; c++)
        o[c] = 0;
    for (int64_t j = 0; j <= i; j++) {
        double weight = p[j] * attention_factor(dropout, s, b, h, i, j);
        for (int64_t c = 0; c < s.head; c++)
            o[c] += weight * qkv[part_offset(s, b, j, 2, h) + c];
    }
    free(p);
}

void oracle_attention_forward(double *out, double *lse, const double *qkv, OracleAttention s,
                              Dropout dropout)
{
    for (int64_t b = 0; b < s.b; b++)
        for (int64_t h = 0; h < s.h; h++)
            for (int64_t i = 0; i < s.t; i++)
                attention_forward_row(out, &lse[(b * s.h + h) * s.t + i], qkv, s, dropout, b, h, i);
}

/* With P = softmax(S), A = mask(P), out = A v:  dv += A^T dout, dA = dout v^T, dP = mask(dA),
 * dS = P (dP - sum(P dP)), dq = dS k / sqrt(head), dk = dS^T q / sqrt(head). */
static void attention_backward_row(double *dqkv, const double *dout, const double *qkv,
                                   OracleAttention s, Dropout dropout, int64_t b, int64_t h,
                                   int64_t i)
{
    double *p = zeros(s.t), *dp = zeros(s.t), row = 0, scale = 1 / sqrt((double)s.head);
    const double *d = dout + (b * s.t + i) * s.h * s.head + h * s.head;
    int64_t q = part_offset(s, b, i, 0, h);
    attention_row(p, qkv, s, b, h, i);
    for (int64_t j = 0; j <= i; j++) {
        double factor = attention_factor(dropout, s, b, h, i, j);
        int64_t v = part_offset(s, b, j, 2, h);
        for (int64_t c = 0; c < s.head; c++)
            dqkv[v + c] += p[j] * factor * d[c];
        dp[j] = factor * dot(d, qkv + v, s.head);
        row += p[j] * dp[j];
    }
    for (int64_t j = 0; j <= i; j++) {
        double ds = p[j] * (dp[j] - row) * scale;
        int64_t k = part_offset(s, b, j, 1, h);
        for (int64_t c = 0; c < s.head; c++) {
            dqkv[q + c] += ds * qkv[k + c];
            dqkv[k + c] += ds * qkv[q + c];
        }
    }
    free(p);
    free(dp);
}

void oracle_attention_backward(double *dqkv, const double *dout, const double *qkv,
                               OracleAttention s, Dropout dropout)
{
    for (int64_t i = 0; i < s.b * s.t * 3 * s.h * s.head; i++)
        dqkv[i] = 0;
    for (int64_t b = 0; b < s.b; b++)
        for (int64_t h = 0; h < s.h; h++)
            for (int64_t i = 0; i < s.t; i++)
                attention_backward_row(dqkv, dout, qkv, s, dropout, b, h, i);
}

/* ---- LM head and loss -------------------------------------------------------------------- */

void oracle_head_forward(double *logits, const double *x, const double *wte, int64_t n, int64_t c,
                         int64_t vp)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < vp; k++)
            logits[r * vp + k] = dot(x + r * c, wte + k * c, c);
}

void oracle_head_backward(double *dx, double *dwte, const double *dlogits, const double *x,
                          const double *wte, int64_t n, int64_t c, int64_t vp)
{
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < c; i++) {
            double sum = 0;
            for (int64_t k = 0; k < vp; k++) {
                sum += dlogits[r * vp + k] * wte[k * c + i];
                dwte[k * c + i] += dlogits[r * vp + k] * x[r * c + i];
            }
            dx[r * c + i] = sum;
        }
    }
}

static double log_sum_exp(const double *x, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    return max + log(sum);
}

void oracle_cross_entropy_forward(double *losses, const double *logits, const double *targets,
                                  OracleLogits s)
{
    for (int64_t r = 0; r < s.n; r++) {
        const double *row = logits + r * s.vp;
        losses[r] = targets[r] < 0 ? 0 : log_sum_exp(row, s.v) - row[(int64_t)targets[r]];
    }
}

void oracle_cross_entropy_backward(double *dlogits, const double *logits, const double *targets,
                                   OracleLogits s, double dloss)
{
    for (int64_t r = 0; r < s.n; r++) {
        double lse = log_sum_exp(logits + r * s.vp, s.v);
        for (int64_t i = 0; i < s.vp; i++) {
            bool counts = targets[r] >= 0 && i < s.v;
            double onehot = i == (int64_t)targets[r] ? 1 : 0;
            dlogits[r * s.vp + i] = counts ? dloss * (exp(logits[r * s.vp + i] - lse) - onehot) : 0;
        }
    }
}

/* ---- sums and updates -------------------------------------------------------------------- */

double oracle_sum(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

double oracle_sum_squares(const double *x, int64_t n)
{
    return dot(x, x, n);
}

void oracle_adamw(double *p, double *m, double *v, const double *grad, int64_t n,
                  const OracleAdamw *a)
{
    double correction1 = 1 - pow(a->beta1, (double)a->step);
    double correction2 = 1 - pow(a->beta2, (double)a->step);
    for (int64_t i = 0; i < n; i++) {
        double g = grad[i] * a->grad_scale;
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * g;
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * g * g;
        p[i] -= a->lr * a->weight_decay * p[i];
        p[i] -= a->lr * (m[i] / correction1) / (sqrt(v[i] / correction2) + a->eps);
    }
}
