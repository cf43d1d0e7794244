/* The data plane: collectives on tensors of every device, by every way between ranks. The data have
 * exact sums, so results are compared with ==, and every buffer has a guard behind it: a count
 * taken for bytes, or bytes for a count, is seen (llm.c gave sizeof(float) as the count of one
 * float). */
#include <mpi.h>
#include <string.h>

#include "tests/support/mpi_main.h"

enum { GUARD = 256, GUARD_BYTE = 0xEE, SMALL_PIECE = 5 };

/* Slices of odd lengths, from nothing to several pieces. */
static const int64_t SLICES[] = {0, 1, 2, 13, 64, 1000, 140003};
enum { N_SLICES = sizeof SLICES / sizeof SLICES[0] };

/* ---- data -------------------------------------------------------------------------------- */

/* Element i of rank r. Needs more bits than bfloat16 has; sums of four are exact in float32. */
static float value_of(int32_t rank, int64_t i)
{
    return (float)((i * 7919 + rank * 104729) % 1048573);
}

static float sum_of(int32_t world, int64_t i)
{
    float sum = 0;
    for (int32_t r = 0; r < world; r++)
        sum += value_of(r, i);
    return sum;
}

/* A sum of these depends on the order. */
static float inexact_value_of(int32_t rank, int64_t i)
{
    return 1.0f / (1.0f + value_of(rank, i));
}

/* A tensor on the device with these elements, and the guard behind it; give it to pull. */
static Tensor push(MpiTest *t, DType dtype, int64_t n, const void *elements)
{
    size_t n_bytes = (size_t)n * dtype_bytes(dtype);
    uint8_t *host = malloc(n_bytes + GUARD);
    void *memory = NULL;
    assert_non_null(host);
    if (n > 0)
        memcpy(host, elements, n_bytes);
    memset(host + n_bytes, GUARD_BYTE, GUARD);
    check_no_err(device_alloc(&t->dev, n_bytes + GUARD, &memory));
    device_upload(&t->dev, tensor_1d(memory, DTYPE_U8, (int64_t)n_bytes + GUARD), host);
    check_no_err(device_sync(&t->dev));
    free(host);
    return tensor_1d(memory, dtype, n);
}

/* The elements, after a look at the guard; the tensor is gone. Free them. */
static void *pull(MpiTest *t, Tensor buf)
{
    size_t n_bytes = tensor_bytes(buf);
    uint8_t *host = malloc(n_bytes + GUARD);
    assert_non_null(host);
    device_download(&t->dev, host, tensor_1d(buf.data, DTYPE_U8, (int64_t)n_bytes + GUARD));
    check_no_err(comm_sync(&t->comm, &t->dev));
    for (size_t i = 0; i < GUARD; i++)
        if (host[n_bytes + i] != GUARD_BYTE)
            fail_msg("byte %zu behind the tensor was written", i);
    device_free(&t->dev, buf.data);
    return host;
}

static Tensor push_f32(MpiTest *t, int64_t n, float (*value)(int32_t rank, int64_t i))
{
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = value(t->comm.rank, i);
    Tensor buf = push(t, DTYPE_F32, n, x);
    free(x);
    return buf;
}

/* Elements [begin, end) are sums; takes the tensor. */
static void check_sums(MpiTest *t, Tensor buf, int64_t begin, int64_t end)
{
    float *x = pull(t, buf);
    for (int64_t i = begin; i < end; i++)
        if (x[i] != sum_of(t->comm.world, i))
            fail_msg("rank %d element %lld: %.9g, wanted %.9g", t->comm.rank, (long long)i,
                     (double)x[i], (double)sum_of(t->comm.world, i));
    free(x);
}

/* Element i is the one of the rank whose slice it is in; takes the tensor. */
static void check_gathered(MpiTest *t, Tensor buf)
{
    int64_t n = tensor_count(buf), slice = n / t->comm.world;
    float *x = pull(t, buf);
    for (int64_t i = 0; i < n; i++)
        if (x[i] != value_of((int32_t)(i / slice), i))
            fail_msg("rank %d element %lld: %.9g, wanted %.9g", t->comm.rank, (long long)i,
                     (double)x[i], (double)value_of((int32_t)(i / slice), i));
    free(x);
}

