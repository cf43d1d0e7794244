#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>

typedef struct {
    int64_t n, c;
} Shape;

/* Short rows and rows of each width that a GPU keeps in registers, and of more. */
static const Shape SHAPES[] = {{1, 1},    {1, 2},    {3, 7},    {2, 16},    {5, 33},  {31, 48},
                               {67, 129}, {130, 64}, {257, 8},  {257, 100}, {9, 768}, {3, 1024},
                               {2, 1280}, {4, 1600}, {2, 2048}, {3, 2056},  {2, 2301}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

/* Everything the ops of this file take; delta and sum are for the fused one. */
typedef struct {
    Twin y, mean, rstd, sum, x, delta, w, b;
} Forward;

static Forward forward_make(OpFixture *fx, Shape s, bool bias)
{
    op_workspace(fx, (OpLimits){s.n, s.n, s.c, 1, 1});
    return (Forward){
        .y = twin_garbage(fx, fx->dtype, s.n, s.c),
        .mean = twin_garbage(fx, DTYPE_F32, s.n, 1),
        .rstd = twin_garbage(fx, DTYPE_F32, s.n, 1),
        .sum = twin_garbage(fx, fx->dtype, s.n, s.c),
        .x = twin_normal(fx, fx->dtype, s.n, s.c, 2),
        .delta = twin_normal(fx, fx->dtype, s.n, s.c, 1),
        .w = twin_normal(fx, fx->dtype, s.c, 1, 1),
        .b = bias ? twin_normal(fx, fx->dtype, s.c, 1, 1) : twin_none(),
    };
}

static void forward_call(Device *dev, void *arg)
{
    Forward *a = arg;
    op_layernorm_forward(dev, a->y.t, a->mean.t, a->rstd.t, a->x.t, a->w.t, a->b.t);
}

static void residual_call(Device *dev, void *arg)
{
    Forward *a = arg;
    op_residual_layernorm_forward(dev, a->y.t, a->mean.t, a->rstd.t, a->sum.t, a->x.t, a->delta.t,
                                  a->w.t, a->b.t);
}

/* y, mean and rstd against the oracle's, for the normalised tensor x. */
static void check_forward(OpFixture *fx, Forward *a, Twin x)
{
    int64_t n = x.t.dim[0], c = x.t.dim[1];
    oracle_layernorm_forward(a->y.ref, a->mean.ref, a->rstd.ref, x.ref, a->w.ref, a->b.ref, n, c);
    double size = max_abs(x.ref, n * c), rstd = max_abs(a->rstd.ref, n);
    double bias = a->b.ref ? max_abs(a->b.ref, c) : 0;
    double norm = 2 * size * rstd; /* x - mean is a difference of two such */
    CHECK_TWIN(fx, a->mean, tolerance_sum(DTYPE_F32, c, size));
    CHECK_TWIN(fx, a->rstd, tolerance_sum(DTYPE_F32, c, rstd * (1 + norm * norm / 4)));
    CHECK_TWIN(fx, a->y, tolerance_sum(fx->dtype, c, norm * max_abs(a->w.ref, c) + bias));
}

static void forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        Forward a = forward_make(fx, SHAPES[i / 2], i % 2);
        forward_call(&fx->dev, &a);
        check_forward(fx, &a, a.x);
    }
}

static void residual_forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        Forward a = forward_make(fx, SHAPES[i / 2], i % 2);
        residual_call(&fx->dev, &a);
        for (int64_t k = 0; k < tensor_count(a.x.t); k++)
            a.sum.ref[k] = a.x.ref[k] + a.delta.ref[k];
        CHECK_TWIN(fx, a.sum, tolerance_sum(fx->dtype, 1, 0));
        a.sum.ref = twin_pull(fx, a.sum); /* rounded: what was normalised */
        check_forward(fx, &a, a.sum);
    }
}

/* Recomputation starts from the stored sum, and must not change a bit. */
static void residual_forward_is_forward_of_the_stored_sum(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Forward fused = forward_make(fx, SHAPES[i], i % 2), again = fused;
        residual_call(&fx->dev, &fused);
        again.x = fused.sum;
        again.y = twin_garbage(fx, fx->dtype, SHAPES[i].n, SHAPES[i].c);
        again.mean = twin_garbage(fx, DTYPE_F32, SHAPES[i].n, 1);
        again.rstd = twin_garbage(fx, DTYPE_F32, SHAPES[i].n, 1);
        forward_call(&fx->dev, &again);
        CHECK_TWINS_SAME(fx, again.mean, fused.mean);
        CHECK_TWINS_SAME(fx, again.rstd, fused.rstd);
        CHECK_TWINS_SAME(fx, again.y, fused.y);
    }
}

