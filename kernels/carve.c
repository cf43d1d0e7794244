#include "kernels/carve.h"

#include <stdlib.h>

#include "base/check.h"

static Err carve_twice(Device *dev, CarveWhere where, CarveFn carve, void *arg, Arena *arena,
                       void **memory)
{
    arena_init(arena, NULL, 0);
    carve(arg, arena);
    size_t n_bytes = arena->peak_bytes;
    if (n_bytes == 0)
        return OK;
    TRY(where == CARVE_HOST ? device_alloc_host(dev, n_bytes, memory)
                            : device_alloc(dev, n_bytes, memory));
    arena_init(arena, *memory, n_bytes);
    carve(arg, arena);
    ASSERT(arena->peak_bytes == n_bytes, "carved %zu bytes, measured %zu", arena->peak_bytes,
           n_bytes);
    return OK;
}

Err device_carve(Device *dev, CarveWhere where, CarveFn carve, void *arg, void **memory,
                 size_t *n_bytes)
{
    *memory = NULL;
    Arena *arena = malloc(sizeof *arena);
    if (!arena)
        FAIL(ERR_SYSTEM, "out of memory for the table of regions");
    Err err = carve_twice(dev, where, carve, arg, arena, memory);
    if (n_bytes)
        *n_bytes = arena->peak_bytes;
    free(arena);
    return err;
}
