#include "tests/bench/bench.h"

#include <string.h>

const Shape BENCH_SHAPES[] = {
    {"small", 4, 4, 128, 64, 65, 12, 768},
    {"medium", 6, 6, 384, 256, 65, 64, 16384},
    {"gpt2", 12, 12, 768, 1024, 50257, 1, 512},
    {"350M", 24, 16, 1024, 1024, 50257, 1, 512},
    {"774M", 36, 20, 1280, 1024, 50257, 1, 512},
    {"1558M", 48, 25, 1600, 1024, 50257, 1, 512},
    {NULL, 0, 0, 0, 0, 0, 0, 0},
};

const Shape *bench_find_shape(const char *name)
{
    for (const Shape *shape = BENCH_SHAPES; shape->name; shape++)
        if (strcmp(shape->name, name) == 0)
            return shape;
    return NULL;
}
