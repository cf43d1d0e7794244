/* NCCL's start and its faults: what does not fit together, never comes, or goes wrong on the way is
 * one line and no hang. The faults are ordered from the fake NCCL; with a real one the tests skip.
 */
#include <time.h>

#include "tests/support/mpi_main.h"

/* Defined in a program with the fakes. */
extern int fake_compute_capability(void) __attribute__((weak));

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool is_last(const Comm *comm)
{
    return comm->rank == comm->world - 1;
}

/* ---- a fresh start of NCCL --------------------------------------------------------------- */

typedef struct {
    Comm *comm;
    Device gpu;
} Start;

/* The CPU the tests begin with is let go; the GPU's number is `device` modulo those there are. */
static Start start(MpiTest *t, int32_t device)
{
    Start s = {.comm = &t->comm};
    const DeviceArgs args = {.kind = DEVICE_CUDA, .local_rank = device};
    comm_unbind(&t->comm, &t->dev);
    check_no_err(device_open(&s.gpu, &args));
    return s;
}

static void end(MpiTest *t, Start *s)
{
    comm_unbind(s->comm, &s->gpu);
    device_close(&s->gpu);
    check_no_err(comm_bind(&t->comm, &t->dev, COMM_MPI));
}

static int require_fakes(void **state)
{
    (void)state;
    if (!fake_compute_capability)
        skip();
    return 0;
}

/* Whatever went wrong before: a start without orders works. */
static void check_works(MpiTest *t)
{
    Start s = start(t, t->comm.local_rank);
    check_no_err(comm_bind(s.comm, &s.gpu, COMM_NCCL));
    assert_int_equal(s.comm->kind, COMM_NCCL);
    end(t, &s);
}

/* Binding fails with these words on every rank, in time; then it works again. */
static void check_refused(MpiTest *t, int32_t device, ErrCode code, const char *text)
{
    double begin = now_s();
    Start s = start(t, device);
    check_err(comm_bind(s.comm, &s.gpu, COMM_NCCL), code, text);
    assert_null(s.comm->data_impl);
    assert_true(now_s() - begin < 60);
    end(t, &s);
}

static void test_a_bound_rank_can_be_bound_again(void **state)
{
    for (int i = 0; i < 3; i++)
        check_works(*state);
}

static void test_versions_must_be_the_same(void **state)
{
    MpiTest *t = *state;
    char text[128];
    if (t->comm.world == 1)
        skip();
    snprintf(text, sizeof text, ", but 2.27.3 on rank %d (%s): use one version", t->comm.world - 1,
             t->comm.host);
    if (is_last(&t->comm))
        setenv("GPT_FAKE_NCCL_VERSION", "22703", 1);
    check_refused(t, t->comm.local_rank, ERR_SYSTEM, text);
    unsetenv("GPT_FAKE_NCCL_VERSION");
    check_works(t);
}

static void test_two_ranks_on_one_gpu_are_named(void **state)
{
    MpiTest *t = *state;
    if (t->comm.world == 1)
        skip();
    check_refused(t, 0, ERR_SYSTEM, "ranks 0 and 1 share one GPU of ");
    check_works(t);
}

static void test_a_start_without_end_ends(void **state)
{
    MpiTest *t = *state;
    double usual = t->comm.init_timeout_s;
    t->comm.init_timeout_s = 0.3;
    setenv("GPT_FAKE_NCCL_INIT", "never", 1);
    check_refused(t, t->comm.local_rank, ERR_SYSTEM,
                  "NCCL did not start (NCCL_DEBUG=INFO tells more): ncclCommInitRankConfig: not "
                  "done after 0.3 s");
    unsetenv("GPT_FAKE_NCCL_INIT");
    t->comm.init_timeout_s = usual;
    check_works(t);
}

static void test_a_dead_peer_in_the_first_collectives(void **state)
{
    MpiTest *t = *state;
    setenv("GPT_FAKE_NCCL_FAIL_AT", "2", 1);
    check_refused(t, t->comm.local_rank, ERR_SYSTEM,
                  "NCCL: remote process exited or there was a network error (a peer is gone)");
    unsetenv("GPT_FAKE_NCCL_FAIL_AT");
    check_works(t);
}

