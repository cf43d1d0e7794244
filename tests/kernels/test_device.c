/* The device and the front end of the ops: opening, memory, the sticky error, checks. What ops
 * compute is tested in test_ops_*.c. Tests of what every device must do run on each kind that is
 * here: *state is the DeviceKind. */
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

/* The device a test was called for. */
static void open_kind(Device *dev, void **state)
{
    check_no_err(device_open(dev, &(DeviceArgs){.kind = *(const DeviceKind *)*state}));
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
    assert_int_equal(info.host_free_bytes, info.memory_free_bytes);
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
    static const size_t N_BYTES[] = {0, 1, 1000, 9 << 20};
    Device dev;
    open_kind(&dev, state);
    for (size_t i = 0; i < sizeof(N_BYTES) / sizeof(N_BYTES[0]); i++) {
        void *memory = NULL;
        check_no_err(device_alloc(&dev, N_BYTES[i], &memory));
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 256, 0);
        device_free(&dev, memory);
    }
    check_no_err(device_sync(&dev));
    device_close(&dev);
}

/* What a run looks at to know that it allocates nothing after its start. */
static void allocations_are_counted(void **state)
{
    Device dev;
    void *memory[2];
    open_kind(&dev, state);
    int64_t before = dev.n_allocations;
    check_no_err(device_alloc(&dev, 1000, &memory[0]));
    check_no_err(device_alloc_host(&dev, 1000, &memory[1]));
    device_free(&dev, memory[0]);
    device_free_host(&dev, memory[1]);
    assert_int_equal(dev.n_allocations, before + 2);
    device_close(&dev);
}

static void too_much_memory_is_refused_with_the_number(void **state)
{
    Device dev;
    void *memory = &dev;
    open_kind(&dev, state);
    check_err(device_alloc(&dev, (size_t)1 << 60, &memory), ERR_SYSTEM, "1152921504606846976");
    assert_null(memory);
    check_no_err(device_alloc(&dev, 1000, &memory)); /* and nothing else is wrong */
    device_free(&dev, memory);
    check_no_err(device_sync(&dev));
    device_close(&dev);
}

/* n floats on the device. */
static Tensor floats(Device *dev, int64_t n)
{
    Tensor t = tensor_1d(NULL, DTYPE_F32, n);
    check_no_err(device_alloc(dev, tensor_bytes(t), &t.data));
    return t;
}

/* The device's values are these. */
static void check_floats(Device *dev, Tensor t, const float *wanted)
{
    float *got = malloc(tensor_bytes(t));
    assert_non_null(got);
    device_download(dev, got, t);
    check_no_err(device_sync(dev));
    assert_memory_equal(got, wanted, tensor_bytes(t));
    free(got);
}

static void copies_happen_in_the_order_of_their_calls(void **state)
{
    enum { N = 70001 };
    static float first[N], second[N], zeros[N], got[3][N];
    Device dev;
    open_kind(&dev, state);
    Tensor a = floats(&dev, N), b = floats(&dev, N);
    for (int i = 0; i < N; i++) {
        first[i] = (float)i;
        second[i] = (float)-i;
    }
    device_upload(&dev, a, first);
    device_copy(&dev, b, a);
    device_upload(&dev, a, second);
    device_download(&dev, got[0], a);
    device_zero(&dev, a);
    device_download(&dev, got[1], a);
    device_download(&dev, got[2], b);
    check_no_err(device_sync(&dev));
    assert_memory_equal(got[0], second, sizeof(second));
    assert_memory_equal(got[1], zeros, sizeof(zeros));
    assert_memory_equal(got[2], first, sizeof(first));
    device_free(&dev, a.data);
    device_free(&dev, b.data);
    device_close(&dev);
}

static void part_of_a_tensor_is_zeroed_alone(void **state)
{
    static const float SENT[] = {1, 2, 3, 4, 5}, WANTED[] = {1, 2, 0, 0, 5};
    Device dev;
    open_kind(&dev, state);
    Tensor t = floats(&dev, 5);
    device_upload(&dev, t, SENT);
    device_zero(&dev, tensor_range(t, 2, 2));
    check_floats(&dev, t, WANTED);
    device_free(&dev, t.data);
    device_close(&dev);
}

static void host_memory_takes_part_in_copies(void **state)
{
    enum { N = 1000 };
    Device dev;
    void *sent = NULL, *got = NULL;
    open_kind(&dev, state);
    check_no_err(device_alloc_host(&dev, N * sizeof(float), &sent));
    check_no_err(device_alloc_host(&dev, N * sizeof(float), &got));
    Tensor t = floats(&dev, N);
    for (int i = 0; i < N; i++)
        ((float *)sent)[i] = (float)i / 8;
    device_upload(&dev, t, sent);
    device_download(&dev, got, t);
    check_no_err(device_sync(&dev));
    assert_memory_equal(got, sent, N * sizeof(float));
    device_free(&dev, t.data);
    device_free_host(&dev, sent);
    device_free_host(&dev, got);
    check_no_err(device_sync(&dev));
    device_close(&dev);
}

