/* Outliers: steps whose loss or gradient norm is far above that of the steps before them; a run may
 * leave out their updates.
 *
 * The measure is a robust z: how many standard deviations the logarithm of a value lies above the
 * median of the newest steps that were accepted, the deviation estimated as 1.4826 times their
 * median absolute deviation (Rousseeuw and Croux 1993). Outliers do not enter the window, so they
 * do not move it; a level that stays is no outlier, and after some in a row it is accepted and the
 * window begins again. */
#ifndef GPT_OPTIM_OUTLIERS_H
#define GPT_OPTIM_OUTLIERS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    OUTLIER_WINDOW = 128, /* accepted steps that are remembered */
    OUTLIER_LEAST = 64    /* fewer say nothing about the next */
};
/* Deviations below this are taken for this: a thousandth of the value. */
#define OUTLIER_LEAST_DEVIATION 1e-3

/* State of a run. Zeros: nothing seen. */
typedef struct {
    int64_t n; /* in the window */
    /* logarithms, oldest first */
    double loss[OUTLIER_WINDOW], norm[OUTLIER_WINDOW];
    int64_t n_in_row;  /* outliers since the last step accepted */
    int64_t n_skipped; /* of the run */
} Outliers;

typedef enum {
    STEP_ACCEPTED,
    STEP_OUTLIER,  /* no update */
    STEP_NEW_LEVEL /* too many outliers in a row: accepted */
} OutlierVerdict;

/* z of a positive value among n logarithms; 0 when n < OUTLIER_LEAST. */
double outliers_z(const double *window, int64_t n, double value);

/* Judge a step by its finite loss and norm, and remember it. An outlier is one of which any z is
 * above limit_z, after fewer than most_in_row others. The same on all ranks when the values are. */
OutlierVerdict outliers_judge(Outliers *o, double loss, double norm, double limit_z,
                              int64_t most_in_row);

#ifdef __cplusplus
}
#endif
#endif
