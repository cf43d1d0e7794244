/* Verify: which checkpoints are whole, and which one a run would go on from. */
#ifndef GPT_LAUNCH_VERIFY_H
#define GPT_LAUNCH_VERIFY_H

#include <stdio.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dir: an out_dir, or one checkpoint. A line to `out` for each checkpoint, the newest first: name,
 * bytes, ok or what is damaged; then what init_from = resume takes. OK when the newest is whole,
 * ERR_DATA when it is not, ERR_MISSING when there is none. */
Err verify_print(const char *dir, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
