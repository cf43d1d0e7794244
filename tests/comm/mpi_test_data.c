/* The data plane: collectives on tensors. The data have exact sums, so results are compared with
 * ==, and every buffer has a guard behind it: a count taken for bytes, or bytes for a count, is
 * seen. */
#include <mpi.h>
#include <string.h>

#include "tests/support/mpi_main.h"

enum { GUARD = 64, SMALL_PIECE = 5 };
static const float GUARD_VALUE = -77.0f;

/* Slices of odd lengths, from nothing to several pieces. */
static const int64_t SLICES[] = {0, 1, 2, 13, 64, 1000, 140003};
enum { N_SLICES = sizeof SLICES / sizeof SLICES[0] };

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

/* n elements and the guard behind them; free .data. */
static Tensor make_f32(const Comm *comm, int64_t n)
{
    float *x = malloc((size_t)(n + GUARD) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = value_of(comm->rank, i);
    for (int64_t i = n; i < n + GUARD; i++)
        x[i] = GUARD_VALUE;
    return tensor_1d(x, DTYPE_F32, n);
}

static void check_guard(Tensor t)
{
    const float *behind = (const float *)t.data + tensor_count(t);
    for (int64_t i = 0; i < GUARD; i++)
        if (behind[i] != GUARD_VALUE)
            fail_msg("element %lld behind the tensor was written", (long long)i);
}

static void check_sums(const Comm *comm, Tensor t, int64_t begin, int64_t end)
{
    const float *x = t.data;
    for (int64_t i = begin; i < end; i++)
        if (x[i] != sum_of(comm->world, i))
            fail_msg("rank %d element %lld: %.9g, wanted %.9g", comm->rank, (long long)i,
                     (double)x[i], (double)sum_of(comm->world, i));
}

static void all_reduce(MpiTest *t, int64_t n)
{
    Tensor buf = make_f32(&t->comm, n);
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    check_sums(&t->comm, buf, 0, n);
    check_guard(buf);
    free(buf.data);
}

static void reduce_scatter(MpiTest *t, int64_t slice)
{
    Tensor buf = make_f32(&t->comm, slice * t->comm.world);
    check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, buf));
    check_no_err(comm_wait(&t->comm, &t->dev));
    check_sums(&t->comm, buf, t->comm.rank * slice, (t->comm.rank + 1) * slice);
    check_guard(buf);
    free(buf.data);
}

/* Every byte of a slice names its owner; whatever the dtype, the bytes arrive as they were. */
static void all_gather(MpiTest *t, DType dtype, int64_t slice)
{
    Comm *comm = &t->comm;
    int64_t n = slice * comm->world;
    size_t slice_bytes = (size_t)slice * dtype_bytes(dtype);
    uint8_t *bytes = malloc((size_t)comm->world * slice_bytes + GUARD);
    assert_non_null(bytes);
    memset(bytes, 0xEE, (size_t)comm->world * slice_bytes + GUARD);
    memset(bytes + (size_t)comm->rank * slice_bytes, comm->rank + 1, slice_bytes);
    check_no_err(comm_all_gather(comm, &t->dev, tensor_1d(bytes, dtype, n)));
    check_no_err(comm_wait(comm, &t->dev));
    for (size_t i = 0; i < (size_t)comm->world * slice_bytes; i++)
        if (bytes[i] != i / slice_bytes + 1)
            fail_msg("%s byte %zu: %d", dtype_name(dtype), i, bytes[i]);
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(bytes[(size_t)comm->world * slice_bytes + i], 0xEE);
    free(bytes);
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

static void test_sums_of_doubles(void **state)
{
    MpiTest *t = *state;
    int64_t world = t->comm.world, rank = t->comm.rank;
    double x[4 * 3];
    for (int64_t i = 0; i < 3 * world; i++)
        x[i] = (double)(((int64_t)1 << 40) + i * (rank + 1)); /* float32 would lose the units */
    check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, tensor_1d(x, DTYPE_F64, 3 * world)));
    check_no_err(comm_all_gather(&t->comm, &t->dev, tensor_1d(x, DTYPE_F64, 3 * world)));
    for (int64_t i = 0; i < 3 * world; i++)
        assert_true(x[i] == (double)(world * ((int64_t)1 << 40) + i * world * (world + 1) / 2));
}

/* What zero_stage 1 does is what an all-reduce does, to the last bit of sums that are not exact. */
static void test_scatter_then_gather_is_all_reduce(void **state)
{
    MpiTest *t = *state;
    int64_t n = 997 * t->comm.world;
    Tensor halves = make_f32(&t->comm, n), whole = make_f32(&t->comm, n);
    for (int64_t i = 0; i < n; i++) {
        float x = 1.0f / (1.0f + value_of(t->comm.rank, i));
        ((float *)halves.data)[i] = ((float *)whole.data)[i] = x;
    }
    check_no_err(comm_reduce_scatter_sum(&t->comm, &t->dev, halves));
    check_no_err(comm_all_gather(&t->comm, &t->dev, halves));
    check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, whole));
    check_no_err(comm_wait(&t->comm, &t->dev));
    assert_memory_equal(halves.data, whole.data, tensor_bytes(whole));
    free(halves.data);
    free(whole.data);
}

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
    t->comm.max_count = SMALL_PIECE;
    largest_count = 0;
    const int64_t slices[] = {1, SMALL_PIECE - 1, SMALL_PIECE, SMALL_PIECE + 1, 64};
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        all_reduce(t, slices[i]);
        reduce_scatter(t, slices[i]);
        all_gather(t, DTYPE_F32, slices[i]);
        all_gather(t, DTYPE_BF16, slices[i]);
    }
    t->comm.max_count = usual;
    assert_int_equal(largest_count, t->comm.world > 1 ? SMALL_PIECE : 0);
}

/* A sum of floats that depends on the order must still be the same on every rank, and every time.
 */
static void test_inexact_sums_agree_and_repeat(void **state)
{
    MpiTest *t = *state;
    enum { N = 4099 };
    float first[N], again[N];
    for (int pass = 0; pass < 2; pass++) {
        float *x = pass == 0 ? first : again;
        for (int64_t i = 0; i < N; i++)
            x[i] = 1.0f / (1.0f + value_of(t->comm.rank, i));
        check_no_err(comm_all_reduce_sum(&t->comm, &t->dev, tensor_1d(x, DTYPE_F32, N)));
    }
    assert_memory_equal(first, again, sizeof first);
    check_no_err(comm_broadcast_bytes(&t->comm, again, sizeof again, 0));
    assert_memory_equal(first, again, sizeof first);
}

static void test_a_fault_is_an_error_value(void **state)
{
    MpiTest *t = *state;
    if (t->comm.world == 1)
        skip();
    int64_t usual = t->comm.max_count;
    float x[4] = {0};
    t->comm.max_count = -1;
    Err err = comm_all_reduce_sum(&t->comm, &t->dev, tensor_1d(x, DTYPE_F32, 4));
    t->comm.max_count = usual;
    check_err(err, ERR_SYSTEM, "MPI_Sendrecv failed: ");
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_reduce),
        cmocka_unit_test(test_reduce_scatter),
        cmocka_unit_test(test_all_gather),
        cmocka_unit_test(test_all_gather_of_each_dtype),
        cmocka_unit_test(test_sums_of_doubles),
        cmocka_unit_test(test_scatter_then_gather_is_all_reduce),
        cmocka_unit_test(test_calls_are_split_past_the_limit),
        cmocka_unit_test(test_inexact_sums_agree_and_repeat),
        cmocka_unit_test(test_a_fault_is_an_error_value),
    };
    return MPI_MAIN(tests);
}
