/* Oracle: every op of kernels/ops.h once more, in double, by the definition, one plain loop nest
 * each.
 *
 * What the devices are compared with. No blocking, no fusing, no threads, nothing saved between
 * forward and backward: a backward starts from the inputs again. Shapes, "=" and "+=" are those of
 * kernels/ops.h, with plain row-major arrays; an optional array may be NULL. Tokens and targets are
 * doubles holding integers. */
#ifndef GPT_TESTS_ORACLE_H
#define GPT_TESTS_ORACLE_H

#include <stdint.h>

#include "kernels/ops.h"

/* What element e of a sample is multiplied by: 0 or 1 / (1 - rate); 1 without dropout. */
double oracle_dropout_factor(Dropout dropout, int64_t sample, int64_t e);
/* y (N,C) = x masked and scaled; y may be x. */
void oracle_dropout(double *y, const double *x, int64_t n, int64_t c, Dropout dropout);

/* x (n*t, c) = wte[token] + wpe[position]; tokens (n,t). */
void oracle_embedding_forward(double *x, const double *tokens, const double *wte, const double *wpe,
                              int64_t n, int64_t t, int64_t c);
void oracle_embedding_backward(double *dwte, double *dwpe, const double *dx, const double *tokens,
                               int64_t n, int64_t t, int64_t c);

/* y (n,c), mean (n), rstd (n) =. */
void oracle_layernorm_forward(double *y, double *mean, double *rstd, const double *x,
                              const double *w, const double *b, int64_t n, int64_t c);
/* dx (n,c) +=, dw (c) +=, db (c) +=. */
void oracle_layernorm_backward(double *dx, double *dw, double *db, const double *dy,
                               const double *x, const double *w, int64_t n, int64_t c);

/* y (n,o) = x (n,i) w (i,o) + b (o). */
void oracle_linear_forward(double *y, const double *x, const double *w, const double *b, int64_t n,
                           int64_t i, int64_t o);
void oracle_linear_backward_data(double *dx, const double *dy, const double *w, int64_t n,
                                 int64_t i, int64_t o);
void oracle_linear_backward_weight(double *dw, double *db, const double *x, const double *dy,
                                   int64_t n, int64_t i, int64_t o);

double oracle_gelu(double x, GeluKind kind);
double oracle_gelu_derivative(double x, GeluKind kind);

typedef struct {
    int64_t b, t, h, head; /* sequences, tokens each, heads, channels of a head */
} OracleAttention;

/* out (b*t, h*head), lse (b,h,t) = from qkv (b*t, 3*h*head). */
void oracle_attention_forward(double *out, double *lse, const double *qkv, OracleAttention shape,
                              Dropout dropout);
/* dqkv =. */
void oracle_attention_backward(double *dqkv, const double *dout, const double *qkv,
                               OracleAttention shape, Dropout dropout);

/* logits (n,vp) = x (n,c) wte (vp,c)^T. */
void oracle_head_forward(double *logits, const double *x, const double *wte, int64_t n, int64_t c,
                         int64_t vp);
/* dx (n,c) =, dwte (vp,c) +=. */
void oracle_head_backward(double *dx, double *dwte, const double *dlogits, const double *x,
                          const double *wte, int64_t n, int64_t c, int64_t vp);

typedef struct {
    int64_t n, v, vp; /* rows, vocabulary, padded vocabulary */
} OracleLogits;

/* losses (n) =. */
void oracle_cross_entropy_forward(double *losses, const double *logits, const double *targets,
                                  OracleLogits shape);
/* dlogits (n,vp) = the gradient of dloss * sum of the losses; may not be logits. */
void oracle_cross_entropy_backward(double *dlogits, const double *logits, const double *targets,
                                   OracleLogits shape, double dloss);

double oracle_sum(const double *x, int64_t n);
double oracle_sum_squares(const double *x, int64_t n);

/* The settings of AdamwArgs, in double. */
typedef struct {
    double grad_scale, lr, beta1, beta2, eps, weight_decay;
    int64_t step;
} OracleAdamw;

/* p, m, v (n) updated from grad. */
void oracle_adamw(double *p, double *m, double *v, const double *grad, int64_t n,
                  const OracleAdamw *args);

#endif