/* ---- results ----------------------------------------------------------------------------- */

static void all_reduce(MpiTest *t, int64_t n)
{
    Tensor buf = push_f32(t, n, value_of);
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    check_sums(t, buf, 0, n);
}

static void reduce_scatter(MpiTest *t, int64_t slice)
{
    Tensor buf = push_f32(t, slice * t->comm.world, value_of);
    check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    check_sums(t, buf, t->comm.rank * slice, (t->comm.rank + 1) * slice);
}

/* Every byte of a slice names its owner; whatever the dtype, the bytes arrive as they were. */
static void all_gather(MpiTest *t, DType dtype, int64_t slice)
{
    int64_t n = slice * t->comm.world;
    size_t slice_bytes = (size_t)slice * dtype_bytes(dtype);
    uint8_t *mine = malloc((size_t)t->comm.world * slice_bytes + 1);
    assert_non_null(mine);
    memset(mine, t->comm.rank + 1, (size_t)t->comm.world * slice_bytes);
    Tensor buf = push(t, dtype, n, mine);
    check_no_err(comm_all_gather(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    uint8_t *bytes = pull(t, buf);
    for (size_t i = 0; i < (size_t)t->comm.world * slice_bytes; i++)
        if (bytes[i] != i / slice_bytes + 1)
            fail_msg("%s byte %zu: %d", dtype_name(dtype), i, bytes[i]);
    free(bytes);
    free(mine);
}

/* Element i of the slice that rank `from` sends to rank `to`. */
static uint16_t word_of(int32_t from, int32_t to, int64_t i)
{
    return (uint16_t)(from * 16384 + to * 4096 + i % 4093);
}

static void all_to_all(MpiTest *t, int64_t slice)
{
    int32_t world = t->comm.world, rank = t->comm.rank;
    int64_t n = world * slice;
    uint16_t *words = calloc((size_t)n + 1, sizeof *words);
    assert_non_null(words);
    Tensor in = push(t, DTYPE_BF16, n, words);
    for (int64_t i = 0; i < n; i++)
        words[i] = word_of(rank, (int32_t)(i / slice), i % slice);
    Tensor out = push(t, DTYPE_BF16, n, words);
    free(words);
    check_no_err(comm_all_to_all(&t->comm, &t->dev, in, out));
    check_no_err(comm_wait(&t->comm, &t->dev));
    words = pull(t, in);
    for (int64_t i = 0; i < n; i++)
        if (words[i] != word_of((int32_t)(i / slice), rank, i % slice))
            fail_msg("element %lld: %d", (long long)i, words[i]);
    free(words);
    free(pull(t, out));
}

static void test_all_to_all(void **state)
{
    for (int i = 0; i < N_SLICES; i++)
        all_to_all(*state, SLICES[i]);
}

static void test_all_reduce(void **state)
{
    for (int i = 0; i < N_SLICES; i++)
        all_reduce(*state, SLICES[i]);
}

static void test_reduce_scatter(void **state)
{
    for (int i = 0; i < N_SLICES; i++)
        reduce_scatter(*state, SLICES[i]);
}

static void test_all_gather(void **state)
{
    for (int i = 0; i < N_SLICES; i++)
        all_gather(*state, DTYPE_F32, SLICES[i]);
}

static void test_all_gather_of_each_dtype(void **state)
{
    static const DType DTYPES[] = {DTYPE_F64, DTYPE_BF16, DTYPE_F16,
                                   DTYPE_I32, DTYPE_U16,  DTYPE_U8};
    for (size_t i = 0; i < sizeof DTYPES / sizeof DTYPES[0]; i++)
        all_gather(*state, DTYPES[i], 131);
}

/* More than the buffers of host memory hold that a GPU's tensors go through. */
static void test_tensors_of_many_pieces(void **state)
{
    MpiTest *t = *state;
    int64_t n = 2500003, slice = n / t->comm.world;
    if (t->comm.kind != COMM_MPI || device_is_host(&t->dev))
        skip();
    all_reduce(t, n);
    reduce_scatter(t, slice);
    all_gather(t, DTYPE_F32, slice);
    all_to_all(t, 2 * slice);
}

static void test_sums_of_doubles(void **state)
{
    MpiTest *t = *state;
    int64_t world = t->comm.world, rank = t->comm.rank;
    double x[4 * 3];
    for (int64_t i = 0; i < 3 * world; i++)
        x[i] = (double)(((int64_t)1 << 40) + i * (rank + 1)); /* float32 would lose the units */
    Tensor buf = push(t, DTYPE_F64, 3 * world, x);
    check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_all_gather(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    double *got = pull(t, buf);
    for (int64_t i = 0; i < 3 * world; i++)
        assert_true(got[i] == (double)(world * ((int64_t)1 << 40) + i * world * (world + 1) / 2));
    free(got);
}

/* What zero_stage 1 does is what an all-reduce does, to the last bit of sums that are not exact.
 * That is a promise of comm_mpi; NCCL chooses an order by the size. */
static void test_scatter_then_gather_is_all_reduce(void **state)
{
    MpiTest *t = *state;
    int64_t n = 997 * t->comm.world;
    if (t->comm.kind == COMM_NCCL)
        skip();
    Tensor halves = push_f32(t, n, inexact_value_of), whole = push_f32(t, n, inexact_value_of);
    check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, halves));
    check_no_err(comm_all_gather(&t->comm, &t->dev, halves));
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, whole));
    check_no_err(comm_wait(&t->comm, &t->dev));
    float *a = pull(t, halves), *b = pull(t, whole);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    free(a);
    free(b);
}

