/* The linear layer and the LM head: the ops that are matrix products. */
#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <stddef.h>

typedef struct {
    int64_t n, i, o; /* rows, inputs, outputs; for the head: rows, channels, padded vocabulary */
} Shape;

static const Shape SHAPES[] = {{1, 1, 1},     {1, 7, 3},     {3, 5, 7},       {17, 33, 65},
                               {64, 64, 64},  {31, 1, 40},   {130, 48, 144},  {5, 257, 2},
                               {193, 96, 67}, {33, 384, 17}, {257, 160, 193}, {1, 301, 97},
                               {1, 6, 2500}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static void workspace_for(OpFixture *fx, Shape s)
{
    int64_t widest = s.i > s.o ? s.i : s.o;
    op_workspace(fx, (OpLimits){s.n, s.n, widest, 1, widest});
}

/* ---- linear ------------------------------------------------------------------------------ */

typedef struct {
    Twin y, x, w, b, dx, dw, db, dy;
} Linear;

static Linear linear_make(OpFixture *fx, Shape s, bool bias)
{
    workspace_for(fx, s);
    return (Linear){
        .y = twin_garbage(fx, fx->dtype, s.n, s.o),
        .x = twin_normal(fx, fx->dtype, s.n, s.i, 1),
        .w = twin_normal(fx, fx->dtype, s.i, s.o, 1),
        .b = bias ? twin_normal(fx, fx->dtype, s.o, 1, 1) : twin_none(),
        .dx = twin_garbage(fx, fx->dtype, s.n, s.i),
        .dw = twin_normal(fx, DTYPE_F32, s.i, s.o, 1), /* += : not empty */
        .db = bias ? twin_normal(fx, DTYPE_F32, s.o, 1, 1) : twin_none(),
        .dy = twin_normal(fx, fx->dtype, s.n, s.o, 1),
    };
}

static void linear_forward_call(Device *dev, void *arg)
{
    Linear *a = arg;
    op_linear_forward(dev, a->y.t, a->x.t, a->w.t, a->b.t);
}

static void linear_backward_call(Device *dev, void *arg)
{
    Linear *a = arg;
    op_linear_backward_data(dev, a->dx.t, a->dy.t, a->w.t);
    op_linear_backward_weight(dev, a->dw.t, a->db.t, a->x.t, a->dy.t);
}

static void linear_forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int k = 0; k < 2 * N_SHAPES; k++) {
        Shape s = SHAPES[k / 2];
        Linear a = linear_make(fx, s, k % 2);
        double *size = op_array(fx, s.n * s.o);
        linear_forward_call(&fx->dev, &a);
        oracle_linear_forward(a.y.ref, a.x.ref, a.w.ref, a.b.ref, s.n, s.i, s.o);
        oracle_linear_forward(size, twin_abs(fx, a.x), twin_abs(fx, a.w), twin_abs(fx, a.b), s.n,
                              s.i, s.o);
        CHECK_TWIN(fx, a.y, tolerance_sum(fx->dtype, s.i, max_abs(size, s.n * s.o)));
    }
}

static void linear_backward_data_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int k = 0; k < N_SHAPES; k++) {
        Shape s = SHAPES[k];
        Linear a = linear_make(fx, s, false);
        double *size = op_array(fx, s.n * s.i);
        op_linear_backward_data(&fx->dev, a.dx.t, a.dy.t, a.w.t);
        oracle_linear_backward_data(a.dx.ref, a.dy.ref, a.w.ref, s.n, s.i, s.o);
        oracle_linear_backward_data(size, twin_abs(fx, a.dy), twin_abs(fx, a.w), s.n, s.i, s.o);
        CHECK_TWIN(fx, a.dx, tolerance_sum(fx->dtype, s.o, max_abs(size, s.n * s.i)));
    }
}

static void linear_backward_weight_adds_what_the_oracle_adds(void **state)
{
    OpFixture *fx = *state;
    for (int k = 0; k < 2 * N_SHAPES; k++) {
        Shape s = SHAPES[k / 2];
        Linear a = linear_make(fx, s, k % 2);
        double *dw = twin_abs(fx, a.dw), *db = twin_abs(fx, a.db);
        op_linear_backward_weight(&fx->dev, a.dw.t, a.db.t, a.x.t, a.dy.t);
        oracle_linear_backward_weight(dw, db, twin_abs(fx, a.x), twin_abs(fx, a.dy), s.n, s.i, s.o);
        oracle_linear_backward_weight(a.dw.ref, a.db.ref, a.x.ref, a.dy.ref, s.n, s.i, s.o);
        CHECK_TWIN(fx, a.dw, tolerance_sum(DTYPE_F32, s.n, max_abs(dw, s.i * s.o)));
        if (db)
            CHECK_TWIN(fx, a.db, tolerance_sum(DTYPE_F32, s.n, max_abs(db, s.o)));
    }
}

static void linear_backward_is_the_slope_of_forward(void **state)
{
    OpFixture *fx = *state;
    Linear a = linear_make(fx, (Shape){13, 24, 37}, true);
    a.dw = twin_filled(fx, DTYPE_F32, 24, 37, 0);
    a.db = twin_filled(fx, DTYPE_F32, 37, 1, 0);
    linear_backward_call(&fx->dev, &a);
    double *dx = twin_pull(fx, a.dx), *dw = twin_pull(fx, a.dw), *db = twin_pull(fx, a.db);
    CHECK_DIFFERENCE(fx, linear_forward_call, &a, a.x, a.y, a.dy, dx);
    CHECK_DIFFERENCE(fx, linear_forward_call, &a, a.w, a.y, a.dy, dw);
    CHECK_DIFFERENCE(fx, linear_forward_call, &a, a.b, a.y, a.dy, db);
}