static void residual_forward_may_write_its_input(void **state)
{
    OpFixture *fx = *state;
    Forward apart = forward_make(fx, (Shape){37, 129}, true), in_place = apart;
    in_place.y = twin_garbage(fx, fx->dtype, 37, 129);
    in_place.x = in_place.sum = twin_copy(fx, apart.x);
    residual_call(&fx->dev, &apart);
    residual_call(&fx->dev, &in_place);
    CHECK_TWINS_SAME(fx, in_place.sum, apart.sum);
    CHECK_TWINS_SAME(fx, in_place.y, apart.y);
}

static void a_large_common_offset_does_not_spoil_the_variance(void **state)
{
    OpFixture *fx = *state;
    Forward a = forward_make(fx, (Shape){3, 64}, true);
    for (int64_t i = 0; i < 3 * 64; i++)
        a.x.ref[i] = 4096 + (double)(i * 7 % 64) / 4; /* exact in float32 */
    twin_push(fx, a.x);
    forward_call(&fx->dev, &a);
    oracle_layernorm_forward(a.y.ref, a.mean.ref, a.rstd.ref, a.x.ref, a.w.ref, a.b.ref, 3, 64);
    CHECK_TWIN(fx, a.rstd, tolerance_sum(DTYPE_F32, 64, a.rstd.ref[0]));
}

static void equal_elements_give_the_bias(void **state)
{
    OpFixture *fx = *state;
    Forward a = forward_make(fx, (Shape){2, 33}, true);
    for (int64_t i = 0; i < 2 * 33; i++)
        a.x.ref[i] = 1.5;
    twin_push(fx, a.x);
    forward_call(&fx->dev, &a);
    for (int64_t i = 0; i < 2 * 33; i++)
        a.y.ref[i] = a.b.ref[i % 33];
    CHECK_TWIN(fx, a.y, ((Tolerance){0, 0}));
}

typedef struct {
    Forward forward;
    Twin dx, dw, db, y, dy;
} Backward;

/* With what forward saved. dx, dw and db are += and start with something in them. */
static Backward backward_make(OpFixture *fx, Shape s, bool bias, bool again)
{
    Backward a = {
        .forward = forward_make(fx, s, bias),
        .dx = twin_normal(fx, fx->dtype, s.n, s.c, 1),
        .dw = twin_normal(fx, DTYPE_F32, s.c, 1, 1),
        .db = bias ? twin_normal(fx, DTYPE_F32, s.c, 1, 1) : twin_none(),
        .y = again ? twin_garbage(fx, fx->dtype, s.n, s.c) : twin_none(),
        .dy = twin_normal(fx, fx->dtype, s.n, s.c, 1),
    };
    forward_call(&fx->dev, &a.forward);
    return a;
}

static void backward_call(Device *dev, void *arg)
{
    Backward *a = arg;
    Forward *f = &a->forward;
    op_layernorm_backward(dev, &(LayernormBackward){
                                   .dx = a->dx.t,
                                   .dw = a->dw.t,
                                   .db = a->db.t,
                                   .y = a->y.t,
                                   .dy = a->dy.t,
                                   .x = f->x.t,
                                   .w = f->w.t,
                                   .b = f->b.t,
                                   .mean = f->mean.t,
                                   .rstd = f->rstd.t,
                               });
}

/* dx, dw, db against the oracle's. Sums over a row (C terms) and over rows (N). */
static void check_backward(OpFixture *fx, Backward *a)
{
    int64_t n = a->dx.t.dim[0], c = a->dx.t.dim[1];
    Forward *f = &a->forward;
    double *norm = op_array(fx, n * c), *one = op_array(fx, c);
    for (int64_t i = 0; i < c; i++)
        one[i] = 1;
    oracle_layernorm_forward(norm, f->mean.ref, f->rstd.ref, f->x.ref, one, NULL, n, c);
    double size = 1 + max_abs(norm, n * c), dy = max_abs(a->dy.ref, n * c);
    double row = dy * max_abs(f->w.ref, c) * max_abs(f->rstd.ref, n) * (1 + size * size);
    double start = max_abs(a->dx.ref, n * c);
    double columns = max_abs(a->dw.ref, c) + (double)n * dy * size;
    oracle_layernorm_backward(a->dx.ref, a->dw.ref, a->db.ref, a->dy.ref, f->x.ref, f->w.ref, n, c);
    CHECK_TWIN(fx, a->dx, tolerance_sum(fx->dtype, c, start + row));
    CHECK_TWIN(fx, a->dw, tolerance_sum(DTYPE_F32, n + c, columns));
    if (a->db.ref)
        CHECK_TWIN(fx, a->db, tolerance_sum(DTYPE_F32, n, columns));
}

