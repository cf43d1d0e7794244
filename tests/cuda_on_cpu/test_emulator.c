/* Does the emulation catch what it is there for? Kernels with mistakes, streams without events, and
 * host memory used too early, in every order. */
#include "tests/cuda_on_cpu/emulator_kernels.h"
#include "tests/cuda_on_cpu/fake_stream.h"
#include "tests/support/close.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK_CUDA(call) assert_int_equal((call), cudaSuccess)

static const char *const THREAD_ORDERS[] = {"0", "1", "2", "3"};
static const char *const STREAM_ORDERS[] = {"late", "early", "alternate", "eager"};
enum { N_ORDERS = 4 };

typedef struct {
    cudaStream_t a, b;
    float *in, *out; /* on the device, (KERNEL_FLOATS) */
    float host[KERNEL_FLOATS];
} Fixture;

static int setup(void **state)
{
    Fixture *fx = calloc(1, sizeof *fx);
    assert_non_null(fx);
    OK_CUDA(cudaStreamCreateWithFlags(&fx->a, cudaStreamNonBlocking));
    OK_CUDA(cudaStreamCreateWithFlags(&fx->b, cudaStreamNonBlocking));
    OK_CUDA(cudaMalloc((void **)&fx->in, sizeof fx->host));
    OK_CUDA(cudaMalloc((void **)&fx->out, sizeof fx->host));
    for (int i = 0; i < KERNEL_FLOATS; i++)
        fx->host[i] = (float)i;
    OK_CUDA(cudaMemcpy(fx->in, fx->host, sizeof fx->host, cudaMemcpyHostToDevice));
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    Fixture *fx = *state;
    unsetenv("GPT_EMU_ORDER");
    unsetenv("GPT_EMU_STREAMS");
    OK_CUDA(cudaFree(fx->in));
    OK_CUDA(cudaFree(fx->out));
    OK_CUDA(cudaStreamDestroy(fx->a));
    OK_CUDA(cudaStreamDestroy(fx->b));
    free(fx);
    return 0;
}

static void run_kernel(Fixture *fx, EmulatorKernel kernel)
{
    emulator_launch(kernel, fx->out, fx->in, fx->a);
    OK_CUDA(cudaGetLastError());
    OK_CUDA(cudaMemcpyAsync(fx->host, fx->out, sizeof fx->host, cudaMemcpyDeviceToHost, fx->a));
    OK_CUDA(cudaStreamSynchronize(fx->a));
}

/* ---- mistakes that end the program -------------------------------------------------------------
 */

typedef void Action(Fixture *fx, int arg);

