/* The device and the front end of the ops: opening, memory, the sticky error, checks. What ops
 * compute is tested in test_ops_*.c. */
#include "kernels/ops.h"
#include "tests/support/check_err.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void open_cpu(Device *dev, int32_t n_threads)
{
    check_no_err(device_open(dev, &(DeviceArgs){.kind = DEVICE_CPU, .n_threads = n_threads}));
}

/* ---- opening ----------------------------------------------------------------------------- */

static void the_cpu_is_always_there(void **state)
{
    (void)state;
    const char *reason = NULL;
    assert_true(device_available(DEVICE_CPU, &reason));
}

static void open_takes_the_threads_asked_for(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 3);
    assert_int_equal(dev.n_threads, 3);
    assert_int_equal(dev.kind, DEVICE_CPU);
    device_close(&dev);
}

static void open_takes_one_thread_unless_asked(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 0);
    assert_int_equal(dev.n_threads, 1);
    device_close(&dev);
}

static void a_missing_device_is_refused_with_the_reason(void **state)
{
    (void)state;
    const char *reason = NULL;
    if (device_available(DEVICE_CUDA, &reason)) {
        printf("skipped: there is a CUDA device here\n");
        skip();
    }
    assert_true(strlen(reason) > 0);
    Device dev;
    check_err(device_open(&dev, &(DeviceArgs){.kind = DEVICE_CUDA}), ERR_SYSTEM, reason);
    device_close(&dev);
}

static void close_accepts_a_zero_initialised_device(void **state)
{
    (void)state;
    Device dev = {0};
    device_close(&dev);
    assert_null(dev.ops);
}

static void info_describes_the_host(void **state)
{
    (void)state;
    Device dev;
    DeviceInfo info;
    open_cpu(&dev, 2);
    check_no_err(device_info(&dev, &info));
    assert_non_null(strstr(info.name, ", 2 threads"));
    assert_true(info.memory_free_bytes > 0);
    assert_true(info.memory_free_bytes <= info.memory_total_bytes);
    assert_true(info.peak_flops > 0 && isfinite(info.peak_flops));
    assert_string_equal(info.peak_source, "measured");
    assert_int_equal(info.storage_dtype, DTYPE_F32);
    device_close(&dev);
}

static void versions_are_printed_one_a_line(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    assert_non_null(out);
    device_print_versions(out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(strncmp(text, "compiler: ", 10), 0);
    assert_non_null(strstr(text, "\nCPU matrix products: "));
    assert_non_null(strstr(text, "\nCUDA: "));
    free(text);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void memory_is_aligned(void **state)
{
    (void)state;
    static const size_t N_BYTES[] = {0, 1, 1000, 9 << 20};
    Device dev;
    open_cpu(&dev, 1);
    for (size_t i = 0; i < sizeof(N_BYTES) / sizeof(N_BYTES[0]); i++) {
        void *memory = NULL;
        check_no_err(device_alloc(&dev, N_BYTES[i], &memory));
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 256, 0);
        device_free(&dev, memory);
    }
    device_close(&dev);
}

static void too_much_memory_is_refused_with_the_number(void **state)
{
    (void)state;
    Device dev;
    void *memory = &dev;
    open_cpu(&dev, 1);
    check_err(device_alloc(&dev, (size_t)1 << 60, &memory), ERR_SYSTEM, "1152921504606846976");
    assert_null(memory);
    device_close(&dev);
}

static void data_comes_back_as_it_went(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 1);
    float sent[3] = {1, 2, 3}, got[3] = {0}, a[3], b[3];
    Tensor ta = tensor_1d(a, DTYPE_F32, 3), tb = tensor_1d(b, DTYPE_F32, 3);
    device_upload(&dev, ta, sent);
    device_copy(&dev, tb, ta);
    device_zero(&dev, ta);
    device_download(&dev, got, tb);
    check_no_err(device_sync(&dev));
    assert_memory_equal(got, sent, sizeof(sent));
    assert_true(a[0] == 0 && a[1] == 0 && a[2] == 0);
    device_close(&dev);
}

static void workspace_grows_with_the_threads_of_the_cpu(void **state)
{
    (void)state;
    OpLimits limits = {.n_rows = 64, .block_size = 64, .n_embd = 64, .n_head = 2};
    limits.vocab_padded = 128;
    size_t one = ops_workspace_bytes(DEVICE_CPU, 1, &limits);
    assert_true(one > 0);
    assert_true(ops_workspace_bytes(DEVICE_CPU, 8, &limits) > one);
}

static void workspace_of_cuda_is_known_without_one(void **state)
{
    (void)state;
    OpLimits limits = {.n_rows = 65536, .block_size = 1024, .n_embd = 768, .n_head = 12};
    limits.vocab_padded = 50304;
    size_t bytes = ops_workspace_bytes(DEVICE_CUDA, 1, &limits);
    assert_true(bytes >= (size_t)32 << 20);
    assert_int_equal(bytes, ops_workspace_bytes(DEVICE_CUDA, 8, &limits));
}

/* ---- the sticky error -------------------------------------------------------------------- */

