/* Training over ranks with the real ops, reducer, shards and AdamW, on every device and by every
 * way between ranks, on a model small enough to see through:
 *
 *     x = wte[token] + wpe[position];  y = x W + b;  loss = mean of (y - target)^2 / 2
 *
 * A step has S sequences whatever the number of ranks. Each variant must train as a world of one
 * does, to rounding; all ranks must hold the same bits. The table of positions is longer than the
 * sequences and the vocabulary is padded, so that some gradients are zero for ever; no size is
 * divisible by 3. */
#include <math.h>
#include <string.h>

#include "optim/adamw.h"
#include "optim/reducer.h"
#include "tests/optim/toy_layout.h"
#include "tests/support/mpi_main.h"

enum { S = 12, T = 8, C = 20, O = 7, V = 50, POSITIONS = 12, N_STEPS = 6 };
enum { WTE, WPE, W, B, N_TENSORS };
enum { N_REAL = V * C + POSITIONS * C + C * O + O };

static const ToyParam TOY[N_TENSORS] = {[WTE] = {64, V, C, true, true},
                                        [WPE] = {POSITIONS, POSITIONS, C, true, true},
                                        [W] = {C, C, O, true, false},
                                        [B] = {O, O, 1, false, true}};

static const OptimConfig HYPER = {
    .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .grad_clip = 0.05};
static const double LEARNING_RATE = 0.02;

typedef struct {
    int32_t zero_stage;
    ConfigGradReduce grad_reduce;
    ConfigCommDtype comm_dtype;
} Variant;

/* The second three round gradients on their way. The last four reduce in every micro-step. */
static const Variant VARIANTS[] = {
    {0, CONFIG_ALL_REDUCE, CONFIG_COMM_F32},      {1, CONFIG_REDUCE_SCATTER, CONFIG_COMM_F32},
    {1, CONFIG_ALL_REDUCE, CONFIG_COMM_F32},      {0, CONFIG_ALL_REDUCE, CONFIG_COMM_BF16},
    {1, CONFIG_REDUCE_SCATTER, CONFIG_COMM_BF16}, {1, CONFIG_ALL_REDUCE, CONFIG_COMM_BF16},
    {2, CONFIG_REDUCE_SCATTER, CONFIG_COMM_F32},  {2, CONFIG_ALL_REDUCE, CONFIG_COMM_F32},
    {2, CONFIG_REDUCE_SCATTER, CONFIG_COMM_BF16}, {2, CONFIG_ALL_REDUCE, CONFIG_COMM_BF16}};
enum { N_VARIANTS = sizeof VARIANTS / sizeof VARIANTS[0], N_KINDS = 3, N_ONCE = 2 * N_KINDS };

static bool rounds(int variant)
{
    return VARIANTS[variant].comm_dtype == CONFIG_COMM_BF16;
}

/* ---- the model --------------------------------------------------------------------------- */

typedef struct {
    Comm *comm;
    Device *dev;
    Layout layout;
    Shard owned, disjoint;
    AdamW opt;
    Reducer reducer;
    ReducerWire wire;
    Tensor params, grads, workspace;
    Tensor shard; /* zero_stage 2 */
    Tensor param_bucket[TOY_MAX_PARAMS], grad_bucket[TOY_MAX_PARAMS];
    Tensor x, y, dx, tokens; /* of one micro-batch, at most S sequences */
    void *memory;
    bool rounds, shares;
    double loss, norm;
} Toy;

