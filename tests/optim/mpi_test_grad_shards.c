/* Gradients shared out over ranks (zero_stage 2) with a real GPT-2, on every device and by every
 * way between ranks: a model that has places for four buckets only, reduced in every micro-step,
 * leaves in each rank's shard the sum that the whole gradients of all micro-steps of all ranks
 * have. Every bucket's place is used many times, so a wait or a zero that is missing shows. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "optim/reducer.h"
#include "optim/shard.h"
#include "tests/support/mpi_main.h"

enum { N_MICRO_STEPS = 3, T = 4, BUCKET_ELEMENTS = 1000, SEED = 5 };

static GptDims dims(void)
{
    return (GptDims){.n_layer = 2,
                     .n_head = 3,
                     .n_embd = 24,
                     .block_size = 8,
                     .vocab_size = 61,
                     .vocab_padded = 128,
                     .bias = true,
                     .gelu = GELU_TANH};
}

typedef struct {
    MpiTest *mpi;
    Device *dev;
    bool shares, rounds;
    Layout layout;
    GPT2 model;
    Reducer reducer;
    ReducerWire wire;
    Tensor shard, tokens, targets, workspace;
    void *memory;
} Trial;

/* ---- a model with its memory --------------------------------------------------------------- */

static void carve(Trial *t, Arena *arena)
{
    const OpLimits limits = {
        .n_rows = T, .block_size = T, .n_embd = 24, .n_head = 3, .vocab_padded = 128};
    size_t scratch = ops_workspace_bytes(t->dev->kind, t->dev->n_threads, &limits);
    gpt2_layout(&t->model, arena);
    t->wire = (ReducerWire){tensor_none(), tensor_none()};
    t->shard = tensor_none();
    if (t->shares)
        reducer_shard_layout(&t->shard, arena, &t->layout, t->mpi->comm.world);
    if (t->rounds)
        reducer_wire_layout(&t->wire, arena, &t->layout);
    t->tokens = arena_2d(arena, REGION_DATA, "tokens", DTYPE_I32, 1, T);
    t->targets = arena_2d(arena, REGION_DATA, "targets", DTYPE_I32, 1, T);
    t->workspace = arena_1d(arena, REGION_WORKSPACE, "ops", DTYPE_U8, (int64_t)scratch);
}

static void allocate(Trial *t)
{
    Device *dev = t->dev;
    Arena *arena = malloc(sizeof *arena);
    assert_non_null(arena);
    arena_init(arena, NULL, 0);
    carve(t, arena);
    size_t n_bytes = arena->peak_bytes;
    check_no_err(device_alloc(dev, n_bytes, &t->memory));
    arena_init(arena, t->memory, n_bytes);
    carve(t, arena);
    device_set_workspace(dev, t->workspace);
    free(arena);
}

/* On another device than mpi's nothing can be shared. */
static void trial_open(Trial *t, MpiTest *mpi, Device *dev, bool shares,
                       ConfigGradReduce grad_reduce, ConfigCommDtype comm_dtype)
{
    const SystemConfig system = {.comm_dtype = comm_dtype};
    const GptDims d = dims();
    const GptShape shape = {.micro_batch = 1,
                            .n_tokens = T,
                            .head_chunk = 4,
                            .dtype = DTYPE_F32,
                            .recompute = recompute_all(RECOMPUTE_GELU_LN, d.n_layer),
                            .training = true,
                            .bucket_grads = shares};
    int32_t world = mpi->comm.world;
    *t = (Trial){.mpi = mpi,
                 .dev = dev,
                 .shares = shares,
                 .rounds = shares && reducer_needs_wire(&system, world)};
    check_no_err(layout_make(&t->layout, &d, BUCKET_ELEMENTS, shard_pad_elements(world)));
    check_no_err(gpt2_open(&t->model, &d, &shape, &t->layout));
    allocate(t);
    const ReducerMemory memory = {.layout = &t->layout,
                                  .grads = t->model.grad_bucket,
                                  .params = t->model.param_bucket,
                                  .wire = t->wire,
                                  .shard = t->shard};
    reducer_init(&t->reducer, &mpi->comm, dev, &memory, shares ? 2 : 0, grad_reduce);
    check_no_err(gpt2_init_params(&t->model, dev, SEED, NULL, NULL));
}

static void trial_close(Trial *t)
{
    device_set_workspace(t->dev, tensor_none());
    device_free(t->dev, t->memory);
    gpt2_close(&t->model);
    layout_free(&t->layout);
}

static float *pull(Trial *t, Tensor x)
{
    float *copy = malloc(tensor_bytes(x));
    assert_non_null(copy);
    device_download(t->dev, copy, x);
    check_no_err(t->shares ? comm_sync(&t->mpi->comm, t->dev) : device_sync(t->dev));
    return copy;
}

static void zero(Trial *t)
{
    device_zero(t->dev, t->model.grads);
    device_zero(t->dev, t->shard);
    device_zero(t->dev, t->model.loss_total);
}

/* ---- gradients ------------------------------------------------------------------------------ */

/* Sample s: `ids` must stay until the device was waited for. */
static GptBatch batch_of(Trial *t, int64_t s, int32_t ids[2 * T])
{
    for (int64_t i = 0; i < T; i++) {
        ids[i] = (int32_t)rng_below(3, RNG_DATA, (uint64_t)s, (uint64_t)i, 61);
        ids[T + i] = (int32_t)rng_below(3, RNG_DATA, (uint64_t)s, (uint64_t)i + 1, 61);
    }
    device_upload(t->dev, t->tokens, ids);
    device_upload(t->dev, t->targets, ids + T);
    return (GptBatch){
        .tokens = t->tokens, .targets = t->targets, .first_sample = s, .training = true};
}

