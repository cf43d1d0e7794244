#include "launch/cache.h"

#include <stdio.h>
#include <stdlib.h>

/* A relative XDG_CACHE_HOME is to be ignored, says the specification. */
void cache_tuning_path(char *path)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (cache && cache[0] == '/')
        n = snprintf(path, FILE_PATH_BYTES, "%s/gpt_ddp/gemm.txt", cache);
    else if (home && home[0] == '/')
        n = snprintf(path, FILE_PATH_BYTES, "%s/.cache/gpt_ddp/gemm.txt", home);
    if (n <= 0 || n >= FILE_PATH_BYTES)
        path[0] = '\0';
}
