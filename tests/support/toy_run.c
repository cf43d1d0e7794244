#include "tests/support/toy_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

enum { STAGING_BYTES = 64 << 10 };
typedef enum { ROLE_WEIGHT, ROLE_M, ROLE_V } Role;

GptDims toy_dims(bool bias)
{
    return (GptDims){.n_layer = 2,
                     .n_head = 3,
                     .n_embd = 24,
                     .block_size = 10,
                     .vocab_size = 65,
                     .vocab_padded = 128,
                     .bias = bias,
                     .gelu = GELU_TANH,
                     .dropout = 0.1f};
}

ToyArgs toy_args(bool bias)
{
    return (ToyArgs){
        .dims = toy_dims(bias), .dtype = DTYPE_F32, .bucket_elements = 2000, .world = 1};
}

static Tensor new_vector(DType dtype, int64_t n)
{
    size_t n_bytes = (size_t)n * dtype_bytes(dtype);
    void *data = malloc(n_bytes);
    assert_non_null(data);
    memset(data, 0xff, n_bytes);
    return tensor_1d(data, dtype, n);
}

static AdamwForm form_of(const ToyArgs *args)
{
    AdamwMaster master = args->halves ? MASTER_REMAINDER16 : MASTER_F32;
    return (AdamwForm){.master = args->dtype == DTYPE_F32 ? MASTER_NONE : master,
                       .offload = args->offload};
}

void toy_open(ToyRun *run, const ToyArgs *args, Comm *comm, Device *dev, const char *out_dir)
{
    memset(run, 0, sizeof *run);
    int64_t pad = shard_pad_elements(args->world);
    assert_null(layout_make(&run->layout, &args->dims, args->bucket_elements, pad));
    assert_null(shard_make(&run->shard, &run->layout, args->rank, args->world));
    run->model.dims = args->dims;
    run->model.shape.dtype = args->dtype;
    run->model.layout = &run->layout;
    run->model.params = new_vector(args->dtype, run->layout.count);
    config_defaults(&run->cfg);
    adamw_init(&run->optim, &run->shard, &run->cfg.optim, form_of(args));
    run->optim.state.m = new_vector(DTYPE_F32, run->shard.count);
    run->optim.state.v = new_vector(DTYPE_F32, run->shard.count);
    if (run->optim.form.master != MASTER_NONE)
        run->optim.state.master =
            new_vector(args->halves ? DTYPE_U16 : DTYPE_F32, run->shard.count);
    snprintf(run->cfg.run.out_dir, sizeof run->cfg.run.out_dir, "%s", out_dir);
    run->state = (CheckpointState){.comm = comm,
                                   .dev = dev,
                                   .cfg = &run->cfg,
                                   .model = &run->model,
                                   .optim = &run->optim,
                                   .staging = new_vector(DTYPE_U8, STAGING_BYTES)};
}

void toy_close(ToyRun *run)
{
    free(run->model.params.data);
    free(run->optim.state.m.data);
    free(run->optim.state.v.data);
    free(run->optim.state.master.data);
    free(run->state.staging.data);
    shard_free(&run->shard);
    layout_free(&run->layout);
}

/* Of any sign, 24 bits of mantissa, 2^-15 to 2: rounding to 16 bits loses something, never all. The
 * last bit is set, so that neither half is zero. */
