/* Numbers going wrong on one rank: every tensor of every rank, in every way gradients are shared. A
 * step with a NaN or an infinity in any of them changes nothing on any rank and is told by rank and
 * tensor.
 *
 * The fault is put in by a device that errs: its table is the real one but for the ops that write
 * parameter gradients; after these, one element of one tensor is set. A fifth of all cases is
 * tried; with GPT_FULL in the environment all of them. */
#include "train/health.h"

#include <math.h>

#include "kernels/ops_table.h"
#include "tests/support/mpi_run.h"
#include "train/replicas.h"

enum { ALWAYS = -1 };

/* Statics, for an op table has no room for a test's state. */
static DeviceOps erring_ops;
static const DeviceOps *real_ops;
static void *wrong_memory; /* of the tensor that is written wrongly; NULL: none here */
static int64_t wrong_element;
static float wrong_value;
static int n_errors_left; /* or ALWAYS */

static void err_in(Device *dev, Tensor grads)
{
    if (!wrong_memory || grads.data != wrong_memory || n_errors_left == 0)
        return;
    n_errors_left -= n_errors_left > 0;
    device_upload(dev, tensor_range(grads, wrong_element, 1), &wrong_value);
}

static void err_embedding(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens)
{
    real_ops->embedding_backward(dev, dwte, dwpe, dx, tokens);
    err_in(dev, dwte);
    err_in(dev, dwpe);
}

static void err_layernorm(Device *dev, const LayernormBackward *args)
{
    real_ops->layernorm_backward(dev, args);
    err_in(dev, args->dw);
    err_in(dev, args->db);
}

static void err_linear(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy)
{
    real_ops->linear_backward_weight(dev, dw, db, x, dy);
    err_in(dev, dw);
    err_in(dev, db);
}

static void make_it_err(Device *dev)
{
    real_ops = dev->ops;
    erring_ops = *dev->ops;
    erring_ops.embedding_backward = err_embedding;
    erring_ops.layernorm_backward = err_layernorm;
    erring_ops.linear_backward_weight = err_linear;
    dev->ops = &erring_ops;
    wrong_memory = NULL;
}

/* ---- a run and what must not change ---------------------------------------------------------- */

typedef struct {
    MpiRun run;
    void *params, *m, *v;
} Trial;

static void trial_open(Trial *t, MpiTest *mpi, const char *zero_stage)
{
    StepRecord record;
    mpi_run_open(&t->run, mpi);
    mpi_run_set(&t->run, "zero_stage", zero_stage);
    mpi_run_set(&t->run, "bias", "true");
    mpi_run_set(&t->run, "micro_batch", "1");
    check_no_err(mpi_run_start(&t->run));
    make_it_err(&mpi->dev);
    check_no_err(trainer_step(&t->run.trainer, &record)); /* so that m and v are not zero */
    assert_false(record.skipped);
    check_no_err(reducer_await(&t->run.trainer.reducer));
    t->params = mpi_run_copy(&t->run, t->run.trainer.model.params);
    t->m = mpi_run_copy(&t->run, t->run.trainer.optim.state.m);
    t->v = mpi_run_copy(&t->run, t->run.trainer.optim.state.v);
}

static void check_same(MpiRun *run, Tensor tensor, const void *before)
{
    void *now = mpi_run_copy(run, tensor);
    assert_memory_equal(now, before, tensor_bytes(tensor));
    free(now);
}

static void check_unchanged(Trial *t)
{
    check_same(&t->run, t->run.trainer.model.params, t->params);
    check_same(&t->run, t->run.trainer.optim.state.m, t->m);
    check_same(&t->run, t->run.trainer.optim.state.v, t->v);
}

/* The device is well again, and training goes on. */
static void trial_close(Trial *t)
{
    StepRecord record;
    wrong_memory = NULL;
    check_no_err(trainer_step(&t->run.trainer, &record));
    assert_false(record.skipped);
    assert_string_equal(record.why, "");
    assert_int_equal(t->run.trainer.progress.n_bad_steps, 0);
    t->run.mpi->dev.ops = real_ops;
    free(t->params);
    free(t->m);
    free(t->v);
    mpi_run_close(&t->run);
}

