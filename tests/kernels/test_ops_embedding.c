#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

typedef struct {
    int64_t b, t, c, v, positions;
} Shape;

/* The last three: more rows than one block sorts, vocabularies of one, two and three bytes, and
 * tokens that fill many tiles of sorted rows. */
static const Shape SHAPES[] = {{1, 1, 1, 1, 1},       {2, 3, 5, 7, 3},      {1, 17, 16, 50, 64},
                               {5, 13, 33, 11, 13},   {7, 11, 128, 65, 16}, {3, 1, 257, 2, 4},
                               {4, 65, 96, 129, 128}, {9, 130, 8, 3, 130},  {3, 700, 3, 300, 700},
                               {2, 19, 1, 70000, 19}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static void forward_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Shape s = SHAPES[i];
        Twin tokens = twin_below(fx, s.b, s.t, s.v);
        Twin wte = twin_normal(fx, fx->dtype, s.v, s.c, 1);
        Twin wpe = twin_normal(fx, fx->dtype, s.positions, s.c, 1);
        Twin x = twin_garbage(fx, fx->dtype, s.b * s.t, s.c);
        op_embedding_forward(&fx->dev, x.t, tokens.t, wte.t, wpe.t);
        oracle_embedding_forward(x.ref, tokens.ref, wte.ref, wpe.ref, s.b, s.t, s.c);
        CHECK_TWIN(fx, x, tolerance_sum(fx->dtype, 2, 0));
    }
}

typedef struct {
    Twin dwte, dwpe, dx, tokens;
} Backward;

static Backward backward_make(OpFixture *fx, Shape s)
{
    op_workspace(fx, (OpLimits){s.b * s.t, s.t, s.c, 1, s.v});
    return (Backward){
        .dwte = twin_normal(fx, DTYPE_F32, s.v, s.c, 1), /* += : not empty */
        .dwpe = twin_normal(fx, DTYPE_F32, s.positions, s.c, 1),
        .dx = twin_normal(fx, fx->dtype, s.b * s.t, s.c, 1),
        .tokens = twin_below(fx, s.b, s.t, s.v),
    };
}

static void backward_call(Device *dev, void *arg)
{
    Backward *a = arg;
    op_embedding_backward(dev, a->dwte.t, a->dwpe.t, a->dx.t, a->tokens.t);
}

static void backward_adds_what_the_oracle_adds(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Shape s = SHAPES[i];
        Backward a = backward_make(fx, s);
        backward_call(&fx->dev, &a);
        double *word = twin_abs(fx, a.dwte), *position = twin_abs(fx, a.dwpe);
        oracle_embedding_backward(word, position, twin_abs(fx, a.dx), a.tokens.ref, s.b, s.t, s.c);
        oracle_embedding_backward(a.dwte.ref, a.dwpe.ref, a.dx.ref, a.tokens.ref, s.b, s.t, s.c);
        int64_t rows = s.b * s.t;
        CHECK_TWIN(fx, a.dwte, tolerance_sum(DTYPE_F32, rows, max_abs(word, s.v * s.c)));
        CHECK_TWIN(fx, a.dwpe, tolerance_sum(DTYPE_F32, s.b, max_abs(position, s.t * s.c)));
    }
}

/* Five rows of token 2 among n_rows rows of zeros; any other order than theirs rounds otherwise. */
static void check_order(OpFixture *fx, int64_t n_rows, const int64_t *row)
{
    static const double VALUES[] = {1, 0x1p24, 1, 1, -0x1p24};
    float sum = 0;
    Twin dx = twin_filled(fx, DTYPE_F32, n_rows, 1, 0);
    Twin tokens = twin_filled(fx, DTYPE_I32, 1, n_rows, 1);
    Twin dwte = twin_filled(fx, DTYPE_F32, 3, 1, 0),
         dwpe = twin_filled(fx, DTYPE_F32, n_rows, 1, 0);
    op_workspace(fx, (OpLimits){n_rows, n_rows, 1, 1, 3});
    for (int i = 0; i < 5; i++) {
        dx.ref[row[i]] = VALUES[i];
        tokens.ref[row[i]] = 2;
        sum += (float)VALUES[i];
    }
    twin_push(fx, dx);
    twin_push(fx, tokens);
    op_embedding_backward(&fx->dev, dwte.t, dwpe.t, dx.t, tokens.t);
    dwte.ref[2] = (double)sum;
    CHECK_TWIN(fx, dwte, ((Tolerance){0, 0}));
}

static void rows_of_one_token_are_added_in_row_order(void **state)
{
    OpFixture *fx = *state;
    check_order(fx, 5, (const int64_t[]){0, 1, 2, 3, 4});
    check_order(fx, 1400, (const int64_t[]){3, 1023, 1024, 1100, 1399});
}

static void backward_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Backward a = backward_make(fx, (Shape){4, 65, 96, 29, 128});
    CHECK_REPEATS(fx, backward_call, &a, a.dwte, a.dwpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(forward_matches_the_oracle),
        OP_TEST(backward_adds_what_the_oracle_adds),
        OP_TEST(rows_of_one_token_are_added_in_row_order),
        OP_TEST(backward_repeats_bit_for_bit),
    };
    return OP_SUITE("embedding", tests);
}
