/* Shard: which elements of the flat vector a rank owns (ZeRO stage 1, Rajbhandari et al. 2020).
 *
 * Every bucket is cut into `world` equal slices; rank r owns the r-th slice of every bucket. A
 * shard vector is those slices one after another. Edges may cross tensors, so a shard is also a
 * list of segments, each a run of elements of one tensor; padding is in no segment. Any world size
 * works. */
#ifndef GPT_OPTIM_SHARD_H
#define GPT_OPTIM_SHARD_H

#include "model/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t param;  /* index in the layout */
    int64_t flat;   /* first element in the flat vector */
    int64_t local;  /* first element in the shard vector */
    int64_t within; /* first element within the tensor */
    int64_t count;
} Segment;

typedef struct {
    const Layout *layout; /* borrowed */
    int32_t rank, world;
    int64_t count; /* elements of a shard vector, padding included: layout->count / world */
    int32_t n_segments;
    Segment *segment; /* ascending in flat order; owned */
} Shard;

/* The smallest multiple of 128 for which every bucket cuts into `world` slices of whole 64-element
 * lines: layout_make's pad_elements. */
int64_t shard_pad_elements(int32_t world);

/* rank 0 of a world of 1 owns everything (zero_stage 0). ERR_SYSTEM when malloc fails. */
Err shard_make(Shard *shard, const Layout *layout, int32_t rank, int32_t world);
void shard_free(Shard *shard);

/* Own slice of a bucket: where it starts in the flat and in the shard vector; its length. */
int64_t shard_slice_count(const Shard *shard, int32_t bucket);
int64_t shard_slice_flat(const Shard *shard, int32_t bucket);
int64_t shard_slice_local(const Shard *shard, int32_t bucket);

#ifdef __cplusplus
}
#endif
#endif
