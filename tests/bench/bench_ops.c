/* ms, GFLOP/s and share of the roofline of every op of a training step, on any device; --help lists
 * the flags.
 *
 * "floor" is the time the op cannot be faster than here: the larger of its FLOP at the rate of a
 * large square product and its bytes (each operand once) at the rate of a large copy, both measured
 * in the same run. "step" is the op's time times how often a step of one micro-batch runs it. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "launch/args.h"
#include "launch/report.h"
#include "tests/bench/bench.h"

/* ---- printing ---------------------------------------------------------------------------- */

static void print_head(const Bench *b)
{
    const Shape *s = &b->shape;
    printf("\n%s: L%lld H%lld C%lld T%lld V%lld B%lld, %s, head chunk %lld\n", s->name,
           (long long)s->L, (long long)s->H, (long long)s->C, (long long)s->T, (long long)s->V,
           (long long)s->B, dtype_name(b->dtype), (long long)s->head_chunk);
    printf("%-28s %10s %10s %10s %10s %8s %12s\n", "op", "ms", "GFLOP/s", "GB/s", "floor, ms",
           "of floor", "step, ms");
}

/* Its seconds in a step. */
static double print_line(Bench *b, const Line *line, double seconds)
{
    double took = bench_least_time(line->run, b, seconds);
    double flop = bench_line_flop(b, line), bytes = bench_line_bytes(b, line);
    double floor = fmax(flop / b->peak_flops, bytes / b->copy_bytes);
    double in_step = took * bench_line_times(b, line);
    printf("%-28s %10.3f ", line->name, took * 1e3);
    if (flop > 0)
        printf("%10.1f ", flop / took * 1e-9);
    else
        printf("%10s ", "");
    printf("%10.1f %10.3f %7.0f%% %12.2f\n", bytes / took * 1e-9, floor * 1e3, 100 * floor / took,
           in_step * 1e3);
    return in_step;
}

static Err print_shape(Bench *b, double seconds)
{
    double step = 0;
    print_head(b);
    for (const Line *line = BENCH_LINES; line->name; line++)
        step += print_line(b, line, seconds);
    printf("%-28s %10s %10s %10s %10s %8s %12.2f = %.0f tokens/s\n", "all", "", "", "", "", "",
           step * 1e3, (double)b->N / step);
    return device_sync(&b->dev);
}

/* ---- the command line -------------------------------------------------------------------- */

enum {
    FLAG_DEVICE,
    FLAG_DTYPE,
    FLAG_SHAPE,
    FLAG_BATCH,
    FLAG_THREADS,
    FLAG_SECONDS,
    FLAG_SQUARE,
    FLAG_HELP,
    N_FLAGS
};

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_DEVICE] = {"device", "cpu|cuda", "where (default cpu)", NULL},
    [FLAG_DTYPE] = {"dtype", "NAME",
                    "float32, bfloat16, float16 or auto, the device's best (default auto)", NULL},
    [FLAG_SHAPE] = {"shape", "NAME", "all, small, medium, gpt2, 350M, 774M or 1558M (default all)",
                    NULL},
    [FLAG_BATCH] = {"batch", "N", "sequences at once (default the shape's own)", NULL},
    [FLAG_THREADS] = {"threads", "N", "CPU threads (default OMP_NUM_THREADS, else all CPUs)", NULL},
    [FLAG_SECONDS] = {"seconds", "X", "for each op, about (default 0.1)", NULL},
    [FLAG_SQUARE] = {"square", "N",
                     "of the product that gives the FLOP/s (default 1024, on a GPU 8192)", NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
};

typedef struct {
    Flag flag[N_FLAGS];
    DeviceKind kind;
    DType dtype; /* unless best_dtype */
    bool best_dtype;
    const Shape *shape; /* NULL: all */
    int64_t batch, n_threads, square;
    double seconds;
} Options;

static void print_help(void)
{
    printf(
        "usage: bench_ops [flags]\n\n"
        "Times every op of a training step: ms, GFLOP/s, GB/s and the share of the roofline.\n\n");
    args_help(FLAGS, N_FLAGS, stdout);
}

