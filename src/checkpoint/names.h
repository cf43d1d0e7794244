/* The files of a checkpoint directory besides the manifest (manifest.h). */
#ifndef GPT_CHECKPOINT_NAMES_H
#define GPT_CHECKPOINT_NAMES_H

#define MODEL_NAME      "model.safetensors"
#define OPTIMIZER_NAME  "optimizer.safetensors"
#define CONFIG_NAME     "config.json"
#define GENERATION_NAME "generation_config.json"
#define TRAINER_NAME    "trainer.json"
#define META_NAME       "meta.json"
#define PICKLE_NAME     "meta.pkl" /* in its place, where a data set has nanoGPT's */
#define VOCAB_NAME      "vocab.json"
#define MERGES_NAME     "merges.txt"
#define TUNING_NAME     "tuning.txt"

#define TOKENIZER_CONFIG_NAME "tokenizer_config.json"
#define TOKENIZER_NAME        "tokenizer.json" /* that of Hugging Face's tokenizers */

/* Before a tensor's name in the optimizer file; torch's names of AdamW's state. */
#define EXP_AVG_PREFIX    "exp_avg."
#define EXP_AVG_SQ_PREFIX "exp_avg_sq."

#endif