static void toy_carve(Toy *t, Arena *arena)
{
    const OpLimits limits = {
        .n_rows = S * T, .block_size = T, .n_embd = C, .n_head = 1, .vocab_padded = 128};
    size_t scratch = ops_workspace_bytes(t->dev->kind, t->dev->n_threads, &limits);
    t->params = arena_1d(arena, REGION_PARAMETERS, "params", DTYPE_F32, t->layout.count);
    t->grads = arena_1d(arena, REGION_GRADIENTS, "grads", DTYPE_F32, t->layout.count);
    t->x = arena_2d(arena, REGION_ACTIVATIONS, "x", DTYPE_F32, S * T, C);
    t->dx = arena_2d(arena, REGION_ACTIVATIONS, "dx", DTYPE_F32, S * T, C);
    t->y = arena_2d(arena, REGION_ACTIVATIONS, "y", DTYPE_F32, S * T, O);
    t->tokens = arena_2d(arena, REGION_DATA, "tokens", DTYPE_I32, S, T);
    t->workspace = arena_1d(arena, REGION_WORKSPACE, "ops", DTYPE_U8, (int64_t)scratch);
    adamw_layout(&t->opt, arena);
    t->wire = (ReducerWire){tensor_none(), tensor_none()};
    if (t->rounds)
        reducer_wire_layout(&t->wire, arena, &t->layout);
    t->shard = tensor_none();
    if (t->shares)
        reducer_shard_layout(&t->shard, arena, &t->layout, t->comm->world);
    for (int32_t b = 0; b < t->layout.n_buckets; b++) {
        const Bucket *bucket = &t->layout.bucket[b];
        t->param_bucket[b] = tensor_range(t->params, bucket->offset, bucket->count);
        t->grad_bucket[b] = tensor_range(t->grads, bucket->offset, bucket->count);
    }
}

static Tensor toy_sums(const Toy *t)
{
    return t->shares ? t->shard : t->grads;
}

static Tensor view(const Toy *t, Tensor flat, int32_t tensor)
{
    const Param *p = &t->layout.param[tensor];
    return tensor_as_2d(tensor_range(flat, p->offset, p->dim[0] * p->dim[1]), p->dim[0], p->dim[1]);
}

/* A copy in host memory, of what is there when all is done; the caller frees. */
static void *toy_pull(const Toy *t, Tensor tensor)
{
    void *copy = malloc(tensor_bytes(tensor) + 1);
    assert_non_null(copy);
    device_download(t->dev, copy, tensor);
    check_no_err(comm_sync(t->comm, t->dev));
    return copy;
}

/* From host memory that is free again at once. */
static void toy_push(const Toy *t, Tensor tensor, const void *host)
{
    device_upload(t->dev, tensor, host);
    check_no_err(comm_sync(t->comm, t->dev));
}

/* The same values on every rank of every world. */
static void toy_start(Toy *t)
{
    float value[V * C];
    device_zero(t->dev, t->params);
    for (int32_t i = 0; i < N_TENSORS; i++) {
        int64_t n = TOY[i].file_rows * TOY[i].cols;
        rng_fill_normal(value, n, 0.3f, 1, RNG_INIT, (uint64_t)i);
        toy_push(t, tensor_range(t->params, t->layout.param[i].offset, n), value);
    }
    check_no_err(adamw_reset(&t->opt, t->dev));
}

static void toy_open(Toy *t, Comm *comm, Device *dev, Variant variant)
{
    const SystemConfig system = {.comm_dtype = variant.comm_dtype};
    bool sharded = variant.zero_stage > 0;
    Arena arena;
    *t = (Toy){.comm = comm,
               .dev = dev,
               .layout = toy_layout(TOY, N_TENSORS, comm->world),
               .shares = variant.zero_stage == 2};
    check_no_err(shard_make(&t->disjoint, &t->layout, comm->rank, comm->world));
    check_no_err(
        shard_make(&t->owned, &t->layout, sharded ? comm->rank : 0, sharded ? comm->world : 1));
    adamw_init(&t->opt, &t->owned, &HYPER, (AdamwForm){.master = MASTER_NONE});
    t->rounds = reducer_needs_wire(&system, comm->world);
    arena_init(&arena, NULL, 0);
    toy_carve(t, &arena);
    size_t n_bytes = arena.peak_bytes;
    check_no_err(device_alloc(dev, n_bytes, &t->memory));
    arena_init(&arena, t->memory, n_bytes);
    toy_carve(t, &arena);
    device_set_workspace(dev, t->workspace);
    const ReducerMemory memory = {.layout = &t->layout,
                                  .grads = t->grad_bucket,
                                  .params = t->param_bucket,
                                  .wire = t->wire,
                                  .shard = t->shard};
    reducer_init(&t->reducer, comm, dev, &memory, variant.zero_stage, variant.grad_reduce);
    toy_start(t);
}

