#include "tests/support/close.h"

#include <math.h>
#include <string.h>

#include "base/check.h"

double unit_roundoff(DType dtype)
{
    switch (dtype) {
    case DTYPE_F64:
        return 0x1p-53;
    case DTYPE_F32:
        return 0x1p-24;
    case DTYPE_F16:
        return 0x1p-11;
    case DTYPE_BF16:
        return 0x1p-8;
    default:
        ASSERT(false, "%s does not round", dtype_name(dtype));
        return 0;
    }
}

/* Numbers of float16 below 2^-14 lie 2^-24 apart; those of the others are as dense as at 1 for
 * anything a test uses. */
static double smallest_spacing(DType dtype)
{
    return dtype == DTYPE_F16 ? 0x1p-24 : 0;
}

Tolerance tolerance_sum(DType dtype, int64_t n_terms, double magnitude)
{
    double growth = 8 + 4 * sqrt((double)n_terms);
    return (Tolerance){2 * unit_roundoff(dtype),
                       growth * 0x1p-24 * magnitude + smallest_spacing(dtype)};
}

Tolerance tolerance_difference(double magnitude)
{
    return (Tolerance){0, 4 * pow(0x1p-24, 2.0 / 3) * magnitude};
}

double max_abs(const double *x, int64_t n)
{
    double max = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, fabs(x[i]));
    return max;
}

/* Equal infinities are close: their difference is NaN. */
static bool is_close(double got, double wanted, Tolerance t)
{
    return got == wanted || fabs(got - wanted) <= t.relative * fabs(wanted) + t.absolute;
}

void check_close(const double *got, const double *wanted, int64_t n, Tolerance t, const char *what,
                 const char *file, int line)
{
    int64_t n_bad = 0, first = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        if (is_close(got[i], wanted[i], t))
            continue;
        if (n_bad++ == 0)
            first = worst = i;
        if (!(fabs(got[i] - wanted[i]) <= fabs(got[worst] - wanted[worst])))
            worst = i;
    }
    if (n_bad == 0)
        return;
    print_error("%s: %lld of %lld are wrong (allowed: %.3g |wanted| + %.3g)\n", what,
                (long long)n_bad, (long long)n, t.relative, t.absolute);
    print_error("  first: [%lld] got %.9g, wanted %.9g\n", (long long)first, got[first],
                wanted[first]);
    print_error("  worst: [%lld] got %.9g, wanted %.9g, off by %.3g\n", (long long)worst,
                got[worst], wanted[worst], fabs(got[worst] - wanted[worst]));
    _fail(file, line);
}

void check_same_bits(const void *got, const void *wanted, int64_t n, size_t element_bytes,
                     const char *what, const char *file, int line)
{
    for (int64_t i = 0; i < n; i++) {
        size_t at = (size_t)i * element_bytes;
        if (memcmp((const char *)got + at, (const char *)wanted + at, element_bytes) == 0)
            continue;
        print_error("%s: bits differ first at [%lld] of %lld\n", what, (long long)i, (long long)n);
        _fail(file, line);
    }
}
