/* TinyGpt: a small GPT2 on a device with its memory, for tests. Its parameters and tokens are those
 * of tests/golden/make_gpt2.py. All memory starts as NaN, so a value read before it is written is
 * seen. Whatever fails here fails the test. */
#ifndef GPT_TESTS_TINY_GPT_H
#define GPT_TESTS_TINY_GPT_H

#include "model/gpt2.h"

/* The model points into it: never copied once open. */
typedef struct {
    Device dev;
    Layout layout;
    GPT2 model;
    void *memory;
    size_t n_bytes;         /* allocated for the model: the measured plan */
    Tensor tokens, targets; /* (micro_batch * n_tokens) i32 on the device */
} TinyGpt;

/* Two layers, 3 heads, 24 channels, 65 of 128 rows of vocabulary, block_size 16, biases, no
 * dropout. */
GptDims tiny_dims(void);
/* float32, training, B sequences of T tokens, the head in one piece, everything kept. */
GptShape tiny_shape(int64_t B, int64_t T);

/* Buckets of at least 1000 elements, padded to multiples of 384. On the CPU with one thread in
 * float32, on a GPU in bfloat16. */
void tiny_open(TinyGpt *t, GptDims dims, GptShape shape);
/* The same on a device of its own. */
void tiny_open_on(TinyGpt *t, DeviceArgs args, GptDims dims, GptShape shape);
void tiny_close(TinyGpt *t);

/* A multiple of 2^-16 in [-0.5, 0.5): an integer hash of (stream, index). */
float tiny_noise(int64_t stream, int64_t index);
/* Token number `index` of the endless text, below vocab_size. */
int32_t tiny_token(const GptDims *dims, int64_t index);

/* Sequences [first, first + B) of T tokens each of that text, as a batch on the device. The target
 * of token 3 is ignored. Overwrites the batch made before. */
GptBatch tiny_batch(TinyGpt *t, int64_t first, int64_t B, int64_t T);

/* Gradients and loss_total become 0. */
void tiny_zero(TinyGpt *t);
double tiny_loss(TinyGpt *t);
/* The floats of a tensor in host memory; the caller frees. */
float *tiny_read(TinyGpt *t, Tensor x);
/* Rounded to bfloat16 where x is. */
void tiny_write(TinyGpt *t, Tensor x, const float *values);
/* Zero, forward and backward of one batch with scale 1 / (B*T); then all gradients (the caller
 * frees). */
float *tiny_gradients(TinyGpt *t, const GptBatch *batch);

/* max |a - b| / max |b| over n values: the error in units of the largest. 0 when both are all 0. */
double tiny_distance(const float *a, const float *b, int64_t n);

#endif