static void toy_close(Toy *t)
{
    device_set_workspace(t->dev, tensor_none());
    device_free(t->dev, t->memory);
    shard_free(&t->owned);
    shard_free(&t->disjoint);
    layout_free(&t->layout);
}

/* An emulated GPU is slow. */
static int64_t steps_on(const Device *dev)
{
    return device_is_host(dev) ? N_STEPS : 2;
}

/* ---- one step, as the trainer does it ---------------------------------------------------- */

static int32_t token_of(int64_t step, int64_t sample, int64_t position)
{
    return (int32_t)rng_below(2, RNG_DATA, (uint64_t)step, (uint64_t)(sample * T + position), V);
}

static float target_of(int32_t token, int64_t o)
{
    return sinf((float)(token * O + o));
}

/* y becomes d loss / d y; the loss of these rows is added to t->loss. */
static void toy_loss(Toy *t, Tensor y, const int32_t *tokens)
{
    float *value = toy_pull(t, y);
    const double scale = 1.0 / (S * T * O); /* of the whole step: never a mean of means */
    for (int64_t row = 0; row < y.dim[0]; row++)
        for (int64_t o = 0; o < O; o++) {
            float d = value[row * O + o] - target_of(tokens[row], o);
            t->loss += 0.5 * scale * d * d;
            value[row * O + o] = (float)scale * d;
        }
    toy_push(t, y, value);
    free(value);
}

static void toy_micro_step(Toy *t, int64_t step, int64_t first_sample, int64_t n,
                           GradReadyFn *ready)
{
    Tensor tokens = tensor_rows(t->tokens, 0, n), x = tensor_rows(t->x, 0, n * T);
    Tensor y = tensor_rows(t->y, 0, n * T), dx = tensor_rows(t->dx, 0, n * T);
    int32_t token[S * T];
    for (int64_t i = 0; i < n * T; i++)
        token[i] = token_of(step, first_sample + i / T, i % T);
    toy_push(t, tokens, token);
    op_embedding_forward(t->dev, x, tokens, view(t, t->params, WTE), view(t, t->params, WPE));
    Tensor bias = tensor_range(t->params, t->layout.param[B].offset, O);
    op_linear_forward(t->dev, y, x, view(t, t->params, W), bias);
    toy_loss(t, y, token);
    Tensor dbias = tensor_range(t->grads, t->layout.param[B].offset, O);
    op_linear_backward_weight(t->dev, view(t, t->grads, W), dbias, x, y);
    if (ready)
        ready(&t->reducer, t->layout.param[W].bucket);
    op_linear_backward_data(t->dev, dx, y, view(t, t->params, W));
    op_embedding_backward(t->dev, view(t, t->grads, WTE), view(t, t->grads, WPE), dx, tokens);
    if (ready) {
        ready(&t->reducer, t->layout.param[WPE].bucket);
        ready(&t->reducer, t->layout.param[WTE].bucket);
    }
}

static void toy_gradients(Toy *t, int64_t step, int64_t micro_batch)
{
    int64_t mine = S / t->comm->world, first = t->comm->rank * mine;
    device_zero(t->dev, t->grads);
    device_zero(t->dev, t->shard);
    check_no_err(reducer_await(&t->reducer));
    t->loss = 0;
    for (int64_t done = 0; done < mine; done += micro_batch) {
        bool last = done + micro_batch == mine;
        GradReadyFn *ready = reducer_begin(&t->reducer, last);
        assert_int_equal(ready == NULL, !last && !t->shares);
        toy_micro_step(t, step, first + done, micro_batch, ready);
    }
    check_no_err(reducer_finish(&t->reducer));
}

