/* OpenMP without threads, for ThreadSanitizer: the runtimes of OpenMP are not compiled for it, so
 * that it would take their barriers for none. */
#ifndef GPT_TESTS_SERIAL_OMP_H
#define GPT_TESTS_SERIAL_OMP_H

#include <time.h>

static inline void omp_set_num_threads(int n)
{
    (void)n;
}

static inline int omp_get_thread_num(void)
{
    return 0;
}

static inline int omp_get_max_threads(void)
{
    return 1;
}

static inline double omp_get_wtime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