/* On `rank`, from the next step on; element: counted from the front, or from the end when < 0. */
static void set_wrong(Trial *t, int32_t rank, const Param *p, int64_t element, float value)
{
    const Trainer *trainer = &t->run.trainer;
    int64_t within = p->offset - trainer->layout.bucket[p->bucket].offset;
    Tensor grads = trainer->model.grad_bucket[p->bucket];
    bool here = trainer->comm->rank == rank;
    wrong_memory = here ? tensor_range(grads, within, 1).data : NULL;
    wrong_element = element < 0 ? param_file_count(p) + element : element;
    wrong_value = value;
    n_errors_left = ALWAYS;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void check_named(Trial *t, int32_t rank, const Param *p, int64_t element, float value)
{
    Trainer *trainer = &t->run.trainer;
    StepRecord record;
    char wanted[sizeof record.why];
    int64_t step = trainer->progress.step, n_bad = trainer->progress.n_bad_steps;
    set_wrong(t, rank, p, element, value);
    check_no_err(trainer_step(trainer, &record));
    snprintf(wanted, sizeof wanted, "rank %d: gradient of %s is not finite, loss finite", rank,
             p->name);
    assert_string_equal(record.why, wanted);
    assert_true(record.skipped);
    assert_int_equal(trainer->progress.step, step + 1);
    assert_int_equal(trainer->progress.n_bad_steps, n_bad + 1);
    check_unchanged(t);
}

/* What does not come again is told by tensor. */
static void check_transient(Trial *t)
{
    StepRecord record;
    const Layout *layout = &t->run.trainer.layout;
    set_wrong(t, t->run.mpi->comm.world - 1, layout_find(layout, PARAM_ATTN_W, 0), 5, NAN);
    n_errors_left = 1;
    check_no_err(trainer_step(&t->run.trainer, &record));
    assert_non_null(strstr(record.why, "gradient of h.0.attn.c_attn.weight is not finite, and no "
                                       "rank's own is when computed again"));
    check_unchanged(t);
}

static int stride_of(const Device *dev)
{
    if (getenv("GPT_FULL"))
        return 1;
    return device_is_host(dev) ? 5 : 27; /* a GPU may be an emulated one */
}

static void check_every_tensor(MpiTest *mpi, const char *zero_stage)
{
    Trial t;
    int n = 0, stride = stride_of(&mpi->dev);
    trial_open(&t, mpi, zero_stage);
    const Layout *layout = &t.run.trainer.layout;
    for (int32_t rank = 0; rank < mpi->comm.world; rank++)
        for (int32_t i = rank % stride; i < 2 * layout->n_params; i += stride, n++)
            check_named(&t, rank, &layout->param[i / 2], i % 2 ? i % 3 : -1 - i % 3,
                        i % 2 ? NAN : INFINITY);
    printf("zero_stage %s: %d of %d named\n", zero_stage, n, n);
    check_transient(&t);
    trial_close(&t);
}

static void test_every_tensor_of_every_rank_is_named(void **state)
{
    check_every_tensor(*state, "0");
    check_every_tensor(*state, "1");
    check_every_tensor(*state, "2");
}

static void check_all_ranks_named(Trial *t)
{
    StepRecord record;
    const Trainer *trainer = &t->run.trainer;
    int32_t rank = trainer->comm->rank, world = trainer->comm->world;
    set_wrong(t, rank, layout_find(&trainer->layout, PARAM_FC_W, 1), rank, -INFINITY);
    check_no_err(trainer_step(&t->run.trainer, &record));
    const char *at = record.why;
    for (int32_t r = 0; r < world; r++) {
        char wanted[128];
        snprintf(wanted, sizeof wanted,
                 "%srank %d: gradient of h.1.mlp.c_fc.weight is not finite, loss finite",
                 r > 0 ? "; " : "", r);
        assert_memory_equal(at, wanted, strlen(wanted));
        at += strlen(wanted);
    }
    assert_string_equal(at, "");
    wrong_memory = NULL;
}

/* A bad parameter of the last rank: everything behind it is bad, and its loss. */
static void check_bad_loss_named(Trial *t)
{
    static const uint8_t NAN_BITS[4] = {0xff, 0xff, 0xff, 0xff}; /* in any dtype */
    StepRecord record;
    char wanted[64];
    Trainer *trainer = &t->run.trainer;
    Tensor first = tensor_range(trainer->model.params, 0, 1);
    if (mpi_run_is_last_rank(&t->run))
        device_upload(trainer->dev, first, NAN_BITS);
    check_no_err(trainer_step(trainer, &record));
    int n = snprintf(wanted, sizeof wanted, "rank %d: gradient of ln_f.bias is not finite (first",
                     trainer->comm->world - 1);
    assert_memory_equal(record.why, wanted, n);
    assert_non_null(strstr(record.why, "tensors), loss not finite"));
    assert_null(strstr(record.why, "; rank"));
    device_upload(trainer->dev, first, t->params);
}

static void test_each_rank_at_fault_is_named(void **state)
{
    Trial t;
    trial_open(&t, *state, "1");
    check_all_ranks_named(&t);
    check_bad_loss_named(&t);
    check_unchanged(&t);
    trial_close(&t);
}

static void test_parameters_that_are_not_finite_are_not_saved(void **state)
{
    static const uint8_t NAN_BITS[4] = {0xff, 0xff, 0xff, 0xff};
    MpiRun run;
    char wanted[64];
    mpi_run_open(&run, *state);
    mpi_run_set(&run, "replica_check_interval", "0"); /* which would find it first */
    check_no_err(mpi_run_start(&run));
    check_no_err(saves_save(&run.trainer));
    run.trainer.progress.step = 1;
    const Param *p = layout_find(&run.trainer.layout, PARAM_LN_2_W, 1);
    if (mpi_run_is_last_rank(&run))
        device_upload(&run.mpi->dev, tensor_range(run.trainer.model.params, p->offset + 3, 1),
                      NAN_BITS);
    snprintf(wanted, sizeof wanted, "h.1.ln_2.weight is not finite (1 of %d tensors)",
             run.trainer.layout.n_params);
    check_err(saves_save(&run.trainer), ERR_DIVERGED, wanted);
    assert_true(path_exists(temp_path(&run.temp, "out/step_00000000/MANIFEST.json")));
    assert_false(path_exists(temp_path(&run.temp, "out/step_00000001")));
    mpi_run_close(&run);
}

/* So low a limit that some steps are outliers. */
static void test_ranks_agree_on_outliers(void **state)
{
    enum { N_STEPS = OUTLIER_LEAST + 30 };
    MpiTest *mpi = *state;
    MpiRun run;
    StepRecord record;
    if (!device_is_host(&mpi->dev))
        skip();
    mpi_run_open(&run, mpi);
    mpi_run_set(&run, "skip_outlier_z", "1");
    check_no_err(mpi_run_start(&run));
    for (int i = 0; i < N_STEPS; i++)
        check_no_err(trainer_step(&run.trainer, &record));
    Progress *progress = &run.trainer.progress, first = *progress;
    assert_true(first.outliers.n_skipped > 0);
    assert_int_equal(first.n_updates, N_STEPS - first.outliers.n_skipped);
    check_no_err(comm_broadcast_bytes(&mpi->comm, &first, sizeof first, 0));
    assert_memory_equal(&progress->outliers, &first.outliers, sizeof first.outliers);
    check_no_err(replicas_check(&run.trainer));
    mpi_run_close(&run);
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tensor_of_every_rank_is_named),
        cmocka_unit_test(test_each_rank_at_fault_is_named),
        cmocka_unit_test(test_ranks_agree_on_outliers),
        cmocka_unit_test(test_parameters_that_are_not_finite_are_not_saved),
    };
    return MPI_MAIN_EACH_WAY(tests);
}
