#include "tests/bench/bench.h"

#include <math.h>
#include <omp.h>

enum { CPU_SQUARE = 1024, GPU_SQUARE = 8192 };

/* Seconds of `runs` runs, waited for at the end. A fault of the device gives NaN and stays with it.
 */
static double time_runs(void (*run)(Bench *b), Bench *b, int64_t runs)
{
    double start = omp_get_wtime();
    for (int64_t i = 0; i < runs; i++)
        run(b);
    Err err = device_sync(&b->dev);
    double took = omp_get_wtime() - start;
    b->dev.err = err;
    return err ? NAN : took;
}

/* A queue hides what a launch costs, so a GPU's runs are timed several at a time. */
double bench_least_time(void (*run)(Bench *b), Bench *b, double seconds)
{
    int64_t together = device_is_host(&b->dev) ? 1 : 10;
    double least = INFINITY, all = 0;
    (void)time_runs(run, b, 1); /* the first chooses algorithms, and warms caches */
    for (int32_t i = 0; (i < 3 || all < seconds) && !b->dev.err; i++) {
        double took = time_runs(run, b, together);
        all += took;
        least = fmin(least, took / (double)together);
    }
    return least;
}

static void run_square(Bench *b)
{
    op_linear_forward(&b->dev, b->y, b->x, b->w_proj, tensor_none());
}

static void run_copy(Bench *b)
{
    device_copy(&b->dev, b->m, b->v);
}

/* A product is 2 n^3 FLOP, a copy reads and writes. */
static Err measure_roofs(Bench *b, double seconds)
{
    double n = (double)b->N, bytes = (double)tensor_bytes(b->m);
    b->peak_flops = 2 * n * n * n / bench_least_time(run_square, b, seconds);
    b->copy_bytes = 2 * bytes / bench_least_time(run_copy, b, seconds);
    return device_sync(&b->dev);
}

Err bench_measure_roofs(Bench *b, int64_t n, double seconds)
{
    if (n == 0)
        n = device_is_host(&b->dev) ? CPU_SQUARE : GPU_SQUARE;
    Err err = bench_open_roofs(b, n);
    if (!err)
        err = measure_roofs(b, seconds);
    bench_release(b);
    return err;
}