static Err parse_device(Options *o)
{
    const char *text = o->flag[FLAG_DEVICE].text;
    o->kind = text && strcmp(text, "cuda") == 0 ? DEVICE_CUDA : DEVICE_CPU;
    if (text && o->kind == DEVICE_CPU && strcmp(text, "cpu") != 0)
        FAIL(ERR_USAGE, "--device=%s: must be cpu or cuda", text);
    return OK;
}

static Err parse_dtype(Options *o)
{
    static const DType ALL[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    const char *text = o->flag[FLAG_DTYPE].text;
    o->best_dtype = !text || strcmp(text, "auto") == 0;
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL && !o->best_dtype; i++)
        if (strcmp(dtype_name(ALL[i]), text) == 0) {
            o->dtype = ALL[i];
            return OK;
        }
    if (!o->best_dtype)
        FAIL(ERR_USAGE, "--dtype=%s: must be float32, bfloat16, float16 or auto", text);
    return OK;
}

static Err parse_shape(Options *o)
{
    const char *text = o->flag[FLAG_SHAPE].text;
    if (!text || strcmp(text, "all") == 0)
        return OK;
    o->shape = bench_find_shape(text);
    if (!o->shape)
        FAIL(ERR_USAGE, "--shape=%s: there is none; --help lists the shapes", text);
    return OK;
}

static Err parse(Options *o, int argc, char **argv)
{
    int32_t n_rest = 0;
    char **rest = malloc((size_t)argc * sizeof *rest);
    if (!rest)
        FAIL(ERR_SYSTEM, "out of memory");
    memcpy(o->flag, FLAGS, sizeof FLAGS);
    Err err = args_take(o->flag, N_FLAGS, argc, argv, rest, &n_rest);
    if (!err)
        err = args_refuse_rest(FLAGS, N_FLAGS, rest, n_rest, 0);
    free(rest);
    TRY(err);
    o->n_threads = omp_get_max_threads();
    o->seconds = 0.1;
    TRY(args_integer(&o->flag[FLAG_BATCH], 1, 1 << 20, &o->batch));
    TRY(args_integer(&o->flag[FLAG_THREADS], 1, 4096, &o->n_threads));
    TRY(args_integer(&o->flag[FLAG_SQUARE], 16, 1 << 16, &o->square));
    TRY(args_number(&o->flag[FLAG_SECONDS], 0, 3600, &o->seconds));
    TRY(parse_device(o));
    TRY(parse_dtype(o));
    return parse_shape(o);
}

/* ---- the program ------------------------------------------------------------------------- */

static Err bench_shape(Bench *b, const Options *o, const Shape *shape)
{
    Err err = bench_open_shape(b, shape, o->batch);
    if (!err)
        err = print_shape(b, o->seconds);
    bench_release(b);
    return err;
}

static Err bench_shapes(Bench *b, const Options *o)
{
    if (o->shape)
        return bench_shape(b, o, o->shape);
    for (const Shape *shape = BENCH_SHAPES; shape->name; shape++)
        TRY(bench_shape(b, o, shape));
    return OK;
}

static Err bench_on(Bench *b, const Options *o)
{
    DeviceInfo info;
    TRY(device_info(&b->dev, &info));
    b->dtype = o->best_dtype ? info.storage_dtype : o->dtype;
    device_tune(&b->dev, true);
    TRY(bench_measure_roofs(b, o->square, o->seconds));
    printf("%s, %s: %.1f GFLOP/s on squares, copies at %.1f GB/s\n", info.name,
           dtype_name(b->dtype), b->peak_flops * 1e-9, b->copy_bytes * 1e-9);
    return bench_shapes(b, o);
}

static Err bench(const Options *o)
{
    const DeviceArgs args = {.kind = o->kind, .n_threads = (int32_t)o->n_threads, .tf32 = true};
    const char *reason = "";
    Bench b = {0};
    if (!device_available(o->kind, &reason))
        FAIL(ERR_SYSTEM, "--device=%s: %s", o->flag[FLAG_DEVICE].text, reason);
    Err err = device_open(&b.dev, &args);
    if (!err)
        err = bench_on(&b, o);
    device_close(&b.dev);
    return err;
}

static Err run(int argc, char **argv)
{
    Options o = {0};
    TRY(parse(&o, argc, argv));
    if (!o.flag[FLAG_HELP].text)
        return bench(&o);
    print_help();
    return OK;
}

int main(int argc, char **argv)
{
    return report_error("bench_ops", run(argc, argv), true);
}
