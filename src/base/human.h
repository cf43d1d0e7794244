/* Numbers as people read them: 11.6 GiB, 1,573,210, 3d04h. For tables, logs and messages. */
#ifndef GPT_BASE_HUMAN_H
#define GPT_BASE_HUMAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char text[32];
} Human; /* by value, so that a printf argument can be human_bytes(n).text */

Human human_bytes(size_t n_bytes);    /* "512 B", "1.4 MiB", "11.6 GiB" */
Human human_count(int64_t n);         /* "1,573,210" */
Human human_duration(double seconds); /* "45s", "12m30s", "4h05m", "3d04h", ... "1000000d00h" */

#ifdef __cplusplus
}
#endif
#endif
