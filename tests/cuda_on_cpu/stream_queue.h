/* How the fake libraries (cuBLASLt, NCCL) put work on a fake stream: behind what is there already,
 * done when the stream gets to it, like a kernel. Filled by the fake runtime. */
#ifndef GPT_TESTS_STREAM_QUEUE_H
#define GPT_TESTS_STREAM_QUEUE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Queue work(copy of the arg_bytes at arg). The stream's clock, which cudaEventElapsedTime reads,
 * moves on by `milliseconds`: a time made up by the caller, so that tests of timing repeat. */
cudaError_t fake_stream_enqueue(cudaStream_t stream, void (*work)(void *arg), const void *arg,
                                size_t arg_bytes, float milliseconds);

#ifdef __cplusplus
}
#endif
#endif
