/* The main of a suite of the CUDA backend's insides: its tests (made with OP_TEST) run once, on the
 * GPU, where they choose their dtypes themselves; without a GPU the suite says so and passes. */
#ifndef GPT_TESTS_CUDA_SUITE_H
#define GPT_TESTS_CUDA_SUITE_H

#include "tests/support/op_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUDA_SUITE(name, tests) cuda_suite((name), (tests), sizeof(tests) / sizeof *(tests))

static inline int cuda_suite_setup(void **state)
{
    static const OpVariant CUDA = {"cuda", DEVICE_CUDA, DTYPE_F32, {1, 1, 1}};
    *state = (void *)(uintptr_t)&CUDA;
    return 0;
}

static inline int cuda_suite(const char *name, const struct CMUnitTest *tests, size_t n_tests)
{
    const char *reason = "";
    if (!device_available(DEVICE_CUDA, &reason)) {
        printf("skipped: %s: %s\n", name, reason);
        return 0;
    }
    return _cmocka_run_group_tests(name, tests, n_tests, cuda_suite_setup, NULL);
}

#endif
