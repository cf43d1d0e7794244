#include "tests/golden/adamw.h"
#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

static const int64_t COUNTS[] = {1, 7, 16, 33, 1021, 4096, 50007};
enum { N_COUNTS = sizeof COUNTS / sizeof *COUNTS };

typedef struct {
    Twin param, master, m, v, grad;
    OracleAdamw set;
} Update;

static const OracleAdamw SETTINGS = {.grad_scale = 0.25,
                                     .lr = 6e-4,
                                     .beta1 = 0.9,
                                     .beta2 = 0.999,
                                     .eps = 1e-8,
                                     .weight_decay = 0.1,
                                     .step = 5};

/* With moments as after some steps; the update is done on float32 parameters, without a master
 * copy. */
static Update update_make(OpFixture *fx, int64_t n)
{
    Update a = {
        .param = twin_normal(fx, DTYPE_F32, n, 1, 1),
        .m = twin_normal(fx, DTYPE_F32, n, 1, 0.1),
        .v = twin_normal(fx, DTYPE_F32, n, 1, 0.1),
        .grad = twin_normal(fx, DTYPE_F32, n, 1, 1),
        .set = SETTINGS,
    };
    for (int64_t i = 0; i < n; i++)
        a.v.ref[i] *= a.v.ref[i];
    twin_push(fx, a.v);
    return a;
}

static void update_call(Device *dev, void *arg)
{
    Update *a = arg;
    op_adamw(dev, &(AdamwArgs){.param = a->param.t,
                               .master = a->master.t,
                               .m = a->m.t,
                               .v = a->v.t,
                               .grad = a->grad.t,
                               .grad_scale = a->set.grad_scale,
                               .lr = a->set.lr,
                               .beta1 = a->set.beta1,
                               .beta2 = a->set.beta2,
                               .eps = a->set.eps,
                               .weight_decay = a->set.weight_decay,
                               .step = a->set.step});
}

/* The largest change of a parameter when m and grad add up instead of cancelling: call it after the
 * oracle. */
static double change_size(const Update *a, const double *old_m)
{
    const OracleAdamw *s = &a->set;
    double size = 0, correction1 = 1 - pow(s->beta1, (double)s->step);
    double correction2 = 1 - pow(s->beta2, (double)s->step);
    for (int64_t i = 0; i < tensor_count(a->m.t); i++) {
        double m = fabs(old_m[i]) + fabs(a->grad.ref[i] * s->grad_scale);
        size = fmax(size, m / (sqrt(a->v.ref[i] / correction2) + s->eps));
    }
    return s->lr * size / correction1;
}

/* p: the tensor that was updated, param or master. */
static void check_update(OpFixture *fx, Update *a, Twin p)
{
    int64_t n = tensor_count(p.t);
    double *old_m = twin_abs(fx, a->m), *old_p = twin_abs(fx, p);
    oracle_adamw(p.ref, a->m.ref, a->v.ref, a->grad.ref, n, &a->set);
    double m = max_abs(old_m, n) + a->set.grad_scale * max_abs(a->grad.ref, n);
    CHECK_TWIN(fx, a->m, tolerance_sum(DTYPE_F32, 2, m));
    CHECK_TWIN(fx, a->v, tolerance_sum(DTYPE_F32, 2, max_abs(a->v.ref, n)));
    CHECK_TWIN(fx, p, tolerance_sum(DTYPE_F32, 2, max_abs(old_p, n) + change_size(a, old_m)));
}

static void it_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_COUNTS; i++) {
        Update a = update_make(fx, COUNTS[i]);
        update_call(&fx->dev, &a);
        check_update(fx, &a, a.param);
    }
}

static void the_first_update_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    Update a = update_make(fx, 1021);
    a.m = twin_filled(fx, DTYPE_F32, 1021, 1, 0);
    a.v = twin_filled(fx, DTYPE_F32, 1021, 1, 0);
    a.set.step = 1;
    update_call(&fx->dev, &a);
    check_update(fx, &a, a.param);
}

static void a_late_update_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    Update a = update_make(fx, 1021);
    a.set.step = 600000;
    update_call(&fx->dev, &a);
    check_update(fx, &a, a.param);
}

/* A master as the parameter beside it. */
static double rounded(DType dtype, double master)
{
    float value = (float)master;
    if (dtype == DTYPE_BF16)
        value = bf16_to_f32(f32_split(value).high);
    return (double)(dtype == DTYPE_F16 ? f16_to_f32(f16_from_f32(value)) : value);
}