static void toy_step(Toy *t, int64_t step, int64_t micro_batch)
{
    toy_gradients(t, step, micro_batch);
    adamw_sum_squares(&t->opt, t->dev, toy_sums(t), &t->disjoint);
    double *squares = toy_pull(t, t->opt.sum_squares);
    double sums[2] = {t->loss, *squares};
    free(squares);
    check_no_err(comm_sum_f64(t->comm, sums, 2));
    t->loss = sums[0];
    t->norm = sqrt(sums[1]);
    double clip = fmin(1.0, HYPER.grad_clip / (t->norm + 1e-6));
    adamw_update(&t->opt, t->dev, t->params, toy_sums(t), LEARNING_RATE, clip, step + 1);
    reducer_publish(&t->reducer);
}

/* A copy of the parameters when they have arrived. */
static float *toy_params(Toy *t)
{
    check_no_err(reducer_await(&t->reducer));
    return toy_pull(t, t->params);
}

/* ---- results that do not depend on the padding ------------------------------------------- */

typedef struct {
    int64_t n_steps;
    float value[N_REAL];
    double loss[N_STEPS], norm[N_STEPS];
} Result;

static void copy_real(const Toy *t, const float *flat, float *out)
{
    for (int32_t i = 0; i < N_TENSORS; i++) {
        int64_t n = TOY[i].file_rows * TOY[i].cols;
        memcpy(out, flat + t->layout.param[i].offset, (size_t)n * sizeof *out);
        out += n;
    }
}

static void train(Comm *comm, Device *dev, Variant variant, int64_t micro_batch, Result *result)
{
    Toy t;
    toy_open(&t, comm, dev, variant);
    result->n_steps = steps_on(dev);
    for (int64_t step = 0; step < result->n_steps; step++) {
        toy_step(&t, step, micro_batch);
        result->loss[step] = t.loss;
        result->norm[step] = t.norm;
    }
    float *params = toy_params(&t);
    copy_real(&t, params, result->value);
    free(params);
    toy_close(&t);
}

static Comm open_single(Device *dev)
{
    Comm comm;
    check_no_err(comm_open(&comm, false));
    check_no_err(comm_bind(&comm, dev, COMM_SINGLE));
    return comm;
}

/* One rank, one micro-batch of all sequences. */
static void train_alone(Device *dev, Result *result)
{
    Comm single = open_single(dev);
    train(&single, dev, VARIANTS[0], S, result);
    comm_close(&single);
}

static void check_close(double is, double wanted, double scale, double tolerance, const char *what,
                        int64_t i)
{
    if (!(fabs(is - wanted) <= tolerance * scale))
        fail_msg("%s %lld: %.9g, wanted %.9g", what, (long long)i, is, wanted);
}

/* A gradient rounded to bfloat16 is off by 2^-9; what AdamW makes of that in a parameter depends on
 * how much its terms cancel. */
