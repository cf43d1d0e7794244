#include "base/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_bytes_and_names_of_dtypes(void **state)
{
    (void)state;
    const struct {
        DType dtype;
        size_t bytes;
        const char *name;
    } want[] = {
        {DTYPE_F32, 4, "float32"}, {DTYPE_BF16, 2, "bfloat16"}, {DTYPE_F16, 2, "float16"},
        {DTYPE_F64, 8, "float64"}, {DTYPE_I32, 4, "int32"},     {DTYPE_U16, 2, "uint16"},
        {DTYPE_U8, 1, "uint8"},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_int_equal(dtype_bytes(want[i].dtype), want[i].bytes);
        assert_string_equal(dtype_name(want[i].dtype), want[i].name);
    }
}

static void test_count_and_bytes(void **state)
{
    (void)state;
    Tensor t = tensor_3d(NULL, DTYPE_BF16, 2, 3, 5);
    assert_int_equal(tensor_count(t), 30);
    assert_int_equal(tensor_bytes(t), 60);
    assert_int_equal(tensor_count(tensor_1d(NULL, DTYPE_F32, 7)), 7);
}

static void test_more_than_two_gib(void **state)
{
    (void)state;
    Tensor t = tensor_2d(NULL, DTYPE_F32, 65536, 50304);
    assert_true(tensor_count(t) == INT64_C(3296722944));
    assert_true(tensor_bytes(t) == (size_t)INT64_C(13186891776));
}

static void test_none_is_absent_and_empty(void **state)
{
    (void)state;
    assert_false(tensor_present(tensor_none()));
    assert_int_equal(tensor_count(tensor_none()), 0);
    assert_int_equal(tensor_bytes(tensor_none()), 0);
}

static void test_views_share_memory(void **state)
{
    (void)state;
    float x[12];
    Tensor t = tensor_2d(x, DTYPE_F32, 4, 3);
    Tensor rows = tensor_rows(t, 1, 2), range = tensor_range(t, 5, 4);
    assert_ptr_equal(rows.data, x + 3);
    assert_int_equal(rows.dim[0], 2);
    assert_int_equal(rows.dim[1], 3);
    assert_ptr_equal(range.data, x + 5);
    assert_int_equal(range.rank, 1);
    assert_int_equal(tensor_count(range), 4);
    assert_ptr_equal(tensor_as_2d(t, 6, 2).data, x);
    assert_int_equal(tensor_as_2d(t, 6, 2).dim[0], 6);
}

static void test_views_of_absent_tensors_stay_absent(void **state)
{
    (void)state;
    Tensor t = tensor_2d(NULL, DTYPE_F32, 4, 3);
    assert_false(tensor_present(tensor_rows(t, 2, 1)));
    assert_false(tensor_present(tensor_range(t, 5, 4)));
}

static void test_bf16_round_trip(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = bf16_to_f32((uint16_t)bits);
        if (!isnan(value))
            assert_int_equal(bf16_from_f32(value), bits);
        else
            assert_true(isnan(bf16_to_f32(bf16_from_f32(value))));
    }
}

static void test_bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(bf16_from_f32(1.0f + 0x1p-8f), 0x3f80);            /* a tie, down to even */
    assert_int_equal(bf16_from_f32(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81); /* above the tie */
    assert_int_equal(bf16_from_f32(1.0f + 0x3p-8f), 0x3f82);            /* a tie, up to even */
    assert_int_equal(bf16_from_f32(-1.0f - 0x1p-8f), 0xbf80);
    assert_int_equal(bf16_from_f32(3.4028235e38f), 0x7f80); /* past the largest: infinity */
}

static void test_f16_round_trip(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = f16_to_f32((uint16_t)bits);
        if (!isnan(value))
            assert_int_equal(f16_from_f32(value), bits);
        else
            assert_true(isnan(f16_to_f32(f16_from_f32(value))));
    }
}

