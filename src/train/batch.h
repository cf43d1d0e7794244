/* Batch: the tokens of one micro-batch on their way from the files to the device. Private to
 * train/. */
#ifndef GPT_TRAIN_BATCH_H
#define GPT_TRAIN_BATCH_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Row `row` of the host buffers = the window at `offset`. ERR_DATA leaves the row blank, so that a
 * rank with a bad file can finish the step's collectives before it tells the others. */
Err batch_read(Trainer *t, const Loader *loader, int64_t row, int64_t offset);
/* Row `row` has no targets: it costs time and counts nothing. */
void batch_blank(Trainer *t, int64_t row);
/* The host buffers on the device, as a batch whose row 0 is global sample `first_sample`. */
GptBatch batch_upload(Trainer *t, int64_t first_sample, bool training);

#ifdef __cplusplus
}
#endif
#endif