static void check_all_close(const Result *is, const Result *wanted, bool rounded)
{
    for (int64_t i = 0; i < wanted->n_steps; i++) {
        check_close(is->loss[i], wanted->loss[i], wanted->loss[i], rounded ? 1e-3 : 1e-6,
                    "loss of step", i);
        check_close(is->norm[i], wanted->norm[i], wanted->norm[i], rounded ? 4e-3 : 1e-5,
                    "norm of step", i);
    }
    for (int64_t i = 0; i < N_REAL && !rounded; i++)
        check_close(is->value[i], wanted->value[i], 0.3, 1e-4, "parameter", i);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void test_every_variant_trains_as_one_rank_does(void **state)
{
    MpiTest *mpi = *state;
    Result alone, result;
    train_alone(&mpi->dev, &alone);
    for (int v = 0; v < N_VARIANTS; v++) {
        train(&mpi->comm, &mpi->dev, VARIANTS[v], S / mpi->comm.world, &result);
        check_all_close(&result, &alone, rounds(v));
    }
}

static void test_accumulating_changes_nothing(void **state)
{
    MpiTest *mpi = *state;
    Result alone, result;
    train_alone(&mpi->dev, &alone);
    for (int v = 0; v < N_VARIANTS; v++) {
        train(&mpi->comm, &mpi->dev, VARIANTS[v], 1, &result);
        check_all_close(&result, &alone, rounds(v));
    }
}

/* Promised is rounding; but the sums are the same sums, so it is every bit, of those that round on
 * the way and of those that do not. NCCL alone may add the latter in another order. */
static void test_variants_give_the_same_bits(void **state)
{
    MpiTest *mpi = *state;
    Result first, other;
    memset(&first, 0, sizeof first); /* padding is compared, too */
    memset(&other, 0, sizeof other);
    for (int v = mpi->comm.kind == COMM_NCCL ? N_KINDS : 0; v < N_ONCE; v++) {
        Result *result = v % N_KINDS == 0 ? &first : &other;
        train(&mpi->comm, &mpi->dev, VARIANTS[v], 1, result);
        assert_memory_equal(&first, result, sizeof first);
    }
}

/* With one micro-step in a step there is nothing to add up afterwards: zero_stage 2 is zero_stage 1
 * to the bit. NCCL's all-reduce may add in another order. */
static void test_of_one_micro_step_sharing_keeps_the_bits(void **state)
{
    MpiTest *mpi = *state;
    Result first, other;
    memset(&first, 0, sizeof first);
    memset(&other, 0, sizeof other);
    for (int rounded = 0; rounded < 2; rounded++) {
        train(&mpi->comm, &mpi->dev, VARIANTS[1 + N_KINDS * rounded], S / mpi->comm.world, &first);
        for (int v = N_ONCE + 2 * rounded; v < N_ONCE + 2 * rounded + 2; v++) {
            if (mpi->comm.kind == COMM_NCCL && VARIANTS[v].grad_reduce == CONFIG_ALL_REDUCE)
                continue;
            train(&mpi->comm, &mpi->dev, VARIANTS[v], S / mpi->comm.world, &other);
            assert_memory_equal(&first, &other, sizeof first);
        }
    }
}

static void test_training_learns(void **state)
{
    MpiTest *mpi = *state;
    Result result;
    if (steps_on(&mpi->dev) < N_STEPS)
        skip();
    train(&mpi->comm, &mpi->dev, VARIANTS[1], 1, &result);
    assert_true(result.loss[N_STEPS - 1] < 0.9 * result.loss[0]);
    assert_true(result.norm[0] > HYPER.grad_clip); /* so the clipping was put to the test, too */
}

static void test_replicas_hold_the_same_bits(void **state)
{
    MpiTest *mpi = *state;
    Toy t;
    for (int v = 0; v < N_VARIANTS; v++) {
        toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[v]);
        for (int64_t step = 0; step < steps_on(t.dev); step++) {
            toy_step(&t, step, 1);
            size_t n_bytes = tensor_bytes(t.params);
            float *mine = toy_params(&t), *of_rank_0 = toy_params(&t);
            check_no_err(comm_broadcast_bytes(&mpi->comm, of_rank_0, n_bytes, 0));
            assert_memory_equal(mine, of_rank_0, n_bytes); /* padding included */
            free(mine);
            free(of_rank_0);
        }
        toy_close(&t);
    }
}

static void test_a_run_repeats_bit_for_bit(void **state)
{
    MpiTest *mpi = *state;
    Result first, again;
    memset(&first, 0, sizeof first);
    memset(&again, 0, sizeof again);
    for (int v = 0; v < N_VARIANTS; v++) {
        train(&mpi->comm, &mpi->dev, VARIANTS[v], 1, &first);
        train(&mpi->comm, &mpi->dev, VARIANTS[v], 1, &again);
        assert_memory_equal(&first, &again, sizeof first);
    }
}

