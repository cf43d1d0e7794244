/* Comparing arrays in tests, on top of cmocka: the first bad index, how many are bad, the largest
 * error.
 *
 * Tolerances are derived, not tuned. An op stores a result in its dtype (one rounding, relative to
 * the result) after summing n terms in float32, a rounding each. The roundings of a sum behave like
 * a random walk, so its error grows with sqrt(n), relative to the sum of the terms' absolute
 * values, their magnitude. Source: Higham and Mary 2019, theorem 2.4, whose lambda is 4 here: with
 * roundings spread over +-u that is seven standard deviations.
 */
#ifndef GPT_TESTS_CLOSE_H
#define GPT_TESTS_CLOSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/tensor.h"

/* |got - wanted| may be relative * |wanted| + absolute. */
typedef struct {
    double relative, absolute;
} Tolerance;

/* The largest relative error of rounding to nearest: 2^-24 for float32. */
double unit_roundoff(DType dtype);

/* Of a sum of n_terms in float32 whose absolute values add up to `magnitude`, stored in `dtype`. A
 * term's own few operations (a product, exp, division) are allowed 8 roundings. Below its normal
 * numbers a float16 is off by its spacing there. */
Tolerance tolerance_sum(DType dtype, int64_t n_terms, double magnitude);

/* Of a central difference in float32 along a random direction, against the inner product of
 * direction and gradient: the best step is cbrt(u), its error of order u^(2/3). magnitude: norm of
 * gradient times norm of direction, plus that of the function's value. */
Tolerance tolerance_difference(double magnitude);

double max_abs(const double *x, int64_t n);

/* Fails the test unless all n are within tolerance; NaN is close to nothing. */
#define CHECK_CLOSE(got, wanted, n, tolerance)                                                     \
    check_close((got), (wanted), (n), (tolerance), #got, __FILE__, __LINE__)
void check_close(const double *got, const double *wanted, int64_t n, Tolerance tolerance,
                 const char *what, const char *file, int line);

/* Fails the test at the first element of `element_bytes` whose bits differ. */
#define CHECK_SAME_BITS(got, wanted, n, element_bytes)                                             \
    check_same_bits((got), (wanted), (n), (element_bytes), #got, __FILE__, __LINE__)
void check_same_bits(const void *got, const void *wanted, int64_t n, size_t element_bytes,
                     const char *what, const char *file, int line);

#endif