enum { N_INEXACT = 4099 };

static float *sum_inexact(MpiTest *t)
{
    Tensor buf = push_f32(t, N_INEXACT, inexact_value_of);
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    return pull(t, buf);
}

/* A sum of floats that depends on the order must still be the same on every rank, or replicas
 * drift apart; and every time. */
static void test_inexact_sums_agree_and_repeat(void **state)
{
    MpiTest *t = *state;
    float *first = sum_inexact(t), *again = sum_inexact(t);
    assert_memory_equal(first, again, N_INEXACT * sizeof *first);
    check_no_err(comm_broadcast_bytes(&t->comm, again, N_INEXACT * sizeof *again, 0));
    assert_memory_equal(first, again, N_INEXACT * sizeof *first);
    free(first);
    free(again);
}

/* By MPI the device makes no difference. */
static void test_sums_of_a_gpu_are_those_of_a_cpu(void **state)
{
    MpiTest *t = *state;
    if (t->comm.kind == COMM_NCCL || device_is_host(&t->dev))
        skip();
    MpiTest host = {.comm = t->comm};
    const DeviceArgs args = {.kind = DEVICE_CPU, .n_threads = 1};
    host.comm.ops = NULL;
    host.comm.data_impl = NULL;
    check_no_err(device_open(&host.dev, &args));
    check_no_err(comm_bind(&host.comm, &host.dev, COMM_MPI));
    float *by_gpu = sum_inexact(t), *by_cpu = sum_inexact(&host);
    assert_memory_equal(by_gpu, by_cpu, N_INEXACT * sizeof *by_gpu);
    free(by_gpu);
    free(by_cpu);
    comm_unbind(&host.comm, &host.dev);
    device_close(&host.dev);
}

/* ---- order ------------------------------------------------------------------------------- */

typedef Err Collective(Comm *comm, Device *dev, Tensor buf);

/* Nobody waits between the work that makes the input, the collective, and the work that takes the
 * result and spoils the buffer. Until then the buffer holds something else. */
