/* Tensor: a borrowed, contiguous, row-major view of device or host memory. It owns nothing, has
 * no strides and knows no graph: it carries a pointer, a dtype and a shape, so that an op can
 * be called with few arguments and its front end (kernels/ops.c) can check shapes once. */
#ifndef GPT_BASE_TENSOR_H
#define GPT_BASE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F64, DTYPE_I32, DTYPE_U16, DTYPE_U8 } DType;

enum { TENSOR_MAX_RANK = 4 };

typedef struct {
    void *data; /* NULL: absent (an optional argument), or a measuring run of an arena */
    DType dtype;
    int32_t rank;
    int64_t dim[TENSOR_MAX_RANK]; /* unused trailing dimensions are 1 */
} Tensor;

size_t dtype_bytes(DType dtype);     /* of one element */
const char *dtype_name(DType dtype); /* "float32", "bfloat16", ... as torch writes them */

Tensor tensor_1d(void *data, DType dtype, int64_t n);
Tensor tensor_2d(void *data, DType dtype, int64_t rows, int64_t cols);
Tensor tensor_3d(void *data, DType dtype, int64_t d0, int64_t d1, int64_t d2);
Tensor tensor_none(void); /* an absent optional argument: data NULL, no elements */

bool tensor_present(Tensor t);
int64_t tensor_count(Tensor t); /* elements; 0 for tensor_none() */
size_t tensor_bytes(Tensor t);

/* Rows [begin, begin + n) of the first dimension; shares the memory. */
Tensor tensor_rows(Tensor t, int64_t begin, int64_t n);

/* Elements [begin, begin + n) of the flattened tensor as a vector; shares the memory. */
Tensor tensor_range(Tensor t, int64_t begin, int64_t n);

/* The same elements under another 2-D shape; rows * cols must equal the count. */
Tensor tensor_as_2d(Tensor t, int64_t rows, int64_t cols);

/* bf16 is the upper half of a float32; rounding is to nearest even, NaN stays NaN. */
uint16_t bf16_from_f32(float value);
float bf16_to_f32(uint16_t bits);
/* IEEE binary16, the same rounding: from 65520 on infinity, up to 2^-25 zero. */
uint16_t f16_from_f32(float value);
float f16_to_f32(uint16_t bits);

/* A float32 in two halves: high is the bfloat16 nearest to it (of two the one further from zero),
 * low its own lower 16 bits. Together they are the float32 again, bit for bit; only a NaN loses its
 * payload. */
typedef struct {
    uint16_t high, low;
} Halves;

Halves f32_split(float value);
float f32_join(Halves halves);

/* n float32 values become parameters of dtype (f32, bf16 or f16), in place from the front: bf16 is
 * the high half of f32_split, f16 the nearest. Parameters are made from their master weights by
 * this rule everywhere, so that a bf16 parameter can be half of its master. */
void f32_to_parameters(DType dtype, float *values, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
