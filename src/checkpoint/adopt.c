/* The shape of a model that is there already, as settings. */
#include "checkpoint/checkpoint.h"

#include <string.h>

#include "checkpoint/names.h"

static void adopt_number(Config *cfg, const char *key, int64_t *setting, int64_t value)
{
    if (!config_is_given(cfg, key))
        *setting = value;
}

static void adopt(Config *cfg, const GptDims *dims)
{
    ModelConfig *model = &cfg->model;
    adopt_number(cfg, "n_layer", &model->n_layer, dims->n_layer);
    adopt_number(cfg, "n_head", &model->n_head, dims->n_head);
    adopt_number(cfg, "n_embd", &model->n_embd, dims->n_embd);
    adopt_number(cfg, "block_size", &model->block_size, dims->block_size);
    if (!config_is_given(cfg, "bias"))
        model->bias = dims->bias;
    if (!config_is_given(cfg, "gelu"))
        model->gelu = dims->gelu == GELU_ERF ? CONFIG_GELU_ERF : CONFIG_GELU_TANH;
}

/* Said of the setting: "cannot open gpt2/config.json" does not tell who wanted it. */
static Err require_model(const char *dir)
{
    char config[FILE_PATH_BYTES];
    TRY(path_join(config, dir, CONFIG_NAME));
    if (!path_is_dir(dir) && strncmp(dir, "gpt2", 4) == 0 && !strchr(dir, '/'))
        FAIL(ERR_MISSING,
             "init_from = %s: no such directory; for OpenAI's weights: hf download "
             "openai-community/%s config.json "
             "model.safetensors vocab.json merges.txt --local-dir %s",
             dir, dir, dir);
    if (!path_is_dir(dir))
        FAIL(ERR_MISSING,
             "init_from = %s: no such directory; it is scratch, resume, auto, or a directory with "
             "a model, as Hugging Face has them",
             dir);
    if (!path_exists(config))
        FAIL(ERR_MISSING,
             "init_from = %s: no %s there; name a Hugging Face directory, or a checkpoint "
             "(step_...) inside an out_dir",
             dir, CONFIG_NAME);
    return OK;
}

static Err adopt_directory(Config *cfg)
{
    GptDims dims;
    TRY(require_model(cfg->model.init_from));
    TRY(checkpoint_read_dims(cfg->model.init_from, &dims));
    adopt(cfg, &dims);
    adopt_number(cfg, "vocab_size", &cfg->model.vocab_size, dims.vocab_size);
    return config_check(cfg);
}

/* What is wrong with a checkpoint is said where it is loaded, or an older one in its place. */
static Err adopt_newest(Config *cfg)
{
    char dir[FILE_PATH_BYTES];
    bool found = false;
    GptDims dims;
    Err err = checkpoint_newest(cfg->run.out_dir, &found, dir);
    if (!err && found)
        err = checkpoint_read_dims(dir, &dims);
    if (!err && found)
        adopt(cfg, &dims);
    err_free(err);
    return config_check(cfg);
}

Err checkpoint_adopt_shape(Config *cfg)
{
    switch (config_init_kind(cfg)) {
    case INIT_DIRECTORY:
        return adopt_directory(cfg);
    case INIT_RESUME:
    case INIT_AUTO:
        return adopt_newest(cfg);
    case INIT_SCRATCH:
        break;
    }
    return OK;
}
