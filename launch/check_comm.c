/* --check: do the collectives of a step compute what they should, and how fast? */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/human.h"
#include "launch/check_line.h"

enum { TEST_BYTES = 16 << 20, MOST_ROUNDS = 20 };
static const double MOST_SECONDS = 0.5;

typedef struct {
    const char *name;
    Err (*run)(Comm *comm, Device *dev, Tensor buf);
    double traffic; /* of each rank, in (world - 1) / world of the buffer */
} Collective;

static const Collective COLLECTIVES[] = {
    {"all-reduce", comm_all_reduce_sum, 2},
    {"reduce-scatter", comm_reduce_scatter_sum, 1},
    {"all-gather", comm_all_gather, 1},
};

typedef struct {
    Comm *comm;
    Device *dev;
    Tensor buf;  /* (n) f32 on the device; n divides by world */
    float *host; /* n */
    int64_t n;
} Bench;

/* Small whole numbers, so that every order of adding up gives the same. */
static float value_of(int32_t rank, int64_t i)
{
    return (float)((rank * 7 + i) % 11);
}

static float sum_of(int32_t world, int64_t i)
{
    float sum = 0;
    for (int32_t r = 0; r < world; r++)
        sum += value_of(r, i);
    return sum;
}

static bool is_own(const Bench *b, int64_t i)
{
    return i / (b->n / b->comm->world) == b->comm->rank;
}

/* Element i after the collective; false: undefined. */
static bool expected(const Bench *b, const Collective *what, int64_t i, float *value)
{
    if (what->run == comm_all_gather) {
        *value = value_of((int32_t)(i / (b->n / b->comm->world)), i);
        return true;
    }
    *value = sum_of(b->comm->world, i);
    return what->run == comm_all_reduce_sum || is_own(b, i);
}

static Err look_at_result(const Bench *b, const Collective *what)
{
    for (int64_t i = 0; i < b->n; i++) {
        float wanted;
        if (expected(b, what, i, &wanted) && b->host[i] != wanted)
            FAIL(ERR_SYSTEM, "%s: element %lld is %g, not %g: the network or a library is faulty",
                 what->name, (long long)i, (double)b->host[i], (double)wanted);
    }
    return OK;
}

static Err run_here(const Bench *b, const Collective *what)
{
    TRY(what->run(b->comm, b->dev, b->buf));
    TRY(comm_wait(b->comm, b->dev));
    return comm_sync(b->comm, b->dev);
}

/* An error of one rank is that of all: none goes on with the next one alone. Collective. */
static Err run_once(const Bench *b, const Collective *what)
{
    return comm_agree(b->comm, run_here(b, what));
}

static Err test_one(const Bench *b, const Collective *what)
{
    for (int64_t i = 0; i < b->n; i++)
        b->host[i] = value_of(b->comm->rank, i);
    device_upload(b->dev, b->buf, b->host);
    TRY(comm_agree(b->comm, device_sync(b->dev)));
    TRY(run_once(b, what));
    device_download(b->dev, b->host, b->buf);
    Err err = device_sync(b->dev);
    return comm_agree(b->comm, err_first(err, err ? OK : look_at_result(b, what)));
}

/* *gb_per_s = what a rank sends, as the others do at the same time: nccl-tests' bus bandwidth. */
static Err time_one(const Bench *b, const Collective *what, double *gb_per_s)
{
    int64_t begin_ns = activity_now_ns(), spent_ns = 0, going = 1;
    int32_t rounds = 0;
    for (; going && rounds < MOST_ROUNDS; rounds++) {
        TRY(run_once(b, what));
        spent_ns = activity_now_ns() - begin_ns;
        going = b->comm->rank == 0 && (double)spent_ns * 1e-9 < MOST_SECONDS;
        TRY(comm_max_i64(b->comm, &going, 1));
    }
    double world = b->comm->world;
    double bytes = (double)tensor_bytes(b->buf) * what->traffic * (world - 1) / world * rounds;
    *gb_per_s = bytes / (double)(spent_ns > 0 ? spent_ns : 1);
    return OK;
}

static Err test_all(const Bench *b, double gb_per_s[])
{
    for (size_t i = 0; i < sizeof COLLECTIVES / sizeof *COLLECTIVES; i++) {
        TRY(test_one(b, &COLLECTIVES[i]));
        TRY(time_one(b, &COLLECTIVES[i], &gb_per_s[i]));
    }
    return OK;
}

static Err run_bench(Comm *comm, Device *dev, double gb_per_s[])
{
    void *memory = NULL;
    int64_t slice = TEST_BYTES / (int64_t)sizeof(float) / comm->world;
    Bench b = {.comm = comm, .dev = dev, .n = slice * comm->world};
    size_t n_bytes = (size_t)b.n * sizeof(float);
    b.host = malloc(n_bytes);
    Err err = b.host ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for %zu bytes", n_bytes);
    if (!err)
        err = device_alloc(dev, n_bytes, &memory);
    err = comm_agree(comm, err);
    if (!err) {
        b.buf = tensor_1d(memory, DTYPE_F32, b.n);
        err = test_all(&b, gb_per_s);
    }
    device_free(dev, memory);
    free(b.host);
    return err;
}

void check_collectives(Check *c, Device *dev)
{
    double rate[sizeof COLLECTIVES / sizeof *COLLECTIVES] = {0};
    if (c->comm->world == 1) {
        check_ok(c, "network", "one rank needs none");
        return;
    }
    if (check_passed(c, "network", run_bench(c->comm, dev, rate)))
        check_ok(c, "network",
                 "comm %s: %s of sums and gathers are right; all-reduce %.2f GB/s, reduce-scatter "
                 "%.2f, all-gather %.2f",
                 comm_kind_name(c->comm->kind), human_bytes(TEST_BYTES).text, rate[0], rate[1],
                 rate[2]);
}
