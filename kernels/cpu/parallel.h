/* Dividing work so that results do not depend on the number of threads: an element is computed
 * by one thread, and a sum is made of CPU_CHUNKS partial sums whose bounds depend on the length
 * only. */
#ifndef GPT_KERNELS_CPU_PARALLEL_H
#define GPT_KERNELS_CPU_PARALLEL_H

#include <stdint.h>

enum { CPU_CHUNKS = 32 };

typedef struct {
    int64_t begin, end; /* [begin, end); may be empty */
} Span;

/* Part i of n items divided into n_parts parts, cut at multiples of `unit` (16 floats: a cache
 * line). */
static inline Span cpu_span(int64_t n, int64_t n_parts, int64_t i, int64_t unit)
{
    int64_t units = (n + unit - 1) / unit;
    Span span = {units * i / n_parts * unit, units * (i + 1) / n_parts * unit};
    span.begin = span.begin < n ? span.begin : n;
    span.end = span.end < n ? span.end : n;
    return span;
}

/* Into how many parts to cut the rows of a matrix, so that n_parts parts of it (rows in that many,
 * columns in n_parts divided by it) have the shortest edges. */
static inline int64_t cpu_parts_of_rows(int64_t n_parts, int64_t rows, int64_t columns)
{
    int64_t best = 1, shortest = INT64_MAX;
    for (int64_t parts = 1; parts <= n_parts; parts++) {
        if (n_parts % parts)
            continue;
        int64_t edges = rows / parts + columns * parts / n_parts;
        if (edges < shortest) {
            shortest = edges;
            best = parts;
        }
    }
    return best;
}

#endif
