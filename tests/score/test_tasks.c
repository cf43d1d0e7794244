/* The files of HellaSwag and LAMBADA. */
#include "score/task.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/check_err.h"
#include "tests/support/toy_bpe.h"

typedef struct {
    Temp temp;
    Bpe *bpe;
    BpeEncoder *encoder;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    temp_make(&f->temp);
    f->bpe = toy_bpe_open();
    check_no_err(bpe_encoder_open(&f->encoder, f->bpe));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    bpe_encoder_close(f->encoder);
    bpe_close(f->bpe);
    temp_remove(&f->temp);
    free(f);
    return 0;
}

static Err open_hellaswag(Fixture *f, ScoreTask *task, const char *text)
{
    return hellaswag_open(task, temp_write_text(&f->temp, "h", text), f->encoder, 0);
}

static Err open_lambada(Fixture *f, ScoreTask *task, const char *text)
{
    return lambada_open(task, temp_write_text(&f->temp, "l", text), f->encoder, 0);
}

/* What the tokens of a row say. */
static void check_row(const Fixture *f, const ScoreTask *task, const ScoreRow *row,
                      const char *context, const char *continuation)
{
    char text[256] = "";
    size_t n = 0, n_context = 0;
    for (int32_t i = 0; i < row->n_tokens; i++) {
        size_t n_bytes;
        const char *bytes = bpe_text(f->bpe, task->token[row->begin + i], &n_bytes);
        if (i == row->n_context)
            n_context = n;
        memcpy(text + n, bytes, n_bytes);
        n += n_bytes;
    }
    assert_int_equal(n_context, strlen(context));
    assert_memory_equal(text, context, n_context);
    assert_string_equal(text + n_context, continuation);
}

static void check_items(const Fixture *f, const ScoreTask *task)
{
    static const char *const ENDING[] = {" falls.", " is \"red\".", " a", " b c"};
    assert_int_equal(task->n_choices, 4);
    assert_int_equal(task->n_items, 2);
    for (int32_t c = 0; c < 4; c++)
        check_row(f, task, &task->item[0].row[c], "Rain: the rain", ENDING[c]);
    check_row(f, task, &task->item[1].row[3], "x", " four");
    assert_int_equal(task->item[0].label, 2);
    assert_int_equal(task->item[1].label, 0);
}

static void test_hellaswag_as_text(void **state)
{
    ScoreTask task;
    check_no_err(open_hellaswag(*state, &task,
                                "Rain: the rain\n2\nfalls.\nis \"red\".\na\nb c\n"
                                "x\r\n0\r\none\r\ntwo\r\nthree\r\nfour\r\n\n"));
    check_items(*state, &task);
    score_task_close(&task);
}

static void test_hellaswag_as_json(void **state)
{
    ScoreTask task;
    check_no_err(open_hellaswag(*state, &task,
                                "{\"ind\": 4, \"ctx\": \"Rain: the rain\", \"label\": 2, "
                                "\"endings\": [\"falls.\", \"is \\\"red\\\".\", \"a\", \"b c\"]}\n"
                                "{\"ctx\": \"x\", \"label\": \"0\", \"endings\": [\"one\", "
                                "\"two\", \"three\", \"four\"]}"));
    check_items(*state, &task);
    score_task_close(&task);
}

static void test_the_first_items(void **state)
{
    Fixture *f = *state;
    ScoreTask task;
    const char *path = temp_write_text(&f->temp, "h", "x\n0\na\nb\nc\nd\nnot read\n");
    check_no_err(hellaswag_open(&task, path, f->encoder, 1));
    assert_int_equal(task.n_items, 1);
    score_task_close(&task);
}

static void test_hellaswag_that_is_wrong(void **state)
{
    static const char *const CASE[][2] = {
        {"", "no items"},
        {"x\n4\na\nb\nc\nd\n", "h:2: the label is not 0, 1, 2 or 3"},
        {"x\n12\na\nb\nc\nd\n", "h:2: the label"},
        {"x\n0\na\nb\nc\n", "h:5: the file ends within an item"},
        {"x\n", "h:1: the label"},
        {"\n0\na\nb\nc\nd\n", "h:1: an empty context"},
        {"{\"ctx\": \"x\"", "h:1: not a JSON object"},
        {"{\"ctx\": \"x\", \"ctx\": \"y\"}", "h:1: not a JSON object"},
        {"{\"label\": 1}", "\"ctx\" is missing"},
        {"{\"ctx\": \"x\", \"endings\": [\"a\"], \"label\": 0}", "are not four texts"},
        {"{\"ctx\": \"x\", \"endings\": [\"a\",\"a\",\"a\",1], \"label\": 0}", "are not four"},
        {"{\"ctx\": \"x\", \"endings\": [\"a\",\"a\",\"a\",\"a\"], \"label\": -1}", "the label"},
        {"{\"ctx\": \"x\", \"endings\": [\"a\",\"a\",\"a\",\"a\"]}", "the label"},
    };
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        ScoreTask task;
        check_err(open_hellaswag(*state, &task, CASE[i][0]), ERR_DATA, CASE[i][1]);
        score_task_close(&task);
    }
}

static void test_lambada_in_both_forms(void **state)
{
    ScoreTask task;
    check_no_err(open_lambada(*state, &task,
                              "{\"text\": \"the very end\"}\n"
                              "{\"context\": \"the very\", \"continuation\": \"end\"}\n"
                              "{\"context\": \"the very\", \"continuation\": \" end\"}\n"));
    assert_int_equal(task.n_choices, 1);
    assert_int_equal(task.n_items, 3);
    for (int32_t i = 0; i < 3; i++) {
        check_row(*state, &task, &task.item[i].row[0], "the very", " end");
        assert_int_equal(task.item[i].label, 0);
    }
    score_task_close(&task);
}

static void test_lambada_that_is_wrong(void **state)
{
    static const char *const CASE[][2] = {
        {"\n\n", "no items"},
        {"{\"text\": \"word\"}", "l:1: \"text\" has no last word"},
        {"{\"text\": \" word\"}", "has no last word"},
        {"{\"text\": \"word \"}", "has no last word"},
        {"{\"text\": \"a b\"}\n{}", "l:2: \"text\" is missing"},
        {"{\"continuation\": \"b\"}", "\"context\" is missing"},
        {"[1]", "l:1: not a JSON object"},
    };
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        ScoreTask task;
        check_err(open_lambada(*state, &task, CASE[i][0]), ERR_DATA, CASE[i][1]);
        score_task_close(&task);
    }
}

static void test_a_file_that_is_no_text(void **state)
{
    Fixture *f = *state;
    ScoreTask task;
    const char *path = temp_path(&f->temp, "zeros");
    FILE *out = fopen(path, "w");
    fwrite("{\0}", 1, 3, out);
    fclose(out);
    check_err(lambada_open(&task, path, f->encoder, 0), ERR_DATA, "byte 1 is zero");
    score_task_close(&task);
    check_err(lambada_open(&task, "/nowhere", f->encoder, 0), ERR_MISSING, "/nowhere");
    score_task_close(&task);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hellaswag_as_text),      TEST(test_hellaswag_as_json),
        TEST(test_the_first_items),        TEST(test_hellaswag_that_is_wrong),
        TEST(test_lambada_in_both_forms),  TEST(test_lambada_that_is_wrong),
        TEST(test_a_file_that_is_no_text),
    };
    return cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
