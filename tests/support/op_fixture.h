/* OpFixture: a device for one test, its tensors with twins on the host, and the op suites' main.
 *
 * A suite is written once and run for every kind of device that is there: OP_SUITE(name, tests) in
 * main. A test gets its OpFixture as *state. Memory made by the fixture is guarded on both sides by
 * NaNs: an op that reads outside gives NaN, one that writes outside fails the test at its end. The
 * workspace is exactly as long as ops_workspace_bytes promises. */
#ifndef GPT_TESTS_OP_FIXTURE_H
#define GPT_TESTS_OP_FIXTURE_H

#include "kernels/ops.h"
#include "tests/support/close.h"

enum { OP_MAX_MEMORIES = 1024 };

typedef struct {
    void *memory; /* on the device: guard, n_bytes, guard */
    size_t n_bytes;
} GuardedMemory;

enum { OP_MAX_REPEATS = 4 };

/* What a suite runs on. */
typedef struct {
    const char *name; /* "cuda-bf16": for GPT_OP_VARIANT */
    DeviceKind kind;
    DType dtype;
    int32_t repeats[OP_MAX_REPEATS]; /* threads of the runs whose bits are compared; 0 ends them */
} OpVariant;

typedef struct {
    const OpVariant *variant;
    Device dev;
    DType dtype; /* of parameters and activations: what the device computes in */
    OpLimits limits;
    Tensor scratch; /* the newest workspace */
    int32_t n_memories, n_arrays;
    GuardedMemory memory[OP_MAX_MEMORIES];
    double *array[OP_MAX_MEMORIES]; /* on the host */
    uint64_t n_random;              /* random twins made: each has its own stream */
} OpFixture;

/* A tensor on the device and the values it has, or should get, on the host. */
typedef struct {
    Tensor t;
    double *ref; /* (count); NULL for an absent one */
} Twin;

/* ---- making; all is freed at the end of the test ----------------------------------------- */

double *op_array(OpFixture *fx, int64_t n); /* zeros, on the host */
Twin twin_filled(OpFixture *fx, DType dtype, int64_t rows, int64_t cols, double value);
/* NaN everywhere: for outputs that are "=". */
Twin twin_garbage(OpFixture *fx, DType dtype, int64_t rows, int64_t cols);
/* N(0, stddev^2), rounded to dtype on both sides. */
Twin twin_normal(OpFixture *fx, DType dtype, int64_t rows, int64_t cols, double stddev);
/* Uniform integers in [0, n), i32. */
Twin twin_below(OpFixture *fx, int64_t rows, int64_t cols, int64_t n);
Twin twin_copy(OpFixture *fx, Twin other);
/* A copy one element past an aligned address, where no device can load several at a time. */
Twin twin_unaligned(OpFixture *fx, Twin other);
Twin twin_none(void);

/* Scratch for ops within these limits. Before this call an op has none. */
void op_workspace(OpFixture *fx, OpLimits limits);

/* ---- moving and comparing ---------------------------------------------------------------- */

/* ref to the device; ref is rounded to what the dtype holds. */
void twin_push(OpFixture *fx, Twin twin);
/* The device's values, in a new array; waits for the device and fails the test on its fault. */
double *twin_pull(OpFixture *fx, Twin twin);
/* |ref|, in a new array: magnitudes come out of running an oracle on absolute values. NULL for an
 * absent one. */
double *twin_abs(OpFixture *fx, Twin twin);

/* The device's values against ref. */
#define CHECK_TWIN(fx, twin, tolerance)                                                            \
    check_close(twin_pull((fx), (twin)), (twin).ref, tensor_count((twin).t), (tolerance), #twin,   \
                __FILE__, __LINE__)
/* The same bits in two tensors on the device. */
#define CHECK_TWINS_SAME(fx, got, wanted)                                                          \
    check_twins_same((fx), (got), (wanted), #got, __FILE__, __LINE__)
void check_twins_same(OpFixture *fx, Twin got, Twin wanted, const char *what, const char *file,
                      int line);

/* Run an op on a device. */
typedef void OpCall(Device *dev, void *arg);

/* The op's outputs, starting from their ref values, have the same bits run to run, each on a device
 * of its own; on the CPU also for 1, 2 and 3 threads. */
#define CHECK_REPEATS(fx, call, arg, ...)                                                          \
    check_repeats((fx), (call), (arg), (const Twin[]){__VA_ARGS__},                                \
                  (int32_t)(sizeof((const Twin[]){__VA_ARGS__}) / sizeof(Twin)), __FILE__,         \
                  __LINE__)
void check_repeats(OpFixture *fx, OpCall *call, void *arg, const Twin *output, int32_t n_outputs,
                   const char *file, int line);

/* The gradient of sum(weight * output) by input, as an op gave it, against a central difference of
 * the forward op along a random direction. `forward` fills output from input (it may fill others).
 * In float32 only, else the rest of the test is skipped: what 16 bits round away is as large as
 * such a difference. Gradients in 16 bits are compared with the oracle, and come from the same
 * source. */
typedef struct {
    OpCall *forward;
    void *arg;
    Twin input, output;
    Twin weight;            /* of the output's elements: what the backward op got as dy */
    const double *gradient; /* (count of input) */
} Difference;
#define CHECK_DIFFERENCE(fx, ...)                                                                  \
    check_difference((fx), &(const Difference){__VA_ARGS__}, __FILE__, __LINE__)
void check_difference(OpFixture *fx, const Difference *d, const char *file, int line);

/* ---- main -------------------------------------------------------------------------------- */

/* Run the tests (struct CMUnitTest[], made with OP_TEST) on every variant that is here, or on
 * those whose name begins as GPT_OP_VARIANT (cpu, cuda-f32, cuda-bf16, cuda-f16); returns the number
 * of failures. */
#define OP_SUITE(name, tests) op_suite((name), (tests), sizeof(tests) / sizeof *(tests))
#define OP_TEST(function)     cmocka_unit_test_setup_teardown(function, op_setup, op_teardown)
int op_suite(const char *name, const struct CMUnitTest *tests, size_t n_tests);
int op_setup(void **state);
int op_teardown(void **state);

#endif
