/* tool_compare_metrics A.jsonl B.jsonl TOLERANCE: the losses of two runs, of steps and of
 * evaluations, line by line. Prints the largest relative difference; fails when it is past the
 * tolerance or when the two have not the same lines. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

enum { N_LOSSES = 3 };
static const char *const LOSSES[N_LOSSES] = {"loss", "train_loss", "val_loss"};

typedef struct {
    json_int_t iter;
    double loss[N_LOSSES]; /* NaN: null; 0: the line has none of this name */
} Line;

static double number_of(const json_t *value)
{
    if (!value)
        return 0;
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* false at the end of the file. */
static bool next_line(FILE *in, Line *line)
{
    char text[4096];
    if (!fgets(text, sizeof text, in))
        return false;
    json_t *object = json_loads(text, 0, NULL);
    if (!object) {
        fprintf(stderr, "not JSON: %s", text);
        exit(1);
    }
    line->iter = json_integer_value(json_object_get(object, "iter"));
    for (int i = 0; i < N_LOSSES; i++)
        line->loss[i] = number_of(json_object_get(object, LOSSES[i]));
    json_decref(object);
    return true;
}

/* The larger; NaN when either is. */
static double worse(double a, double b)
{
    return isnan(a) || a >= b ? a : b;
}

/* The largest relative difference; NaN when either has one. */
static double difference(const Line *a, const Line *b)
{
    double worst = 0;
    for (int i = 0; i < N_LOSSES; i++) {
        double d = a->loss[i] == b->loss[i] ? 0 : fabs(a->loss[i] - b->loss[i]) / fabs(b->loss[i]);
        worst = worse(worst, d);
    }
    return worst;
}

static FILE *open_or_exit(const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in) {
        perror(path);
        exit(1);
    }
    return in;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: tool_compare_metrics A.jsonl B.jsonl TOLERANCE\n");
        return 64;
    }
    FILE *a = open_or_exit(argv[1]), *b = open_or_exit(argv[2]);
    double tolerance = strtod(argv[3], NULL), worst = 0;
    int n = 0;
    bool more_a, more_b;
    Line x = {0}, y = {0};
    for (;; n++) {
        more_a = next_line(a, &x);
        more_b = next_line(b, &y);
        if (!more_a || !more_b || x.iter != y.iter)
            break;
        worst = worse(worst, difference(&x, &y));
    }
    fclose(a);
    fclose(b);
    printf("%d lines, largest relative difference of a loss %.3g\n", n, worst);
    if (more_a || more_b)
        printf("the runs do not have the same lines\n");
    return !(n > 0 && !more_a && !more_b && worst <= tolerance);
}
