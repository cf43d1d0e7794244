/* Folders to a page: nothing that a run holds can break out of it, and what it says is right. */
#include "report/page.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "report/memory.h"
#include "report/reference.h"
#include "tests/support/check_err.h"
#include "tests/support/temp.h"

#define EVIL "</script><script>alert(1)</script><!--<b>&\"'"

static const char METRICS[] =
    "{\"iter\":0,\"tokens\":0,\"train_loss\":4.25,\"val_loss\":4.16}\n"
    "{\"iter\":0,\"tokens\":768,\"loss\":4.5,\"lr\":0.001,\"grad_norm\":0.5,\"time_ms\":20,"
    "\"tokens_per_s\":50,\"mfu\":1,\"skipped\":false}\n"
    "{\"iter\":1,\"tokens\":1536,\"loss\":null,\"lr\":0.001,\"grad_norm\":null,\"time_ms\":20,"
    "\"tokens_per_s\":50,\"mfu\":1,\"skipped\":true}\n"
    "{\"iter\":2000,\"tokens\":1536000,\"train_loss\":1.76,\"val_loss\":%s}\n";

static const char CONFIG[] =
    "\"n_layer\":\"4\",\"n_head\":\"4\",\"n_embd\":\"128\",\"block_size\":\"64\",\"batch_size\":"
    "\"12\",\"gradient_accumulation_steps\":\"1\",\"learning_rate\":\"%s\",\"min_lr\":\"1e-4\","
    "\"warmup_iters\":\"100\",\"lr_decay_iters\":\"2000\",\"beta2\":\"0.99\",\"weight_decay\":"
    "\"0.1\",\"dropout\":\"0\",\"dataset\":\"%s\"";

/* The folder `name` of the temporary one, with metrics and settings as above. Its path. */
static const char *make_run(Temp *t, const char *name, const char *loss, const char *rate,
                            const char *dataset)
{
    char file[512], text[4096], config[1024];
    snprintf(file, sizeof file, "%s/metrics.jsonl", name);
    assert_int_equal(mkdir(temp_path(t, name), 0777), 0);
    snprintf(text, sizeof text, METRICS, loss);
    temp_write(t, file, text, strlen(text));
    snprintf(file, sizeof file, "%s/run.json", name);
    snprintf(config, sizeof config, CONFIG, rate, dataset);
    snprintf(text, sizeof text, "{\"version\":1,\"config\":{%s}}", config);
    temp_write(t, file, text, strlen(text));
    return temp_path(t, name);
}

static int32_t count(const char *text, const char *part)
{
    int32_t n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

static json_t *data_of(const Folder *folder, int32_t n_folders)
{
    char *json = NULL;
    check_no_err(page_data(folder, n_folders, &json));
    json_t *root = json_loads(json, 0, NULL);
    assert_non_null(root);
    assert_null(strchr(json, '<'));
    free(json);
    return root;
}

/* ---- what cannot break out ----------------------------------------------------------------- */

static void write_evil(Temp *t, const char *name)
{
    char file[512];
    static const char run[] =
        "{\"config\":{\"dataset\":\"</script><script>alert(1)</script><!--<b>&"
        "\\\"'\",\"</script>\":7},\"plan\":{\"regions\":[{\"group\":\"</"
        "script>\",\"offset\":0,\"bytes\":5}]}}";
    static const char sample[] = "{\"iter\":5,\"text\":\"</script><script>alert(1)</script>\"}\n";
    snprintf(file, sizeof file, "%s/run.json", name);
    temp_write(t, file, run, strlen(run));
    snprintf(file, sizeof file, "%s/samples.jsonl", name);
    temp_write(t, file, sample, strlen(sample));
}

static void test_nothing_breaks_out(void **state)
{
    Temp *t = *state;
    const char *name = "<img src=x onerror=alert(1)>&\"'\xff";
    Folder folder;
    char *html = NULL;
    size_t n_bytes = 0;
    make_run(t, name, "1.9", "1e-3", "x");
    write_evil(t, name);
    check_no_err(folder_open(&folder, temp_path(t, name)));
    check_no_err(page_make(&folder, 1, 0, &html, &n_bytes));
    assert_int_equal(strlen(html), n_bytes);
    assert_int_equal(count(html, "</script"), 2); /* the page's own */
    assert_int_equal(count(html, "<script"), 2);
    assert_int_equal(count(html, "<img"), 0);
    assert_int_equal(count(html, "{{"), count(html, "`{{")); /* every part was filled */
    assert_non_null(strstr(html, "&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;?"));
    free(html);
    json_t *root = data_of(&folder, 1), *run = json_array_get(json_object_get(root, "runs"), 0);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(run, "config"), "dataset")), EVIL);
    json_decref(root);
    folder_close(&folder);
}

/* ---- merging ------------------------------------------------------------------------------- */

