#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

typedef struct {
    int64_t samples, t, c;
} Shape;

static const Shape SHAPES[] = {{1, 1, 1},   {1, 1, 7},   {3, 5, 3},
                               {2, 17, 33}, {5, 8, 128}, {3, 64, 65}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static Dropout dropout_of(Shape s, float rate)
{
    return (Dropout){.rate = rate,
                     .seed = 0x123456789abcdef0,
                     .site = 4 * 11 + 3,
                     .first_sample = 5000000000, /* past 32 bits */
                     .tokens_per_sample = s.t};
}

typedef struct {
    Twin y, x;
    Dropout dropout;
} Drop;

static Drop drop_make(OpFixture *fx, Shape s, float rate)
{
    return (Drop){
        .y = twin_garbage(fx, fx->dtype, s.samples * s.t, s.c),
        .x = twin_normal(fx, fx->dtype, s.samples * s.t, s.c, 1),
        .dropout = dropout_of(s, rate),
    };
}

static void drop_call(Device *dev, void *arg)
{
    Drop *a = arg;
    op_dropout(dev, a->y.t, a->x.t, a->dropout);
}

static void the_mask_is_the_formula(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Drop a = drop_make(fx, SHAPES[i], 0.25f);
        int64_t n = tensor_count(a.x.t);
        drop_call(&fx->dev, &a);
        oracle_dropout(a.y.ref, a.x.ref, a.x.t.dim[0], a.x.t.dim[1], a.dropout);
        CHECK_TWIN(fx, a.y, tolerance_sum(fx->dtype, 1, max_abs(a.y.ref, n)));
        double *got = twin_pull(fx, a.y);
        for (int64_t k = 0; k < n; k++)
            assert_int_equal(got[k] == 0, a.y.ref[k] == 0);
    }
}

static void the_kept_share_is_one_minus_rate(void **state)
{
    OpFixture *fx = *state;
    static const float RATES[] = {0.1f, 0.5f, 0.9f};
    for (int i = 0; i < 3; i++) {
        Shape s = {8, 64, 128};
        Drop a = drop_make(fx, s, RATES[i]);
        a.x = twin_filled(fx, fx->dtype, 8 * 64, 128, 1);
        drop_call(&fx->dev, &a);
        double n = 8 * 64 * 128, kept = 0, *got = twin_pull(fx, a.y), rate = (double)RATES[i];
        Twin scale = twin_filled(fx, fx->dtype, 1, 1, (double)(float)(1 / (1 - rate)));
        for (int64_t k = 0; k < 8 * 64 * 128; k++) {
            assert_true(got[k] == 0 || got[k] == scale.ref[0]);
            kept += got[k] != 0;
        }
        double wanted = n * (1 - rate), variance = n * rate * (1 - rate);
        assert_true((kept - wanted) * (kept - wanted) < 25 * variance); /* five sigma */
    }
}

static void the_mask_does_not_depend_on_the_micro_batch(void **state)
{
    OpFixture *fx = *state;
    Shape s = {4, 17, 33};
    Drop whole = drop_make(fx, s, 0.3f), parts = whole;
    parts.y = twin_garbage(fx, fx->dtype, 4 * 17, 33);
    drop_call(&fx->dev, &whole);
    for (int64_t k = 0; k < 4; k += 2) { /* samples 0, 1 and 2, 3 on their own */
        Dropout d = whole.dropout;
        d.first_sample += k;
        op_dropout(&fx->dev, tensor_rows(parts.y.t, k * 17, 34), tensor_rows(whole.x.t, k * 17, 34),
                   d);
    }
    CHECK_TWINS_SAME(fx, parts.y, whole.y);
}

static bool masks_differ(OpFixture *fx, Drop *a, Drop *b)
{
    drop_call(&fx->dev, a);
    drop_call(&fx->dev, b);
    double *x = twin_pull(fx, a->y), *y = twin_pull(fx, b->y);
    for (int64_t i = 0; i < tensor_count(a->y.t); i++)
        if (x[i] != y[i])
            return true;
    return false;
}

static void seeds_sites_and_samples_have_masks_of_their_own(void **state)
{
    OpFixture *fx = *state;
    Drop a = drop_make(fx, (Shape){1, 8, 16}, 0.5f), b = a;
    b.y = twin_garbage(fx, fx->dtype, 8, 16);
    assert_false(masks_differ(fx, &a, &b));
    b.dropout.seed++;
    assert_true(masks_differ(fx, &a, &b));
    b.dropout = a.dropout;
    b.dropout.site++;
    assert_true(masks_differ(fx, &a, &b));
    b.dropout = a.dropout;
    b.dropout.first_sample++;
    assert_true(masks_differ(fx, &a, &b));
}

static void it_may_write_its_input(void **state)
{
    OpFixture *fx = *state;
    Drop apart = drop_make(fx, (Shape){3, 17, 33}, 0.25f), in_place = apart;
    in_place.x = in_place.y = twin_copy(fx, apart.x);
    drop_call(&fx->dev, &apart);
    drop_call(&fx->dev, &in_place);
    CHECK_TWINS_SAME(fx, in_place.y, apart.y);
}

static void rate_zero_copies(void **state)
{
    OpFixture *fx = *state;
    Drop a = drop_make(fx, (Shape){3, 17, 33}, 0);
    drop_call(&fx->dev, &a);
    CHECK_TWINS_SAME(fx, a.y, a.x);
    op_dropout(&fx->dev, a.x.t, a.x.t, a.dropout);
    CHECK_TWINS_SAME(fx, a.y, a.x);
}

static void it_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    Drop a = drop_make(fx, (Shape){5, 64, 65}, 0.25f);
    CHECK_REPEATS(fx, drop_call, &a, a.y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(the_mask_is_the_formula),
        OP_TEST(the_kept_share_is_one_minus_rate),
        OP_TEST(the_mask_does_not_depend_on_the_micro_batch),
        OP_TEST(seeds_sites_and_samples_have_masks_of_their_own),
        OP_TEST(it_may_write_its_input),
        OP_TEST(rate_zero_copies),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("dropout", tests);
}
