#include "kernels/checksum.h"

#include <string.h>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

static uint64_t sum_of(const unsigned char *x, Span words)
{
    uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = words.begin; i < words.end; i++) {
        uint64_t word;
        memcpy(&word, x + i * CHECKSUM_WORD_BYTES, sizeof word);
        uint64_t seed = CHECKSUM_SEED(word, i);
        sum += CHECKSUM_MIX(seed);
    }
    return sum;
}

/* Addition of integers has no order. */
void cpu_checksum(Device *dev, Tensor sum, Tensor x)
{
    int64_t n = (int64_t)tensor_bytes(x) / CHECKSUM_WORD_BYTES;
    uint64_t total = 0;
#pragma omp parallel for num_threads(dev->n_threads) schedule(static) reduction(+ : total)
    for (int64_t k = 0; k < CPU_CHUNKS; k++)
        total += sum_of(x.data, cpu_span(n, CPU_CHUNKS, k, 8));
    memcpy(sum.data, &total, sizeof total);
}
