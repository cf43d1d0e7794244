/* Runs kernels of the dialect (kernels/cuda/ptx/primitives.cuh) on the host: every CUDA thread is a
 * fiber, blocks run one after the other. Barriers and warp operations are rendezvous; between them
 * the threads run in one of four orders (GPT_EMU_ORDER). What a GPU would leave undefined ends the
 * program with a report that names kernel, block, threads and lines.
 *
 * One host thread at a time runs kernels. */
#ifndef GPT_TESTS_EMULATOR_H
#define GPT_TESTS_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include <cuda_runtime_api.h>

#include "tests/cuda_on_cpu/fake_stream.h"

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

namespace emu
{

enum { WARP = 32, MAX_THREADS = 1024, MAX_WORDS = 8 };

/* What the code of a kernel sees of where it runs. */
struct Place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};

/* Of the thread that runs now. */
extern Place place;

/* ---- what kernels call, by way of cuda_runtime.h and primitives.cuh -------------------------- */

typedef uint32_t Words[MAX_WORDS];

/* The state of a barrier or warp operation: a name for reports and the line it was called from.
 * Operations of a warp meet only if both agree. */
struct Site {
    const char *name;
    int line;
};

void sync_block(int line);

/* All 32 lanes give n_words each; returns what every lane gave (WARP entries), valid until the
 * lane's next operation. `ordered`: memory is ordered among the lanes, as by __syncwarp. */
const Words *exchange(const void *words, int n_words, Site site, bool ordered);

/* The same, and the last lane to come replaces in place what the lanes gave by what they get. */
typedef void WarpFunction(Words *lanes);
const Words *exchange_by(WarpFunction *function, const void *words, int n_words, Site site);

/* Shared memory: one block of n_bytes for each place in the source, filled with NaNs when a block
 * begins. `key` is the same for all threads. */
void *shared_array(const void *key, size_t n_bytes);
void *dynamic_shared();

/* Asynchronous copies of 16 bytes; src is NULL where zeros are wanted. The caller touches the
 * memory, so that sanitizers see who does. */
struct Copy {
    void *dst;
    const void *src;
};
void begin_copy(void *dst, const void *src, bool valid);
void commit_copies();
/* The next copy of a group older than the `newest` last ones; false: none is left. */
bool next_copy(int newest, Copy *copy);

/* [p, p + n_bytes) must be shared memory of this block and p 16-byte aligned. */
void check_shared(const void *p, size_t n_bytes, const char *what);

int lane();
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- launching ------------------------------------------------------------------------------- */

struct LaunchShape {
    const char *kernel;
    dim3 grid, block;
    size_t shared_bytes;
};

/* cudaSuccess, or what a GPU says of a shape it cannot run. */
cudaError_t check_shape(const LaunchShape &shape);
/* Run all blocks now; thread_body is called once in each CUDA thread. */
void run_grid(const LaunchShape &shape, void (*thread_body)(const void *), const void *arg);
/* Microseconds on the fake clock. */
double fake_us(const LaunchShape &shape);
/* The status becomes cudaGetLastError's. */
void set_launch_error(cudaError_t status);

/* A launch that waits on a stream: the kernel and its arguments as they were, by value. */
template <class... P> struct Launch {
    LaunchShape shape;
    void (*kernel)(P...);
    std::tuple<P...> args;

    static void thread_body(const void *arg)
    {
        const Launch *launch = (const Launch *)arg;
        std::apply(launch->kernel, launch->args);
    }
    static bool run(void *arg)
    {
        const Launch *launch = (const Launch *)arg;
        run_grid(launch->shape, thread_body, launch);
        return true;
    }
};

template <class... P, class... A>
void launch(LaunchShape shape, cudaStream_t stream, void (*kernel)(P...), A &&...args)
{
    static_assert((std::is_trivially_copyable_v<P> && ...), "kernels take plain values");
    cudaError_t status = check_shape(shape);
    if (status == cudaSuccess) {
        Launch<P...> queued = {shape, kernel, std::tuple<P...>(std::forward<A>(args)...)};
        status =
            fake_stream_push(stream, Launch<P...>::run, &queued, sizeof queued, fake_us(shape));
    }
    set_launch_error(status);
}

} // namespace emu

#endif