static Tensor in_a_queue(MpiTest *t, Collective *collective, int64_t n)
{
    Tensor fresh = push_f32(t, n, value_of), buf = push_f32(t, n, inexact_value_of);
    Tensor result = push_f32(t, n, inexact_value_of);
    device_copy(&t->dev, buf, fresh);
    check_no_err(collective(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    device_copy(&t->dev, result, buf);
    device_zero(&t->dev, buf);
    free(pull(t, buf));
    free(pull(t, fresh));
    return result;
}

static void test_all_reduce_keeps_its_place(void **state)
{
    check_sums(*state, in_a_queue(*state, comm_all_reduce_sum, 1003), 0, 1003);
}

static void test_reduce_scatter_keeps_its_place(void **state)
{
    MpiTest *t = *state;
    int64_t slice = 501;
    Tensor result = in_a_queue(t, comm_reduce_scatter_sum, slice * t->comm.world);
    check_sums(t, result, t->comm.rank * slice, (t->comm.rank + 1) * slice);
}

/* What llm.c lacks an event for: parameters are gathered behind the update that makes them. */
static void test_all_gather_keeps_its_place(void **state)
{
    MpiTest *t = *state;
    check_gathered(t, in_a_queue(t, comm_all_gather, 257 * t->comm.world));
}

static void test_all_to_all_keeps_its_place(void **state)
{
    MpiTest *t = *state;
    int64_t slice = 119, n = slice * t->comm.world;
    Tensor fresh = push_f32(t, n, value_of), out = push_f32(t, n, inexact_value_of);
    Tensor in = push_f32(t, n, inexact_value_of), result = push_f32(t, n, inexact_value_of);
    device_copy(&t->dev, out, fresh);
    check_no_err(comm_all_to_all(&t->comm, &t->dev, in, out));
    check_no_err(comm_wait(&t->comm, &t->dev));
    device_copy(&t->dev, result, in);
    device_zero(&t->dev, in);
    device_zero(&t->dev, out);
    float *x = pull(t, result);
    for (int64_t i = 0; i < n; i++)
        assert_true(x[i] == value_of((int32_t)(i / slice), t->comm.rank * slice + i % slice));
    free(x);
    free(pull(t, in));
    free(pull(t, out));
    free(pull(t, fresh));
}

/* Bucket after bucket while "backward" goes on, one wait for all. */
static void test_many_collectives_under_way(void **state)
{
    enum { N_BUCKETS = 6, SLICE = 333 };
    MpiTest *t = *state;
    int64_t n = SLICE * t->comm.world, rank = t->comm.rank;
    Tensor fresh = push_f32(t, n, value_of), bucket[N_BUCKETS];
    for (int b = 0; b < N_BUCKETS; b++)
        bucket[b] = push_f32(t, n, inexact_value_of);
    for (int b = 0; b < N_BUCKETS; b++) {
        device_copy(&t->dev, bucket[b], fresh);
        check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, bucket[b]));
    }
    check_no_err(comm_wait(&t->comm, &t->dev));
    for (int b = 0; b < N_BUCKETS; b++)
        check_sums(t, bucket[b], rank * SLICE, (rank + 1) * SLICE);
    free(pull(t, fresh));
}

/* A rank that waits for another by MPI does not keep a third waiting in a collective. */
static void test_ranks_may_wait_elsewhere_meanwhile(void **state)
{
    MpiTest *t = *state;
    int32_t last = t->comm.world - 1;
    uint8_t word = (uint8_t)(t->comm.rank + 1);
    Tensor buf = push_f32(t, 2000, value_of);
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    if (t->comm.rank == last)
        check_no_err(comm_sync(&t->comm, &t->dev));
    check_no_err(comm_send_host(&t->comm, &word, 1, last, 0));
    float *x = pull(t, buf);
    assert_true(x[7] == (float)t->comm.world * sum_of(t->comm.world, 7));
    free(x);
}

/* ---- limits and faults of MPI ------------------------------------------------------------ */

/* The MPI profiling interface: what the library asks MPI for passes through here. */
static int largest_count;

