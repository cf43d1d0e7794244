/* Record: trainer.json, the state of a run that is no tensor, and the settings it ran with. */
#ifndef GPT_CHECKPOINT_RECORD_H
#define GPT_CHECKPOINT_RECORD_H

#include <jansson.h>

#include "checkpoint/checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An object: every key of the settings with its value as text. The caller owns it; NULL: memory is
 * short. */
json_t *record_settings(const Config *cfg);

/* Create trainer.json at `path`. ERR_WRITE. */
Err record_write(const char *path, const Config *cfg, const GptDims *dims, const Progress *progress,
                 const StepCut *cut, FileDigest *digest);

/* Every double comes back bit for bit. ERR_MISSING, ERR_DATA. */
Err record_read(const char *path, Progress *progress);

/* Zeros when nothing is said of it. */
Err record_read_cut(const char *path, StepCut *cut);

/* Does the model have biases? */
Err record_read_bias(const char *path, bool *bias);

#ifdef __cplusplus
}
#endif
#endif