static void test_wrong_sums_are_seen_at_the_start(void **state)
{
    MpiTest *t = *state;
    setenv("GPT_FAKE_NCCL_WRONG_AT", "2", 1);
    check_refused(t, t->comm.local_rank, ERR_SYSTEM, "NCCL gives wrong sums (element ");
    unsetenv("GPT_FAKE_NCCL_WRONG_AT");
    check_works(t);
}

/* What the start does not try, it does not see: all-to-all is tried where it will be used. */
static void test_wrong_exchanges_are_seen_at_the_start(void **state)
{
    MpiTest *t = *state;
    if (t->comm.world == 1)
        skip();
    setenv("GPT_FAKE_NCCL_WRONG_SEND", "1", 1);
    check_works(t);
    t->comm.will_exchange = true;
    check_refused(t, t->comm.local_rank, ERR_SYSTEM, "NCCL gives wrong sums (element ");
    unsetenv("GPT_FAKE_NCCL_WRONG_SEND");
    check_works(t);
    t->comm.will_exchange = false;
}

/* ---- an asynchronous error --------------------------------------------------------------- */

static void check_gone(Err err)
{
    check_err(err, ERR_SYSTEM, "a peer is gone");
}

/* The collective never ends; the host, which waits for it, hears of the error, aborts, and nothing
 * waits any more. */
static void test_an_asynchronous_error_ends_the_wait(void **state)
{
    MpiTest *t = *state;
    double begin = now_s();
    void *memory = NULL;
    setenv("GPT_FAKE_NCCL_FAIL_AT", "5", 1); /* the second after the warm-up's three */
    Start s = start(t, t->comm.local_rank);
    check_no_err(comm_bind(s.comm, &s.gpu, COMM_NCCL));
    check_no_err(device_alloc(&s.gpu, 4096, &memory));
    Tensor buf = tensor_1d(memory, DTYPE_F32, 4 * s.comm->world);
    device_zero(&s.gpu, buf);

    check_no_err(comm_all_reduce_sum(s.comm, &s.gpu, buf));
    check_no_err(comm_wait(s.comm, &s.gpu));
    check_no_err(comm_sync(s.comm, &s.gpu));
    Err err = comm_all_gather(s.comm, &s.gpu, buf); /* a peer may be quicker, and tell */
    err = err_first(err, comm_wait(s.comm, &s.gpu));
    check_gone(err_first(err, comm_sync(s.comm, &s.gpu)));

    check_gone(comm_all_reduce_sum(s.comm, &s.gpu, buf)); /* and from now on */
    check_gone(comm_reduce_scatter_sum(s.comm, &s.gpu, buf));
    check_gone(comm_wait(s.comm, &s.gpu));
    check_gone(comm_sync(s.comm, &s.gpu));
    check_no_err(device_sync(&s.gpu));
    unsetenv("GPT_FAKE_NCCL_FAIL_AT");
    device_free(&s.gpu, memory);
    end(t, &s);
    assert_true(now_s() - begin < 60);
    check_works(t);
}

/* On the last rank alone. The others wait in the same collective, and learn of it from that rank; a
 * data plane bound later has nothing to do with it. */
static void test_one_rank_alone_fails_and_tells(void **state)
{
    MpiTest *t = *state;
    char text[192];
    void *memory = NULL;
    if (t->comm.world == 1)
        skip();
    snprintf(text, sizeof text, "told by a peer: rank %d on %s: NCCL: remote process exited",
             t->comm.world - 1, t->comm.host);
    if (is_last(&t->comm))
        setenv("GPT_FAKE_NCCL_FAIL_AT", "4", 1);
    Start s = start(t, t->comm.local_rank);
    check_no_err(comm_bind(s.comm, &s.gpu, COMM_NCCL));
    check_no_err(device_alloc(&s.gpu, 4096, &memory));
    Err err = comm_all_gather(s.comm, &s.gpu, tensor_1d(memory, DTYPE_F32, 4 * s.comm->world));
    err = err_first(err, comm_wait(s.comm, &s.gpu));
    err = err_first(err, comm_sync(s.comm, &s.gpu));
    check_err(err, ERR_SYSTEM, is_last(s.comm) ? "NCCL: remote process exited" : text);
    unsetenv("GPT_FAKE_NCCL_FAIL_AT");
    device_free(&s.gpu, memory);
    end(t, &s);
    check_works(t);
}

