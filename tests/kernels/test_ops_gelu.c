#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>

static const int64_t COUNTS[] = {1, 7, 16, 33, 127, 1000, 8191};
enum { N_COUNTS = sizeof COUNTS / sizeof *COUNTS };

typedef struct {
    Twin y, x, dx, dy, again;
    GeluKind kind;
} Gelu;

static Gelu gelu_make(OpFixture *fx, int64_t n, GeluKind kind)
{
    return (Gelu){
        .y = twin_garbage(fx, fx->dtype, n, 1),
        .x = twin_normal(fx, fx->dtype, n, 1, 2),
        .dx = twin_garbage(fx, fx->dtype, n, 1),
        .dy = twin_normal(fx, fx->dtype, n, 1, 1),
        .again = twin_garbage(fx, fx->dtype, n, 1),
        .kind = kind,
    };
}

static void forward_call(Device *dev, void *arg)
{
    Gelu *a = arg;
    op_gelu_forward(dev, a->y.t, a->x.t, a->kind);
}

static void backward_call(Device *dev, void *arg)
{
    Gelu *a = arg;
    op_gelu_backward(dev, a->dx.t, a->again.t, a->dy.t, a->x.t, a->kind);
}

static void check_forward(OpFixture *fx, Gelu *a)
{
    int64_t n = tensor_count(a->x.t);
    for (int64_t i = 0; i < n; i++)
        a->y.ref[i] = oracle_gelu(a->x.ref[i], a->kind);
    CHECK_TWIN(fx, a->y, tolerance_sum(fx->dtype, 1, max_abs(a->x.ref, n)));
}

static void check_backward(OpFixture *fx, Gelu *a)
{
    int64_t n = tensor_count(a->x.t);
    for (int64_t i = 0; i < n; i++)
        a->dx.ref[i] = a->dy.ref[i] * oracle_gelu_derivative(a->x.ref[i], a->kind);
    double size = max_abs(a->dy.ref, n) * (1 + max_abs(a->x.ref, n));
    CHECK_TWIN(fx, a->dx, tolerance_sum(fx->dtype, 1, size));
}

static void forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        Gelu a = gelu_make(fx, COUNTS[i / 2], i % 2 ? GELU_ERF : GELU_TANH);
        forward_call(&fx->dev, &a);
        check_forward(fx, &a);
    }
}

static void backward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        Gelu a = gelu_make(fx, COUNTS[i / 2], i % 2 ? GELU_ERF : GELU_TANH);
        backward_call(&fx->dev, &a);
        check_backward(fx, &a);
    }
}

static void backward_gives_the_output_again_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        Gelu a = gelu_make(fx, COUNTS[i / 2], i % 2 ? GELU_ERF : GELU_TANH);
        forward_call(&fx->dev, &a);
        backward_call(&fx->dev, &a);
        CHECK_TWINS_SAME(fx, a.again, a.y);
    }
}

static void backward_needs_no_output_and_may_write_its_inputs(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2; i++) {
        Gelu apart = gelu_make(fx, 1000, i ? GELU_ERF : GELU_TANH), in_place = apart;
        backward_call(&fx->dev, &apart);
        in_place.dx = in_place.dy = twin_copy(fx, apart.dy);
        in_place.again = twin_none();
        backward_call(&fx->dev, &in_place);
        CHECK_TWINS_SAME(fx, in_place.dx, apart.dx);
        in_place.dx = in_place.dy = twin_copy(fx, apart.dy);
        in_place.again = in_place.x = twin_copy(fx, apart.x); /* y may be x */
        backward_call(&fx->dev, &in_place);
        CHECK_TWINS_SAME(fx, in_place.dx, apart.dx);
        CHECK_TWINS_SAME(fx, in_place.again, apart.again);
    }
}

static void far_from_zero_it_is_the_identity_or_zero(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2; i++) {
        Gelu a = gelu_make(fx, 6, i ? GELU_ERF : GELU_TANH);
        static const double FAR[] = {-16384, -1024, -32, 32, 1024, 16384};
        for (int k = 0; k < 6; k++) {
            a.x.ref[k] = FAR[k];
            a.y.ref[k] = k < 3 ? 0 : FAR[k];
            a.dx.ref[k] = k < 3 ? 0 : a.dy.ref[k];
        }
        twin_push(fx, a.x);
        forward_call(&fx->dev, &a);
        backward_call(&fx->dev, &a);
        double u = unit_roundoff(fx->dtype);
        CHECK_TWIN(fx, a.y, ((Tolerance){2 * u, u}));
        CHECK_TWIN(fx, a.dx, ((Tolerance){2 * u, u}));
    }
}

static void nan_goes_through(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2; i++) {
        Gelu a = gelu_make(fx, 33, i ? GELU_ERF : GELU_TANH);
        a.x.ref[5] = NAN;
        twin_push(fx, a.x);
        forward_call(&fx->dev, &a);
        backward_call(&fx->dev, &a);
        double *y = twin_pull(fx, a.y), *dx = twin_pull(fx, a.dx);
        for (int64_t k = 0; k < 33; k++) {
            assert_int_equal(isnan(y[k]) != 0, k == 5);
            assert_int_equal(isnan(dx[k]) != 0, k == 5);
        }
    }
}

static void backward_is_the_slope_of_forward(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2; i++) {
        Gelu a = gelu_make(fx, 333, i ? GELU_ERF : GELU_TANH);
        backward_call(&fx->dev, &a);
        CHECK_DIFFERENCE(fx, forward_call, &a, a.x, a.y, a.dy, twin_pull(fx, a.dx));
    }
}

static void it_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2; i++) {
        Gelu a = gelu_make(fx, 8191, i ? GELU_ERF : GELU_TANH);
        CHECK_REPEATS(fx, forward_call, &a, a.y);
        CHECK_REPEATS(fx, backward_call, &a, a.dx, a.again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(forward_matches_the_oracle),
        OP_TEST(backward_matches_the_oracle),
        OP_TEST(backward_gives_the_output_again_bit_for_bit),
        OP_TEST(backward_needs_no_output_and_may_write_its_inputs),
        OP_TEST(far_from_zero_it_is_the_identity_or_zero),
        OP_TEST(nan_goes_through),
        OP_TEST(backward_is_the_slope_of_forward),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("gelu", tests);
}
