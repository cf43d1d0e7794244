/* Arena: measure first, then carve. Every module has one x_layout(Arena *, ...) function. Run on an
 * arena without memory it only measures and records named regions (that is the plan); run again on
 * an arena with memory it hands out tensors at the same offsets. Plan and allocation cannot differ.
 *
 *     Arena plan; arena_init(&plan, NULL, 0);        gpt2_layout(&plan, ...);  -> plan.peak_bytes
 *     device_alloc(dev, plan.peak_bytes, &memory);
 *     Arena real; arena_init(&real, memory, bytes);  gpt2_layout(&real, ...);  -> tensors
 *
 * Scratch that is never live together may share memory: arena_mark, carve, arena_rewind, carve,
 * arena_forward. */
#ifndef GPT_BASE_ARENA_H
#define GPT_BASE_ARENA_H

#include "base/err.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a region is for; the plan prints one subtotal for each. */
typedef enum {
    REGION_PARAMETERS,
    REGION_GRADIENTS,
    REGION_OPTIMIZER,
    REGION_ACTIVATIONS,
    REGION_HEAD,
    REGION_SCRATCH,
    REGION_WORKSPACE,
    REGION_COMM,
    REGION_DATA,
    N_REGION_GROUPS
} RegionGroup;

enum { ARENA_ALIGN_BYTES = 256, ARENA_MAX_REGIONS = 512, REGION_NAME_BYTES = 48 };

typedef struct {
    char name[REGION_NAME_BYTES];
    RegionGroup group;
    DType dtype;
    int32_t rank;
    int64_t dim[TENSOR_MAX_RANK];
    size_t offset, bytes; /* bytes rounded up to ARENA_ALIGN_BYTES */
} Region;

typedef struct {
    char *base; /* NULL while measuring; borrowed */
    size_t capacity_bytes, used_bytes, peak_bytes;
    int32_t n_regions;
    Region region[ARENA_MAX_REGIONS];
} Arena;

/* base NULL: measure. Else carve `capacity_bytes` at base, which must be 256-byte aligned. */
void arena_init(Arena *arena, void *base, size_t capacity_bytes);

/* The next tensor. While measuring its data is NULL. Running past the capacity or past
 * ARENA_MAX_REGIONS is our bug: an ASSERT. A count of 0 gives tensor_none() and no region. Measured
 * bytes do not wrap: they stop at half the address space. */
Tensor arena_tensor(Arena *arena, RegionGroup group, const char *name, DType dtype, int32_t rank,
                    const int64_t *dim);
Tensor arena_1d(Arena *arena, RegionGroup group, const char *name, DType dtype, int64_t n);
Tensor arena_2d(Arena *arena, RegionGroup group, const char *name, DType dtype, int64_t rows,
                int64_t cols);

/* Share memory: what is carved after arena_rewind(arena, mark) overlaps what came after the
 * mark. arena_forward goes on behind a later mark, when it is not behind it already. */
size_t arena_mark(const Arena *arena);
void arena_rewind(Arena *arena, size_t mark);
void arena_forward(Arena *arena, size_t mark);

const char *region_group_name(RegionGroup group);

#ifdef __cplusplus
}
#endif
#endif
