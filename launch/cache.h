/* Cache: where what can be found out again is kept between runs. */
#ifndef GPT_LAUNCH_CACHE_H
#define GPT_LAUNCH_CACHE_H

#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

/* path (FILE_PATH_BYTES) = $XDG_CACHE_HOME/gpt_ddp/gemm.txt, or the same in ~/.cache (XDG base
 * directory specification); "" when there is no such place. Creates nothing. */
void cache_tuning_path(char *path);

#ifdef __cplusplus
}
#endif
#endif