static void a_master_copy_is_updated_and_rounded_to_the_parameter(void **state)
{
    OpFixture *fx = *state;
    static const DType DTYPES[] = {DTYPE_BF16, DTYPE_F32, DTYPE_F16};
    for (int i = 0; i < 3 * 2; i++) {
        int64_t n = i % 2 ? 1021 : 1024;
        Update a = update_make(fx, n);
        a.master = a.param;
        a.param = twin_garbage(fx, DTYPES[i / 2], n, 1);
        update_call(&fx->dev, &a);
        check_update(fx, &a, a.master);
        const double *master = twin_pull(fx, a.master), *param = twin_pull(fx, a.param);
        for (int64_t k = 0; k < n; k++)
            if (param[k] != rounded(DTYPES[i / 2], master[k]))
                fail_msg("%s: parameter %lld is %a, its master %a", dtype_name(DTYPES[i / 2]),
                         (long long)k, param[k], master[k]);
    }
}

/* ---- masters in halves ------------------------------------------------------------------- */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* One optimizer with masters in halves and one with float32 masters, of the same n values. */
typedef struct {
    int64_t n;
    Tensor high, low, high_m, high_v, grad;
    Tensor wide, wide_rounded, wide_m, wide_v;
} Pair;

static Tensor pair_tensor(OpFixture *fx, DType dtype, int64_t n)
{
    Tensor t = twin_filled(fx, DTYPE_F32, n, 1, 0).t; /* room enough for every dtype */
    t.dtype = dtype;
    return t;
}

static void upload(OpFixture *fx, Tensor t, const void *host)
{
    device_upload(&fx->dev, t, host);
    assert_null(device_sync(&fx->dev));
}

static void download(OpFixture *fx, void *host, Tensor t)
{
    device_download(&fx->dev, host, t);
    assert_null(device_sync(&fx->dev));
}

static Pair pair_make(OpFixture *fx, const float *values, int64_t n)
{
    Pair p = {.n = n,
              .high = pair_tensor(fx, DTYPE_BF16, n),
              .low = pair_tensor(fx, DTYPE_U16, n),
              .high_m = pair_tensor(fx, DTYPE_F32, n),
              .high_v = pair_tensor(fx, DTYPE_F32, n),
              .grad = pair_tensor(fx, DTYPE_F32, n),
              .wide = pair_tensor(fx, DTYPE_F32, n),
              .wide_rounded = pair_tensor(fx, DTYPE_BF16, n),
              .wide_m = pair_tensor(fx, DTYPE_F32, n),
              .wide_v = pair_tensor(fx, DTYPE_F32, n)};
    uint16_t *high = (uint16_t *)op_array(fx, n), *low = (uint16_t *)op_array(fx, n);
    for (int64_t i = 0; i < n; i++) {
        high[i] = f32_split(values[i]).high;
        low[i] = f32_split(values[i]).low;
    }
    upload(fx, p.high, high);
    upload(fx, p.low, low);
    upload(fx, p.wide, values);
    return p;
}

/* The same update of both. */
static void pair_update(OpFixture *fx, const Pair *p, double lr, double weight_decay, int64_t step)
{
    AdamwArgs args = {.param = p->high,
                      .master = p->low,
                      .m = p->high_m,
                      .v = p->high_v,
                      .grad = p->grad,
                      .grad_scale = 0.5,
                      .lr = lr,
                      .beta1 = 0.9,
                      .beta2 = 0.95,
                      .eps = 1e-8,
                      .weight_decay = weight_decay,
                      .step = step};
    op_adamw(&fx->dev, &args);
    args.param = p->wide_rounded;
    args.master = p->wide;
    args.m = p->wide_m;
    args.v = p->wide_v;
    op_adamw(&fx->dev, &args);
}

/* Both are in the same state; wide (n) = their masters. */
static void pair_check(OpFixture *fx, const Pair *p, float *wide)
{
    int64_t n = p->n;
    uint16_t *high = (uint16_t *)op_array(fx, n), *low = (uint16_t *)op_array(fx, n);
    uint16_t *rounded_wide = (uint16_t *)op_array(fx, n);
    download(fx, high, p->high);
    download(fx, low, p->low);
    download(fx, wide, p->wide);
    download(fx, rounded_wide, p->wide_rounded);
    for (int64_t i = 0; i < n; i++) {
        uint32_t joined = bits_of(f32_join((Halves){high[i], low[i]}));
        if (joined != bits_of(wide[i]) || high[i] != rounded_wide[i])
            fail_msg("element %lld: halves %04x %04x make %08x, the float32 master is %08x with "
                     "parameter %04x",
                     (long long)i, (unsigned)high[i], (unsigned)low[i], joined, bits_of(wide[i]),
                     (unsigned)rounded_wide[i]);
    }
    CHECK_TWINS_SAME(fx, ((Twin){p->high_m, NULL}), ((Twin){p->wide_m, NULL}));
    CHECK_TWINS_SAME(fx, ((Twin){p->high_v, NULL}), ((Twin){p->wide_v, NULL}));
}

