/* Hf: what makes a checkpoint directory a Hugging Face model: config.json and the tensors' names.
 *
 * Tensors are named as in openai-community/gpt2 (no prefix); files written by GPT2LMHeadModel have
 * "transformer." before each name and may hold lm_head.weight and mask buffers: they are read too.
 * GPT2Config has no switch for biases, so a model without them is saved with zeros. Source:
 * transformers, modeling_gpt2.py. */
#ifndef GPT_CHECKPOINT_HF_H
#define GPT_CHECKPOINT_HF_H

#include "checkpoint/weights.h"
#include "model/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Create config.json at `path`. ERR_WRITE. */
Err hf_config_write(const char *path, const GptDims *dims, FileDigest *digest);

/* Create generation_config.json at `path`: transformers' generate() stops at the end-of-text token,
 * where the vocabulary has it. ERR_WRITE. */
Err hf_generation_write(const char *path, const GptDims *dims, FileDigest *digest);

/* Dims from a config.json; bias is true, for the file cannot say. ERR_DATA for a GPT-2 this program
 * does not compute (another activation, epsilon, inner width, ...). */
Err hf_config_read(const char *path, GptDims *dims);

/* The float32 tensor of parameter p, as it stands in a file: name = prefix + p->name. */
SafeTensor hf_tensor(const Param *p, const char *prefix);

/* Does a model without biases save zeros after weight p? If so *t is that tensor. */
bool hf_zero_bias(const Param *p, SafeTensor *t);

/* ERR_DATA unless t has wanted's dimensions (the message names the first that differs) and holds
 * floats. */
Err hf_check_shape(const char *path, const SafeTensor *t, const SafeTensor *wanted);

/* found[i] = the tensor of layout->param[i], for all of them; `where` names the weights in
 * messages. wpe may have more rows than the model, which uses the first. ERR_DATA when one is
 * missing, occurs twice, has another shape (which dimension, both values), when lm_head.weight is
 * not wte.weight, when the model has no biases and the file's are not zero, or for a tensor that is
 * no part of a GPT-2. */
Err hf_match(const Weights *weights, const char *where, const GptDims *dims, const Layout *layout,
             Weight *found);

#ifdef __cplusplus
}
#endif
#endif