static float *host_floats(Device *dev, int64_t n)
{
    void *memory = NULL;
    check_no_err(device_alloc_host(dev, (size_t)n * sizeof(float), &memory));
    return memory;
}

/* Two buffers take turns: what comes in is added up, and each sum goes out. */
static void copies_beside_the_work_keep_the_order_asked_for(void **state)
{
    enum { N = 1000, ROUNDS = 9 };
    Device dev;
    open_kind(&dev, state);
    float *in = host_floats(&dev, N * ROUNDS), *out = host_floats(&dev, N * ROUNDS);
    Tensor sum = floats(&dev, N), buffer[2] = {floats(&dev, N), floats(&dev, N)};
    for (int i = 0; i < N * ROUNDS; i++)
        in[i] = (float)(i % 77);
    device_zero(&dev, sum);
    device_copy_in(&dev, buffer[0], in);
    for (int r = 0; r < ROUNDS; r++) {
        device_order(&dev, QUEUE_WORK, QUEUE_IN);
        op_add(&dev, sum, buffer[r % 2]);
        device_copy(&dev, buffer[r % 2], sum);
        if (r + 1 < ROUNDS) {
            device_order(&dev, QUEUE_IN, QUEUE_OUT);
            device_copy_in(&dev, buffer[(r + 1) % 2], in + (r + 1) * N);
        }
        device_order(&dev, QUEUE_OUT, QUEUE_WORK);
        device_copy_out(&dev, out + r * N, buffer[r % 2]);
    }
    device_order(&dev, QUEUE_WORK, QUEUE_OUT);
    check_no_err(device_sync(&dev));
    for (int i = 0; i < N; i++)
        for (float r = 0, wanted = 0; r < ROUNDS; r++) {
            wanted += in[(int)r * N + i];
            assert_true(out[(int)r * N + i] == wanted);
        }
    device_free_host(&dev, in);
    device_free_host(&dev, out);
    device_free(&dev, sum.data);
    device_free(&dev, buffer[0].data);
    device_free(&dev, buffer[1].data);
    device_close(&dev);
}

static void two_devices_of_a_process_share_memory(void **state)
{
    static const float SENT[] = {3, 1, 4};
    Device dev, other;
    open_kind(&dev, state);
    open_kind(&other, state);
    Tensor t = floats(&dev, 3);
    device_upload(&dev, t, SENT);
    check_no_err(device_sync(&dev));
    check_floats(&other, t, SENT);
    device_close(&other);
    check_floats(&dev, t, SENT);
    device_free(&dev, t.data);
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
    static const float X[] = {1, 2}, Y[] = {7, 8};
    Device dev;
    open_kind(&dev, state);
    float host[] = {5, 6};
    Tensor x = floats(&dev, 2), y = floats(&dev, 2);
    device_upload(&dev, x, X);
    device_upload(&dev, y, Y);
    check_no_err(device_sync(&dev));
    dev.err = ERR_NEW(ERR_SYSTEM, "the device fell off the bus");
    op_gelu_forward(&dev, y, x, GELU_TANH);
    device_copy(&dev, y, x);
    device_zero(&dev, y);
    device_upload(&dev, y, host);
    device_download(&dev, host, x);
    device_copy_in(&dev, y, host);
    device_copy_out(&dev, host, x);
    device_order(&dev, QUEUE_WORK, QUEUE_OUT);
    check_err(device_sync(&dev), ERR_SYSTEM, "the device fell off the bus");
    assert_true(host[0] == 5 && host[1] == 6);
    check_floats(&dev, y, Y);
    device_free(&dev, x.data);
    device_free(&dev, y.data);
    device_close(&dev);
}

static void after_sync_the_device_works_again(void **state)
{
    static const float Y[] = {7, 8}, ZEROS[] = {0, 0};
    Device dev;
    open_kind(&dev, state);
    Tensor y = floats(&dev, 2);
    device_upload(&dev, y, Y);
    dev.err = ERR_NEW(ERR_SYSTEM, "once");
    check_err(device_sync(&dev), ERR_SYSTEM, "once");
    check_no_err(device_sync(&dev));
    device_zero(&dev, y);
    check_floats(&dev, y, ZEROS);
    device_free(&dev, y.data);
    device_close(&dev);
}

static void close_frees_an_error_nobody_took(void **state)
{
    Device dev; /* LeakSanitizer looks at this one */
    open_kind(&dev, state);
    dev.err = ERR_NEW(ERR_SYSTEM, "nobody asks");
    device_close(&dev);
    assert_null(dev.err);
}

static void empty_parts_are_skipped(void **state)
{
    Device dev;
    open_kind(&dev, state);
    double sent = 3, got = 0;
    Tensor sum = tensor_1d(NULL, DTYPE_F64, 1), none = tensor_none();
    check_no_err(device_alloc(&dev, tensor_bytes(sum), &sum.data));
    device_upload(&dev, sum, &sent);
    op_add_sum(&dev, sum, none, 1);
    op_add_sum_squares(&dev, sum, none);
    op_convert(&dev, none, none);
    op_adamw(&dev, &(AdamwArgs){.step = 1});
    device_download(&dev, &got, sum);
    check_no_err(device_sync(&dev));
    assert_true(got == 3);
    device_free(&dev, sum.data);
    device_close(&dev);
}

