/* What CUDA's status codes become: one line of an Err, or the device's sticky error. */
#include "kernels/cuda/cuda_device.h"
#include "tests/support/check_err.h"

static void open_gpu(Device *dev)
{
    check_no_err(device_open(dev, &(DeviceArgs){.kind = DEVICE_CUDA}));
}

static void success_is_no_error(void **state)
{
    (void)state;
    Device dev = {0};
    assert_null(cuda_err(cudaSuccess, "anything"));
    assert_true(cuda_ok(&dev, cudaSuccess, "anything"));
    assert_null(dev.err);
}

static void a_fault_says_what_failed_and_how(void **state)
{
    (void)state;
    Err err = cuda_err(cudaErrorInvalidValue, "copy");
    assert_null(strstr(err_message(err), "lost"));
    check_err(err, ERR_SYSTEM, "copy: cudaErrorInvalidValue (");
}

static void a_lost_gpu_is_called_so(void **state)
{
    (void)state;
    check_err(cuda_err(cudaErrorIllegalAddress, "waiting"), ERR_SYSTEM,
              "; this process has lost the GPU");
    check_err(cuda_err(cudaErrorLaunchFailure, "waiting"), ERR_SYSTEM,
              "; this process has lost the GPU");
}

static void the_first_fault_is_the_one_kept(void **state)
{
    (void)state;
    Device dev = {0};
    assert_false(cuda_ok(&dev, cudaErrorInvalidValue, "first"));
    assert_false(cuda_ok(&dev, cudaErrorIllegalAddress, "second"));
    cuda_refuse_dtype(&dev, DTYPE_F64);
    check_err(dev.err, ERR_SYSTEM, "first: ");
}

static void a_dtype_without_a_kernel_is_named(void **state)
{
    (void)state;
    Device dev = {0};
    cuda_refuse_dtype(&dev, DTYPE_F64);
    check_err(dev.err, ERR_SYSTEM, dtype_name(DTYPE_F64));
}

/* A failed call must not be found again by the launch that follows. */
static void a_reported_fault_does_not_come_back(void **state)
{
    (void)state;
    Device dev;
    void *memory = NULL;
    open_gpu(&dev);
    check_err(device_alloc(&dev, (size_t)1 << 60, &memory), ERR_SYSTEM, "not enough memory on GPU");
    cuda_launched(&dev, "a kernel");
    assert_null(dev.err);
    assert_false(cuda_ok(&dev, cudaMemsetAsync(NULL, 0, 64, cuda_device(&dev)->stream), "zero"));
    check_err(device_sync(&dev), ERR_SYSTEM, "zero: ");
    cuda_launched(&dev, "a kernel");
    check_no_err(device_sync(&dev));
    device_close(&dev);
}

static void a_failed_launch_names_its_kernel(void **state)
{
    (void)state;
    Device dev;
    open_gpu(&dev);
    (void)cudaMemsetAsync(NULL, 0, 64, cuda_device(&dev)->stream); /* leaves a fault behind */
    cuda_launched(&dev, "some kernel");
    check_err(device_sync(&dev), ERR_SYSTEM, "some kernel: cudaErrorInvalidValue (");
    device_close(&dev);
}

int main(void)
{
    const char *reason = "";
    const struct CMUnitTest anywhere[] = {
        cmocka_unit_test(success_is_no_error),
        cmocka_unit_test(a_fault_says_what_failed_and_how),
        cmocka_unit_test(a_lost_gpu_is_called_so),
        cmocka_unit_test(the_first_fault_is_the_one_kept),
        cmocka_unit_test(a_dtype_without_a_kernel_is_named),
    };
    const struct CMUnitTest on_gpu[] = {
        cmocka_unit_test(a_reported_fault_does_not_come_back),
        cmocka_unit_test(a_failed_launch_names_its_kernel),
    };
    int n_failed = cmocka_run_group_tests_name("faults", anywhere, NULL, NULL);
    if (device_available(DEVICE_CUDA, &reason))
        return n_failed + cmocka_run_group_tests_name("faults on a GPU", on_gpu, NULL, NULL);
    printf("skipped: faults on a GPU: %s\n", reason);
    return n_failed;
}