static float value_of(uint64_t fill, Role role, const Param *p, int64_t index)
{
    uint64_t stream = (uint64_t)p->kind << 40 | (uint64_t)(p->layer + 1) << 8 | (uint64_t)role;
    uint32_t word = rng_block(fill, RNG_INIT, stream, (uint64_t)index).word[0];
    uint32_t bits =
        (word & 0x80000000u) | (112 + (word >> 27 & 15)) << 23 | (word & 0x7fffffu) | 1u;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Call visit for each element of a vector: the whole flat one, or the shard's. */
typedef void VisitFn(const Tensor *vector, int64_t at, float value, const char *name);

static void visit_flat(const ToyRun *run, const Tensor *vector, uint64_t fill, VisitFn *visit)
{
    for (int32_t k = 0; k < run->layout.n_params; k++) {
        const Param *p = &run->layout.param[k];
        for (int64_t i = 0; i < param_file_count(p); i++)
            visit(vector, p->offset + i, value_of(fill, ROLE_WEIGHT, p, i), p->name);
    }
}

static void visit_shard(const ToyRun *run, const Tensor *vector, uint64_t fill, Role role,
                        VisitFn *visit)
{
    for (int32_t k = 0; k < run->shard.n_segments; k++) {
        const Segment *s = &run->shard.segment[k];
        const Param *p = &run->layout.param[s->param];
        for (int64_t i = 0; i < s->count; i++)
            visit(vector, s->local + i, value_of(fill, role, p, s->within + i), p->name);
    }
}

/* What a vector of this dtype holds of it: u16 is the low half of a master. */
static uint32_t rounded_bits(DType dtype, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (dtype == DTYPE_F32)
        return bits;
    Halves halves = f32_split(value);
    return dtype == DTYPE_U16    ? halves.low
           : dtype == DTYPE_BF16 ? halves.high
                                 : f16_from_f32(value);
}

static void set_element(const Tensor *vector, int64_t at, float value, const char *name)
{
    (void)name;
    size_t width = dtype_bytes(vector->dtype);
    uint32_t bits = rounded_bits(vector->dtype, value);
    memcpy((char *)vector->data + (size_t)at * width, &bits, width);
}

static uint32_t element_bits(const Tensor *vector, int64_t at)
{
    size_t width = dtype_bytes(vector->dtype);
    uint32_t bits = 0;
    memcpy(&bits, (const char *)vector->data + (size_t)at * width, width);
    return bits;
}

static void check_element(const Tensor *vector, int64_t at, float value, const char *name)
{
    uint32_t got = element_bits(vector, at), wanted = rounded_bits(vector->dtype, value);
    if (got != wanted)
        fail_msg("element %lld of the vector, in %s: bits %08x, wanted %08x", (long long)at, name,
                 got, wanted);
}

static void visit_all(const ToyRun *run, uint64_t fill, VisitFn *visit)
{
    visit_flat(run, &run->model.params, fill, visit);
    visit_shard(run, &run->optim.state.m, fill, ROLE_M, visit);
    visit_shard(run, &run->optim.state.v, fill, ROLE_V, visit);
    if (run->optim.form.master != MASTER_NONE)
        visit_shard(run, &run->optim.state.master, fill, ROLE_WEIGHT, visit);
}

static void zero(Tensor vector)
{
    memset(vector.data, 0, tensor_bytes(vector));
}

void toy_fill(ToyRun *run, uint64_t fill)
{
    zero(run->model.params);
    zero(run->optim.state.m);
    zero(run->optim.state.v);
    if (run->optim.form.master != MASTER_NONE)
        zero(run->optim.state.master);
    visit_all(run, fill, set_element);
}

/* No value is zero, so there must be exactly n_values that are not; the rest is padding. */
static void check_padding(Tensor vector, int64_t n_values, const char *what)
{
    int64_t n = 0;
    for (int64_t i = 0; i < tensor_count(vector); i++)
        n += element_bits(&vector, i) != 0;
    if (n != n_values)
        fail_msg("%s: %lld elements are not zero, wanted %lld", what, (long long)n,
                 (long long)n_values);
}

void toy_check_params(const ToyRun *run, uint64_t fill)
{
    visit_flat(run, &run->model.params, fill, check_element);
    check_padding(run->model.params, gpt_param_count(&run->model.dims, true), "params");
}

void toy_check(const ToyRun *run, uint64_t fill)
{
    int64_t owned = 0;
    for (int32_t i = 0; i < run->shard.n_segments; i++)
        owned += run->shard.segment[i].count;
    visit_all(run, fill, check_element);
    check_padding(run->model.params, gpt_param_count(&run->model.dims, true), "params");
    check_padding(run->optim.state.m, owned, "exp_avg");
    check_padding(run->optim.state.v, owned, "exp_avg_sq");
    if (run->optim.form.master != MASTER_NONE)
        check_padding(run->optim.state.master, owned, "master");
}