static void test_f16_values(void **state)
{
    (void)state;
    assert_true(f16_to_f32(0x3c00) == 1.0f);
    assert_true(f16_to_f32(0x7bff) == 65504.0f);
    assert_true(f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(f16_to_f32(0x0400) == 0x1p-14f);
    assert_true(f16_to_f32(0xfc00) == -INFINITY);
}

/* Halfway between each finite positive value and the next goes to the even one, a little more or
 * less to the nearer. */
static void test_f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        float low = f16_to_f32((uint16_t)bits), high = f16_to_f32((uint16_t)(bits + 1));
        float middle = (low + high) / 2; /* exact: float32 has 13 bits more */
        assert_int_equal(f16_from_f32(middle), bits + (bits & 1));
        assert_int_equal(f16_from_f32(nextafterf(middle, 0)), bits);
        assert_int_equal(f16_from_f32(nextafterf(middle, 1e9f)), bits + 1);
    }
    assert_int_equal(f16_from_f32(65519.9f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
}

/* ---- halves ------------------------------------------------------------------------------ */

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* One float32: it comes back, and its high half is the nearest bfloat16. */
static void check_halves(uint32_t bits)
{
    float value = float_of(bits);
    Halves halves = f32_split(value);
    float high = bf16_to_f32(halves.high);
    if (isnan(value)) {
        if (!isnan(high) || !isnan(f32_join(halves)) || signbit(high) != signbit(value))
            fail_msg("%08x: no NaN any more", bits);
        return;
    }
    bool tie = (bits & 0xffffu) == 0x8000u;
    if (bits_of(f32_join(halves)) != bits)
        fail_msg("%08x comes back as %08x", bits, bits_of(f32_join(halves)));
    if (!tie && halves.high != bf16_from_f32(value))
        fail_msg("%08x: high half %04x is not the nearest", bits, (unsigned)halves.high);
    if (tie && !(fabsf(high) > fabsf(value)))
        fail_msg("%08x: a tie is not rounded away from zero", bits);
}

static void test_halves_come_back_whole(void **state)
{
    (void)state;
    static const uint32_t EDGES[] = {0x0000, 0x8000, 0x0001, 0x007f, 0x0080, 0x3f7f, 0x7f7e,
                                     0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fff, 0xffff};
    for (size_t i = 0; i < sizeof EDGES / sizeof *EDGES; i++)
        for (uint32_t low = 0; low < 0x10000; low++)
            check_halves(EDGES[i] << 16 | low);
    for (uint32_t high = 5; high < 0x10000; high += 151)
        for (uint32_t low = 0; low < 0x10000; low++)
            check_halves(high << 16 | low);
}

static void test_parameters_are_rounded_in_place(void **state)
{
    (void)state;
    enum { N = 5 };
    static const float FROM[N] = {1.0f + 0x1p-8f, -1.0f - 0x1p-8f, 0.1f, 0.0f, 3e4f};
    float as_f32[N], as_bf16[N], as_f16[N];
    memcpy(as_f32, FROM, sizeof FROM);
    memcpy(as_bf16, FROM, sizeof FROM);
    memcpy(as_f16, FROM, sizeof FROM);
    f32_to_parameters(DTYPE_F32, as_f32, N);
    f32_to_parameters(DTYPE_BF16, as_bf16, N);
    f32_to_parameters(DTYPE_F16, as_f16, N);
    uint16_t bf16[N], f16[N];
    memcpy(bf16, as_bf16, sizeof bf16);
    memcpy(f16, as_f16, sizeof f16);
    assert_memory_equal(as_f32, FROM, sizeof FROM);
    for (int i = 0; i < N; i++) {
        assert_int_equal(bf16[i], f32_split(FROM[i]).high);
        assert_int_equal(f16[i], f16_from_f32(FROM[i]));
    }
    assert_int_equal(bf16[0], 0x3f81); /* ties, away from zero */
    assert_int_equal(bf16[1], 0xbf81);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_and_names_of_dtypes),
        cmocka_unit_test(test_count_and_bytes),
        cmocka_unit_test(test_more_than_two_gib),
        cmocka_unit_test(test_none_is_absent_and_empty),
        cmocka_unit_test(test_views_share_memory),
        cmocka_unit_test(test_views_of_absent_tensors_stay_absent),
        cmocka_unit_test(test_bf16_round_trip),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even),
        cmocka_unit_test(test_f16_round_trip),
        cmocka_unit_test(test_f16_values),
        cmocka_unit_test(test_f16_rounds_to_nearest_even),
        cmocka_unit_test(test_halves_come_back_whole),
        cmocka_unit_test(test_parameters_are_rounded_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