static void linear_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    static const Shape LARGE[] = {{130, 48, 144}, {193, 96, 67}, {513, 128, 384}};
    for (int k = 0; k < 3; k++) {
        Linear a = linear_make(fx, LARGE[k], true);
        CHECK_REPEATS(fx, linear_forward_call, &a, a.y);
        CHECK_REPEATS(fx, linear_backward_call, &a, a.dx, a.dw, a.db);
    }
}

/* ---- head -------------------------------------------------------------------------------- */

typedef struct {
    Twin logits, x, wte, dx, dwte, dlogits;
} Head;

static Head head_make(OpFixture *fx, Shape s)
{
    workspace_for(fx, s);
    return (Head){
        .logits = twin_garbage(fx, fx->dtype, s.n, s.o),
        .x = twin_normal(fx, fx->dtype, s.n, s.i, 1),
        .wte = twin_normal(fx, fx->dtype, s.o, s.i, 1),
        .dx = twin_garbage(fx, fx->dtype, s.n, s.i),
        .dwte = twin_normal(fx, DTYPE_F32, s.o, s.i, 1), /* += : not empty */
        .dlogits = twin_normal(fx, fx->dtype, s.n, s.o, 1),
    };
}

static void head_forward_call(Device *dev, void *arg)
{
    Head *a = arg;
    op_head_forward(dev, a->logits.t, a->x.t, a->wte.t);
}

static void head_backward_call(Device *dev, void *arg)
{
    Head *a = arg;
    op_head_backward(dev, a->dx.t, a->dwte.t, a->dlogits.t, a->x.t, a->wte.t);
}

static void head_forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int k = 0; k < N_SHAPES; k++) {
        Shape s = SHAPES[k];
        Head a = head_make(fx, s);
        double *size = op_array(fx, s.n * s.o);
        head_forward_call(&fx->dev, &a);
        oracle_head_forward(a.logits.ref, a.x.ref, a.wte.ref, s.n, s.i, s.o);
        oracle_head_forward(size, twin_abs(fx, a.x), twin_abs(fx, a.wte), s.n, s.i, s.o);
        CHECK_TWIN(fx, a.logits, tolerance_sum(fx->dtype, s.i, max_abs(size, s.n * s.o)));
    }
}

static void head_backward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int k = 0; k < N_SHAPES; k++) {
        Shape s = SHAPES[k];
        Head a = head_make(fx, s);
        double *dx = op_array(fx, s.n * s.i), *dwte = twin_abs(fx, a.dwte);
        head_backward_call(&fx->dev, &a);
        oracle_head_backward(dx, dwte, twin_abs(fx, a.dlogits), twin_abs(fx, a.x),
                             twin_abs(fx, a.wte), s.n, s.i, s.o);
        oracle_head_backward(a.dx.ref, a.dwte.ref, a.dlogits.ref, a.x.ref, a.wte.ref, s.n, s.i,
                             s.o);
        CHECK_TWIN(fx, a.dx, tolerance_sum(fx->dtype, s.o, max_abs(dx, s.n * s.i)));
        CHECK_TWIN(fx, a.dwte, tolerance_sum(DTYPE_F32, s.n, max_abs(dwte, s.o * s.i)));
    }
}

static void head_backward_may_write_its_input(void **state)
{
    OpFixture *fx = *state;
    Head apart = head_make(fx, (Shape){37, 48, 129}), in_place = apart;
    in_place.x = in_place.dx = twin_copy(fx, apart.x);
    in_place.dwte = twin_copy(fx, apart.dwte);
    head_backward_call(&fx->dev, &apart);
    head_backward_call(&fx->dev, &in_place);
    CHECK_TWINS_SAME(fx, in_place.dx, apart.dx);
    CHECK_TWINS_SAME(fx, in_place.dwte, apart.dwte);
}

static void head_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Head a = head_make(fx, (Shape){193, 96, 640});
    CHECK_REPEATS(fx, head_forward_call, &a, a.logits);
    CHECK_REPEATS(fx, head_backward_call, &a, a.dx, a.dwte);
}

/* The products of a text written token by token. */
static void one_row_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Linear a = linear_make(fx, (Shape){1, 769, 390}, true);
    Head b = head_make(fx, (Shape){1, 385, 640});
    CHECK_REPEATS(fx, linear_forward_call, &a, a.y);
    CHECK_REPEATS(fx, head_forward_call, &b, b.logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(linear_forward_matches_the_oracle),
        OP_TEST(linear_backward_data_matches_the_oracle),
        OP_TEST(linear_backward_weight_adds_what_the_oracle_adds),
        OP_TEST(linear_backward_is_the_slope_of_forward),
        OP_TEST(linear_repeats_bit_for_bit),
        OP_TEST(head_forward_matches_the_oracle),
        OP_TEST(head_backward_matches_the_oracle),
        OP_TEST(head_backward_may_write_its_input),
        OP_TEST(head_repeats_bit_for_bit),
        OP_TEST(one_row_repeats_bit_for_bit),
    };
    return OP_SUITE("linear", tests);
}
