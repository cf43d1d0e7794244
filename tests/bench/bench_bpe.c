/* bench_bpe DIR TEXT [THREADS]: how fast a text is encoded, each thread the whole of it with a
 * fresh encoder; the best of several rounds. DIR has the vocabulary. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "launch/report.h"
#include "text/bpe.h"

enum { ROUNDS = 7, MAX_THREADS = 256 };

static Err encode_once(const Bpe *bpe, const FileMap *text, uint16_t *ids, int64_t *n_ids)
{
    BpeEncoder *e;
    TRY(bpe_encoder_open(&e, bpe));
    Err err = bpe_encode(e, (const char *)text->data, text->n_bytes, ids, n_ids);
    bpe_encoder_close(e);
    return err;
}

/* Seconds that went by, and those of the processor, summed over threads. */
typedef struct {
    double wall, cpu;
} Time;

static Time time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (Time){omp_get_wtime(), (double)t.tv_sec + 1e-9 * (double)t.tv_nsec};
}

/* Time in which n_threads encode the text once each. */
static Err time_round(const Bpe *bpe, const FileMap *text, int32_t n_threads, uint16_t **ids,
                      Time *took, int64_t *n_ids)
{
    Err err[MAX_THREADS];
    int64_t n[MAX_THREADS];
    Time start = time_now();
#pragma omp parallel for num_threads(n_threads) schedule(static, 1)
    for (int32_t i = 0; i < n_threads; i++)
        err[i] = encode_once(bpe, text, ids[i], &n[i]);
    Time end = time_now();
    *took = (Time){end.wall - start.wall, end.cpu - start.cpu};
    *n_ids = n[0];
    for (int32_t i = 1; i < n_threads; i++)
        err[0] = err_first(err[0], err[i]);
    return err[0];
}

static Err measure(const Bpe *bpe, const FileMap *text, int32_t n_threads, uint16_t **ids)
{
    Time least = {INFINITY, INFINITY}, took;
    double n_mb = 1e-6 * n_threads * (double)text->n_bytes;
    int64_t n_ids;
    for (int32_t i = 0; i < ROUNDS; i++) {
        TRY(time_round(bpe, text, n_threads, ids, &took, &n_ids));
        least = (Time){fmin(least.wall, took.wall), fmin(least.cpu, took.cpu)};
    }
    printf("%d threads: %.1f MB/s, %.1f MB per second of a processor (%zu bytes, %lld tokens)\n",
           n_threads, n_mb / least.wall, n_mb / least.cpu, text->n_bytes, (long long)n_ids);
    return OK;
}

static Err run(int argc, char **argv)
{
    Bpe *bpe = NULL;
    FileMap text = {0};
    uint16_t *ids[MAX_THREADS] = {NULL};
    int32_t n_threads = argc > 3 ? atoi(argv[3]) : 1;
    if (argc < 3 || n_threads < 1 || n_threads > MAX_THREADS)
        FAIL(ERR_USAGE, "usage: bench_bpe DIR TEXT [THREADS]");
    Err err = bpe_open(&bpe, argv[1]);
    if (!err)
        err = file_map(&text, argv[2]);
    for (int32_t i = 0; i < n_threads && !err; i++)
        if (!(ids[i] = calloc(text.n_bytes + 1, sizeof *ids[i])))
            err = ERR_NEW(ERR_SYSTEM, "out of memory");
    if (!err)
        err = measure(bpe, &text, n_threads, ids);
    for (int32_t i = 0; i < n_threads; i++)
        free(ids[i]);
    file_unmap(&text);
    bpe_close(bpe);
    return err;
}

int main(int argc, char **argv)
{
    return report_error("bench_bpe", run(argc, argv), true);
}