static void micro_step(Trial *t, int64_t sample, int32_t ids[2 * T], bool last)
{
    GptBatch batch = batch_of(t, sample, ids);
    gpt2_forward(&t->model, t->dev, &batch);
    GradReadyFn *ready = t->shares ? reducer_begin(&t->reducer, last) : NULL;
    gpt2_backward(&t->model, t->dev, &batch, 1.0 / T, ready, &t->reducer);
}

/* sum (layout.count): of the whole gradients, in double, all formed by this rank's CPU. */
static double *whole_sum(MpiTest *mpi)
{
    Trial t;
    Device cpu;
    check_no_err(device_open(&cpu, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = 1}));
    trial_open(&t, mpi, &cpu, false, CONFIG_ALL_REDUCE, CONFIG_COMM_F32);
    double *sum = calloc((size_t)t.layout.count, sizeof *sum);
    assert_non_null(sum);
    for (int64_t s = 0; s < N_MICRO_STEPS * mpi->comm.world; s++) {
        int32_t ids[2 * T];
        zero(&t);
        micro_step(&t, s, ids, false);
        float *gradient = pull(&t, t.model.grads);
        for (int64_t i = 0; i < t.layout.count; i++)
            sum[i] += (double)gradient[i];
        free(gradient);
    }
    trial_close(&t);
    device_close(&cpu);
    return sum;
}

static void shared_step(Trial *t)
{
    int32_t ids[N_MICRO_STEPS][2 * T];
    zero(t);
    for (int64_t m = 0; m < N_MICRO_STEPS; m++)
        micro_step(t, t->mpi->comm.rank * N_MICRO_STEPS + m, ids[m], m == N_MICRO_STEPS - 1);
    check_no_err(reducer_finish(&t->reducer));
    check_no_err(comm_sync(&t->mpi->comm, t->dev)); /* ids */
}

static double largest(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* Own slices of `sum` are what the shard holds. */
static void check_shard(Trial *t, const double *sum, double tolerance)
{
    Shard own;
    float *shard = pull(t, t->shard);
    double scale = largest(sum, t->layout.count);
    check_no_err(shard_make(&own, &t->layout, t->mpi->comm.rank, t->mpi->comm.world));
    for (int32_t b = 0; b < t->layout.n_buckets; b++)
        for (int64_t i = 0; i < shard_slice_count(&own, b); i++) {
            double is = (double)shard[shard_slice_local(&own, b) + i];
            double wanted = sum[shard_slice_flat(&own, b) + i];
            if (!(fabs(is - wanted) <= tolerance * scale))
                fail_msg("bucket %d, element %lld of the slice: %.9g, wanted %.9g", b, (long long)i,
                         is, wanted);
        }
    shard_free(&own);
    free(shard);
}

static void check_reduced(MpiTest *mpi, ConfigGradReduce grad_reduce, ConfigCommDtype comm_dtype)
{
    Trial t;
    double *sum = whole_sum(mpi);
    trial_open(&t, mpi, &mpi->dev, true, grad_reduce, comm_dtype);
    shared_step(&t);
    check_shard(&t, sum, t.rounds ? 1e-2 : 1e-5);
    trial_close(&t);
    free(sum);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void test_reduce_scattered_shards_hold_the_sum(void **state)
{
    check_reduced(*state, CONFIG_REDUCE_SCATTER, CONFIG_COMM_F32);
}

static void test_all_reduced_shards_hold_the_sum(void **state)
{
    check_reduced(*state, CONFIG_ALL_REDUCE, CONFIG_COMM_F32);
}

static void test_shards_of_rounded_gradients_hold_about_the_sum(void **state)
{
    check_reduced(*state, CONFIG_REDUCE_SCATTER, CONFIG_COMM_BF16);
    check_reduced(*state, CONFIG_ALL_REDUCE, CONFIG_COMM_BF16);
}

/* And nothing of a step is left for the next one. */
static void test_a_step_repeats_bit_for_bit(void **state)
{
    MpiTest *mpi = *state;
    Trial t;
    trial_open(&t, mpi, &mpi->dev, true, CONFIG_REDUCE_SCATTER, CONFIG_COMM_F32);
    shared_step(&t);
    float *first = pull(&t, t.shard);
    shared_step(&t);
    float *second = pull(&t, t.shard);
    assert_memory_equal(first, second, tensor_bytes(t.shard));
    free(first);
    free(second);
    trial_close(&t);
}

static void test_gradients_take_less_memory(void **state)
{
    MpiTest *mpi = *state;
    Trial t;
    trial_open(&t, mpi, &mpi->dev, true, CONFIG_REDUCE_SCATTER, CONFIG_COMM_F32);
    int64_t tables = t.layout.bucket[0].count + t.layout.bucket[1].count;
    int64_t place = layout_largest_bucket(&t.layout, LAYOUT_TABLES);
    assert_true(t.layout.n_buckets > LAYOUT_TABLES + 4); /* so places are taken by turns */
    assert_int_equal(tensor_count(t.model.grads), tables + 2 * place);
    assert_int_equal(tensor_count(t.shard), t.layout.count / mpi->comm.world);
    trial_close(&t);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reduce_scattered_shards_hold_the_sum),
        cmocka_unit_test(test_all_reduced_shards_hold_the_sum),
        cmocka_unit_test(test_shards_of_rounded_gradients_hold_about_the_sum),
        cmocka_unit_test(test_a_step_repeats_bit_for_bit),
        cmocka_unit_test(test_gradients_take_less_memory),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
