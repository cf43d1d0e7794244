/* TextModel: a checkpoint opened to read and write text: weights, tokenizer and memory on one
 * device. */
#ifndef GPT_LAUNCH_TEXT_MODEL_H
#define GPT_LAUNCH_TEXT_MODEL_H

#include "base/file.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/tokenizer.h"
#include "model/decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *path; /* a checkpoint or Hugging Face model directory, or an out_dir (its newest
                         sound checkpoint) */
    const char *tokenizer; /* the directory of another tokenizer; NULL: the model's own */
    ConfigDevice device;   /* auto: the first GPU, when there is one */
    ConfigDtype dtype;     /* auto: what the device is best at */
    int32_t n_threads;     /* 0: as many as bind_threads says */
} TextModelArgs;

typedef struct {
    char dir[FILE_PATH_BYTES]; /* the checkpoint directory that was opened */
    int64_t n_vocab;           /* tokens that have a text; at most the model's vocabulary */
    Tokenizer tokenizer;
    GPT2 model;
    Decoder decoder;
    Layout layout;
    Comm comm; /* a world of one */
    Device dev;
    void *memory; /* of the device */
} TextModel;

/* Zero-initialised is closed. The tokenizer is meta.json's, else that of vocab.json and merges.txt
 * or encoder.json and vocab.bpe. ERR_MISSING, ERR_DATA, ERR_SYSTEM, ERR_USAGE (OMP_NUM_THREADS, a
 * dtype that the device has not). The model points into t: never copied once open. */
Err text_model_open(TextModel *t, const TextModelArgs *args);
void text_model_close(TextModel *t);

/* logits (the model's vocab_size) of the token after ids[0..n_ids), of which the last block_size
 * count, as in nanoGPT: see decoder_next. n_ids >= 1. */
Err text_model_next(TextModel *t, const int32_t *ids, int64_t n_ids, float *logits);

#ifdef __cplusplus
}
#endif
#endif