static void test_two_runs(void **state)
{
    Temp *t = *state;
    Folder folder[2];
    make_run(t, "a", "1.9", "1e-3", "shakespeare_char");
    make_run(t, "b", "2.9", "2e-3", "mine");
    assert_int_equal(mkdir(temp_path(t, "b/step_00002000"), 0777), 0);
    assert_int_equal(mkdir(temp_path(t, "b/step_00000250"), 0777), 0);
    assert_int_equal(mkdir(temp_path(t, "b/step_12"), 0777), 0);
    check_no_err(folder_open(&folder[0], temp_path(t, "a")));
    check_no_err(folder_open(&folder[1], temp_path(t, "b")));
    json_t *root = data_of(folder, 2), *runs = json_object_get(root, "runs");
    assert_int_equal(json_array_size(runs), 2);
    json_t *b = json_array_get(runs, 1), *curves = json_object_get(b, "curves");
    json_t *val = json_object_get(curves, "val"), *loss = json_object_get(curves, "loss");
    assert_int_equal(json_array_size(json_object_get(val, "v")), 2);
    assert_true(json_real_value(json_array_get(json_object_get(val, "v"), 1)) == 2.9);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(val, "t"), 1)), 1536000);
    assert_int_equal(json_array_size(json_object_get(loss, "i")), 1); /* the other was null */
    json_t *checkpoints = json_object_get(b, "checkpoints");
    assert_int_equal(json_array_size(checkpoints), 2);
    assert_int_equal(json_integer_value(json_array_get(checkpoints, 0)), 250);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(b, "skipped"), 0)), 1);
    json_decref(root);
    folder_close(&folder[0]);
    folder_close(&folder[1]);
}

/* ---- is my loss right? --------------------------------------------------------------------- */

static Verdict verdict_of(Temp *t, const char *name, const char *loss, const char *rate,
                          const char *dataset)
{
    Folder folder;
    check_no_err(folder_open(&folder, make_run(t, name, loss, rate, dataset)));
    Verdict v = reference_verdict(&folder);
    folder_close(&folder);
    return v;
}

static void check_part(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static void test_verdicts(void **state)
{
    Temp *t = *state;
    Verdict right = verdict_of(t, "right", "1.9", "1e-3", "shakespeare_char");
    check_part(right.text, "at step 2,000 is 1.9000");
    check_part(right.text, "is 1.8857 there");
    assert_true(right.is_compared && right.is_right && !strstr(right.text, "differ"));
    Verdict off = verdict_of(t, "off", "2.1", "2e-3", "shakespeare_char");
    check_part(off.text, "11.4 % above");
    check_part(off.text, "learning_rate 2e-3 (there 0.001)");
    assert_true(off.is_compared && !off.is_right);
    Verdict low = verdict_of(t, "low", "1.2", "1e-3", "shakespeare_char");
    check_part(low.text, "36.4 % below");
    Verdict other = verdict_of(t, "other", "1.9", "1e-3", "mine");
    check_part(other.text, "from another text (dataset mine)");
    assert_true(!other.is_compared && !other.is_right);
}

/* The same model in steps of other sizes has another course. */
static void test_reference_needs_the_same_steps(void **state)
{
    Temp *t = *state;
    Folder folder;
    check_no_err(folder_open(&folder, make_run(t, "a", "1.9", "1e-3", "shakespeare_char")));
    assert_non_null(reference_of(&folder));
    json_object_set_new(folder.config, "batch_size", json_string("48"));
    assert_null(reference_of(&folder));
    check_part(reference_verdict(&folder).text, "No reference run has this model");
    json_object_set_new(folder.config, "batch_size", json_string("12"));
    json_object_set_new(folder.config, "n_embd", json_string("129"));
    assert_null(reference_of(&folder));
    folder_close(&folder);
}

static void test_reference_between_its_points(void **state)
{
    (void)state;
    int32_t n = 0;
    const Reference *r = reference_list(&n);
    double loss = 0;
    assert_true(n >= 2);
    assert_true(reference_at(&r[0], 1500, &loss) && loss == 1.9225);
    assert_true(reference_at(&r[0], 1625, &loss));
    assert_true(loss > 1.9072 && loss < 1.9074);
    assert_false(reference_at(&r[0], 100, &loss)); /* too steep there for a line */
    assert_false(reference_at(&r[0], 2001, &loss));
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 1; k < r[i].n_points; k++)
            assert_true(r[i].point[k].step > r[i].point[k - 1].step &&
                        r[i].point[k].val_loss <= r[i].point[k - 1].val_loss);
}

/* ---- memory -------------------------------------------------------------------------------- */

static void check_group(const json_t *out, size_t i, const char *name, json_int_t bytes,
                        json_int_t own)
{
    const json_t *group = json_array_get(json_object_get(out, "groups"), i);
    assert_string_equal(json_string_value(json_object_get(group, "name")), name);
    assert_int_equal(json_integer_value(json_object_get(group, "bytes")), bytes);
    assert_int_equal(json_integer_value(json_object_get(group, "own")), own);
}

