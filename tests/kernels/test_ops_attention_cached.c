/* Attention over kept keys against the oracle's attention of the whole sequence, of which only the
 * last queries are asked for. */
#include "tests/support/op_fixture.h"
#include "tests/support/oracle.h"

#include <math.h>

enum { SPARE_ROWS = 3 }; /* of a cache, behind the last token */

typedef struct {
    int64_t t, n, h, head; /* tokens in all, queries at their end, heads, channels of a head */
} Shape;

/* Fewer keys than warps, groups of keys that are not full, and each width of a lane. */
static const Shape SHAPES[] = {
    {1, 1, 1, 1},   {2, 1, 3, 20},   {5, 5, 2, 3},    {17, 1, 2, 64},
    {31, 4, 3, 33}, {33, 2, 1, 64},  {65, 1, 2, 65},  {100, 3, 1, 80},
    {70, 1, 2, 96}, {40, 1, 1, 128}, {37, 2, 2, 129}, {66, 1, 1, 256},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

typedef struct {
    Shape shape;
    Twin qkv, out, k, v; /* qkv (t,3C), out (n,C), k and v (t + SPARE_ROWS, C) */
} Cached;

static Cached cached_make(OpFixture *fx, Shape s)
{
    int64_t c = s.h * s.head;
    op_workspace(fx, (OpLimits){s.t, s.t, c, (int32_t)s.h, 1});
    return (Cached){
        .shape = s,
        .qkv = twin_normal(fx, fx->dtype, s.t, 3 * c, 1),
        .out = twin_garbage(fx, fx->dtype, s.n, c),
        .k = twin_garbage(fx, fx->dtype, s.t + SPARE_ROWS, c),
        .v = twin_garbage(fx, fx->dtype, s.t + SPARE_ROWS, c),
    };
}

static KvCache cache_of(const Cached *a)
{
    return (KvCache){a->k.t, a->v.t};
}

/* The tokens arrive in two parts; the queries are the last ones. */
static void cached_call(Device *dev, void *arg)
{
    Cached *a = arg;
    int64_t before = a->shape.t - a->shape.n;
    Tensor last = tensor_rows(a->qkv.t, before, a->shape.n);
    if (before > 0)
        op_cache_append(dev, cache_of(a), tensor_rows(a->qkv.t, 0, before), 0);
    op_cache_append(dev, cache_of(a), last, before);
    op_attention_cached(dev, a->out.t, last, cache_of(a), before, (int32_t)a->shape.h);
}

/* The last n rows of what the oracle makes of all of them. */
static void set_wanted(OpFixture *fx, Cached *a)
{
    Shape s = a->shape;
    int64_t c = s.h * s.head, skipped = (s.t - s.n) * c;
    double *out = op_array(fx, s.t * c), *lse = op_array(fx, s.h * s.t);
    oracle_attention_forward(out, lse, a->qkv.ref, (OracleAttention){1, s.t, s.h, s.head},
                             (Dropout){.rate = 0});
    for (int64_t i = 0; i < s.n * c; i++)
        a->out.ref[i] = out[skipped + i];
}

/* The largest sum of |q k| / sqrt(head): a score's rounding is the relative error of a probability.
 */
static double score_size(const Cached *a)
{
    Shape s = a->shape;
    int64_t c = s.h * s.head;
    double size = 0;
    for (int64_t i = s.t - s.n; i < s.t; i++)
        for (int64_t j = 0; j <= i; j++)
            for (int64_t h = 0; h < s.h; h++) {
                double sum = 0;
                for (int64_t d = h * s.head; d < (h + 1) * s.head; d++)
                    sum += fabs(a->qkv.ref[i * 3 * c + d] * a->qkv.ref[j * 3 * c + c + d]);
                size = fmax(size, sum);
            }
    return size / sqrt((double)s.head);
}

static void check_out(OpFixture *fx, Cached *a)
{
    Shape s = a->shape;
    double size = max_abs(a->qkv.ref, tensor_count(a->qkv.t));
    set_wanted(fx, a);
    CHECK_TWIN(fx, a->out, tolerance_sum(fx->dtype, s.t + s.head, size * (1 + score_size(a))));
}

static void it_matches_the_oracle(void **state)
{
    OpFixture *fx = *state;
    for (int i = 0; i < N_SHAPES; i++) {
        Cached a = cached_make(fx, SHAPES[i]);
        cached_call(&fx->dev, &a);
        check_out(fx, &a);
    }
}

/* Rows of the cache before and behind those of the call stay as they were. */
static void append_writes_its_rows_only(void **state)
{
    OpFixture *fx = *state;
    enum { T = 6, FIRST = 2, N = 3, C = 40 };
    Cached a = cached_make(fx, (Shape){T, 1, 2, C / 2});
    op_cache_append(&fx->dev, cache_of(&a), tensor_rows(a.qkv.t, 1, N), FIRST);
    double *k = twin_pull(fx, a.k), *v = twin_pull(fx, a.v);
    for (int64_t i = 0; i < (T + SPARE_ROWS) * C; i++) {
        int64_t row = i / C - FIRST;
        const double *from = a.qkv.ref + (row + 1) * 3 * C + i % C;
        if (row >= 0 && row < N)
            assert_true(k[i] == from[C] && v[i] == from[2 * C]);
        else
            assert_true(isnan(k[i]) && isnan(v[i]));
    }
}

/* What is behind a query in the cache is of another text, or nothing at all. */
static void a_query_sees_nothing_after_itself(void **state)
{
    OpFixture *fx = *state;
    Cached a = cached_make(fx, (Shape){40, 1, 2, 64});
    Tensor middle = tensor_rows(a.qkv.t, 20, 1);
    op_cache_append(&fx->dev, cache_of(&a), tensor_rows(a.qkv.t, 0, 21), 0);
    op_attention_cached(&fx->dev, a.out.t, middle, cache_of(&a), 20, 2);
    double *before = twin_pull(fx, a.out);
    op_cache_append(&fx->dev, cache_of(&a), a.qkv.t, 0);
    op_attention_cached(&fx->dev, a.out.t, middle, cache_of(&a), 20, 2);
    CHECK_SAME_BITS(twin_pull(fx, a.out), before, 128, sizeof(double));
}

static void large_scores_are_stable(void **state)
{
    OpFixture *fx = *state;
    Cached a = cached_make(fx, (Shape){65, 2, 2, 64});
    for (int64_t i = 0; i < tensor_count(a.qkv.t); i++)
        a.qkv.ref[i] = (double)((i * 2654435761 >> 7) % 15 - 7);
    twin_push(fx, a.qkv);
    cached_call(&fx->dev, &a);
    check_out(fx, &a);
}

static void a_nan_reaches_the_queries_that_see_it(void **state)
{
    OpFixture *fx = *state;
    enum { T = 50, N = 4, D = 64, C = 2 * D };
    for (int part = 1; part <= 2; part++) {
        Cached a = cached_make(fx, (Shape){T, N, 2, D});
        a.qkv.ref[(T - 2) * 3 * C + part * C] = NAN; /* token 48, head 0, channel 0 of k or v */
        twin_push(fx, a.qkv);
        cached_call(&fx->dev, &a);
        double *out = twin_pull(fx, a.out);
        for (int r = 0; r < N; r++) {
            assert_true(isfinite(out[r * C + D])); /* head 1 */
            assert_int_equal(isfinite(out[r * C]) != 0, r < 2);
        }
    }
}

static void it_repeats_bit_for_bit(void **state)
{
    OpFixture *fx = *state;
    static const Shape LARGE[] = {{130, 3, 3, 20}, {257, 1, 2, 64}};
    for (int i = 0; i < 2; i++) {
        Cached a = cached_make(fx, LARGE[i]);
        CHECK_REPEATS(fx, cached_call, &a, a.out, a.k, a.v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(it_matches_the_oracle),
        OP_TEST(append_writes_its_rows_only),
        OP_TEST(a_query_sees_nothing_after_itself),
        OP_TEST(large_scores_are_stable),
        OP_TEST(a_nan_reaches_the_queries_that_see_it),
        OP_TEST(it_repeats_bit_for_bit),
    };
    return OP_SUITE("attention_cached", tests);
}
