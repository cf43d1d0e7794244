#include "report/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/check_err.h"
#include "tests/support/temp.h"

#define EVAL_0 "{\"iter\":0,\"tokens\":0,\"train_loss\":4.25,\"val_loss\":4.5}\n"
#define STEP(i, tokens, loss, skipped)                                                             \
    "{\"iter\":" #i ",\"tokens\":" #tokens ",\"loss\":" #loss                                      \
    ",\"lr\":0.001,\"grad_norm\":0.5,\"time_ms\":2000,\"tokens_per_s\":50,\"mfu\":-100,"           \
    "\"skipped\":" #skipped "}\n"
#define RUN EVAL_0 STEP(0, 100, 4.5, false) STEP(1, 200, null, true) STEP(2, 300, 4, false)

static void parse(Metrics *m, const char *text)
{
    check_no_err(metrics_parse(m, "m", text, strlen(text)));
}

static void test_a_run(void **state)
{
    (void)state;
    Metrics m;
    parse(&m, RUN);
    assert_int_equal(m.n_lines, 4);
    assert_int_equal(m.n_bad + m.n_unordered + m.ends_open, 0);
    assert_int_equal(m.steps.n_rows, 3);
    assert_int_equal(m.evals.n_rows, 1);
    assert_int_equal(m.n_skipped, 1);
    assert_int_equal(m.skipped[0], 1);
    assert_true(isnan(m.steps.row[1].value[STEP_LOSS]));
    assert_true(isnan(m.steps.row[0].value[STEP_MFU])); /* a peak that is not known */
    assert_true(m.steps.row[2].value[STEP_LR] == 0.001 && m.steps.row[2].tokens == 300);
    assert_true(m.steps.row[2].seconds == 6 && m.evals.row[0].seconds == 0);
    assert_true(table_last(&m.steps, STEP_LOSS)->iter == 2);
    assert_true(table_least(&m.evals, EVAL_VAL_LOSS)->value[EVAL_VAL_LOSS] == 4.5);
    assert_null(table_last(&m.steps, STEP_MFU));
    assert_null(table_least(&m.steps, STEP_MFU));
    metrics_free(&m);
}

static void test_lines_that_are_no_records(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "garbage\n",
        "\n",
        "[1]\n",
        "{}\n",
        "{\"iter\":1}\n",
        "{\"iter\":-1,\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":1.5,\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":\"1\",\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":1e3,\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":99999999999999999999,\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":9007199254740993,\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":7,\"iter\":8,\"tokens\":1,\"loss\":1}\n",
        "{\"iter\":7,\"tokens\":1,\"loss\":1}}\n",
        "{\"iter\":7,\"tokens\":1,\"loss\":1e999}\n",
        "\xff\xfe\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[1024];
        Metrics m;
        snprintf(text, sizeof text, "%s%s%s", EVAL_0, bad[i], STEP(0, 100, 4.5, false));
        parse(&m, text);
        if (m.n_bad != 1 || m.first_bad != 2 || m.steps.n_rows != 1 || m.evals.n_rows != 1)
            fail_msg("%s was taken for a record", bad[i]);
        metrics_free(&m);
    }
}

static void test_hellaswag(void **state)
{
    (void)state;
    Metrics m;
    parse(&m, RUN "{\"iter\":3,\"tokens\":300,\"hellaswag_acc\":0.25,\"hellaswag_acc_norm\":0.2955,"
                  "\"hellaswag_items\":10042}\n");
    assert_int_equal(m.n_bad + m.n_unordered, 0);
    assert_int_equal(m.hellaswag.n_rows, 1);
    assert_true(m.hellaswag.row[0].value[HELLASWAG_ACC_NORM] == 0.2955);
    assert_true(m.hellaswag.row[0].iter == 3 && m.hellaswag.row[0].seconds == 6);
    metrics_free(&m);
}

static void test_a_line_of_another_kind(void **state)
{
    (void)state;
    Metrics m;
    parse(&m, EVAL_0 "{\"iter\":0,\"tokens\":0,\"hellaswag\":0.29}\n");
    assert_int_equal(m.n_bad, 0);
    assert_int_equal(m.steps.n_rows, 0);
    metrics_free(&m);
}

