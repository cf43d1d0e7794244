/* tool_compare_metrics A.jsonl B.jsonl TOLERANCE: the losses of two runs, line by line. Prints the
 * largest relative difference; fails when it is past the tolerance or when the two have not the
 * same steps. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

typedef struct {
    json_int_t iter;
    double loss;
} Step;

/* The next line with a loss; false at the end of the file. Evaluations are passed over. */
static int next_step(FILE *in, Step *step)
{
    char line[4096];
    while (fgets(line, sizeof line, in)) {
        json_t *object = json_loads(line, 0, NULL);
        json_t *loss = json_object_get(object, "loss");
        if (!object) {
            fprintf(stderr, "not JSON: %s", line);
            exit(1);
        }
        int found = loss != NULL;
        step->iter = json_integer_value(json_object_get(object, "iter"));
        step->loss = json_is_number(loss) ? json_number_value(loss) : NAN;
        json_decref(object);
        if (found)
            return 1;
    }
    return 0;
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
    int n = 0, more_a, more_b;
    Step x = {0}, y = {0};
    for (;; n++) {
        more_a = next_step(a, &x);
        more_b = next_step(b, &y);
        if (!more_a || !more_b || x.iter != y.iter)
            break;
        double difference = fabs(x.loss - y.loss) / fabs(y.loss);
        if (!(difference <= worst)) /* NaN is the worst of all */
            worst = difference;
    }
    fclose(a);
    fclose(b);
    printf("%d steps, largest relative difference of the loss %.3g\n", n, worst);
    if (more_a || more_b)
        printf("the runs do not have the same steps\n");
    return !(n > 0 && !more_a && !more_b && worst <= tolerance);
}
