/* The control plane: host values over any number of ranks. */
#include <math.h>
#include <string.h>

#include "tests/support/mpi_main.h"

/* Small enough that every longer transfer goes in pieces, the last one shorter. */
enum { SMALL_PIECE = 7, N_BYTES = 23 };

/* Byte i of what rank r has to say. */
static uint8_t byte_of(int32_t rank, size_t i)
{
    return (uint8_t)(37 * (rank + 1) + 11 * (int32_t)i);
}

static void fill(uint8_t *bytes, int32_t rank)
{
    for (size_t i = 0; i < N_BYTES; i++)
        bytes[i] = byte_of(rank, i);
}

static void check(const uint8_t *bytes, int32_t rank)
{
    for (size_t i = 0; i < N_BYTES; i++)
        if (bytes[i] != byte_of(rank, i))
            fail_msg("byte %zu of rank %d: %d, wanted %d", i, rank, bytes[i], byte_of(rank, i));
}

static void test_every_rank_has_its_place(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    int32_t mine[2] = {comm->rank, comm->local_rank};
    int32_t *all = calloc((size_t)comm->world, sizeof mine);
    check_no_err(comm_gather_bytes(comm, mine, sizeof mine, all));
    for (int32_t r = 0; r < comm->world; r++) {
        assert_int_equal(all[2 * r], r);
        assert_int_equal(all[2 * r + 1], r); /* the tests run on one host */
    }
    assert_int_equal(comm->local_world, comm->world);
    free(all);
}

static void test_sum_is_in_rank_order(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    const double of_rank[] = {1e16, 1.0, -1e16, 3.0}; /* another order gives another sum */
    assert_true(comm->world <= 4);
    double value[2] = {of_rank[comm->rank], comm->rank + 1};
    double wanted = of_rank[0];
    for (int32_t r = 1; r < comm->world; r++)
        wanted += of_rank[r];
    check_no_err(comm_sum_f64(comm, value, 2));
    assert_true(value[0] == wanted);
    assert_true(value[1] == comm->world * (comm->world + 1) / 2);
}

static void test_sum_of_64_values(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    double value[COMM_MAX_SCALARS];
    for (int32_t i = 0; i < COMM_MAX_SCALARS; i++)
        value[i] = i * (comm->rank + 1);
    check_no_err(comm_sum_f64(comm, value, COMM_MAX_SCALARS));
    for (int32_t i = 0; i < COMM_MAX_SCALARS; i++)
        assert_true(value[i] == i * (comm->world * (comm->world + 1) / 2));
}

static void test_sum_passes_nan_to_all(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    double value = comm->rank == comm->world - 1 ? (double)NAN : 1.0;
    check_no_err(comm_sum_f64(comm, &value, 1));
    assert_true(isnan(value));
}

static void test_max_is_over_ranks(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    int64_t value[3] = {comm->rank, -comm->rank - 5, ((int64_t)1 << 40) + comm->rank};
    check_no_err(comm_max_i64(comm, value, 3));
    assert_true(value[0] == comm->world - 1);
    assert_true(value[1] == -5);
    assert_true(value[2] == ((int64_t)1 << 40) + comm->world - 1);
}

static void broadcast_from_each(Comm *comm)
{
    uint8_t bytes[N_BYTES];
    for (int32_t root = 0; root < comm->world; root++) {
        fill(bytes, comm->rank);
        check_no_err(comm_broadcast_bytes(comm, bytes, N_BYTES, root));
        check(bytes, root);
    }
}

static void gather_to_all(Comm *comm)
{
    uint8_t mine[N_BYTES];
    uint8_t *all = calloc((size_t)comm->world, N_BYTES);
    fill(mine, comm->rank);
    check_no_err(comm_gather_bytes(comm, mine, N_BYTES, all));
    for (int32_t r = 0; r < comm->world; r++)
        check(all + r * N_BYTES, r);
    free(all);
}

static void gather_to_each(Comm *comm)
{
    uint8_t mine[N_BYTES];
    uint8_t *all = calloc((size_t)comm->world, N_BYTES);
    fill(mine, comm->rank);
    for (int32_t root = 0; root < comm->world; root++) {
        memset(all, 0, (size_t)comm->world * N_BYTES);
        check_no_err(comm_gather_host(comm, mine, N_BYTES, comm->rank == root ? all : NULL, root));
        for (int32_t r = 0; comm->rank == root && r < comm->world; r++)
            check(all + r * N_BYTES, r);
    }
    free(all);
}

static void send_between_each_pair(Comm *comm)
{
    uint8_t bytes[N_BYTES];
    for (int32_t from = 0; from < comm->world; from++)
        for (int32_t to = 0; to < comm->world; to++) {
            fill(bytes, comm->rank);
            check_no_err(comm_send_host(comm, bytes, N_BYTES, from, to));
            check(bytes, comm->rank == to ? from : comm->rank);
        }
}

static void test_broadcast(void **state)
{
    broadcast_from_each(&((MpiTest *)*state)->comm);
}

static void test_gather_bytes(void **state)
{
    gather_to_all(&((MpiTest *)*state)->comm);
}

static void test_gather_host(void **state)
{
    gather_to_each(&((MpiTest *)*state)->comm);
}

static void test_send_host(void **state)
{
    send_between_each_pair(&((MpiTest *)*state)->comm);
}