/* Leaving while a collective never ends takes no longer than its limit. */
static void test_leaving_does_not_wait_for_a_dead_peer(void **state)
{
    MpiTest *t = *state;
    double begin = now_s();
    void *memory = NULL;
    setenv("GPT_FAKE_NCCL_FAIL_AT", "4", 1); /* the first after the warm-up's three */
    Start s = start(t, t->comm.local_rank);
    check_no_err(comm_bind(s.comm, &s.gpu, COMM_NCCL));
    check_no_err(device_alloc(&s.gpu, 4096, &memory));
    check_no_err(comm_all_gather(s.comm, &s.gpu, tensor_1d(memory, DTYPE_F32, 4 * s.comm->world)));
    comm_unbind(s.comm, &s.gpu);
    unsetenv("GPT_FAKE_NCCL_FAIL_AT");
    device_free(&s.gpu, memory);
    end(t, &s);
    assert_true(now_s() - begin < 60);
}

/* ---- one rank ---------------------------------------------------------------------------- */

/* A world of one asks for NCCL by name: it gets it, and sums are what they were. */
static void test_one_rank_may_have_nccl(void **state)
{
    (void)state;
    Comm comm;
    Device gpu;
    const DeviceArgs args = {.kind = DEVICE_CUDA};
    const float x[3] = {1.5f, -2, 1e30f};
    float got[3] = {0};
    void *memory = NULL;
    check_no_err(comm_open(&comm, false));
    check_no_err(device_open(&gpu, &args));
    check_no_err(comm_bind(&comm, &gpu, COMM_NCCL));
    assert_int_equal(comm.kind, COMM_NCCL);
    check_no_err(device_alloc(&gpu, sizeof x, &memory));
    Tensor buf = tensor_1d(memory, DTYPE_F32, 3);
    device_upload(&gpu, buf, x);
    check_no_err(comm_all_reduce_sum(&comm, &gpu, buf));
    check_no_err(comm_reduce_scatter_sum(&comm, &gpu, buf));
    check_no_err(comm_all_gather(&comm, &gpu, buf));
    check_no_err(comm_wait(&comm, &gpu));
    device_download(&gpu, got, buf);
    check_no_err(comm_sync(&comm, &gpu));
    assert_memory_equal(got, x, sizeof x);
    device_free(&gpu, memory);
    comm_unbind(&comm, &gpu);
    device_close(&gpu);
    comm_close(&comm);
}

#define FAKE_TEST(function) cmocka_unit_test_setup(function, require_fakes)

int main(void)
{
    const char *reason;
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank_may_have_nccl),
        FAKE_TEST(test_a_bound_rank_can_be_bound_again),
        FAKE_TEST(test_versions_must_be_the_same),
        FAKE_TEST(test_two_ranks_on_one_gpu_are_named),
        FAKE_TEST(test_a_start_without_end_ends),
        FAKE_TEST(test_a_dead_peer_in_the_first_collectives),
        FAKE_TEST(test_wrong_sums_are_seen_at_the_start),
        FAKE_TEST(test_wrong_exchanges_are_seen_at_the_start),
        FAKE_TEST(test_an_asynchronous_error_ends_the_wait),
        FAKE_TEST(test_one_rank_alone_fails_and_tells),
        FAKE_TEST(test_leaving_does_not_wait_for_a_dead_peer),
    };
    if (!comm_built(COMM_NCCL) || !device_available(DEVICE_CUDA, &reason)) {
        printf("skipped: no NCCL, or no GPU\n");
        return EXIT_SUCCESS;
    }
    return MPI_MAIN(tests);
}
