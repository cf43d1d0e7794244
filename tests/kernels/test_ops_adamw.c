#include "tests/golden/adamw.h"
#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>

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
        Twin rounded = twin_garbage(fx, DTYPES[i / 2], n, 1);
        op_convert(&fx->dev, rounded.t, a.master.t);
        CHECK_TWINS_SAME(fx, a.param, rounded);
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
        OP_TEST(nothing_comes_of_nothing),
        OP_TEST(an_empty_shard_is_no_work),
        OP_TEST(ten_updates_match_torch),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("adamw", tests);
}