static void test_numbers_without_a_scale(void **state)
{
    (void)state;
    Metrics m;
    parse(&m, STEP(0, 1, 1.7e308, false) STEP(1, 2, -2e100, false) STEP(2, 3, 5e-324, false)
                  STEP(3, 4, -9e99, false));
    assert_int_equal(m.n_bad, 0);
    assert_true(isnan(m.steps.row[0].value[STEP_LOSS]) && isnan(m.steps.row[1].value[STEP_LOSS]));
    assert_true(m.steps.row[2].value[STEP_LOSS] == 0);
    assert_true(m.steps.row[3].value[STEP_LOSS] == -9e99);
    metrics_free(&m);
}

static void test_a_long_line(void **state)
{
    (void)state;
    const size_t n_long = 1 << 20;
    char *text = malloc(n_long + 2 * sizeof EVAL_0);
    Metrics m;
    assert_non_null(text);
    memset(text, ' ', n_long);
    memcpy(text, EVAL_0, sizeof EVAL_0 - 1);
    memcpy(text + n_long, EVAL_0, sizeof EVAL_0);
    parse(&m, text); /* a record; spaces, and another */
    assert_int_equal(m.n_bad, 1);
    assert_int_equal(m.evals.n_rows, 1);
    free(text);
    metrics_free(&m);
}

static void test_out_of_order(void **state)
{
    (void)state;
    Metrics m;
    parse(&m, RUN STEP(1, 200, 9, false) STEP(3, 250, 9, false) EVAL_0 STEP(4, 400, 3, false));
    assert_int_equal(m.n_unordered, 3);
    assert_int_equal(m.steps.n_rows, 4);
    assert_true(m.steps.row[3].seconds == 8);
    metrics_free(&m);
}

static void test_no_record_at_all(void **state)
{
    (void)state;
    static const char *const texts[] = {"x\ny\n", "\n", "{\"iter\":0",
                                        "{\"iter\":0,\"tokens\":0}\n"};
    Metrics m;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        check_err(metrics_parse(&m, "m", texts[i], strlen(texts[i])), ERR_DATA,
                  "is a record of a run");
        metrics_free(&m);
    }
    parse(&m, ""); /* a run that has just begun */
    metrics_free(&m);
    check_err(metrics_read(&m, "/nonexistent/metrics.jsonl"), ERR_MISSING, "/nonexistent");
    metrics_free(&m);
}

/* Cut at any place: the whole lines before it count, and only a rest is said to be open. */
static void test_every_truncation(void **state)
{
    (void)state;
    const char *text = RUN;
    const size_t first = strlen(EVAL_0);
    for (size_t n = first; n <= strlen(text); n++) {
        Metrics m;
        int64_t n_whole = 0;
        for (size_t i = 0; i < n; i++)
            n_whole += text[i] == '\n';
        check_no_err(metrics_parse(&m, "m", text, n));
        bool is_whole = text[n - 1] == '\n', lacks_newline = text[n - 1] == '}';
        assert_int_equal(m.ends_open, !is_whole && !lacks_newline);
        assert_int_equal(m.steps.n_rows + m.evals.n_rows, n_whole + (!is_whole && lacks_newline));
        assert_int_equal(m.n_bad, 0);
        metrics_free(&m);
    }
}

/* Any byte wrong: at most its line is lost, or two that it joins. With GPT_FULL every bit of it. */
static void test_every_damaged_byte(void **state)
{
    (void)state;
    char text[] = RUN;
    int every = getenv("GPT_FULL") ? 1 : 8;
    for (size_t i = 0; i < sizeof text - 1; i++)
        for (int bit = (int)(i % (size_t)every); bit < 8; bit += every) {
            Metrics m;
            text[i] ^= (char)(1 << bit);
            check_no_err(metrics_parse(&m, "m", text, sizeof text - 1));
            assert_in_range(m.steps.n_rows + m.evals.n_rows, 2, 4);
            metrics_free(&m);
            text[i] ^= (char)(1 << bit);
        }
}

static void test_a_file(void **state)
{
    Temp *temp = *state;
    Metrics m;
    temp_write(temp, "metrics.jsonl", RUN, strlen(RUN));
    check_no_err(metrics_read(&m, temp_path(temp, "metrics.jsonl")));
    assert_int_equal(m.steps.n_rows, 3);
    metrics_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run),
        cmocka_unit_test(test_lines_that_are_no_records),
        cmocka_unit_test(test_hellaswag),
        cmocka_unit_test(test_a_line_of_another_kind),
        cmocka_unit_test(test_numbers_without_a_scale),
        cmocka_unit_test(test_a_long_line),
        cmocka_unit_test(test_out_of_order),
        cmocka_unit_test(test_no_record_at_all),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_damaged_byte),
        cmocka_unit_test_setup_teardown(test_a_file, temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
