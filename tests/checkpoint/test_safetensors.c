/* The safetensors reader against files that lie, and the writer against the reader. */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/safetensors.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

/* dir/name: the length, the header, then n_data zero bytes. */
static const char *write_file(Temp *t, const char *header, size_t n_header, uint64_t length,
                              size_t n_data)
{
    size_t n = 8 + n_header + n_data;
    char *bytes = calloc(1, n);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, n_header);
    const char *path = temp_write(t, "x.safetensors", bytes, n);
    free(bytes);
    return path;
}

/* ---- files that must be refused ---------------------------------------------------------- */

typedef struct {
    const char *header;
    size_t n_data;
    const char *message;
} Hostile;

#define A_F32_2 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define TENSOR(name, dtype, shape, offsets)                                                        \
    "\"" name "\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define TEN      "xxxxxxxxxx"
#define NAME_100 TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const Hostile HOSTILE[] = {
    {"", 0, "does not begin with {"},
    {"[]", 0, "does not begin with {"},
    {" {}", 0, "does not begin with {"},
    {"{", 0, "not valid"},
    {"{}x", 0, "not valid"},
    {"{\"a\":1,}", 0, "not valid"},
    {"{\"\\u0000\":{}}", 0, "not valid"},
    {"{\"\xff\":{}}", 0, "not valid"},
    {"{" A_F32_2 "," A_F32_2 "}", 8, "twice"},
    {"{\"__metadata__\":3}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"format\":1}}", 0, "__metadata__"},
    {"{\"\":{}}", 0, "printable"},
    {"{\"a b\":{}}", 0, "printable"},
    {"{\"\\u001b[2J\":{}}", 0, "printable"},
    {"{\"\xc3\xa9\":{}}", 0, "printable"},
    {"{\"" NAME_100 "\":{}}", 0, "printable"},
    {"{\"a\":7}", 0, "tensor a: wanted exactly"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "tensor a: wanted exactly"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8,
     "wanted exactly"},
    {"{" TENSOR("a", "\"F31\"", "[2]", "[0,8]") "}", 8, "tensor a: dtype"},
    {"{" TENSOR("a", "\"f32\"", "[2]", "[0,8]") "}", 8, "tensor a: dtype"},
    {"{" TENSOR("a", "5", "[2]", "[0,8]") "}", 8, "tensor a: dtype"},
    {"{" TENSOR("a", "\"F32\"", "2", "[0,8]") "}", 8, "tensor a: shape"},
    {"{" TENSOR("a", "\"F32\"", "[1,1,1,1,2]", "[0,8]") "}", 8, "tensor a: shape"},
    {"{" TENSOR("a", "\"F32\"", "[-2]", "[0,8]") "}", 8, "tensor a: dimension 0"},
    {"{" TENSOR("a", "\"F32\"", "[1,2.0]", "[0,8]") "}", 8, "tensor a: dimension 1"},
    {"{" TENSOR("a", "\"F32\"", "[\"2\"]", "[0,8]") "}", 8, "tensor a: dimension 0"},
    {"{" TENSOR("a", "\"F32\"", "[4611686018427387904,4]", "[0,8]") "}", 8, "overflow"},
    {"{" TENSOR("a", "\"F32\"", "[4294967296,4294967296]", "[0,8]") "}", 8, "overflow"},
    {"{" TENSOR("a", "\"F32\"", "[99999999999999999999]", "[0,8]") "}", 8, "not valid"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[0]") "}", 8, "tensor a: data_offsets"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[0,8,8]") "}", 8, "tensor a: data_offsets"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "{}") "}", 8, "tensor a: data_offsets"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[0.0,8.0]") "}", 8, "tensor a: data_offsets"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[-8,0]") "}", 8, "not within"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[8,0]") "}", 8, "not within"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[0,9]") "}", 8, "not within"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[0,9223372036854775807]") "}", 8, "not within"},
    {"{" TENSOR("a", "\"F32\"", "[2]", "[0,4]") "}", 4, "needs 8 bytes"},
    {"{" TENSOR("a", "\"F16\"", "[2]", "[0,8]") "}", 8, "needs 4 bytes"},
    {"{" TENSOR("a", "\"BOOL\"", "[1]", "[0,1]") "," TENSOR("b", "\"F32\"", "[1]", "[1,5]") "}", 5,
     "tensor b: offset 1"},
    {"{" A_F32_2 "," TENSOR("b", "\"F32\"", "[1]", "[4,8]") "}", 8, "tensor b: begins"},
    {"{" A_F32_2 "," TENSOR("b", "\"F32\"", "[2]", "[0,8]") "}", 8, "begins at data byte 0"},
    {"{" A_F32_2 "," TENSOR("b", "\"F32\"", "[1]", "[12,16]") "}", 16, "tensor b: begins"},
    {"{" TENSOR("a", "\"F32\"", "[1]", "[4,8]") "}", 8, "tensor a: begins"},
    {"{" A_F32_2 "}", 9, "the last 1 bytes"},
    {"{}", 4, "the last 4 bytes"},
};

