/* Checkpoint: the state of a run in a directory that any number of ranks can load and that is a
 * Hugging Face model as it stands.
 *
 *     out/step_00002000/  model.safetensors      float32 weights, Hugging Face names
 *                         config.json            GPT2LMHeadModel; generation_config.json
 *                         optimizer.safetensors  exp_avg.NAME, exp_avg_sq.NAME
 *                         trainer.json           step, samples, best loss, every setting
 *                         meta.json              the tokenizer, when the data set or the model
 *                                                it began from has one: tokenizer_files.h
 *                         tuning.txt             the algorithms a GPU library used, when it did
 *                         MANIFEST.json          sizes, a checksum per MiB; written last
 *
 * Saving: all ranks send their slices bucket by bucket, rank 0 writes into a temporary sibling
 * directory, syncs files and directory, renames, syncs the parent; here while all wait, in writer.h
 * while training goes on. A directory under its final name is whole. Loading: each rank reads the
 * ranges it owns, on any number of ranks. bias = false saves zero biases. */
#ifndef GPT_CHECKPOINT_CHECKPOINT_H
#define GPT_CHECKPOINT_CHECKPOINT_H

#include "base/file.h"
#include "checkpoint/tokenizer_files.h"
#include "comm/comm.h"
#include "config/config.h"
#include "model/gpt2.h"
#include "optim/adamw.h"
#include "optim/loss_scale.h"
#include "optim/outliers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All the state of a run besides tensors. */
typedef struct {
    int64_t step;         /* finished steps, also those without an update */
    int64_t n_sequences;  /* samples consumed = index of the next one */
    double best_val_loss; /* INFINITY before the first evaluation */
    int64_t n_bad_steps;  /* without an update, in a row, but for overflows of float16 */
    int64_t n_updates;    /* steps that changed the parameters: AdamW's count, as torch counts */
    LossScale loss_scale; /* of float16; zeros for other dtypes */
    Outliers outliers;    /* zeros when they are not looked for */
    int64_t best_step;    /* where best_val_loss was measured; -1: not known */
} Progress;

/* What is saved and loaded. All borrowed. */
typedef struct {
    Comm *comm;
    Device *dev;
    const Config *cfg;
    GPT2 *model;
    AdamW *optim;
    Tensor staging;                  /* host bytes, at least 64 KiB; bounds the memory of a save */
    StepCut cut;                     /* of the run that saves; zeros: not known */
    const TokenizerFiles *tokenizer; /* on rank 0; NULL: none */
    const char *tuning; /* choices of device_tuning_export to keep, on rank 0; NULL or "": none */
} CheckpointState;

/* Bytes of the tensors of a checkpoint: weights and two moments in float32. */
size_t checkpoint_bytes(const GptDims *dims);
/* Bytes that are to be free before so many are written: a tenth more. */
size_t checkpoint_room(size_t n_bytes);

/* out_dir/step_%08d. Collective. ERR_WRITE (agreed over ranks) leaves older checkpoints as they
 * were and no temporary directory. An existing directory of that step is replaced. */
Err checkpoint_save(const CheckpointState *state, const Progress *progress);

/* Which checkpoints stay when older ones are deleted. */
typedef struct {
    int64_t newest; /* so many of the newest; 0: all */
    int64_t every;  /* and all whose step is a multiple of this; 0: none */
    bool best;      /* and the one that evaluated best of those saved where they were evaluated */
} CheckpointKeep;

/* Delete all but these, the oldest first. The newest that verifies counts as the newest: damaged
 * ones beyond it stay where they are, and without one nothing is deleted. Rank 0 acts.
 * Collective. */
Err checkpoint_prune(Comm *comm, const char *out_dir, CheckpointKeep keep);

/* Bytes of a checkpoint, and how many of them were verified. */
typedef struct {
    size_t n_bytes, n_read;
} CheckpointSample;

/* The newest directory in out_dir that verifies against its manifest: *found and dir
 * (FILE_PATH_BYTES), the same on all ranks. Each damaged one passed over is reported on stderr by
 * rank 0: file and byte range. Collective. */
Err checkpoint_find(Comm *comm, const char *out_dir, bool *found, char *dir);

/* The same of this rank, with of each directory's bytes no more than about most_bytes verified, and
 * all of its files' sizes. Not collective. */
Err checkpoint_find_sampled(const char *out_dir, size_t most_bytes, bool *found, char *dir,
                            CheckpointSample *sample);

/* The newest directory in out_dir by its name, whatever is in it: *found and dir (FILE_PATH_BYTES).
 * Not collective. */
Err checkpoint_newest(const char *out_dir, bool *found, char *dir);

typedef struct {
    int64_t step;
    bool aside; /* .old_step_N without a step_N (folder.h) */
} CheckpointEntry;

typedef struct {
    CheckpointEntry *item; /* newest first; owned */
    int32_t n;
} CheckpointList;

/* All of out_dir by their names, whatever is in them; none where there is no such directory.
 * ERR_MISSING when it cannot be read, ERR_SYSTEM. Not collective. */
Err checkpoint_list(const char *out_dir, CheckpointList *list);
void checkpoint_list_free(CheckpointList *list);
/* out (FILE_PATH_BYTES) = the entry's directory. */
Err checkpoint_entry_path(char *out, const char *out_dir, const CheckpointEntry *entry);

/* Check sizes and checksums of one directory. ERR_DATA names file and byte range; ERR_MISSING. Not
 * collective. */
Err checkpoint_verify(const char *dir);

/* The model's shape as a directory's config.json (and trainer.json, for bias) tells it. Not
 * collective. */
Err checkpoint_read_dims(const char *dir, GptDims *dims);

/* The model's shape, where settings do not give it, becomes that of the model directory in
 * init_from (with its vocabulary), or of the newest checkpoint of a run that is resumed. What is
 * given stays, and is compared when the weights are loaded. ERR_MISSING and ERR_DATA for a
 * directory; a checkpoint that cannot be read changes nothing. Not collective. */
Err checkpoint_adopt_shape(Config *cfg);

/* How the run that saved a directory cut its steps up; zeros when that is not in it. ERR_MISSING,
 * ERR_DATA. Not collective. */
Err checkpoint_read_cut(const char *dir, StepCut *cut);

/* *text = the choices saved in a directory (device_tuning_import), malloc'd; "" when there are
 * none. Not collective. */
Err checkpoint_read_tuning(const char *dir, char **text);

/* Weights, optimizer and progress. ERR_DATA when shape or vocabulary differ from state->model
 * (which dimension, both values). Collective. */
Err checkpoint_load(const CheckpointState *state, const char *dir, Progress *progress);

/* Could a run of this shape go on from a directory (resumes), or begin with its weights? Looks at
 * the shape and at all tensors' names, types and dimensions, and reads none but the biases of a
 * model that is to have none; errors as of the two functions beside. Not collective. */
Err checkpoint_check(const char *dir, const GptDims *run, bool resumes);

/* Weights only, into model->params, and into optim's master as they are in the file, its moments
 * becoming zero; optim NULL: a model that is not trained. Of a directory with more positions than
 * the model the first are taken. For sampling and for init_from = a directory. Not collective. */
Err checkpoint_load_weights(const char *dir, GPT2 *model, AdamW *optim, Device *dev);

#ifdef __cplusplus
}
#endif
#endif
