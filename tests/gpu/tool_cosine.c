/* tool_cosine A.safetensors B.safetensors LEAST PREFIX: do the tensors of two files whose names
 * begin with PREFIX point the same way? Prints the smallest cosine and its tensor; fails when it is
 * below LEAST, not a number, or when B lacks a tensor. Two tensors of zeros agree. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"

static void open_or_exit(SafeFile *file, const char *path)
{
    Err err = safe_open(file, path);
    if (err) {
        fprintf(stderr, "%s\n", err_message(err));
        exit(1);
    }
}

static int64_t count_of(const SafeTensor *t)
{
    int64_t n = 1;
    for (int32_t d = 0; d < t->rank; d++)
        n *= t->dim[d];
    return n;
}

static float *read_or_exit(const SafeFile *file, const SafeTensor *t)
{
    int64_t n = count_of(t);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        exit(1);
    safe_read_f32(file, t, 0, n, values);
    return values;
}

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return aa == 0 && bb == 0 ? 1 : ab / sqrt(aa * bb);
}

/* Of tensor x of file a; exits when b has none like it. */
static double cosine_with(const SafeFile *a, const SafeTensor *x, const SafeFile *b)
{
    const SafeTensor *y = safe_find(b, x->name);
    if (!y || count_of(y) != count_of(x)) {
        fprintf(stderr, "only one file has %s, or they differ in its shape\n", x->name);
        exit(1);
    }
    float *of_a = read_or_exit(a, x), *of_b = read_or_exit(b, y);
    double result = cosine(of_a, of_b, count_of(x));
    free(of_a);
    free(of_b);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: tool_cosine A.safetensors B.safetensors LEAST PREFIX\n");
        return 64;
    }
    SafeFile a = {0}, b = {0};
    double smallest = INFINITY;
    const char *where = "";
    int n = 0;
    open_or_exit(&a, argv[1]);
    open_or_exit(&b, argv[2]);
    for (int32_t i = 0; i < a.n_tensors; i++) {
        if (strncmp(a.tensor[i].name, argv[4], strlen(argv[4])) != 0)
            continue;
        double c = cosine_with(&a, &a.tensor[i], &b);
        if (!isnan(smallest) && !(c >= smallest)) {
            smallest = c;
            where = a.tensor[i].name;
        }
        n++;
    }
    printf("%d tensors, smallest cosine %.7f of %s\n", n, smallest, where);
    safe_close(&a);
    safe_close(&b);
    return !(n > 0 && smallest >= strtod(argv[3], NULL));
}
