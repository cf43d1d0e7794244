/* Config: every setting of a run, from an INI file and --key=value arguments.
 *
 * One table (field.c, FIELDS) generates parsing, defaults, bounds, --help, the echo of the
 * resolved settings and the copy in each checkpoint. Key names are nanoGPT's where it has them and
 * are unique over sections, so --key=value needs no section; sections are for readers. */
#ifndef GPT_CONFIG_CONFIG_H
#define GPT_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CONFIG_TEXT_BYTES = 1024, CONFIG_MAX_SETTINGS = 128 };

/* "auto" in a numeric setting: somebody who knows more decides (the planner, the data, the
 * device). */
#define CONFIG_AUTO INT64_MIN

typedef enum { CONFIG_GELU_TANH, CONFIG_GELU_ERF } ConfigGelu;
typedef enum { CONFIG_SAMPLING_RANDOM, CONFIG_SAMPLING_SHUFFLED } ConfigSampling;
typedef enum {
    CONFIG_LR_COSINE,
    CONFIG_LR_LINEAR,
    CONFIG_LR_CONSTANT,
    CONFIG_LR_WSD
} ConfigSchedule;
typedef enum { CONFIG_DEVICE_AUTO, CONFIG_DEVICE_CUDA, CONFIG_DEVICE_CPU } ConfigDevice;
typedef enum {
    CONFIG_DTYPE_AUTO,
    CONFIG_DTYPE_BF16,
    CONFIG_DTYPE_F16,
    CONFIG_DTYPE_F32
} ConfigDtype;
typedef enum { CONFIG_COMM_AUTO, CONFIG_COMM_NCCL, CONFIG_COMM_MPI } ConfigComm;
typedef enum { CONFIG_REDUCE_SCATTER, CONFIG_ALL_REDUCE } ConfigGradReduce;
typedef enum { CONFIG_COMM_F32, CONFIG_COMM_BF16 } ConfigCommDtype;
typedef enum {
    CONFIG_RECOMPUTE_AUTO,
    CONFIG_RECOMPUTE_NONE,
    CONFIG_RECOMPUTE_GELU_LN,
    CONFIG_RECOMPUTE_FFN,
    CONFIG_RECOMPUTE_QKV,
    CONFIG_RECOMPUTE_BLOCK
} ConfigRecompute;
typedef enum { CONFIG_OFFLOAD_AUTO, CONFIG_OFFLOAD_NONE, CONFIG_OFFLOAD_OPTIMIZER } ConfigOffload;
typedef enum { CONFIG_MASTER_AUTO, CONFIG_MASTER_F32, CONFIG_MASTER_REMAINDER16 } ConfigMaster;

/* How init_from is meant: three words, or the path of a model directory. */
typedef enum { INIT_SCRATCH, INIT_RESUME, INIT_AUTO, INIT_DIRECTORY } ConfigInit;

typedef struct {
    int64_t n_layer, n_head, n_embd, block_size;
    bool bias;
    double dropout;
    int32_t gelu;       /* ConfigGelu; enums are int32_t here so that the table can point at them */
    int64_t vocab_size; /* CONFIG_AUTO: from the data's meta.json, else 50257 */
    char init_from[CONFIG_TEXT_BYTES];
} ModelConfig;

typedef struct {
    char dataset[CONFIG_TEXT_BYTES]; /* a name under data_dir, or a path: directory, file or glob */
    char data_dir[CONFIG_TEXT_BYTES];
    int32_t sampling; /* ConfigSampling */
} DataConfig;

typedef struct {
    int64_t batch_size;                  /* sequences in a nanoGPT micro-batch */
    int64_t gradient_accumulation_steps; /* total over all ranks, as nanoGPT counts */
    int64_t micro_batch;                 /* sequences a rank really runs at once; CONFIG_AUTO */
} BatchConfig;

typedef struct {
    double learning_rate, min_lr;
    int64_t warmup_iters, lr_decay_iters;
    bool decay_lr;
    int32_t lr_schedule; /* ConfigSchedule */
    int64_t max_iters;
    double weight_decay, beta1, beta2, eps, grad_clip;
} OptimConfig;