/* ---- a GPU ------------------------------------------------------------------------------- */

static void open_gpu(Device *dev, int32_t local_rank)
{
    check_no_err(device_open(dev, &(DeviceArgs){.kind = DEVICE_CUDA, .local_rank = local_rank}));
}

static void info_describes_the_gpu(void **state)
{
    (void)state;
    Device dev;
    DeviceInfo info;
    open_gpu(&dev, 0);
    check_no_err(device_info(&dev, &info));
    assert_true(strlen(info.name) > 0 && strlen(info.peak_source) > 0);
    assert_true(info.memory_free_bytes > 0);
    assert_true(info.memory_free_bytes <= info.memory_total_bytes);
    assert_true(info.compute_capability >= 75);
    assert_int_equal(info.storage_dtype, info.compute_capability < 80 ? DTYPE_F16 : DTYPE_BF16);
    assert_true(info.peak_flops >= 0 && isfinite(info.peak_flops));
    assert_true(strncmp(info.id, "GPU-", 4) == 0 && strlen(info.id) == 40);
    assert_true(info.id[12] == '-' && info.id[17] == '-' && info.id[22] == '-');
    assert_int_equal(strspn(info.id + 4, "0123456789abcdef-"), 36);
    assert_false(device_is_host(&dev));
    device_close(&dev);
}

static void what_is_allocated_is_no_longer_free(void **state)
{
    (void)state;
    enum { N_BYTES = 64 << 20 };
    Device dev;
    DeviceInfo before, after;
    void *memory = NULL;
    open_gpu(&dev, 0);
    check_no_err(device_info(&dev, &before));
    check_no_err(device_alloc(&dev, N_BYTES, &memory));
    check_no_err(device_info(&dev, &after));
    assert_true(after.memory_free_bytes + N_BYTES <= before.memory_free_bytes);
    device_free(&dev, memory);
    device_close(&dev);
}

static void more_ranks_than_gpus_start_again_at_the_first(void **state)
{
    (void)state;
    DeviceInfo first, info;
    bool again = false;
    for (int32_t rank = 0; rank <= 64 && !again; rank++) {
        Device dev;
        open_gpu(&dev, rank);
        check_no_err(device_info(&dev, rank == 0 ? &first : &info));
        again = rank > 0 && strcmp(info.id, first.id) == 0;
        device_close(&dev);
    }
    assert_true(again);
}

static void a_failed_call_is_kept_with_its_name(void **state)
{
    (void)state;
    Device dev;
    open_gpu(&dev, 0);
    Tensor y = floats(&dev, 2);
    device_zero(&dev, tensor_1d(NULL, DTYPE_F32, 2));
    assert_non_null(dev.err);
    device_zero(&dev, y);
    check_err(device_sync(&dev), ERR_SYSTEM, "zero: cudaErrorInvalidValue (");
    device_zero(&dev, y);
    check_no_err(device_sync(&dev));
    device_free(&dev, y.data);
    device_close(&dev);
}

/* ---- the front end ----------------------------------------------------------------------- */

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

/* The tests of every device, on one kind of it. */
static int run_on(DeviceKind kind)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned),
        cmocka_unit_test(allocations_are_counted),
        cmocka_unit_test(too_much_memory_is_refused_with_the_number),
        cmocka_unit_test(copies_happen_in_the_order_of_their_calls),
        cmocka_unit_test(part_of_a_tensor_is_zeroed_alone),
        cmocka_unit_test(host_memory_takes_part_in_copies),
        cmocka_unit_test(copies_beside_the_work_keep_the_order_asked_for),
        cmocka_unit_test(two_devices_of_a_process_share_memory),
        cmocka_unit_test(a_faulty_device_does_nothing_until_sync),
        cmocka_unit_test(after_sync_the_device_works_again),
        cmocka_unit_test(close_frees_an_error_nobody_took),
        cmocka_unit_test(empty_parts_are_skipped),
    };
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tests[i].initial_state = &kind;
    return _cmocka_run_group_tests(device_kind_name(kind), tests, sizeof(tests) / sizeof(tests[0]),
                                   NULL, NULL);
}

static int run_gpu_tests(void)
{
    const char *reason = "";
    if (!device_available(DEVICE_CUDA, &reason)) {
        printf("skipped: device on cuda: %s\n", reason);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_describes_the_gpu),
        cmocka_unit_test(what_is_allocated_is_no_longer_free),
        cmocka_unit_test(more_ranks_than_gpus_start_again_at_the_first),
        cmocka_unit_test(a_failed_call_is_kept_with_its_name),
    };
    return run_on(DEVICE_CUDA) + cmocka_run_group_tests_name("GPU", tests, NULL, NULL);
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
        cmocka_unit_test(workspace_grows_with_the_threads_of_the_cpu),
        cmocka_unit_test(workspace_of_cuda_is_known_without_one),
        cmocka_unit_test(no_dropout_is_a_copy),
        cmocka_unit_test(our_mistakes_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) + run_on(DEVICE_CPU) + run_gpu_tests();
}
