/* bench_bpe DIR TEXT [THREADS]: how fast a text is encoded. DIR has the vocabulary.
 *
 * With THREADS, how one thread compares with several: the text is cut into blocks that go to
 * whichever thread is free, as gpt_prepare's do, and rounds of one and of THREADS threads take
 * turns. A loop that needs nothing but registers is timed between them: what it gains by the
 * threads is all that the machine has to give. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "launch/report.h"
#include "text/bpe.h"
#include "text/split.h"

enum { ROUNDS = 7, PAIRS = 41, MAX_THREADS = 256, BLOCK_BYTES = 1 << 16, SPINS = 64 };

typedef struct {
    size_t at, n_bytes;
    int64_t n_ids;
} Block;

typedef struct {
    FileMap text;
    uint16_t *ids; /* [n_bytes], each block's from its first byte on */
    Block *block;
    int32_t n_blocks;
    Bpe *bpe;
    BpeEncoder *encoder[MAX_THREADS];
} Bench;

/* ---- set-up ------------------------------------------------------------------------------ */

/* Blocks of at least half of BLOCK_BYTES; one that cannot be cut there takes all that is left. */
static void cut_blocks(Bench *b)
{
    const char *text = (const char *)b->text.data;
    size_t n;
    for (size_t at = 0; at < b->text.n_bytes; at += n) {
        size_t left = b->text.n_bytes - at;
        n = left > BLOCK_BYTES ? split_cut(text + at, BLOCK_BYTES) : left;
        n = n < BLOCK_BYTES / 2 ? left : n;
        b->block[b->n_blocks++] = (Block){.at = at, .n_bytes = n};
    }
}

static Err open_encoders(Bench *b, int32_t n_threads)
{
    for (int32_t i = 0; i < n_threads; i++)
        TRY(bpe_encoder_open(&b->encoder[i], b->bpe));
    return OK;
}

static void close_encoders(Bench *b)
{
    for (int32_t i = 0; i < MAX_THREADS; i++) {
        bpe_encoder_close(b->encoder[i]);
        b->encoder[i] = NULL;
    }
}

static Err bench_open(Bench *b, const char *folder, const char *path)
{
    TRY(bpe_open(&b->bpe, folder));
    TRY(file_map(&b->text, path));
    b->ids = calloc(b->text.n_bytes + 1, sizeof *b->ids);
    b->block = calloc(b->text.n_bytes / (BLOCK_BYTES / 2) + 1, sizeof *b->block);
    if (!b->ids || !b->block)
        FAIL(ERR_SYSTEM, "out of memory");
    cut_blocks(b);
    return OK;
}

static void bench_close(Bench *b)
{
    close_encoders(b);
    free(b->block);
    free(b->ids);
    file_unmap(&b->text);
    bpe_close(b->bpe);
}

/* ---- rounds ------------------------------------------------------------------------------ */

static Err encode_block(Bench *b, Block *block)
{
    const char *text = (const char *)b->text.data + block->at;
    return bpe_encode(b->encoder[omp_get_thread_num()], text, block->n_bytes, b->ids + block->at,
                      &block->n_ids);
}

static Err encode_blocks(Bench *b, int32_t n_threads)
{
    Err err = OK;
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1)
    for (int32_t i = 0; i < b->n_blocks; i++) {
        Err failed = encode_block(b, &b->block[i]);
#pragma omp critical
        err = err_first(err, failed);
    }
    return err;
}

/* Seconds of one round. */
static Err time_encoding(Bench *b, int32_t n_threads, double *seconds)
{
    double start = omp_get_wtime();
    Err err = encode_blocks(b, n_threads);
    *seconds = omp_get_wtime() - start;
    return err;
}

/* The same with an encoder that has not seen a word yet. */
static Err time_fresh(Bench *b, double *seconds)
{
    close_encoders(b);
    TRY(open_encoders(b, 1));
    return time_encoding(b, 1, seconds);
}

static uint64_t spin(uint64_t x)
{
    for (int32_t i = 0; i < 1000000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static double time_spinning(int32_t n_threads)
{
    uint64_t sum = 0;
    double start = omp_get_wtime();
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1) reduction(^ : sum)
    for (int32_t i = 0; i < SPINS; i++)
        sum ^= spin((uint64_t)i + 1);
    double seconds = omp_get_wtime() - start;
    return sum ? seconds : NAN; /* never NAN; but a sum nobody reads would not be computed */
}

/* ---- figures ----------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *value, size_t n)
{
    qsort(value, n, sizeof *value, compare_doubles);
    return value[n / 2];
}

static double n_mb(const Bench *b)
{
    return 1e-6 * (double)b->text.n_bytes;
}

static Err measure_one(Bench *b)
{
    double least = INFINITY, seconds = 0.0;
    for (int32_t i = 0; i < ROUNDS; i++) {
        TRY(time_fresh(b, &seconds));
        least = fmin(least, seconds);
    }
    int64_t n_ids = 0;
    for (int32_t i = 0; i < b->n_blocks; i++)
        n_ids += b->block[i].n_ids;
    printf("1 thread: %.1f MB/s (%zu bytes, %lld tokens)\n", n_mb(b) / least, b->text.n_bytes,
           (long long)n_ids);
    return OK;
}

static Err measure_pairs(Bench *b, int32_t n_threads)
{
    double one[PAIRS], many[PAIRS], gain[PAIRS], limit[PAIRS];
    TRY(open_encoders(b, n_threads));
    for (int32_t i = 0; i < PAIRS; i++) {
        TRY(time_encoding(b, 1, &one[i]));
        TRY(time_encoding(b, n_threads, &many[i]));
        gain[i] = one[i] / many[i];
        limit[i] = time_spinning(1) / time_spinning(n_threads);
    }
    printf("1 thread: %.1f MB/s\n", n_mb(b) / median(one, PAIRS));
    printf("%d threads: %.1f MB/s\n", n_threads, n_mb(b) / median(many, PAIRS));
    printf("gain: %.2f x (a loop in registers: %.2f x), medians of %d pairs; of the fastest rounds "
           "%.2f x\n",
           median(gain, PAIRS), median(limit, PAIRS), PAIRS, one[0] / many[0]);
    return OK;
}

static Err run(int argc, char **argv)
{
    Bench b = {0};
    int32_t n_threads = argc > 3 ? atoi(argv[3]) : 1;
    if (argc < 3 || n_threads < 1 || n_threads > MAX_THREADS)
        FAIL(ERR_USAGE, "usage: bench_bpe DIR TEXT [THREADS]");
    Err err = bench_open(&b, argv[1], argv[2]);
    if (!err)
        err = n_threads == 1 ? measure_one(&b) : measure_pairs(&b, n_threads);
    bench_close(&b);
    return err;
}

int main(int argc, char **argv)
{
    return report_error("bench_bpe", run(argc, argv), true);
}
