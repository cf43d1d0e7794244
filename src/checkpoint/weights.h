/* Weights: the tensors of a model directory, in model.safetensors or in the several files that
 * model.safetensors.index.json lists. Source: transformers, save_pretrained (max_shard_size). */
#ifndef GPT_CHECKPOINT_WEIGHTS_H
#define GPT_CHECKPOINT_WEIGHTS_H

#include "checkpoint/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char *path; /* owned */
    SafeFile safe;
} WeightFile;

/* Zero-initialised is closed. */
typedef struct {
    int32_t n_files;
    WeightFile *file; /* owned */
} Weights;

/* One tensor and where it is; borrowed from the Weights. */
typedef struct {
    const WeightFile *file; /* NULL: none */
    const SafeTensor *tensor;
} Weight;

/* ERR_MISSING, also when there are weights in another format only. ERR_DATA: a file that is not
 * safe (safetensors.h), an index that names files outside the directory or tensors that are not
 * there. weights_close accepts whatever came back. */
Err weights_open(Weights *weights, const char *dir);
void weights_close(Weights *weights);

/* out[0..n) = elements [begin, begin + n) as float32. */
void weight_read_f32(const Weight *w, int64_t begin, int64_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