static void backward_adds_what_the_oracle_adds(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        Backward a = backward_make(fx, SHAPES[i / 2], i % 2, true);
        backward_call(&fx->dev, &a);
        check_backward(fx, &a);
    }
}

/* More rows than a GPU has runs of 16 for: some runs are longer than others. */
static void backward_adds_what_the_oracle_adds_over_many_rows(void **state)
{
    OpFixture *fx = *state;
    Backward a = backward_make(fx, (Shape){4101, 8}, true, false);
    backward_call(&fx->dev, &a);
    check_backward(fx, &a);
}

static void backward_gives_the_output_again_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        Backward a = backward_make(fx, SHAPES[i / 2], i % 2, true);
        backward_call(&fx->dev, &a);
        CHECK_TWINS_SAME(fx, a.y, a.forward.y);
    }
}

static void backward_needs_no_output(void **state)
{
    OpFixture *fx = *state;
    Backward a = backward_make(fx, (Shape){67, 129}, true, false);
    backward_call(&fx->dev, &a);
    check_backward(fx, &a);
}

static void backward_is_the_slope_of_forward(void **state)
{
    OpFixture *fx = *state;
    Backward a = backward_make(fx, (Shape){13, 48}, true, false);
    Forward *f = &a.forward;
    twin_push(fx, a.dx = twin_filled(fx, fx->dtype, 13, 48, 0));
    twin_push(fx, a.dw = twin_filled(fx, DTYPE_F32, 48, 1, 0));
    twin_push(fx, a.db = twin_filled(fx, DTYPE_F32, 48, 1, 0));
    backward_call(&fx->dev, &a);
    double *dx = twin_pull(fx, a.dx), *dw = twin_pull(fx, a.dw), *db = twin_pull(fx, a.db);
    CHECK_DIFFERENCE(fx, forward_call, f, f->x, f->y, a.dy, dx);
    CHECK_DIFFERENCE(fx, forward_call, f, f->w, f->y, a.dy, dw);
    CHECK_DIFFERENCE(fx, forward_call, f, f->b, f->y, a.dy, db);
}

static void an_unaligned_row_gives_the_same(void **state)
{
    OpFixture *fx = *state;
    Backward a = backward_make(fx, (Shape){37, 264}, true, true), b = a;
    b.forward.x = twin_unaligned(fx, a.forward.x);
    b.forward.y = twin_unaligned(fx, a.forward.y);
    forward_call(&fx->dev, &b.forward);
    check_forward(fx, &b.forward, b.forward.x);
    b.y = twin_unaligned(fx, a.y);
    b.dx = twin_unaligned(fx, a.dx);
    b.dy = twin_unaligned(fx, a.dy);
    backward_call(&fx->dev, &b);
    CHECK_TWINS_SAME(fx, b.y, b.forward.y);
    check_backward(fx, &b);
}

static void forward_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Forward a = forward_make(fx, (Shape){67, 129}, true);
    CHECK_REPEATS(fx, forward_call, &a, a.y, a.mean, a.rstd);
    CHECK_REPEATS(fx, residual_call, &a, a.y, a.mean, a.rstd, a.sum);
}

static void backward_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Backward a = backward_make(fx, (Shape){257, 100}, true, true);
    CHECK_REPEATS(fx, backward_call, &a, a.dx, a.dw, a.db, a.y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(forward_matches_the_oracle),
        OP_TEST(residual_forward_matches_the_oracle),
        OP_TEST(residual_forward_is_forward_of_the_stored_sum),
        OP_TEST(residual_forward_may_write_its_input),
        OP_TEST(a_large_common_offset_does_not_spoil_the_variance),
        OP_TEST(equal_elements_give_the_bias),
        OP_TEST(backward_adds_what_the_oracle_adds),
        OP_TEST(backward_adds_what_the_oracle_adds_over_many_rows),
        OP_TEST(backward_gives_the_output_again_bit_for_bit),
        OP_TEST(backward_needs_no_output),
        OP_TEST(backward_is_the_slope_of_forward),
        OP_TEST(an_unaligned_row_gives_the_same),
        OP_TEST(forward_repeats_bit_for_bit),
        OP_TEST(backward_repeats_bit_for_bit),
    };
    return OP_SUITE("layernorm", tests);
}
