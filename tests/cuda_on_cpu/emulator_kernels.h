/* Kernels with mistakes, for test_emulator.c: each is what the emulator is there to catch. */
#ifndef GPT_TESTS_EMULATOR_KERNELS_H
#define GPT_TESTS_EMULATOR_KERNELS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KERNEL_THREADS = 64, KERNEL_BLOCKS = 3, KERNEL_FLOATS = KERNEL_THREADS * KERNEL_BLOCKS };

typedef enum {
    /* end the program */
    BARRIER_LEFT_OUT_BY_A_WARP,
    BARRIER_AFTER_OTHERS_ENDED,
    BARRIERS_OF_TWO_BRANCHES,
    SHUFFLE_BY_HALF_A_WARP,
    SHUFFLE_AGAINST_SYNCWARP,
    BARRIER_AGAINST_SYNCWARP,
    COPY_NOT_WAITED_FOR,
    COPY_NOT_ALIGNED,
    LDMATRIX_OF_GLOBAL_MEMORY,
    DYNAMIC_SHARED_NOT_ASKED_FOR,
    SHARED_BEYOND_48_KIB,
    WRITE_FAR_OUTSIDE,
    N_FATAL,
    /* give wrong values: out (KERNEL_FLOATS) */
    SHARED_NOT_WRITTEN = N_FATAL, /* out = what shared memory begins with */
    BARRIER_MISSING,              /* out = in of the block, backwards */
    BLOCKS_DEPEND,                /* out = 1 + out of the block before */
    COPY_READ_TOO_EARLY,          /* out = in, by cp.async */
    /* none */
    REVERSE_BLOCKS, /* out = in of the block, backwards */
} EmulatorKernel;

void emulator_launch(EmulatorKernel kernel, float *out, const float *in, cudaStream_t stream);
void emulator_launch_shape(unsigned grid, unsigned block, size_t shared_bytes, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