/* b lies over the end of a and beyond it, twice. */
static void test_shared_memory_counts_once(void **state)
{
    (void)state;
    Folder folder = {0};
    json_t *out = NULL;
    folder.plan = json_loads("{\"regions\":[{\"group\":\"a\",\"offset\":0,\"bytes\":100},"
                             "{\"group\":\"b\",\"offset\":60,\"bytes\":90},"
                             "{\"group\":\"b\",\"offset\":140,\"bytes\":60}],"
                             "\"total_bytes\":200,\"limit_bytes\":null}",
                             0, NULL);
    check_no_err(memory_groups(&folder, &out));
    check_group(out, 0, "a", 100, 100);
    check_group(out, 1, "b", 100, 150);
    assert_int_equal(json_integer_value(json_object_get(out, "total")), 200);
    assert_true(json_is_null(json_object_get(out, "limit")));
    json_decref(out);
    json_decref(folder.plan);
}

static void test_plans_that_make_no_sense(void **state)
{
    (void)state;
    static const char *const plans[] = {
        "{}",
        "{\"regions\":7}",
        "{\"regions\":[]}",
        "{\"regions\":[{\"group\":\"a\",\"offset\":-1,\"bytes\":1}]}",
        "{\"regions\":[{\"group\":\"a\",\"offset\":0,\"bytes\":9223372036854775807}]}",
        "{\"regions\":[{\"group\":\"a\",\"offset\":0}]}",
        "{\"regions\":[{\"offset\":0,\"bytes\":1}]}",
        "{\"regions\":[[]]}"};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        Folder folder = {.plan = json_loads(plans[i], 0, NULL)};
        json_t *out = NULL;
        check_no_err(memory_groups(&folder, &out));
        assert_null(out);
        json_decref(folder.plan);
    }
}

/* ---- damaged folders ----------------------------------------------------------------------- */

static void test_what_is_damaged_is_remarked(void **state)
{
    Temp *t = *state;
    Folder folder;
    make_run(t, "a", "1.9", "1e-3", "x");
    temp_write(t, "a/run.json", "{\"config\":", 10);
    temp_write(t, "a/samples.jsonl", "x\n{\"iter\":1,\"text\":\"y\"}\n", 24);
    check_no_err(folder_open(&folder, temp_path(t, "a")));
    assert_int_equal(json_array_size(folder.samples), 1);
    assert_null(folder.config);
    assert_int_equal(folder.n_remarks, 4);
    check_part(folder.remark[0], "1 step made no update");
    check_part(folder.remark[1], "run.json cannot be read");
    check_part(folder.remark[2], "1 line of samples.jsonl");
    check_part(folder.remark[3], "settings of this run are not known");
    folder_close(&folder);
}

static void test_settings_of_a_checkpoint(void **state)
{
    Temp *t = *state;
    static const char trainer[] = "{\"config\":{\"n_layer\":\"7\"}}";
    Folder folder;
    make_run(t, "a", "1.9", "1e-3", "x");
    assert_int_equal(remove(temp_path(t, "a/run.json")), 0);
    assert_int_equal(mkdir(temp_path(t, "a/step_00000010"), 0777), 0);
    temp_write(t, "a/step_00000010/trainer.json", trainer, strlen(trainer));
    check_no_err(folder_open(&folder, temp_path(t, "a")));
    assert_string_equal(folder_setting(&folder, "n_layer"), "7");
    folder_close(&folder);
}

static void test_many_samples(void **state)
{
    Temp *t = *state;
    char *text = NULL;
    size_t n_bytes = 0;
    Folder folder;
    FILE *out = open_memstream(&text, &n_bytes);
    for (int i = 0; i < 1000; i++)
        fprintf(out, "{\"iter\":%d,\"text\":\"%0*d\"}\n", i, i == 999 ? 40000 : 1, 0);
    fclose(out);
    make_run(t, "a", "1.9", "1e-3", "x");
    temp_write(t, "a/samples.jsonl", text, n_bytes);
    free(text);
    check_no_err(folder_open(&folder, temp_path(t, "a")));
    size_t n = json_array_size(folder.samples);
    assert_in_range(n, 100, FOLDER_MAX_SAMPLES);
    const json_t *last = json_array_get(folder.samples, n - 1);
    assert_int_equal(json_integer_value(json_object_get(last, "iter")), 999);
    assert_int_equal(json_string_length(json_object_get(last, "text")), 1 << 14);
    folder_close(&folder);
}

static void test_missing(void **state)
{
    Temp *t = *state;
    Folder folder;
    check_err(folder_open(&folder, temp_path(t, "none")), ERR_MISSING, "no such folder");
    folder_close(&folder);
    check_err(folder_open(&folder, t->dir), ERR_MISSING, "no metrics.jsonl");
    folder_close(&folder);
}

#define WITH_FOLDER(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_nothing_breaks_out),
        WITH_FOLDER(test_two_runs),
        WITH_FOLDER(test_verdicts),
        WITH_FOLDER(test_reference_needs_the_same_steps),
        cmocka_unit_test(test_reference_between_its_points),
        cmocka_unit_test(test_shared_memory_counts_once),
        cmocka_unit_test(test_plans_that_make_no_sense),
        WITH_FOLDER(test_what_is_damaged_is_remarked),
        WITH_FOLDER(test_settings_of_a_checkpoint),
        WITH_FOLDER(test_many_samples),
        WITH_FOLDER(test_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
