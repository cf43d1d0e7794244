/* Batch: the tokens of one micro-batch on their way from the files to the device. Private to
 * train/.
 *
 * A GPU may read host memory long after batch_upload, so there is a slot of it for each micro-batch
 * of a step: the host fills the next one while the device computes, and waits only when all slots
 * hold uploads that may be under way. */
#ifndef GPT_TRAIN_BATCH_H
#define GPT_TRAIN_BATCH_H

#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A free slot: every row of it is to be filled, then comes batch_upload. May wait for the device,
 * whose fault it returns; the slot can be used all the same. */
Err batch_begin(Trainer *t);
/* Row `row` = the window at `offset`. ERR_DATA leaves the row blank, so that a rank with a bad file
 * can finish the step's collectives before it tells the others. */
Err batch_read(Trainer *t, const Loader *loader, int64_t row, int64_t offset);
/* Row `row` has no targets: it costs time and counts nothing. */
void batch_blank(Trainer *t, int64_t row);
/* Row `row` = many tokens of the vocabulary, in no particular order. */
void batch_noise(Trainer *t, int64_t row);
/* The slot on the device, as a batch whose row 0 is global sample `first_sample`. */
GptBatch batch_upload(Trainer *t, int64_t first_sample, bool training);
/* The device was waited for: all slots are free. */
void batch_all_done(Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