/* ---- what travels in bfloat16 ------------------------------------------------------------ */

static float gradient_of(int32_t rank, int64_t i)
{
    return 1.0f / (float)(3 + (i * 7919 + rank * 104729) % 10007);
}

/* Own terms as they are, those of the ranks below rounded once, added in float32 in this order. */
static float rounded_sum(int32_t world, int32_t owner, int64_t i)
{
    float sum = gradient_of(owner, i);
    for (int32_t k = 1; k < world; k++)
        sum += bf16_to_f32(bf16_from_f32(gradient_of((owner - k + world) % world, i)));
    return sum;
}

static void reduce_formula(Toy *t)
{
    float *gradient = toy_pull(t, t->grads);
    for (int64_t i = 0; i < t->layout.count; i++)
        gradient[i] = gradient_of(t->comm->rank, i);
    toy_push(t, t->grads, gradient);
    free(gradient);
    reducer_begin(&t->reducer, true);
    for (int32_t b = t->layout.n_buckets - 1; b >= 0; b--)
        reducer_bucket_ready(&t->reducer, b);
    check_no_err(reducer_finish(&t->reducer));
}

static void test_terms_are_rounded_and_sums_are_not(void **state)
{
    MpiTest *mpi = *state;
    int32_t world = mpi->comm.world, rank = mpi->comm.rank;
    for (int v = N_KINDS; v < N_ONCE; v++) {
        Toy t;
        toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[v]);
        reduce_formula(&t);
        float *sum = toy_pull(&t, t.grads);
        for (int32_t b = 0; b < t.layout.n_buckets; b++) {
            int64_t slice = t.layout.bucket[b].count / world;
            for (int64_t i = 0; i < t.layout.bucket[b].count; i++) {
                int32_t owner = (int32_t)(i / slice);
                int64_t at = t.layout.bucket[b].offset + i;
                if (owner == rank || VARIANTS[v].grad_reduce == CONFIG_ALL_REDUCE)
                    assert_true(sum[at] == rounded_sum(world, owner, at));
            }
        }
        free(sum);
        toy_close(&t);
    }
}

static void test_a_nan_arrives_as_one(void **state)
{
    MpiTest *mpi = *state;
    Toy t;
    toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[N_KINDS]);
    reducer_begin(&t.reducer, true);
    device_zero(t.dev, t.grads);
    const float nan = NAN;
    if (mpi->comm.rank == mpi->comm.world - 1)
        toy_push(&t, tensor_range(t.grads, 5, 1), &nan);
    for (int32_t b = t.layout.n_buckets - 1; b >= 0; b--)
        reducer_bucket_ready(&t.reducer, b);
    check_no_err(reducer_finish(&t.reducer));
    float *sum = toy_pull(&t, tensor_range(t.grads, 0, 6));
    assert_true(isnan(sum[5]) && sum[4] == 0);
    free(sum);
    toy_close(&t);
}

/* llm.c keeps only the last micro-step's bias gradient on some GPUs. */
static void test_gradients_sum_over_micro_steps_and_ranks(void **state)
{
    MpiTest *mpi = *state;
    float wanted[N_REAL], is[N_REAL];
    Comm single = open_single(&mpi->dev);
    Toy t;
    toy_open(&t, &single, &mpi->dev, VARIANTS[0]);
    toy_gradients(&t, 0, S);
    float *grads = toy_pull(&t, t.grads);
    copy_real(&t, grads, wanted);
    free(grads);
    toy_close(&t);
    comm_close(&single);
    toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[0]);
    toy_gradients(&t, 0, 1);
    grads = toy_pull(&t, t.grads);
    copy_real(&t, grads, is);
    free(grads);
    toy_close(&t);
    double largest = 0;
    for (int64_t i = 0; i < N_REAL; i++)
        largest = fmax(largest, fabsf(wanted[i]));
    for (int64_t i = 0; i < N_REAL; i++)
        check_close(is[i], wanted[i], largest, 1e-6, "gradient", i);
    for (int64_t i = N_REAL - O; i < N_REAL; i++)
        assert_true(fabsf(wanted[i]) > 1e-3 * largest); /* the bias has gradients to lose */
}