static void a_faulty_device_does_nothing_until_sync(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 1);
    float x[2] = {1, 2}, y[2] = {7, 8}, host[2] = {5, 6};
    Tensor tx = tensor_1d(x, DTYPE_F32, 2), ty = tensor_1d(y, DTYPE_F32, 2);
    dev.err = ERR_NEW(ERR_SYSTEM, "the device fell off the bus");
    op_gelu_forward(&dev, ty, tx, GELU_TANH);
    device_copy(&dev, ty, tx);
    device_zero(&dev, ty);
    device_upload(&dev, ty, host);
    device_download(&dev, host, tx);
    assert_true(y[0] == 7 && y[1] == 8 && host[0] == 5 && host[1] == 6);
    check_err(device_sync(&dev), ERR_SYSTEM, "the device fell off the bus");
    device_close(&dev);
}

static void after_sync_the_device_works_again(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 1);
    float y[2] = {7, 8};
    dev.err = ERR_NEW(ERR_SYSTEM, "once");
    check_err(device_sync(&dev), ERR_SYSTEM, "once");
    check_no_err(device_sync(&dev));
    device_zero(&dev, tensor_1d(y, DTYPE_F32, 2));
    assert_true(y[0] == 0 && y[1] == 0);
    device_close(&dev);
}

static void close_frees_an_error_nobody_took(void **state)
{
    (void)state; /* LeakSanitizer looks at this one */
    Device dev;
    open_cpu(&dev, 1);
    dev.err = ERR_NEW(ERR_SYSTEM, "nobody asks");
    device_close(&dev);
    assert_null(dev.err);
}

/* ---- the front end ----------------------------------------------------------------------- */

static void empty_parts_are_skipped(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 1);
    double total = 3;
    Tensor sum = tensor_1d(&total, DTYPE_F64, 1), none = tensor_none();
    op_add_sum(&dev, sum, none, 1);
    op_add_sum_squares(&dev, sum, none);
    op_convert(&dev, none, none);
    op_adamw(&dev, &(AdamwArgs){.step = 1});
    check_no_err(device_sync(&dev));
    assert_true(total == 3);
    device_close(&dev);
}

static void no_dropout_is_a_copy(void **state)
{
    (void)state;
    Device dev;
    open_cpu(&dev, 1);
    float x[4] = {1, 2, 3, 4}, y[4] = {0};
    op_dropout(&dev, tensor_2d(y, DTYPE_F32, 2, 2), tensor_2d(x, DTYPE_F32, 2, 2),
               (Dropout){.rate = 0});
    assert_memory_equal(y, x, sizeof(x));
    device_close(&dev);
}

/* Did `run` abort? In a child, whose last words are not shown. */
static bool aborts(void (*run)(Device *dev))
{
    Device dev;
    open_cpu(&dev, 1);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool silent = freopen("/dev/null", "w", stderr) != NULL;
        signal(SIGABRT, SIG_DFL);
        run(&dev);
        _exit(silent ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    device_close(&dev);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static float storage[64];

static void run_wrong_shape(Device *dev)
{
    op_linear_forward(dev, tensor_2d(storage, DTYPE_F32, 2, 3), tensor_2d(storage, DTYPE_F32, 2, 4),
                      tensor_2d(storage, DTYPE_F32, 3, 3), tensor_none());
}
static void run_wrong_dtype(Device *dev)
{
    op_gelu_forward(dev, tensor_1d(storage, DTYPE_BF16, 4), tensor_1d(storage, DTYPE_F32, 4),
                    GELU_TANH);
}
static void run_absent(Device *dev)
{
    op_gelu_forward(dev, tensor_1d(storage, DTYPE_F32, 4), tensor_none(), GELU_TANH);
}
static void run_heads_that_do_not_divide(Device *dev)
{
    op_attention_forward(dev, tensor_2d(storage, DTYPE_F32, 2, 4),
                         tensor_3d(storage, DTYPE_F32, 1, 3, 2),
                         tensor_2d(storage, DTYPE_F32, 2, 12), (Dropout){.rate = 0});
}
static void run_unknown_device(Device *dev)
{
    (void)dev;
    Device other;
    err_free(device_open(&other, &(DeviceArgs){.kind = (DeviceKind)7}));
}

static void our_mistakes_abort(void **state)
{
    (void)state;
    assert_true(aborts(run_wrong_shape));
    assert_true(aborts(run_wrong_dtype));
    assert_true(aborts(run_absent));
    assert_true(aborts(run_heads_that_do_not_divide));
    assert_true(aborts(run_unknown_device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_always_there),
        cmocka_unit_test(open_takes_the_threads_asked_for),
        cmocka_unit_test(open_takes_one_thread_unless_asked),
        cmocka_unit_test(a_missing_device_is_refused_with_the_reason),
        cmocka_unit_test(close_accepts_a_zero_initialised_device),
        cmocka_unit_test(info_describes_the_host),
        cmocka_unit_test(versions_are_printed_one_a_line),
        cmocka_unit_test(memory_is_aligned),
        cmocka_unit_test(too_much_memory_is_refused_with_the_number),
        cmocka_unit_test(data_comes_back_as_it_went),
        cmocka_unit_test(workspace_grows_with_the_threads_of_the_cpu),
        cmocka_unit_test(workspace_of_cuda_is_known_without_one),
        cmocka_unit_test(a_faulty_device_does_nothing_until_sync),
        cmocka_unit_test(after_sync_the_device_works_again),
        cmocka_unit_test(close_frees_an_error_nobody_took),
        cmocka_unit_test(empty_parts_are_skipped),
        cmocka_unit_test(no_dropout_is_a_copy),
        cmocka_unit_test(our_mistakes_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
