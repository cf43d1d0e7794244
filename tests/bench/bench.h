/* Bench: one layer's tensors of a GPT-2 with its head's and its optimizer's on one device, and the
 * ops of a training step on them, timed. For the programs of this folder.
 *
 * shapes.c knows the models, tensors.c lays out and fills, lines.c runs the ops and counts what
 * they compute and move, measure.c takes times. */
#ifndef GPT_TESTS_BENCH_H
#define GPT_TESTS_BENCH_H

#include "kernels/ops.h"

typedef struct {
    const char *name;
    int64_t L, H, C, T, V, B; /* B: sequences at once, unless --batch says otherwise */
    int64_t head_chunk;
} Shape;

/* The shapes there are, and the end. */
extern const Shape BENCH_SHAPES[];
/* NULL: none has this name. */
const Shape *bench_find_shape(const char *name);

/* One layer's tensors, the head's and the optimizer's, filled with small random values. */
typedef struct {
    Shape shape;
    Device dev;
    DType dtype; /* of parameters and activations */
    int64_t N, Vp;
    double peak_flops, copy_bytes; /* per second, measured */
    Tensor tokens, targets, wte, wpe, dwte, dwpe;
    Tensor x, y, mean, rstd, ln_w, ln_b, dln_w, dln_b;
    Tensor qkv, dqkv, out, lse, delta, wide, dwide, gelu;
    Tensor w_qkv, w_proj, w_fc, w_out, dw, bias, dbias;
    Tensor logits, rows, drows, losses, total;
    Tensor param, master, m, v, grad;
    Tensor random; /* float32 in [-0.25, 0.25), what all the others are filled with */
    void *memory;
} Bench;

/* ---- tensors ----------------------------------------------------------------------------- */

/* All tensors of a shape in new memory on the open device, filled with small random values; batch
 * 0: the shape's own. The caller releases, after an error too. ERR_SYSTEM: no memory. */
Err bench_open_shape(Bench *b, const Shape *shape, int64_t batch);
/* The same of what the device's rates are measured with: x, w_proj, y (n,n), and m, v, bytes. */
Err bench_open_roofs(Bench *b, int64_t n);
void bench_release(Bench *b);

/* ---- ops --------------------------------------------------------------------------------- */

/* How often a step of one micro-batch runs an op. */
typedef enum { ONCE, PER_LAYER, TWO_PER_LAYER, PER_CHUNK, NOT_IN_STEP } Often;
/* What its numbers count. */
typedef enum { ROWS, CHUNK, PARAMS } Scale;

/* Operands are counted once each: activations in N*C elements (or n*C and n*Vp of a chunk of n rows
 * of logits), weights in C*C, all in the compute dtype; float32 gradients are read and written. */
typedef struct {
    const char *name;
    void (*run)(Bench *b);
    Often often;
    Scale scale;
    double linear, attention; /* FLOP: in N*C*C (n*C*Vp of a chunk), in N*T*C */
    double rows, logits;      /* elements: in N*C (n*C), in n*Vp */
    double weights, grads; /* elements: in C*C (Vp*C of a chunk); bytes of PARAMS per parameter */
} Line;

/* The ops in the order of a step, and a line without a name. */
extern const Line BENCH_LINES[];

double bench_line_flop(const Bench *b, const Line *line);
double bench_line_bytes(const Bench *b, const Line *line);
/* Runs in a step of one micro-batch. */
double bench_line_times(const Bench *b, const Line *line);

/* ---- times ------------------------------------------------------------------------------- */

/* The least time of one run in seconds, of runs for about `seconds`. A fault of the device gives
 * NaN or infinity and stays with it: device_sync returns it. */
double bench_least_time(void (*run)(Bench *b), Bench *b, double seconds);

/* peak_flops, on a product of (n,n) squares, and copy_bytes, on a copy that is as large or larger.
 * n 0: large enough for this device. */
Err bench_measure_roofs(Bench *b, int64_t n, double seconds);

#endif
