#include "base/arena.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

void arena_init(Arena *arena, void *base, size_t capacity_bytes)
{
    memset(arena, 0, sizeof *arena);
    ASSERT((uintptr_t)base % ARENA_ALIGN_BYTES == 0, "arena base is not aligned");
    arena->base = base;
    arena->capacity_bytes = capacity_bytes;
}

static void record(Arena *arena, RegionGroup group, const char *name, Tensor t, size_t bytes)
{
    ASSERT(arena->n_regions < ARENA_MAX_REGIONS, "too many regions at %s", name);
    Region *region = &arena->region[arena->n_regions++];
    snprintf(region->name, sizeof region->name, "%s", name);
    region->group = group;
    region->dtype = t.dtype;
    region->rank = t.rank;
    memcpy(region->dim, t.dim, sizeof region->dim);
    region->offset = arena->used_bytes;
    region->bytes = bytes;
}

/* Bytes of t, rounded up to the alignment; half the address space when it would be more. Absurd
 * settings must end in a plan that fits nowhere, not in sums that wrap. */
static const size_t TOO_MUCH = SIZE_MAX / 2 / ARENA_ALIGN_BYTES * ARENA_ALIGN_BYTES;

static size_t region_bytes(Tensor t)
{
    size_t bytes = dtype_bytes(t.dtype);
    for (int32_t i = 0; i < TENSOR_MAX_RANK; i++)
        if (__builtin_mul_overflow(bytes, (size_t)t.dim[i], &bytes) || bytes > TOO_MUCH)
            return TOO_MUCH;
    return (bytes + ARENA_ALIGN_BYTES - 1) / ARENA_ALIGN_BYTES * ARENA_ALIGN_BYTES;
}

Tensor arena_tensor(Arena *arena, RegionGroup group, const char *name, DType dtype, int32_t rank,
                    const int64_t *dim)
{
    Tensor t = {NULL, dtype, rank, {1, 1, 1, 1}};
    ASSERT(rank >= 1 && rank <= TENSOR_MAX_RANK, "%s: rank %d", name, (int)rank);
    for (int32_t i = 0; i < rank; i++) {
        ASSERT(dim[i] >= 0, "%s: dimension %d is %lld", name, (int)i, (long long)dim[i]);
        t.dim[i] = dim[i];
    }
    size_t bytes = region_bytes(t);
    if (bytes == 0)
        return tensor_none();
    record(arena, group, name, t, bytes);
    if (arena->base) {
        ASSERT(bytes <= arena->capacity_bytes - arena->used_bytes, "%s: %zu bytes past the plan",
               name, arena->used_bytes + bytes - arena->capacity_bytes);
        t.data = arena->base + arena->used_bytes;
    }
    arena->used_bytes = bytes < TOO_MUCH - arena->used_bytes ? arena->used_bytes + bytes : TOO_MUCH;
    if (arena->used_bytes > arena->peak_bytes)
        arena->peak_bytes = arena->used_bytes;
    return t;
}

Tensor arena_1d(Arena *arena, RegionGroup group, const char *name, DType dtype, int64_t n)
{
    return arena_tensor(arena, group, name, dtype, 1, &n);
}

Tensor arena_2d(Arena *arena, RegionGroup group, const char *name, DType dtype, int64_t rows,
                int64_t cols)
{
    const int64_t dim[2] = {rows, cols};
    return arena_tensor(arena, group, name, dtype, 2, dim);
}

size_t arena_mark(const Arena *arena)
{
    return arena->used_bytes;
}

void arena_rewind(Arena *arena, size_t mark)
{
    ASSERT(mark <= arena->used_bytes, "rewind to %zu past %zu", mark, arena->used_bytes);
    arena->used_bytes = mark;
}

void arena_forward(Arena *arena, size_t mark)
{
    ASSERT(mark <= arena->peak_bytes, "forward to %zu past %zu", mark, arena->peak_bytes);
    if (arena->used_bytes < mark)
        arena->used_bytes = mark;
}

const char *region_group_name(RegionGroup group)
{
    static const char *const NAMES[N_REGION_GROUPS] = {
        [REGION_PARAMETERS] = "parameters",
        [REGION_GRADIENTS] = "gradients",
        [REGION_OPTIMIZER] = "optimizer",
        [REGION_ACTIVATIONS] = "activations",
        [REGION_HEAD] = "head",
        [REGION_SCRATCH] = "scratch",
        [REGION_WORKSPACE] = "workspace",
        [REGION_COMM] = "communication",
        [REGION_DATA] = "data",
    };
    return NAMES[group];
}