static void test_long_transfers_go_in_pieces(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    int64_t usual = comm->max_count;
    comm->max_count = SMALL_PIECE;
    broadcast_from_each(comm);
    gather_to_all(comm);
    gather_to_each(comm);
    send_between_each_pair(comm);
    comm->max_count = usual;
}

static void test_nothing_to_move_is_no_error(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    check_no_err(comm_broadcast_bytes(comm, NULL, 0, 0));
    check_no_err(comm_gather_bytes(comm, NULL, 0, NULL));
    check_no_err(comm_gather_host(comm, NULL, 0, NULL, 0));
    check_no_err(comm_send_host(comm, NULL, 0, 0, comm->world - 1));
    check_no_err(comm_sum_f64(comm, NULL, 0));
}

static void test_an_mpi_fault_is_an_error_value(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    int64_t usual = comm->max_count;
    uint8_t byte = 0;
    comm->max_count = -1; /* MPI refuses a negative count before it sends anything */
    Err err = comm_broadcast_bytes(comm, &byte, 1, 0);
    comm->max_count = usual;
    check_err(err, ERR_SYSTEM, "MPI_Bcast failed: MPI_ERR_COUNT");
}

/* ---- comm_agree -------------------------------------------------------------------------- */

static void test_agree_when_all_is_well(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    assert_null(comm_agree(comm, OK));
}

/* Ranks in `subset` (bits) fail, each with its own message: all hear from the lowest. */
static void agree_on_subset(Comm *comm, int32_t subset)
{
    static const ErrCode CODES[] = {ERR_DATA, ERR_WRITE, ERR_MISSING, ERR_SYSTEM};
    char wanted[128];
    int32_t lowest = 0;
    while (!(subset >> lowest & 1))
        lowest++;
    Err mine = OK;
    if (subset >> comm->rank & 1)
        mine = ERR_NEW(CODES[comm->rank], "trouble %d", comm->rank);
    Err err = comm_agree(comm, mine);
    assert_int_equal(err_code(err), CODES[lowest]);
    if (comm->world == 1)
        snprintf(wanted, sizeof wanted, "trouble %d", lowest);
    else
        snprintf(wanted, sizeof wanted, "rank %d on %s: trouble %d", lowest, comm->host, lowest);
    assert_string_equal(err_message(err), wanted);
    err_free(err);
}

static void test_agree_when_any_ranks_fail(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    for (int32_t subset = 1; subset < 1 << comm->world; subset++)
        agree_on_subset(comm, subset);
}

static void test_agree_has_no_prefix_when_all_fail_alike(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    Err err = comm_agree(comm, ERR_NEW(ERR_USAGE, "run.ini:3: unknown key"));
    assert_int_equal(err_code(err), ERR_USAGE);
    assert_string_equal(err_message(err), "run.ini:3: unknown key");
    err_free(err);
}

static void test_agree_gives_long_messages_to_all(void **state)
{
    Comm *comm = &((MpiTest *)*state)->comm;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    Err err = comm_agree(comm, comm->rank == 0 ? ERR_NEW(ERR_DATA, "%s", text) : OK);
    int64_t length = (int64_t)strlen(err_message(err));
    int64_t extreme[2] = {length, -length};
    assert_true(length > 900);
    check_no_err(comm_max_i64(comm, extreme, 2));
    assert_true(extreme[0] == -extreme[1]); /* the same length on every rank */
    err_free(err);
}

/* ---- comm_bind --------------------------------------------------------------------------- */

static void refuse(MpiTest *t, CommKind kind, const char *text)
{
    comm_unbind(&t->comm, &t->dev);
    check_err(comm_bind(&t->comm, &t->dev, kind), ERR_USAGE, text);
    check_no_err(comm_bind(&t->comm, &t->dev, COMM_MPI));
}

static void test_bind_chooses_mpi_for_many(void **state)
{
    MpiTest *t = *state;
    assert_int_equal(t->comm.kind, t->comm.world > 1 ? COMM_MPI : COMM_SINGLE);
}

static void test_bind_refuses_what_cannot_work(void **state)
{
    MpiTest *t = *state;
    refuse(t, COMM_NCCL,
           comm_built(COMM_NCCL) ? "moves GPU memory, and device = cpu" : "built without NCCL");
    if (t->comm.world > 1)
        refuse(t, COMM_SINGLE, "cannot train together");
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rank_has_its_place),
        cmocka_unit_test(test_sum_is_in_rank_order),
        cmocka_unit_test(test_sum_of_64_values),
        cmocka_unit_test(test_sum_passes_nan_to_all),
        cmocka_unit_test(test_max_is_over_ranks),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_gather_bytes),
        cmocka_unit_test(test_gather_host),
        cmocka_unit_test(test_send_host),
        cmocka_unit_test(test_long_transfers_go_in_pieces),
        cmocka_unit_test(test_nothing_to_move_is_no_error),
        cmocka_unit_test(test_an_mpi_fault_is_an_error_value),
        cmocka_unit_test(test_agree_when_all_is_well),
        cmocka_unit_test(test_agree_when_any_ranks_fail),
        cmocka_unit_test(test_agree_has_no_prefix_when_all_fail_alike),
        cmocka_unit_test(test_agree_gives_long_messages_to_all),
        cmocka_unit_test(test_bind_chooses_mpi_for_many),
        cmocka_unit_test(test_bind_refuses_what_cannot_work),
    };
    return MPI_MAIN(tests);
}
