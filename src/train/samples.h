/* Samples: texts that the model writes at intervals in training, into out_dir/samples.jsonl.
 *
 * A line a text, {"iter": 2000, "text": "..."}: updates made before, and the prompt with what
 * followed it, drawn as gpt_sample draws with its defaults and this run's seed. Bytes that are no
 * UTF-8 become U+FFFD. A run that goes on from a checkpoint drops the lines that
 * come again.
 *
 * Rank 0 draws; the others meet it after each token, so that limits of time and signals hold. The
 * activations and the cache lie over those of training, which are dead between steps; the
 * parameters are training's own. */
#ifndef GPT_TRAIN_SAMPLES_H
#define GPT_TRAIN_SAMPLES_H

#include <stdio.h>

#include "data/shards.h"
#include "model/decoder.h"
#include "train/log.h"

#ifdef __cplusplus
extern "C" {
#endif

struct Trainer;

/* Zero-initialised: none are wanted. */
typedef struct {
    Tokenizer tokenizer;
    int32_t *prompt; /* its tokens; owned */
    int64_t n_prompt;
    GPT2 model;      /* for one sequence; training's parameters */
    Decoder decoder; /* of it */
    FILE *file;      /* of rank 0; NULL: cannot be written */
} Samples;

/* The data's tokenizer and the prompt in its tokens; nothing where sample_interval is 0.
 * ERR_MISSING: no tokenizer; ERR_DATA: it does not go with the model or with the prompt;
 * ERR_SYSTEM. samples_close follows whatever comes back. Not collective. */
Err samples_read(Samples *s, const Config *cfg, const Dataset *data);
void samples_close(Samples *s);
/* Open out_dir/samples.jsonl, without the lines that will come again. Nothing where none are
 * wanted. Rank 0's. ERR_WRITE. */
Err samples_open_file(Samples *s, const char *out_dir, const LogResume *from);

/* Is one to be drawn before the next step? The same on all ranks. */
bool samples_due(const struct Trainer *t);
/* Draws a text, writes it and says how it begins. A signal ends it early: t->stop is set and
 * nothing is written. Collective. */
Err samples_run(struct Trainer *t);

#ifdef __cplusplus
}
#endif
#endif
