/* tool_compare_weights A.safetensors B.safetensors TOLERANCE: the tensors of two files. Prints the
 * largest difference, in units of the tensor's largest value; fails when it is past the tolerance
 * or when the two have not the same tensors. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/safetensors.h"

static void open_or_exit(SafeFile *file, const char *path)
{
    Err err = safe_open(file, path);
    if (err) {
        fprintf(stderr, "%s\n", err_message(err));
        exit(1);
    }
}

static float *read_or_exit(const SafeFile *file, const SafeTensor *t, int64_t n)
{
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        exit(1);
    safe_read_f32(file, t, 0, n, values);
    return values;
}

static int64_t count_of(const SafeTensor *t)
{
    int64_t n = 1;
    for (int32_t d = 0; d < t->rank; d++)
        n *= t->dim[d];
    return n;
}

/* The larger; NaN when either is. */
static double worse(double a, double b)
{
    return isnan(a) || a >= b ? a : b;
}

/* max |a - b| / max |b|; 0 when both are 0 throughout. */
static double distance(const float *a, const float *b, int64_t n)
{
    double difference = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        difference = worse(difference, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return difference == 0 ? 0 : difference / largest;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: tool_compare_weights A.safetensors B.safetensors TOLERANCE\n");
        return 64;
    }
    SafeFile a = {0}, b = {0};
    double tolerance = strtod(argv[3], NULL), worst = 0;
    const char *where = "";
    open_or_exit(&a, argv[1]);
    open_or_exit(&b, argv[2]);
    int same = a.n_tensors == b.n_tensors;
    for (int32_t i = 0; same && i < a.n_tensors; i++) {
        const SafeTensor *x = &a.tensor[i], *y = safe_find(&b, x->name);
        int64_t n = count_of(x);
        same = y && count_of(y) == n;
        if (!same)
            break;
        float *values_x = read_or_exit(&a, x, n), *values_y = read_or_exit(&b, y, n);
        double d = distance(values_x, values_y, n);
        if (!(d <= worst) && !isnan(worst))
            where = x->name;
        worst = worse(worst, d);
        free(values_x);
        free(values_y);
    }
    printf("%d tensors, largest difference %.3g %s\n", a.n_tensors, worst, where);
    if (!same)
        printf("the files do not hold the same tensors\n");
    int good = same && worst <= tolerance;
    safe_close(&a);
    safe_close(&b);
    return !good;
}
