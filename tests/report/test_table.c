#include "report/table.h"

#include <math.h>

#include "tests/support/check_err.h"

/* Rows 0..n-1, tokens 10 each, a second each; column 1 is `value` of them. */
static Table make_table(int64_t n, double (*value)(int64_t i))
{
    Table table = {0};
    for (int64_t i = 0; i < n; i++) {
        const Row row = {
            .iter = i, .tokens = 10 * i, .seconds = (double)i, .value = {NAN, value(i), NAN}};
        check_no_err(table_add(&table, &row));
    }
    return table;
}

static double spiky(int64_t i)
{
    if (i == 70001)
        return 9999;
    if (i == 123457)
        return -99;
    return i % 10 == 3 ? NAN : (double)(i * 7919 % 1000);
}

static double few(int64_t i)
{
    return (double)((i * 5) % 7);
}

static double falling(int64_t i)
{
    return (double)-i;
}

static double one(int64_t i)
{
    (void)i;
    return 2.5;
}

static double alternating(int64_t i)
{
    return i % 2 ? 1 : 3;
}

static const Point *find(const Points *points, int64_t iter)
{
    for (int64_t k = 0; k < points->n_points; k++)
        if (points->point[k].iter == iter)
            return &points->point[k];
    return NULL;
}

static void check_rising(const Points *points)
{
    for (int64_t k = 1; k < points->n_points; k++)
        assert_true(points->point[k].iter > points->point[k - 1].iter);
}

static void test_no_spike_is_lost(void **state)
{
    (void)state;
    Table table = make_table(200000, spiky);
    Points points;
    check_no_err(points_thin(&table, 1, 1000, &points));
    assert_in_range(points.n_points, 1900, 2002);
    check_rising(&points);
    assert_non_null(find(&points, 70001));
    assert_non_null(find(&points, 123457));
    assert_non_null(find(&points, 0));
    assert_non_null(find(&points, 199999));
    for (int64_t k = 0; k < points.n_points; k++) {
        const Point *p = &points.point[k];
        assert_true(p->value == spiky(p->iter) && p->tokens == 10 * p->iter &&
                    p->seconds == (double)p->iter);
    }
    points_free(&points);
    table_free(&table);
}

/* Whatever the numbers: each part's least and greatest are there. */
static void test_each_part_keeps_its_bounds(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 60; n++)
        for (int64_t n_parts = 1; n_parts <= 9; n_parts++) {
            Table table = make_table(n, few);
            Points points;
            double least = INFINITY, greatest = -INFINITY, low = INFINITY, high = -INFINITY;
            check_no_err(points_thin(&table, 1, n_parts, &points));
            assert_in_range(points.n_points, 1, 2 * n_parts + 2);
            check_rising(&points);
            for (int64_t i = 0; i < n; i++)
                least = fmin(least, few(i)), greatest = fmax(greatest, few(i));
            for (int64_t k = 0; k < points.n_points; k++)
                low = fmin(low, points.point[k].value), high = fmax(high, points.point[k].value);
            assert_true(low == least && high == greatest);
            assert_int_equal(points.point[0].iter, 0);
            assert_int_equal(points.point[points.n_points - 1].iter, n - 1);
            points_free(&points);
            table_free(&table);
        }
}

static void test_few_numbers_all_stay(void **state)
{
    (void)state;
    Table table = make_table(9, falling);
    Points points;
    check_no_err(points_thin(&table, 1, 100, &points));
    assert_int_equal(points.n_points, 9);
    points_free(&points);
    check_no_err(points_thin(&table, 0, 100, &points)); /* no numbers at all */
    assert_int_equal(points.n_points, 0);
    points_free(&points);
    check_no_err(points_smooth(&table, 0, 5, 100, &points));
    assert_int_equal(points.n_points, 0);
    points_free(&points);
    table_free(&table);
}

/* The average of a constant is the constant from the first row on. */
static void test_average_of_a_constant(void **state)
{
    (void)state;
    Table table = make_table(1000, one);
    Points points;
    check_no_err(points_smooth(&table, 1, 50, 100, &points));
    assert_in_range(points.n_points, 100, 101);
    check_rising(&points);
    for (int64_t k = 0; k < points.n_points; k++)
        assert_true(fabs(points.point[k].value - 2.5) < 1e-12);
    assert_int_equal(points.point[points.n_points - 1].iter, 999);
    points_free(&points);
    table_free(&table);
}

static void test_average_smooths(void **state)
{
    (void)state;
    Table table = make_table(1001, alternating);
    Points points;
    check_no_err(points_smooth(&table, 1, 1, 2000, &points)); /* no window: as it is */
    assert_int_equal(points.n_points, 1001);
    for (int64_t k = 0; k < points.n_points; k++)
        assert_true(points.point[k].value == alternating(k));
    points_free(&points);
    check_no_err(points_smooth(&table, 1, 200, 10, &points));
    assert_true(fabs(points.point[points.n_points - 1].value - 2) < 0.02);
    points_free(&points);
    table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_spike_is_lost),
        cmocka_unit_test(test_each_part_keeps_its_bounds),
        cmocka_unit_test(test_few_numbers_all_stay),
        cmocka_unit_test(test_average_of_a_constant),
        cmocka_unit_test(test_average_smooths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