typedef struct {
    char out_dir[CONFIG_TEXT_BYTES];
    int64_t eval_interval, eval_iters;
    bool eval_only;
    char eval_hellaswag[CONFIG_TEXT_BYTES]; /* a file; "": none */
    int64_t hellaswag_interval;             /* CONFIG_AUTO: eval_interval */
    int64_t hellaswag_items;                /* 0: all */
    int64_t sample_interval;                /* 0: none */
    char sample_prompt[CONFIG_TEXT_BYTES];  /* "": a line end */
    int64_t sample_tokens;
    int64_t log_interval;
    bool tensorboard;
    bool always_save_checkpoint;
    int64_t checkpoint_interval; /* CONFIG_AUTO: eval_interval */
    double checkpoint_time;      /* seconds; 0: none */
    int64_t keep_checkpoints, keep_every;
    bool async_save;
    double stop_after; /* seconds; 0: never */
    int64_t seed;
} RunConfig;

typedef struct {
    int32_t device;      /* ConfigDevice */
    int32_t dtype;       /* ConfigDtype */
    int32_t comm;        /* ConfigComm */
    int64_t zero_stage;  /* 0, 1, 2 or CONFIG_AUTO: the plan's zero_stage is what counts */
    int32_t grad_reduce; /* ConfigGradReduce */
    int32_t comm_dtype;  /* ConfigCommDtype */
    int64_t bucket_mb;   /* smallest bucket, MiB of fp32 gradients */
} SystemConfig;

typedef struct {
    int64_t memory_limit; /* bytes per rank; CONFIG_AUTO: what is free now */
    int32_t recompute;    /* ConfigRecompute */
    int64_t head_chunk;   /* rows of logits held at once; CONFIG_AUTO */
    int32_t offload;      /* ConfigOffload */
    int32_t master;       /* ConfigMaster */
} MemoryConfig;

typedef struct {
    double init_timeout, step_timeout, save_timeout; /* seconds; step_timeout < 0: auto */
    int64_t max_bad_steps;
    double skip_outlier_z;          /* 0: none is skipped */
    int64_t replica_check_interval; /* 0: never */
} FaultConfig;

typedef struct {
    ModelConfig model;
    DataConfig data;
    BatchConfig batch;
    OptimConfig optim;
    RunConfig run;
    SystemConfig system;
    MemoryConfig memory;
    FaultConfig fault;
    char notice[CONFIG_TEXT_BYTES];  /* nanoGPT keys without meaning here, in a line; or "" */
    bool given[CONFIG_MAX_SETTINGS]; /* settings that are no defaults: config_is_given */
} Config;

/* How a run cut its steps up: what of the choices left to the plan the order of sums depends on,
 * and with it the last bits of a run. */
typedef struct {
    int64_t world; /* ranks; 0: not known, nor is the rest */
    int64_t micro_batch, head_chunk;
    int64_t zero_stage;
} StepCut;

void config_defaults(Config *cfg);

/* Defaults, then the file (path may be NULL; an INI file, or with ".py" at its end one of
 * nanoGPT's, whose gelu is erf), then the overrides in order, then the checks between
 * settings. An override is "key=value" (leading dashes and "section." are allowed). Every fault is
 * one ERR_USAGE (ERR_MISSING for an unreadable file) that says file:line or the argument, what is
 * wrong, the nearest known key or the bounds, and what to do. Reads one file; not collective. */
Err config_load(Config *cfg, const char *path, int32_t n_overrides, char *const override[]);

/* Set one key as an override would, without the checks between settings. `where` names the
 * place. */
Err config_set(Config *cfg, const char *where, const char *key, const char *value);

/* The checks between settings (divisibility, order of bounds). */
Err config_check(const Config *cfg);

/* The resolved settings as an INI file that config_load reads back to the same Config (but for
 * notice, and that all are given). */
void config_print(const Config *cfg, FILE *out);

/* The key table for people: section, key, default, bounds, unit, meaning. */
void config_help(FILE *out);

/* Call visit(arg, key, value) for every key, in the order of the table: for trainer.json and
 * comparisons. config_set(cfg, where, key, value) reads each back. */
void config_visit(const Config *cfg, void (*visit)(void *arg, const char *key, const char *value),
                  void *arg);

ConfigInit config_init_kind(const Config *cfg);

/* Does the setting come from a file or an override (or config_set), even if it is the default? An
 * ASSERT when there is no such key. */
bool config_is_given(const Config *cfg, const char *key);

/* Of the settings in a StepCut, those that are `auto` become what they are there. */
void config_keep_cut(Config *cfg, const StepCut *cut);

/* Sequences in one step, over all ranks: gradient_accumulation_steps * batch_size. */
int64_t config_step_sequences(const Config *cfg);

#ifdef __cplusplus
}
#endif
#endif
