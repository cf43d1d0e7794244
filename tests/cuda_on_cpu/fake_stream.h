/* What the fake libraries (cuBLASLt, NCCL) and launches queue on the streams of the fake runtime,
 * and how tests look at it. */
#ifndef GPT_TESTS_FAKE_STREAM_H
#define GPT_TESTS_FAKE_STREAM_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Work of a stream: called when everything before it on the stream is through. False: not finished
 * yet (another rank has not come), call me again; other streams go on meanwhile. It must not block
 * and must not call the runtime. arg points at a copy of what was queued, kept between calls. */
typedef bool FakeWork(void *arg);

/* Queue work, with a copy of n_bytes at arg. `us`: how long it takes by the events' fake clock. The
 * errors are CUDA's. */
cudaError_t fake_stream_push(cudaStream_t stream, FakeWork *work, const void *arg, size_t n_bytes,
                             double us);

/* Run everything that was queued on every stream, as far as it gets without work that is not
 * finished. What another rank waits for is done afterwards, so call it before blocking on one. */
void fake_streams_progress(void);

/* Is [memory, memory + n_bytes) inside one block of cudaMalloc? Libraries refuse what is not. */
bool fake_is_device_memory(const void *memory, size_t n_bytes);

/* The most bytes of cudaMalloc that the current device has held at once. */
size_t fake_peak_bytes(void);
/* The bytes of pinned host memory that exist. */
size_t fake_pinned_bytes(void);

/* Does a host that touches device memory fault here? (ASan, or a CPU with protection keys.) */
bool fake_memory_is_closed(void);

/* Does ThreadSanitizer watch the kernels? */
bool fake_sees_races(void);

int fake_compute_capability(void); /* of every fake GPU: 75, 80, ... */

#ifdef __cplusplus
}
#endif
#endif
