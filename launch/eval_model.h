/* EvalModel: a model opened to be looked at by all ranks: weights and memory on the device, for
 * batches of (B,T), with a loss for each token. */
#ifndef GPT_LAUNCH_EVAL_MODEL_H
#define GPT_LAUNCH_EVAL_MODEL_H

#include "base/file.h"
#include "config/config.h"
#include "score/scorer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The scorer points into the rest: never copied once open. */
typedef struct {
    char dir[FILE_PATH_BYTES]; /* the model directory */
    GptDims dims;
    GPT2 model;
    Layout layout;
    Device dev;
    void *memory;  /* of the device */
    int32_t *host; /* the scorer's host memory */
    Scorer scorer;
} EvalModel;

/* Which directory, and its shape: `path` is a model directory or an out_dir (its newest sound
 * checkpoint). comm is borrowed. ERR_MISSING, ERR_DATA. Collective. */
Err eval_model_find(EvalModel *m, const char *path, Comm *comm);
/* Open it on the device that cfg->system names, for rows of up to T tokens, T at most the model's
 * block_size. ERR_DATA, ERR_MISSING, ERR_SYSTEM, ERR_USAGE. Collective. */
Err eval_model_open(EvalModel *m, const Config *cfg, int64_t T);
void eval_model_close(EvalModel *m); /* accepts one that was zeroed, or found only */

#ifdef __cplusplus
}
#endif
#endif
