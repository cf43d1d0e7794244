/* What the twins of op_checksum share. Private to kernels/. */
#ifndef GPT_KERNELS_CHECKSUM_H
#define GPT_KERNELS_CHECKSUM_H

#include <stdint.h>

enum { CHECKSUM_WORD_BYTES = 8 };

#define CHECKSUM_STEP UINT64_C(0x9e3779b97f4a7c15) /* 2^64 divided by the golden ratio, odd */
#define CHECKSUM_ODD  UINT64_C(0xd6e8feb86659fd93)

/* What a term is made of word i and i, before it is mixed. */
#define CHECKSUM_SEED(word, i) ((word) + CHECKSUM_STEP * (uint64_t)(i))
/* Each step can be undone, so two words at the same place never give the same term. */
#define CHECKSUM_FOLD(z)   ((z) ^ (z) >> 32)
#define CHECKSUM_MIX(seed) CHECKSUM_FOLD(CHECKSUM_FOLD(seed) * CHECKSUM_ODD)

#endif