static int note(int count)
{
    largest_count = count > largest_count ? count : largest_count;
    return count;
}

int MPI_Sendrecv(const void *send, int send_count, MPI_Datatype send_type, int to, int send_tag,
                 void *receive, int receive_count, MPI_Datatype receive_type, int from,
                 int receive_tag, MPI_Comm comm, MPI_Status *status)
{
    return PMPI_Sendrecv(send, note(send_count), send_type, to, send_tag, receive,
                         note(receive_count), receive_type, from, receive_tag, comm, status);
}

int MPI_Type_contiguous(int count, MPI_Datatype type, MPI_Datatype *run)
{
    return PMPI_Type_contiguous(note(count), type, run);
}

static void test_calls_are_split_past_the_limit(void **state)
{
    MpiTest *t = *state;
    int64_t usual = t->comm.max_count;
    if (t->comm.kind == COMM_NCCL) /* takes any count */
        skip();
    t->comm.max_count = SMALL_PIECE;
    largest_count = 0;
    const int64_t slices[] = {1, SMALL_PIECE - 1, SMALL_PIECE, SMALL_PIECE + 1, 64};
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        all_reduce(t, slices[i]);
        reduce_scatter(t, slices[i]);
        all_gather(t, DTYPE_F32, slices[i]);
        all_gather(t, DTYPE_BF16, slices[i]);
        all_to_all(t, slices[i]);
    }
    t->comm.max_count = usual;
    assert_int_equal(largest_count, t->comm.world > 1 ? SMALL_PIECE : 0);
}

static void test_a_fault_is_an_error_value(void **state)
{
    MpiTest *t = *state;
    if (t->comm.kind != COMM_MPI)
        skip();
    int64_t usual = t->comm.max_count;
    Tensor buf = push_f32(t, 4, value_of);
    t->comm.max_count = -1;
    Err err = comm_all_reduce_sum(&t->comm, &t->dev, buf);
    t->comm.max_count = usual;
    free(pull(t, buf));
    check_err(err, ERR_SYSTEM, "MPI_Sendrecv failed: ");
}

/* A fault of one rank's device stays there; the collective takes place, for the others wait. */
static void test_a_sticky_fault_does_not_keep_a_rank_away(void **state)
{
    MpiTest *t = *state;
    Tensor buf = push_f32(t, 64 * t->comm.world, value_of);
    if (t->comm.rank == t->comm.world - 1)
        t->dev.err = ERR_NEW(ERR_SYSTEM, "a planted fault");
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    Err err = comm_sync(&t->comm, &t->dev);
    if (t->comm.rank == t->comm.world - 1)
        check_err(err, ERR_SYSTEM, "a planted fault");
    else
        check_no_err(err);
    free(pull(t, buf));
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_reduce),
        cmocka_unit_test(test_reduce_scatter),
        cmocka_unit_test(test_all_gather),
        cmocka_unit_test(test_all_gather_of_each_dtype),
        cmocka_unit_test(test_all_to_all),
        cmocka_unit_test(test_tensors_of_many_pieces),
        cmocka_unit_test(test_sums_of_doubles),
        cmocka_unit_test(test_scatter_then_gather_is_all_reduce),
        cmocka_unit_test(test_inexact_sums_agree_and_repeat),
        cmocka_unit_test(test_sums_of_a_gpu_are_those_of_a_cpu),
        cmocka_unit_test(test_all_reduce_keeps_its_place),
        cmocka_unit_test(test_reduce_scatter_keeps_its_place),
        cmocka_unit_test(test_all_gather_keeps_its_place),
        cmocka_unit_test(test_all_to_all_keeps_its_place),
        cmocka_unit_test(test_many_collectives_under_way),
        cmocka_unit_test(test_ranks_may_wait_elsewhere_meanwhile),
        cmocka_unit_test(test_calls_are_split_past_the_limit),
        cmocka_unit_test(test_a_fault_is_an_error_value),
        cmocka_unit_test(test_a_sticky_fault_does_not_keep_a_rank_away),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
