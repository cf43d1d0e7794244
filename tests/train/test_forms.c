/* A run on a GPU with AdamW's state in every form: master weights whole or in halves, on the device
 * or in host memory. The losses and the parameters are the same bits, a checkpoint of one goes on
 * in any other, and what was planned is what is allocated, all of it at the start. */
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/ops_table.h"
#include "tests/support/check_err.h"
#include "tests/support/close.h"
#include "tests/support/run.h"

enum { N_TOKENS = 3000, N_STEPS = 20, HALF_WAY = 10 };

typedef struct {
    const char *master, *offload;
} Form;

static const Form FORMS[] = {{"float32", "none"},
                             {"remainder16", "none"},
                             {"float32", "optimizer"},
                             {"remainder16", "optimizer"}};
enum { N_FORMS = sizeof FORMS / sizeof *FORMS };

/* What a run left behind. */
typedef struct {
    double loss[N_STEPS], norm[N_STEPS];
    uint16_t *params; /* owned */
    int64_t n_params;
} Result;

static void set_form(TestRun *run, const Form *form)
{
    run_set(run, "master", form->master);
    run_set(run, "offload", form->offload);
}

/* One for each i: a new run must not begin where there are checkpoints. */
static void set_out_dir(TestRun *run, int32_t i)
{
    char name[16];
    snprintf(name, sizeof name, "out%d", (int)i);
    run_set(run, "out_dir", temp_path(&run->temp, name));
}

static int setup(void **state)
{
    static const TestSetting settings[] = {
        {"n_head", "2"},       {"n_embd", "16"},          {"batch_size", "4"},
        {"max_iters", "20"},   {"learning_rate", "1e-2"}, {"warmup_iters", "2"},
        {"eval_iters", "1"},   {"micro_batch", "2"},      {"gradient_accumulation_steps", "1"},
        {"dtype", "bfloat16"},
    };
    return run_setup(state, DEVICE_CUDA, N_TOKENS, N_TOKENS, settings,
                     sizeof settings / sizeof *settings);
}

static void reopen(TestRun *run)
{
    trainer_close(&run->trainer);
    check_no_err(trainer_open(&run->trainer, &run->cfg, &run->comm, &run->dev, NULL, ""));
}

static void take_steps(TestRun *run, Result *result, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        StepRecord record;
        check_no_err(trainer_step(&run->trainer, &record));
        result->loss[i] = record.loss;
        result->norm[i] = record.grad_norm;
    }
    if (!result->params) {
        result->n_params = run->trainer.layout.count;
        result->params = malloc((size_t)result->n_params * sizeof *result->params);
        assert_non_null(result->params);
    }
    device_download(&run->dev, result->params, run->trainer.model.params);
    check_no_err(device_sync(&run->dev));
}

static void check_same(const Result *got, const Result *wanted)
{
    CHECK_SAME_BITS(got->loss, wanted->loss, N_STEPS, sizeof *got->loss);
    CHECK_SAME_BITS(got->norm, wanted->norm, N_STEPS, sizeof *got->norm);
    CHECK_SAME_BITS(got->params, wanted->params, got->n_params, sizeof *got->params);
}

static Result whole_run(TestRun *run, const Form *form, const char *out_dir)
{
    Result result = {0};
    run_set(run, "init_from", "scratch");
    run_set(run, "out_dir", temp_path(&run->temp, out_dir));
    set_form(run, form);
    reopen(run);
    take_steps(run, &result, 0, N_STEPS);
    return result;
}

static void the_form_changes_no_bit(void **state)
{
    TestRun *run = *state;
    Result first = whole_run(run, &FORMS[0], "first");
    assert_true(first.loss[N_STEPS - 1] < first.loss[0]);
    for (int32_t i = 1; i < N_FORMS; i++) {
        Result other = whole_run(run, &FORMS[i], "other");
        check_same(&other, &first);
        free(other.params);
    }
    free(first.params);
}

static void save(TestRun *run)
{
    CheckpointState state = {.comm = &run->comm,
                             .dev = &run->dev,
                             .cfg = &run->cfg,
                             .model = &run->trainer.model,
                             .optim = &run->trainer.optim,
                             .staging = run->trainer.mem.staging};
    check_no_err(checkpoint_save(&state, &run->trainer.progress));
}

/* Each form goes on where the one before it has stopped. */
static void a_run_resumes_in_another_form(void **state)
{
    TestRun *run = *state;
    Result whole = whole_run(run, &FORMS[0], "whole");
    for (int32_t from = 0; from < N_FORMS; from++) {
        Result parts = {0};
        run_set(run, "init_from", "scratch");
        set_out_dir(run, from);
        set_form(run, &FORMS[from]);
        reopen(run);
        take_steps(run, &parts, 0, HALF_WAY);
        save(run);
        run_set(run, "init_from", "resume");
        set_form(run, &FORMS[(from + 1) % N_FORMS]);
        reopen(run);
        assert_int_equal(run->trainer.progress.step, HALF_WAY);
        take_steps(run, &parts, HALF_WAY, N_STEPS);
        check_same(&parts, &whole);
        free(parts.params);
    }
    free(whole.params);
}

/* ---- memory ------------------------------------------------------------------------------ */

/* The device's table with allocators that count. Statics, for an op table has no room for a test's
 * state. */
static DeviceOps counting_ops;
static const DeviceOps *real_ops;
static size_t device_bytes, host_bytes;

static Err counting_alloc(Device *dev, size_t n_bytes, void **memory)
{
    device_bytes += n_bytes;
    return real_ops->alloc(dev, n_bytes, memory);
}

static Err counting_alloc_host(Device *dev, size_t n_bytes, void **memory)
{
    host_bytes += n_bytes;
    return real_ops->alloc_host(dev, n_bytes, memory);
}

static void count_allocations(Device *dev)
{
    real_ops = dev->ops;
    counting_ops = *dev->ops;
    counting_ops.alloc = counting_alloc;
    counting_ops.alloc_host = counting_alloc_host;
    dev->ops = &counting_ops;
}

static void planned_bytes_are_allocated_bytes(void **state)
{
    TestRun *run = *state;
    count_allocations(&run->dev);
    for (int32_t i = 0; i < N_FORMS; i++) {
        const Plan *plan;
        StepRecord record;
        set_out_dir(run, i);
        set_form(run, &FORMS[i]);
        device_bytes = host_bytes = 0;
        reopen(run);
        plan = run->trainer.plan;
        assert_int_equal(device_bytes, plan->total_bytes);
        assert_int_equal(host_bytes, plan->host_bytes);
        assert_int_equal(plan->optimizer_bytes, run->trainer.layout.count * (i % 2 ? 10 : 12));
        assert_int_equal(plan->host_bytes > plan->optimizer_bytes, i >= 2);
        check_no_err(trainer_step(&run->trainer, &record));
        save(run);
        assert_int_equal(device_bytes, plan->total_bytes); /* and nothing since */
        assert_int_equal(host_bytes, plan->host_bytes);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, run_teardown)

int main(void)
{
    const char *reason = "";
    if (!device_available(DEVICE_CUDA, &reason)) {
        printf("skipped: forms of the optimizer on cuda: %s\n", reason);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        TEST(the_form_changes_no_bit),
        TEST(a_run_resumes_in_another_form),
        TEST(planned_bytes_are_allocated_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
