/* A rank that computes more slowly than the others is named, and no other. */
#include "train/stragglers.h"

#include <time.h>

#include "kernels/ops_table.h"
#include "tests/support/mpi_run.h"

/* ---- the judgement --------------------------------------------------------------------------- */

static bool judge(Stragglers *s, const double *ms, int32_t world, Straggler *found)
{
    double scratch[8];
    return stragglers_judge(s, ms, scratch, world, found);
}

static void test_a_rank_is_named_in_its_third_window_and_once(void **state)
{
    (void)state;
    Stragglers s;
    Straggler found;
    const double ms[] = {10, 10.1, 11.7, 10.1};
    stragglers_init(&s);
    assert_false(judge(&s, ms, 4, &found));
    assert_false(judge(&s, ms, 4, &found));
    assert_true(judge(&s, ms, 4, &found));
    assert_int_equal(found.rank, 2);
    assert_true(found.ms == 11.7 && found.median_ms == 10.1);
    for (int i = 0; i < 10; i++)
        assert_false(judge(&s, ms, 4, &found));
}

static void test_a_window_of_another_begins_anew(void **state)
{
    (void)state;
    static const double SLOW_0[] = {12, 10, 10}, SLOW_1[] = {10, 12, 10}, EVEN[] = {11.4, 10, 10};
    Stragglers s;
    Straggler found;
    stragglers_init(&s);
    for (int i = 0; i < 4; i++) {
        assert_false(judge(&s, SLOW_0, 3, &found));
        assert_false(judge(&s, SLOW_0, 3, &found));
        assert_false(judge(&s, i % 2 ? SLOW_1 : EVEN, 3, &found));
    }
}

static void test_of_two_ranks_the_slower_is_named(void **state)
{
    (void)state;
    Stragglers s;
    Straggler found;
    stragglers_init(&s);
    for (int i = 0; i < 2; i++)
        assert_false(judge(&s, (const double[]){10, 12}, 2, &found));
    assert_true(judge(&s, (const double[]){10, 12}, 2, &found));
    assert_int_equal(found.rank, 1);
}

/* ---- a slow device --------------------------------------------------------------------------- */

enum { STEPS_PER_WINDOW = 8, DELAY_MS = 20, TEXT_BYTES = 4096 };

/* Statics, for an op table has no room for a test's state. */
static DeviceOps slow_ops;
static const DeviceOps *real_ops;

static void slow_embedding(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe)
{
    nanosleep(&(struct timespec){.tv_nsec = DELAY_MS * 1000000}, NULL);
    real_ops->embedding_forward(dev, x, tokens, wte, wpe);
}

/* text (TEXT_BYTES) = what rank 0 said in so many steps; "" on the others. */
static void train_and_listen(MpiRun *run, int64_t n_steps, char *text)
{
    Trainer *t = &run->trainer;
    StepRecord record;
    memset(text, 0, TEXT_BYTES);
    FILE *console = t->log.console, *out = fmemopen(text, TEXT_BYTES - 1, "w");
    assert_non_null(out);
    if (console)
        t->log.console = out;
    for (int64_t i = 0; i < n_steps; i++) {
        check_no_err(trainer_step(t, &record));
        check_no_err(stragglers_watch(t));
    }
    t->log.console = console;
    fclose(out);
}

static void check_said(MpiRun *run, const char *text, int32_t slow)
{
    const Comm *comm = &run->mpi->comm;
    char wanted[128];
    snprintf(wanted, sizeof wanted, "warning: rank %d on %s (", slow, comm->host);
    if (comm->rank > 0 || comm->world == 1) {
        assert_string_equal(text, "");
        return;
    }
    const char *at = strstr(text, wanted);
    if (!at || strstr(at + 1, "warning") || !strstr(at, run->trainer.device_name))
        fail_msg("\"%s\", wanted \"%s\" once", text, wanted);
}

static void test_a_slow_rank_is_named(void **state)
{
    MpiTest *mpi = *state;
    MpiRun run;
    char text[TEXT_BYTES];
    if (!device_is_host(&mpi->dev))
        skip(); /* a delay of the host is none of a GPU */
    int32_t slow = mpi->comm.world / 2;
    mpi_run_open(&run, mpi);
    check_no_err(mpi_run_start(&run));
    run.trainer.stragglers.n_steps = STEPS_PER_WINDOW;
    real_ops = mpi->dev.ops;
    slow_ops = *real_ops;
    slow_ops.embedding_forward = slow_embedding;
    if (mpi->comm.rank == slow)
        mpi->dev.ops = &slow_ops;
    train_and_listen(&run, STRAGGLER_WARM_UP + STRAGGLER_WINDOWS * STEPS_PER_WINDOW, text);
    mpi->dev.ops = real_ops;
    check_said(&run, text, slow);
    mpi_run_close(&run);
}

/* Whatever the device: a step takes time, and no more than there was. */
static void test_the_device_measures_a_step(void **state)
{
    MpiRun run;
    StepRecord record;
    mpi_run_open(&run, *state);
    check_no_err(mpi_run_start(&run));
    run.trainer.stragglers.n = 0;
    check_no_err(trainer_step(&run.trainer, &record));
    const Stragglers *s = &run.trainer.stragglers;
    assert_int_equal(s->n, 1);
    assert_true(s->sum_ms > 0 && s->sum_ms <= record.step_ms);
    mpi_run_close(&run);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rank_is_named_in_its_third_window_and_once),
        cmocka_unit_test(test_a_window_of_another_begins_anew),
        cmocka_unit_test(test_of_two_ranks_the_slower_is_named),
        cmocka_unit_test(test_a_slow_rank_is_named),
        cmocka_unit_test(test_the_device_measures_a_step),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
