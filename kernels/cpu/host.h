/* What the host is: its name, its memory as this process may use it, and its speed. */
#ifndef GPT_KERNELS_CPU_HOST_H
#define GPT_KERNELS_CPU_HOST_H

#include <stddef.h>
#include <stdint.h>

/* The processor's model name, as the kernel reports it ("AMD EPYC 9654"); the machine type without
 * one. */
void host_name(char *out, size_t n_bytes);

/* Physical memory, and what this process may still use: MemAvailable, or what the tightest of its
 * control groups (v1 or v2) leaves when that is less. Memory the kernel gives up on demand counts
 * as free. */
void host_memory(size_t *total_bytes, size_t *free_bytes);

/* float32 multiply-adds per second x 2 over n_threads threads, measured now for a few
 * milliseconds. */
double host_peak_flops(int32_t n_threads);

#endif
