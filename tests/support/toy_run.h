/* ToyRun: the state of a run as checkpoints see it, without a network: flat vectors with known
 * values, owned by any rank of any world. What element i of a tensor holds depends on (fill, role,
 * tensor, i) only, so runs of different worlds can be compared. */
#ifndef GPT_TESTS_TOY_RUN_H
#define GPT_TESTS_TOY_RUN_H

#include "checkpoint/checkpoint.h"

typedef struct {
    GptDims dims;
    DType dtype;             /* of the parameters; not float32: there are master weights */
    int64_t bucket_elements; /* smallest bucket */
    int32_t rank, world;     /* of the shard; (0, 1) is zero_stage 0 */
    bool halves;             /* master weights beside bfloat16 parameters are their low halves */
    bool offload;            /* AdamW's state is in host memory */
} ToyArgs;

typedef struct {
    Layout layout;
    Shard shard;
    GPT2 model;
    AdamW optim;
    Config cfg;
    CheckpointState state; /* staging is the smallest allowed: 64 KiB */
} ToyRun;

/* 2 layers, 3 heads, 24 channels, block_size 10, vocabulary 65 of 128: no rank count divides these.
 */
GptDims toy_dims(bool bias);

/* Everything in float32, one owner, buckets of at least 2000 elements. */
ToyArgs toy_args(bool bias);

/* comm and dev are borrowed. Checkpoints go to out_dir. All values start as NaN, padding too. */
void toy_open(ToyRun *run, const ToyArgs *args, Comm *comm, Device *dev, const char *out_dir);
void toy_close(ToyRun *run);

/* Give every vector its values of this fill, and zero padding. */
void toy_fill(ToyRun *run, uint64_t fill);
/* Fails the test unless every vector holds, bit for bit, what toy_fill would give it. */
void toy_check(const ToyRun *run, uint64_t fill);
/* The parameters only. */
void toy_check_params(const ToyRun *run, uint64_t fill);

#endif
