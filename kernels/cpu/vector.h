/* A vector of floats as wide as the machine's registers, by the compilers' vector extension: the
 * operators of arithmetic work on it, and any instruction set will do. */
#ifndef GPT_KERNELS_CPU_VECTOR_H
#define GPT_KERNELS_CPU_VECTOR_H

#include <stdint.h>

/* The compilers name their widest register: 64 bytes with AVX-512, 32 with AVX, 16 with SSE2 or
 * NEON. */
enum { VEC_BYTES = __BIGGEST_ALIGNMENT__, VEC_LANES = VEC_BYTES / 4 };

typedef float Vec __attribute__((vector_size(VEC_BYTES)));
typedef float VecUnaligned __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));

static inline __attribute__((always_inline)) Vec vec_load(const float *p)
{
    return *(const VecUnaligned *)p;
}

static inline __attribute__((always_inline)) void vec_store(float *p, Vec v)
{
    *(VecUnaligned *)p = v;
}

static inline __attribute__((always_inline)) Vec vec_set(float value)
{
    return value - (Vec){0};
}

#endif