static void test_refuses_hostile_headers(void **state)
{
    Temp *t = *state;
    for (size_t i = 0; i < sizeof HOSTILE / sizeof *HOSTILE; i++) {
        const Hostile *h = &HOSTILE[i];
        SafeFile file;
        size_t n = strlen(h->header);
        const char *path = write_file(t, h->header, n, n, h->n_data);
        Err err = safe_open(&file, path);
        if (!err || !strstr(err_message(err), path))
            fail_msg("case %zu: %s: \"%s\"", i, h->header, err_message(err));
        check_err(err, ERR_DATA, h->message);
    }
}

static void test_refuses_a_header_longer_than_the_file(void **state)
{
    Temp *t = *state;
    static const uint64_t LENGTH[] = {3, 1000, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
    SafeFile file;
    for (size_t i = 0; i < sizeof LENGTH / sizeof *LENGTH; i++)
        check_err(safe_open(&file, write_file(t, "{}", 2, LENGTH[i], 0)), ERR_DATA,
                  "header claims");
}

/* Past 100 MB the file being long enough is no excuse; it is sparse. */
static void test_refuses_a_header_past_the_limit(void **state)
{
    Temp *t = *state;
    uint64_t length = 100000001;
    SafeFile file;
    FILE *f = fopen(temp_path(t, "x.safetensors"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&length, 8, 1, f), 1);
    assert_int_equal(fseek(f, 100000100, SEEK_SET), 0);
    assert_int_equal(fputc(0, f), 0);
    assert_int_equal(fclose(f), 0);
    check_err(safe_open(&file, t->path), ERR_DATA, "header claims");
}

static void test_refuses_deep_nesting(void **state)
{
    enum { DEPTH = 100000 };
    Temp *t = *state;
    SafeFile file;
    char *header = malloc(DEPTH + 6);
    assert_non_null(header);
    memcpy(header, "{\"a\":", 5);
    memset(header + 5, '[', DEPTH);
    check_err(safe_open(&file, write_file(t, header, DEPTH + 5, DEPTH + 5, 0)), ERR_DATA,
              "not valid");
    free(header);
}

static void test_refuses_too_many_tensors(void **state)
{
    enum { N_TENSORS = 65537, ENTRY_BYTES = 64 };
    Temp *t = *state;
    SafeFile file;
    char *header = malloc((size_t)N_TENSORS * ENTRY_BYTES), *at = header;
    assert_non_null(header);
    for (int i = 0; i < N_TENSORS; i++)
        at += sprintf(at, "%c\"%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                      i ? ',' : '{', i);
    *at++ = '}';
    size_t n = (size_t)(at - header);
    check_err(safe_open(&file, write_file(t, header, n, n, 0)), ERR_DATA, "65537 tensors");
    free(header);
}

static void test_refuses_every_truncation(void **state)
{
    static const char HEADER[] = "{" A_F32_2 "," TENSOR("b", "\"F16\"", "[3]", "[8,14]") "}";
    Temp *t = *state;
    char bytes[8 + sizeof HEADER - 1 + 14] = {sizeof HEADER - 1};
    memcpy(bytes + 8, HEADER, sizeof HEADER - 1);
    SafeFile file;
    for (size_t n = 0; n < sizeof bytes; n++)
        check_err(safe_open(&file, temp_write(t, "x", bytes, n)), ERR_DATA, t->dir);
    check_no_err(safe_open(&file, temp_write(t, "x", bytes, sizeof bytes)));
    safe_close(&file);
}

static void test_missing_file_is_not_bad_data(void **state)
{
    SafeFile file;
    check_err(safe_open(&file, temp_path(*state, "nothing")), ERR_MISSING, "nothing");
}

/* ---- files that are fine ----------------------------------------------------------------- */

static void test_reads_what_others_write(void **state)
{
    /* Not sorted, spaces, metadata, a scalar, an empty tensor, masks, no padding to 8 bytes. */
    static const char GOOD[] =
        "{" TENSOR("b", "\"F32\"", "[]",
                   " [4 , 8] ") ",\"__metadata__\":{\"format\":\"pt\"}"
                                "," TENSOR("none", "\"F32\"", "[0,3]", "[4,4]") "," TENSOR(
                                    "mask", "\"BOOL\"", "[1,2]",
                                    "[8,10]") "," TENSOR("a", "\"U8\"", "[4]", "[0,4]") "} ";
    Temp *t = *state;
    SafeFile file;
    size_t n = sizeof GOOD - 1;
    check_no_err(safe_open(&file, write_file(t, GOOD, n, n, 10)));
    assert_int_equal(file.n_tensors, 4);
    assert_string_equal(file.tensor[0].name, "a");
    assert_string_equal(file.tensor[1].name, "none");
    assert_string_equal(file.tensor[2].name, "b");
    assert_string_equal(file.tensor[3].name, "mask");
    float value = 1;
    safe_read_f32(&file, safe_find(&file, "b"), 0, 1, &value);
    assert_true(value == 0);
    assert_null(safe_find(&file, "c"));
    safe_close(&file);
}

static void test_halves_become_floats(void **state)
{
    static const uint16_t HALF[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x8400, 0x7c00};
    static const float WANTED[] = {1, -2, 65504, 0x1p-24f, -0x1p-14f, __builtin_inff()};
    static const uint16_t BRAIN[] = {0x3f80, 0xc000, 0x3f81, 0x0001, 0x8000, 0x7f80};
    static const float WANTED_BRAIN[] = {1, -2, 1.0078125f, 0x1p-133f, -0.0f, __builtin_inff()};
    enum { N = 6 };
    Temp *t = *state;
    SafeTensor tensor[] = {{.name = "f16", .dtype = DTYPE_F16, .rank = 1, .dim = {N, 1, 1, 1}},
                           {.name = "bf16", .dtype = DTYPE_BF16, .rank = 2, .dim = {2, 3, 1, 1}}};
    SafeWriter *w;
    SafeFile file;
    float got[N];
    check_no_err(safe_create(&w, temp_path(t, "halves"), tensor, 2));
    check_no_err(safe_write(w, HALF, sizeof HALF));
    check_no_err(safe_write(w, BRAIN, sizeof BRAIN));
    check_no_err(safe_finish(w, NULL));
    check_no_err(safe_open(&file, t->path));
    safe_read_f32(&file, safe_find(&file, "f16"), 0, N, got);
    assert_memory_equal(got, WANTED, sizeof got);
    safe_read_f32(&file, safe_find(&file, "bf16"), 0, N, got);
    assert_memory_equal(got, WANTED_BRAIN, sizeof got);
    safe_read_f32(&file, safe_find(&file, "f16"), 2, 3, got);
    assert_memory_equal(got, WANTED + 2, 3 * sizeof *got);
    safe_close(&file);
}

/* ---- the writer -------------------------------------------------------------------------- */

static void test_writer_and_reader_agree(void **state)
{
    enum { N = 1000 };
    Temp *t = *state;
    SafeTensor tensor[] = {{.name = "one", .dtype = DTYPE_F32, .rank = 2, .dim = {10, 50, 1, 1}},
                           {.name = "two", .dtype = DTYPE_F32, .rank = 1, .dim = {500, 1, 1, 1}}};
    float values[N], got[N];
    for (int i = 0; i < N; i++)
        values[i] = (float)i / 3;
    SafeWriter *w;
    SafeFile file;
    FileDigest digest;
    check_no_err(safe_create(&w, temp_path(t, "w"), tensor, 2));
    for (int i = 0; i < N; i += 40) /* in pieces that know nothing of tensors */
        check_no_err(safe_write(w, values + i, 40 * sizeof *values));
    check_no_err(safe_finish(w, &digest));
    check_no_err(safe_open(&file, t->path));
    assert_int_equal(file.n_tensors, 2);
    assert_memory_equal(&file.tensor[0], &tensor[0], sizeof tensor[0]);
    assert_memory_equal(&file.tensor[1], &tensor[1], sizeof tensor[1]);
    safe_read_f32(&file, &file.tensor[0], 0, 500, got);
    safe_read_f32(&file, &file.tensor[1], 0, 500, got + 500);
    assert_memory_equal(got, values, sizeof values);
    assert_int_equal(digest.n_bytes, file.map.n_bytes);
    assert_int_equal(file.tensor[0].offset % 8, 0);
    safe_close(&file);
    file_digest_free(&digest);
}

static void test_writer_marks_the_file_as_torch(void **state)
{
    Temp *t = *state;
    SafeTensor tensor = {.name = "a", .dtype = DTYPE_F32, .rank = 1, .dim = {1, 1, 1, 1}};
    SafeWriter *w;
    FileMap map;
    float value = 1;
    check_no_err(safe_create(&w, temp_path(t, "w"), &tensor, 1));
    check_no_err(safe_write(w, &value, sizeof value));
    check_no_err(safe_finish(w, NULL));
    check_no_err(file_map(&map, t->path));
    static const char START[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":";
    assert_memory_equal(map.data + 8, START, sizeof START - 1);
    file_unmap(&map);
}

static void test_abandoned_file_is_gone(void **state)
{
    Temp *t = *state;
    SafeTensor tensor = {.name = "a", .dtype = DTYPE_F32, .rank = 1, .dim = {1, 1, 1, 1}};
    SafeWriter *w;
    check_no_err(safe_create(&w, temp_path(t, "w"), &tensor, 1));
    assert_true(path_exists(t->path));
    safe_abandon(w);
    assert_false(path_exists(t->path));
    safe_abandon(NULL);
}

static void test_create_needs_a_free_name(void **state)
{
    Temp *t = *state;
    SafeTensor tensor = {.name = "a", .dtype = DTYPE_F32, .rank = 1, .dim = {1, 1, 1, 1}};
    SafeWriter *w;
    check_err(safe_create(&w, temp_write_text(t, "w", "mine"), &tensor, 1), ERR_WRITE, t->path);
    assert_null(w);
    assert_true(path_exists(t->path));
}

static int set_up(void **state)
{
    Temp *t = calloc(1, sizeof *t);
    temp_make(t);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    temp_remove(*state);
    free(*state);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refuses_hostile_headers),
        TEST(test_refuses_a_header_longer_than_the_file),
        TEST(test_refuses_a_header_past_the_limit),
        TEST(test_refuses_deep_nesting),
        TEST(test_refuses_too_many_tensors),
        TEST(test_refuses_every_truncation),
        TEST(test_missing_file_is_not_bad_data),
        TEST(test_reads_what_others_write),
        TEST(test_halves_become_floats),
        TEST(test_writer_and_reader_agree),
        TEST(test_writer_marks_the_file_as_torch),
        TEST(test_abandoned_file_is_gone),
        TEST(test_create_needs_a_free_name),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