/* An update by nothing takes every pattern of low bits apart and puts it together again. */
static void halves_come_back_whole(void **state)
{
    OpFixture *fx = *state;
    static const uint32_t HIGHS[] = {0x0000, 0x8000, 0x0001, 0x3f80,
                                     0xbf7f, 0x4049, 0x7f7f, 0xff7f};
    enum { LOWS = 1 << 16 };
    for (size_t i = 0; i < sizeof HIGHS / sizeof *HIGHS; i++) {
        float *values = (float *)op_array(fx, LOWS), *after = (float *)op_array(fx, LOWS);
        for (uint32_t low = 0; low < LOWS; low++)
            values[low] = float_of(HIGHS[i] << 16 | low);
        Pair p = pair_make(fx, values, LOWS);
        pair_update(fx, &p, 0, 0, 1);
        pair_check(fx, &p, after);
        CHECK_SAME_BITS(after, values, LOWS, sizeof *values);
    }
}

/* Infinity stays what it is, NaN a NaN of its sign. */
static void halves_keep_what_is_no_number(void **state)
{
    OpFixture *fx = *state;
    static const uint32_t BITS[] = {0x7f800000, 0xff800000, 0x7f800001, 0xffffffff, 0x7fffffff};
    enum { N = sizeof BITS / sizeof *BITS };
    float values[N], after[N];
    memcpy(values, BITS, sizeof values);
    Pair p = pair_make(fx, values, N);
    uint16_t param[2][N];
    pair_update(fx, &p, 0, 0, 1);
    download(fx, after, p.wide);
    download(fx, param[0], p.high);
    download(fx, param[1], p.wide_rounded);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++)
            assert_true(i < 2 ? bits_of(bf16_to_f32(param[k][i])) == BITS[i]
                              : isnan(bf16_to_f32(param[k][i])) && isnan(after[i]));
}

enum { TIES = 64 };

/* Ties that stay (no gradient ever), then everything else; of all sizes and both signs. */
static void start_values(float *values, int64_t n)
{
    rng_fill_normal(values, n, 1, 17, RNG_INIT, 0);
    for (int64_t i = 0; i < n; i++)
        values[i] = ldexpf(values[i], (int)(i % 40) - 30);
    for (int64_t i = 0; i < TIES; i++)
        values[i] = float_of((bits_of(values[i]) & 0xffff0000u) | 0x8000u);
}

/* By element: random, alternating, tiny, huge, now and then, and the same for ever. */
static float gradient_at(int64_t i, int64_t step, float random)
{
    if (i < TIES)
        return 0;
    const float kinds[] = {random,         step % 2 ? 1.0f : -1.0f,        random * 1e-25f,
                           random * 1e15f, step % 97 == 0 ? random : 0.0f, 1e-3f};
    return kinds[i % 6];
}

/* A thousand updates give the same bits with masters in halves and in float32. */
static void halves_are_as_good_as_float32(void **state)
{
    OpFixture *fx = *state;
    enum { N = 512 + 12, STEPS = 1000 };
    for (int odd = 0; odd < 2; odd++) {
        int64_t n = N - odd, n_ties = 0;
        float values[N], random[N], grad[N];
        start_values(values, n);
        Pair p = pair_make(fx, values, n);
        for (int64_t step = 1; step <= STEPS; step++) {
            rng_fill_normal(random, n, 1, 18, RNG_INIT, (uint64_t)step);
            for (int64_t i = 0; i < n; i++)
                grad[i] = gradient_at(i, step, random[i]);
            upload(fx, p.grad, grad);
            pair_update(fx, &p, 1e-3, step > STEPS / 2 ? 0.1 : 0, step);
            if (step % 250 == 0)
                pair_check(fx, &p, values);
            for (int64_t i = 0; i < n && step == STEPS / 2; i++)
                n_ties += (bits_of(values[i]) & 0xffffu) == 0x8000u;
        }
        assert_true(n_ties >= TIES);
    }
}

