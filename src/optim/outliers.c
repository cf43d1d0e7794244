#include "optim/outliers.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* For a normal distribution: standard deviation / median absolute deviation. */
static const double DEVIATION_OF_MAD = 1.4826;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double median_of(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return 0.5 * (x[(n - 1) / 2] + x[n / 2]);
}

static double log_of(double value)
{
    return log(fmax(value, DBL_MIN));
}

double outliers_z(const double *window, int64_t n, double value)
{
    double x[OUTLIER_WINDOW];
    if (n < OUTLIER_LEAST)
        return 0;
    memcpy(x, window, (size_t)n * sizeof *x);
    double median = median_of(x, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = fabs(x[i] - median);
    double deviation = fmax(DEVIATION_OF_MAD * median_of(x, n), OUTLIER_LEAST_DEVIATION);
    return (log_of(value) - median) / deviation;
}

static void remember(Outliers *o, double loss, double norm)
{
    if (o->n == OUTLIER_WINDOW) {
        memmove(o->loss, o->loss + 1, sizeof o->loss - sizeof *o->loss);
        memmove(o->norm, o->norm + 1, sizeof o->norm - sizeof *o->norm);
        o->n--;
    }
    o->loss[o->n] = log_of(loss);
    o->norm[o->n] = log_of(norm);
    o->n++;
    o->n_in_row = 0;
}

OutlierVerdict outliers_judge(Outliers *o, double loss, double norm, double limit_z,
                              int64_t most_in_row)
{
    bool far =
        outliers_z(o->loss, o->n, loss) > limit_z || outliers_z(o->norm, o->n, norm) > limit_z;
    if (far && o->n_in_row < most_in_row) {
        o->n_in_row++;
        o->n_skipped++;
        return STEP_OUTLIER;
    }
    if (far)
        o->n = 0;
    remember(o, loss, norm);
    return far ? STEP_NEW_LEVEL : STEP_ACCEPTED;
}
