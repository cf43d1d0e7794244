/* Checksums: the number that the formula of ops.h gives, on every device; each bit counts. */
#include "tests/support/op_fixture.h"

#include <string.h>

#include "tests/support/check_err.h"

static const int64_t WORDS[] = {1, 3, 255, 4096, 4099, 50001};
enum { N_WORDS = sizeof WORDS / sizeof *WORDS, WORD_BYTES = 8 };

typedef struct {
    Twin sum, x;
} Checksum;

static Checksum checksum_make(OpFixture *fx, DType dtype, int64_t n_words)
{
    int64_t n = n_words * WORD_BYTES / (int64_t)dtype_bytes(dtype);
    op_workspace(fx, (OpLimits){n, n, 1, 1, 1});
    Checksum a = {.x = twin_normal(fx, dtype, n, 1, 1)};
    a.sum = twin_filled(fx, DTYPE_F64, 1, 1, 0); /* room for a word */
    a.sum.t = tensor_1d(a.sum.t.data, DTYPE_U8, WORD_BYTES);
    return a;
}

static uint64_t sum_on_device(OpFixture *fx, const Checksum *a)
{
    uint64_t sum = 0;
    op_checksum(&fx->dev, a->sum.t, a->x.t);
    device_download(&fx->dev, &sum, a->sum.t);
    check_no_err(device_sync(&fx->dev));
    return sum;
}

static uint64_t *download(OpFixture *fx, Tensor x)
{
    uint64_t *words = (uint64_t *)op_array(fx, (int64_t)tensor_bytes(x) / WORD_BYTES);
    device_download(&fx->dev, words, x);
    check_no_err(device_sync(&fx->dev));
    return words;
}

static uint64_t sum_of(const uint64_t *word, int64_t n)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t z = word[i] + UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)i;
        z = (z ^ z >> 32) * UINT64_C(0xd6e8feb86659fd93);
        sum += z ^ z >> 32;
    }
    return sum;
}

static void the_sum_is_that_of_the_formula(void **state)
{
    OpFixture *fx = *state;
    static const DType DTYPES[] = {DTYPE_F32, DTYPE_BF16};
    for (int i = 0; i < 2 * N_WORDS; i++) {
        Checksum a = checksum_make(fx, DTYPES[i % 2], WORDS[i / 2]);
        assert_true(sum_on_device(fx, &a) == sum_of(download(fx, a.x.t), WORDS[i / 2]));
    }
}

/* All bits of a short vector, those of some words of a long one. */
static void every_bit_counts(void **state)
{
    OpFixture *fx = *state;
    Checksum a = checksum_make(fx, DTYPE_F32, 4099);
    uint64_t *word = download(fx, a.x.t), before = sum_on_device(fx, &a);
    for (int64_t bit = 0; bit < 64; bit++) {
        int64_t i = bit * 4099 / 64;
        word[i] ^= UINT64_C(1) << bit;
        device_upload(&fx->dev, a.x.t, word);
        assert_true(sum_on_device(fx, &a) != before);
        word[i] ^= UINT64_C(1) << bit;
    }
    device_upload(&fx->dev, a.x.t, word);
    assert_true(sum_on_device(fx, &a) == before);
}

static void the_place_of_a_word_counts(void **state)
{
    OpFixture *fx = *state;
    Checksum a = checksum_make(fx, DTYPE_F32, 257);
    uint64_t *word = download(fx, a.x.t), before = sum_on_device(fx, &a), moved = word[3];
    word[3] = word[200];
    word[200] = moved;
    device_upload(&fx->dev, a.x.t, word);
    assert_true(sum_on_device(fx, &a) != before);
}

static void a_checksum_of_nothing_is_zero(void **state)
{
    OpFixture *fx = *state;
    Checksum a = checksum_make(fx, DTYPE_F32, 1);
    a.x.t = tensor_none();
    assert_true(sum_on_device(fx, &a) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_TEST(the_sum_is_that_of_the_formula),
        OP_TEST(every_bit_counts),
        OP_TEST(the_place_of_a_word_counts),
        OP_TEST(a_checksum_of_nothing_is_zero),
    };
    return OP_SUITE("checksum", tests);
}