/* llm.c's ZeRO-1 reduces only as many rows of wpe as the sequences have, and updates others from
 * what is left on one rank. Here they are reduced like all others, and see nothing but the decay.
 */
static void test_rows_never_used_only_decay(void **state)
{
    MpiTest *mpi = *state;
    for (int v = 0; v < N_VARIANTS; v++) {
        Toy t;
        toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[v]);
        int64_t begin = t.layout.param[WPE].offset + T * C;
        float *before = toy_params(&t);
        toy_step(&t, 0, 1);
        float *after = toy_params(&t);
        for (int64_t i = begin; i < begin + (POSITIONS - T) * C; i++) {
            double decayed = before[i] * (1 - LEARNING_RATE * HYPER.weight_decay);
            check_close(after[i], decayed, fabsf(before[i]), 1e-7, "unused position", i);
        }
        free(before);
        free(after);
        toy_close(&t);
    }
}

static void test_padding_stays_zero_on_every_rank(void **state)
{
    MpiTest *mpi = *state;
    Toy t;
    toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[1]);
    uint8_t *is_real = malloc((size_t)t.layout.count);
    assert_non_null(is_real);
    toy_mark_real(&t.layout, is_real);
    for (int64_t step = 0; step < steps_on(t.dev); step++)
        toy_step(&t, step, 1);
    float *params = toy_params(&t);
    for (int64_t i = 0; i < t.layout.count; i++)
        assert_true(is_real[i] || params[i] == 0.0f);
    free(params);
    free(is_real);
    toy_close(&t);
}

static void test_optimizer_state_is_divided(void **state)
{
    MpiTest *mpi = *state;
    Toy t;
    toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[1]);
    assert_int_equal(adamw_state_bytes(&t.opt),
                     (size_t)t.layout.count * 8 / (size_t)mpi->comm.world);
    toy_close(&t);
}

static void test_an_error_is_kept_until_finish(void **state)
{
    MpiTest *mpi = *state;
    if (mpi->comm.kind != COMM_MPI)
        skip(); /* nothing can fail, or not so */
    int64_t usual = mpi->comm.max_count;
    Toy t;
    toy_open(&t, &mpi->comm, &mpi->dev, VARIANTS[0]);
    reducer_begin(&t.reducer, true);
    mpi->comm.max_count = -1; /* MPI refuses a negative count before it sends anything */
    reducer_bucket_ready(&t.reducer, 0);
    mpi->comm.max_count = usual;
    reducer_bucket_ready(&t.reducer, 1); /* not even tried */
    check_err(reducer_finish(&t.reducer), ERR_SYSTEM, "MPI_Sendrecv failed: MPI_ERR_COUNT");
    toy_step(&t, 0, 1); /* and the next step works */
    toy_close(&t);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant_trains_as_one_rank_does),
        cmocka_unit_test(test_accumulating_changes_nothing),
        cmocka_unit_test(test_variants_give_the_same_bits),
        cmocka_unit_test(test_of_one_micro_step_sharing_keeps_the_bits),
        cmocka_unit_test(test_training_learns),
        cmocka_unit_test(test_replicas_hold_the_same_bits),
        cmocka_unit_test(test_a_run_repeats_bit_for_bit),
        cmocka_unit_test(test_terms_are_rounded_and_sums_are_not),
        cmocka_unit_test(test_a_nan_arrives_as_one),
        cmocka_unit_test(test_gradients_sum_over_micro_steps_and_ranks),
        cmocka_unit_test(test_rows_never_used_only_decay),
        cmocka_unit_test(test_padding_stays_zero_on_every_rank),
        cmocka_unit_test(test_optimizer_state_is_divided),
        cmocka_unit_test(test_an_error_is_kept_until_finish),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