static void nothing_comes_of_nothing(void **state)
{
    OpFixture *fx = *state;
    Update a = update_make(fx, 33);
    Twin before = twin_copy(fx, a.param);
    a.m = twin_filled(fx, DTYPE_F32, 33, 1, 0);
    a.v = twin_filled(fx, DTYPE_F32, 33, 1, 0);
    a.grad = twin_filled(fx, DTYPE_F32, 33, 1, 0);
    a.set.weight_decay = 0;
    update_call(&fx->dev, &a);
    CHECK_TWINS_SAME(fx, a.param, before);
}

static void an_empty_shard_is_no_work(void **state)
{
    OpFixture *fx = *state;
    Update a = {.param = twin_none(), .m = twin_none(), .v = twin_none(), .grad = twin_none()};
    a.set = SETTINGS;
    update_call(&fx->dev, &a);
    assert_null(fx->dev.err);
}

static void set(Twin twin, const float *values)
{
    for (int64_t i = 0; i < tensor_count(twin.t); i++)
        twin.ref[i] = (double)values[i];
}

/* From zero moments through all golden updates. size (GOLDEN_N): what m would be if no gradient
 * cancelled another, the magnitude of its sum. */
static Update golden_run(OpFixture *fx, double weight_decay, double *size)
{
    Update a = update_make(fx, GOLDEN_N);
    a.m = twin_filled(fx, DTYPE_F32, GOLDEN_N, 1, 0);
    a.v = twin_filled(fx, DTYPE_F32, GOLDEN_N, 1, 0);
    set(a.param, GOLDEN_START);
    twin_push(fx, a.param);
    a.set = (OracleAdamw){.grad_scale = 1,
                          .lr = GOLDEN_LR,
                          .beta1 = GOLDEN_BETA1,
                          .beta2 = GOLDEN_BETA2,
                          .eps = GOLDEN_EPS,
                          .weight_decay = weight_decay};
    for (a.set.step = 1; a.set.step <= GOLDEN_STEPS; a.set.step++) {
        set(a.grad, GOLDEN_GRAD[a.set.step - 1]);
        twin_push(fx, a.grad);
        update_call(&fx->dev, &a);
        for (int i = 0; i < GOLDEN_N; i++)
            size[i] += (1 - GOLDEN_BETA1) * (fabs(a.grad.ref[i]) - size[i]);
    }
    return a;
}

/* The gradients differ by 14 orders of magnitude, so each element has a tolerance of its own. */
static void ten_updates_match_torch(void **state)
{
    OpFixture *fx = *state;
    for (int run = 0; run < GOLDEN_RUNS; run++) {
        double *size = op_array(fx, GOLDEN_N);
        Update a = golden_run(fx, GOLDEN_END[run].weight_decay, size);
        set(a.param, GOLDEN_END[run].p);
        set(a.m, GOLDEN_END[run].m);
        set(a.v, GOLDEN_END[run].v);
        double *p = twin_pull(fx, a.param), *m = twin_pull(fx, a.m), *v = twin_pull(fx, a.v);
        for (int i = 0; i < GOLDEN_N; i++) {
            Tolerance of_m = tolerance_sum(DTYPE_F32, GOLDEN_STEPS, size[i]);
            Tolerance of_v = tolerance_sum(DTYPE_F32, GOLDEN_STEPS, a.v.ref[i]);
            Tolerance of_p = tolerance_sum(DTYPE_F32, GOLDEN_STEPS, fabs(a.param.ref[i]));
            CHECK_CLOSE(&m[i], &a.m.ref[i], 1, of_m);
            CHECK_CLOSE(&v[i], &a.v.ref[i], 1, of_v);
            CHECK_CLOSE(&p[i], &a.param.ref[i], 1, of_p);
        }
    }
}

static void it_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Update a = update_make(fx, 50007);
    CHECK_REPEATS(fx, update_call, &a, a.param, a.m, a.v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(it_matches_the_oracle),
        OP_TEST(the_first_update_matches_the_oracle),
        OP_TEST(a_late_update_matches_the_oracle),
        OP_TEST(a_master_copy_is_updated_and_rounded_to_the_parameter),
        OP_TEST(halves_come_back_whole),
        OP_TEST(halves_keep_what_is_no_number),
        OP_TEST(halves_are_as_good_as_float32),
        OP_TEST(nothing_comes_of_nothing),
        OP_TEST(an_empty_shard_is_no_work),
        OP_TEST(ten_updates_match_torch),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("adamw", tests);
}