/* Run the action in a child; true when that is killed. What it said is in `said`. */
static bool dies(Fixture *fx, Action *action, int arg, char *said, size_t n_bytes)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka has handlers */
        signal(SIGSEGV, SIG_DFL);
        dup2(fd[1], STDERR_FILENO);
        action(fx, arg);
        _exit(0);
    }
    close(fd[1]);
    size_t n = 0;
    for (ssize_t got; n + 1 < n_bytes && (got = read(fd[0], said + n, n_bytes - 1 - n)) > 0;)
        n += (size_t)got;
    said[n] = '\0';
    close(fd[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void run_kernel_action(Fixture *fx, int kernel)
{
    run_kernel(fx, (EmulatorKernel)kernel);
}

static void mistakes_are_reported_in_every_order(void **state)
{
    static const char *const WANTED[N_FATAL] = {
        [BARRIER_LEFT_OUT_BY_A_WARP] = "__syncthreads",
        [BARRIER_AFTER_OTHERS_ENDED] = "__syncthreads",
        [BARRIERS_OF_TWO_BRANCHES] = "others wait at line",
        [SHUFFLE_BY_HALF_A_WARP] = "while its warp waits",
        [SHUFFLE_AGAINST_SYNCWARP] = "other lanes wait in",
        [BARRIER_AGAINST_SYNCWARP] = "deadlock",
        [COPY_NOT_WAITED_FOR] = "cp.async that was not waited for",
        [COPY_NOT_ALIGNED] = "not 16-byte aligned",
        [LDMATRIX_OF_GLOBAL_MEMORY] = "not in shared memory",
        [DYNAMIC_SHARED_NOT_ASKED_FOR] = "asked for no bytes",
        [SHARED_BEYOND_48_KIB] = "49168 bytes of shared memory, 16 of them asked for",
        [WRITE_FAR_OUTSIDE] = "",
    };
    char said[4096];
    for (int kernel = 0; kernel < N_FATAL; kernel++)
        for (int order = 0; order < N_ORDERS; order++) {
            setenv("GPT_EMU_ORDER", THREAD_ORDERS[order], 1);
            if (!dies(*state, run_kernel_action, kernel, said, sizeof said))
                fail_msg("kernel %d in order %d ends as if it were right", kernel, order);
            /* A thread that ends first meets the others' wait from the other side. */
            bool other_side = kernel == SHUFFLE_BY_HALF_A_WARP && strstr(said, "deadlock");
            if (!strstr(said, WANTED[kernel]) && !other_side)
                fail_msg("kernel %d in order %d: wanted \"%s\" in: %s", kernel, order,
                         WANTED[kernel], said);
        }
}

static void a_report_names_kernel_block_thread_and_lines(void **state)
{
    char said[4096];
    assert_true(dies(*state, run_kernel_action, BARRIER_AGAINST_SYNCWARP, said, sizeof said));
    assert_non_null(strstr(said, "block (0,0,0)"));
    assert_non_null(strstr(said, "warp 1: lanes 00000020 wait in __syncthreads at line"));
    assert_non_null(strstr(said, "warp 1: lanes ffffffdf wait in __syncwarp at line"));
}

static void touch_device_memory(Fixture *fx, int arg)
{
    *(volatile float *)fx->in = (float)arg;
}

static void the_host_cannot_touch_device_memory(void **state)
{
    char said[4096];
    if (!fake_memory_is_closed())
        skip();
    assert_true(dies(*state, touch_device_memory, 1, said, sizeof said));
}

/* ---- mistakes that give wrong values
 * ------------------------------------------------------------- */

/* ThreadSanitizer reports the kernel; in a child, whose report does not fail this test. */
static void check_race(Fixture *fx, EmulatorKernel kernel)
{
    char said[4096];
    dies(fx, run_kernel_action, kernel, said, sizeof said);
    if (!strstr(said, "data race"))
        fail_msg("kernel %d has a race that is not seen", (int)kernel);
}

static bool is_reversed(const float *x)
{
    for (int i = 0; i < KERNEL_FLOATS; i++) {
        int block = i / KERNEL_THREADS * KERNEL_THREADS;
        if (x[i] != (float)(2 * block + KERNEL_THREADS - 1 - i))
            return false;
    }
    return true;
}

static void barriers_matter_in_every_order(void **state)
{
    Fixture *fx = *state;
    for (int order = 0; order < N_ORDERS; order++) {
        setenv("GPT_EMU_ORDER", THREAD_ORDERS[order], 1);
        run_kernel(fx, REVERSE_BLOCKS);
        assert_true(is_reversed(fx->host));
        if (fake_sees_races()) {
            check_race(fx, BARRIER_MISSING);
        } else {
            run_kernel(fx, BARRIER_MISSING);
            assert_false(is_reversed(fx->host));
        }
    }
}

static void shared_memory_begins_as_nan(void **state)
{
    Fixture *fx = *state;
    run_kernel(fx, SHARED_NOT_WRITTEN);
    for (int i = 0; i < KERNEL_FLOATS; i++)
        assert_true(isnan(fx->host[i]));
}

static void a_copy_arrives_when_it_is_waited_for(void **state)
{
    Fixture *fx = *state;
    run_kernel(fx, COPY_READ_TOO_EARLY);
    for (int i = 0; i < KERNEL_FLOATS; i++)
        assert_true(isnan(fx->host[i]));
}

static void blocks_have_no_fixed_order(void **state)
{
    Fixture *fx = *state;
    OK_CUDA(cudaMemset(fx->out, 0, sizeof fx->host));
    OK_CUDA(cudaDeviceSynchronize());
    if (fake_sees_races()) {
        check_race(fx, BLOCKS_DEPEND);
        return;
    }
    setenv("GPT_EMU_ORDER", "1", 1);
    run_kernel(fx, BLOCKS_DEPEND);
    assert_true(fx->host[KERNEL_FLOATS - 1] == 1);
    setenv("GPT_EMU_ORDER", "0", 1);
    run_kernel(fx, BLOCKS_DEPEND);
    assert_true(fx->host[KERNEL_FLOATS - 1] == KERNEL_BLOCKS);
}

static void impossible_launches_are_refused(void **state)
{
    Fixture *fx = *state;
    emulator_launch_shape(0, 32, 0, fx->a);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    emulator_launch_shape(1, 2048, 0, fx->a);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    emulator_launch_shape(1, 32, 100 << 20, fx->a);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    emulator_launch_shape(1, 32, 48 << 10, fx->a);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

/* ---- streams
 * ------------------------------------------------------------------------------------- */

/* Stream a writes zeros over ones, b reads them, with or without an event between. */
static float read_by_other_stream(Fixture *fx, bool with_event)
{
    float got = -1, one = 1;
    OK_CUDA(cudaMemcpy(fx->out, &one, sizeof one, cudaMemcpyHostToDevice));
    OK_CUDA(cudaMemsetAsync(fx->out, 0, sizeof one, fx->a));
    if (with_event) {
        cudaEvent_t event;
        OK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        OK_CUDA(cudaEventRecord(event, fx->a));
        OK_CUDA(cudaStreamWaitEvent(fx->b, event, 0));
        OK_CUDA(cudaEventDestroy(event)); /* may be destroyed while waited for */
    }
    OK_CUDA(cudaMemcpyAsync(&got, fx->out, sizeof got, cudaMemcpyDeviceToHost, fx->b));
    OK_CUDA(cudaStreamSynchronize(fx->b));
    OK_CUDA(cudaDeviceSynchronize());
    return got;
}

static void events_order_streams_and_nothing_else_does(void **state)
{
    bool stale = false, fresh = false;
    for (int order = 0; order < N_ORDERS; order++) {
        setenv("GPT_EMU_STREAMS", STREAM_ORDERS[order], 1);
        assert_true(read_by_other_stream(*state, true) == 0);
        float got = read_by_other_stream(*state, false);
        stale |= got == 1;
        fresh |= got == 0;
    }
    assert_true(stale);
    assert_true(fresh);
}

static void an_event_waits_for_what_was_queued_before_it_only(void **state)
{
    Fixture *fx = *state;
    float first = -1, second = -1;
    cudaEvent_t event;
    OK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    OK_CUDA(cudaMemcpyAsync(&first, fx->in + 1, sizeof first, cudaMemcpyDeviceToHost, fx->a));
    OK_CUDA(cudaEventRecord(event, fx->a));
    OK_CUDA(cudaMemcpyAsync(&second, fx->in + 2, sizeof second, cudaMemcpyDeviceToHost, fx->a));
    assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    OK_CUDA(cudaEventSynchronize(event));
    assert_true(first == 1);
    assert_true(second == -1);
    OK_CUDA(cudaStreamSynchronize(fx->a));
    assert_true(second == 2);
    OK_CUDA(cudaEventDestroy(event));
}

/* Pinned memory belongs to the device until the copy is through. */
static void a_copy_reads_the_host_when_it_runs(void **state)
{
    Fixture *fx = *state;
    float host = 3, got = 0;
    OK_CUDA(cudaMemcpyAsync(fx->out, &host, sizeof host, cudaMemcpyHostToDevice, fx->a));
    host = 4;
    OK_CUDA(cudaMemcpyAsync(&got, fx->out, sizeof got, cudaMemcpyDeviceToHost, fx->a));
    OK_CUDA(cudaStreamSynchronize(fx->a));
    assert_true(got == 4);
    setenv("GPT_EMU_STREAMS", "eager", 1);
    OK_CUDA(cudaMemcpyAsync(fx->out, &host, sizeof host, cudaMemcpyHostToDevice, fx->a));
    host = 5;
    OK_CUDA(cudaMemcpyAsync(&got, fx->out, sizeof got, cudaMemcpyDeviceToHost, fx->a));
    OK_CUDA(cudaStreamSynchronize(fx->a));
    assert_true(got == 4);
}

static void copies_outside_a_block_are_refused(void **state)
{
    Fixture *fx = *state;
    cudaStream_t s = fx->a;
    size_t n = sizeof fx->host;
    assert_int_equal(cudaMemcpyAsync(fx->out + 1, fx->host, n, cudaMemcpyHostToDevice, s),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(fx->host, fx->out - 1, 4, cudaMemcpyDeviceToHost, s),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(fx->host, fx->host, 4, cudaMemcpyHostToDevice, s),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(fx->out, 0, n + 1, s), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
}

static double elapsed_ms(Fixture *fx)
{
    cudaEvent_t begin, end;
    float ms = -1;
    OK_CUDA(cudaEventCreate(&begin));
    OK_CUDA(cudaEventCreate(&end));
    OK_CUDA(cudaEventRecord(begin, fx->a));
    emulator_launch(REVERSE_BLOCKS, fx->out, fx->in, fx->a);
    OK_CUDA(cudaEventRecord(end, fx->a));
    OK_CUDA(cudaEventSynchronize(end));
    OK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    OK_CUDA(cudaEventDestroy(begin));
    OK_CUDA(cudaEventDestroy(end));
    return (double)ms;
}

static void times_repeat(void **state)
{
    double first = elapsed_ms(*state), again = elapsed_ms(*state);
    assert_true(first > 0);
    assert_true(fabs(first - again) < 1e-6);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(mistakes_are_reported_in_every_order),
        TEST(a_report_names_kernel_block_thread_and_lines),
        TEST(the_host_cannot_touch_device_memory),
        TEST(barriers_matter_in_every_order),
        TEST(shared_memory_begins_as_nan),
        TEST(a_copy_arrives_when_it_is_waited_for),
        TEST(blocks_have_no_fixed_order),
        TEST(impossible_launches_are_refused),
        TEST(events_order_streams_and_nothing_else_does),
        TEST(an_event_waits_for_what_was_queued_before_it_only),
        TEST(a_copy_reads_the_host_when_it_runs),
        TEST(copies_outside_a_block_are_refused),
        TEST(times_repeat),
    };
    return cmocka_run_group_tests_name("emulator", tests, NULL, NULL);
}
