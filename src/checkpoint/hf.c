#include "checkpoint/hf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "checkpoint/doc.h"

/* GPT-2's end-of-text token, where the vocabulary has it. */
enum { GPT2_END_OF_TEXT = 50256 };
/* Bounds of what a config.json may ask for: beyond any GPT-2, near enough for sane arithmetic. */
enum { MAX_LAYERS = 10000, MAX_EMBD = 1 << 20, MAX_POSITIONS = 1 << 24, MAX_VOCAB = 1 << 24 };

static const char PREFIX[] = "transformer.", LM_HEAD[] = "lm_head.weight";
static const double LAYER_NORM_EPSILON = 1e-5; /* op_layernorm_forward's */

/* ---- config.json ------------------------------------------------------------------------- */

/* The double with fewest digits that is this float: 0.1, not 0.10000000149. */
static double shortest_double(float value)
{
    char text[32];
    double found = (double)value;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        found = strtod(text, NULL);
        if ((float)found == value)
            break;
    }
    return found;
}

static json_t *end_of_text(const GptDims *dims)
{
    return dims->vocab_size > GPT2_END_OF_TEXT ? json_integer(GPT2_END_OF_TEXT) : json_null();
}

Err hf_config_write(const char *path, const GptDims *dims, FileDigest *digest)
{
    double dropout = shortest_double(dims->dropout);
    json_t *root = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:i, s:i, s:n, s:s, s:f, s:f, s:f, s:f, s:f, s:b, s:b, "
        "s:o, s:o, s:s}",
        "architectures", "GPT2LMHeadModel", "model_type", "gpt2", "vocab_size",
        (json_int_t)dims->vocab_size, "n_positions", (json_int_t)dims->block_size, "n_ctx",
        (json_int_t)dims->block_size, "n_embd", (json_int_t)dims->n_embd, "n_layer",
        (int)dims->n_layer, "n_head", (int)dims->n_head, "n_inner", "activation_function",
        dims->gelu == GELU_ERF ? "gelu" : "gelu_new", "resid_pdrop", dropout, "embd_pdrop", dropout,
        "attn_pdrop", dropout, "layer_norm_epsilon", LAYER_NORM_EPSILON, "initializer_range", 0.02,
        "scale_attn_weights", 1, "tie_word_embeddings", 1, "bos_token_id", end_of_text(dims),
        "eos_token_id", end_of_text(dims), "torch_dtype", "float32");
    return doc_write(path, root, 15, digest);
}

Err hf_generation_write(const char *path, const GptDims *dims, FileDigest *digest)
{
    json_t *root = json_pack("{s:b, s:o, s:o}", "_from_model_config", 1, "bos_token_id",
                             end_of_text(dims), "eos_token_id", end_of_text(dims));
    return doc_write(path, root, 15, digest);
}

static Err read_gelu(const Doc *doc, int32_t *gelu)
{
    const char *name = "gelu_new"; /* GPT2Config's default */
    if (doc_has(doc, "activation_function"))
        TRY(doc_text(doc, "activation_function", &name));
    if (strcmp(name, "gelu_new") == 0 || strcmp(name, "gelu_pytorch_tanh") == 0)
        *gelu = CONFIG_GELU_TANH;
    else if (strcmp(name, "gelu") == 0)
        *gelu = CONFIG_GELU_ERF;
    else
        FAIL(ERR_DATA, "%s: activation_function is neither gelu_new (gelu = tanh) nor gelu (erf)",
             doc->path);
    return OK;
}

static Err require_bool(const Doc *doc, const char *key, bool wanted)
{
    bool value = wanted;
    if (doc_has(doc, key))
        TRY(doc_bool(doc, key, &value));
    if (value != wanted)
        FAIL(ERR_DATA, "%s: \"%s\" is %s, this program computes the other kind of GPT-2", doc->path,
             key, value ? "true" : "false");
    return OK;
}

/* What GPT2Config can vary and this program does not. */
static Err check_kind(const Doc *doc, const ModelConfig *model)
{
    int64_t n_inner = 4 * model->n_embd;
    double epsilon = LAYER_NORM_EPSILON;
    TRY(require_bool(doc, "scale_attn_weights", true));
    TRY(require_bool(doc, "scale_attn_by_inverse_layer_idx", false));
    TRY(require_bool(doc, "add_cross_attention", false));
    TRY(require_bool(doc, "tie_word_embeddings", true));
    if (doc_has(doc, "n_inner"))
        TRY(doc_i64(doc, "n_inner", n_inner, n_inner, &n_inner));
    if (doc_has(doc, "layer_norm_epsilon"))
        TRY(doc_f64(doc, "layer_norm_epsilon", &epsilon));
    if (!(fabs(epsilon - LAYER_NORM_EPSILON) < 1e-12))
        FAIL(ERR_DATA, "%s: \"layer_norm_epsilon\" is %g, wanted %g", doc->path, epsilon,
             LAYER_NORM_EPSILON);
    return OK;
}

static Err read_model(const Doc *doc, ModelConfig *model)
{
    const char *type;
    TRY(doc_text(doc, "model_type", &type));
    if (strcmp(type, "gpt2") != 0)
        FAIL(ERR_DATA, "%s: \"model_type\" is not gpt2", doc->path);
    TRY(doc_i64(doc, "n_layer", 1, MAX_LAYERS, &model->n_layer));
    TRY(doc_i64(doc, "n_embd", 1, MAX_EMBD, &model->n_embd));
    TRY(doc_i64(doc, "n_head", 1, model->n_embd, &model->n_head));
    TRY(doc_i64(doc, "n_positions", 1, MAX_POSITIONS, &model->block_size));
    TRY(doc_i64(doc, "vocab_size", 1, MAX_VOCAB, &model->vocab_size));
    if (model->n_embd % model->n_head)
        FAIL(ERR_DATA, "%s: n_embd %lld is not a multiple of n_head %lld", doc->path,
             (long long)model->n_embd, (long long)model->n_head);
    if (doc_has(doc, "resid_pdrop"))
        TRY(doc_f64(doc, "resid_pdrop", &model->dropout));
    if (!(model->dropout >= 0 && model->dropout < 1))
        FAIL(ERR_DATA, "%s: \"resid_pdrop\" is %g, wanted 0 to below 1", doc->path, model->dropout);
    TRY(read_gelu(doc, &model->gelu));
    return check_kind(doc, model);
}

Err hf_config_read(const char *path, GptDims *dims)
{
    Doc doc;
    Config cfg = {.model.bias = true};
    TRY(doc_open(&doc, path));
    Err err = read_model(&doc, &cfg.model);
    doc_close(&doc);
    TRY(err);
    *dims = gpt_dims(&cfg, cfg.model.vocab_size);
    return OK;
}

/* ---- names, writing ---------------------------------------------------------------------- */

SafeTensor hf_tensor(const Param *p, const char *prefix)
{
    SafeTensor t = {.dtype = DTYPE_F32, .rank = p->rank, .dim = {p->file_rows, p->dim[1], 1, 1}};
    snprintf(t.name, sizeof t.name, "%s%s", prefix, p->name);
    return t;
}

bool hf_zero_bias(const Param *p, SafeTensor *t)
{
    static const char WEIGHT[] = ".weight";
    size_t n = strlen(p->name), stem = n - (sizeof WEIGHT - 1);
    if (p->kind == PARAM_WTE || p->kind == PARAM_WPE)
        return false;
    ASSERT(n > sizeof WEIGHT && strcmp(p->name + stem, WEIGHT) == 0, "%s is no weight", p->name);
    *t = (SafeTensor){.dtype = DTYPE_F32, .rank = 1};
    t->dim[0] = p->rank == 1 ? p->dim[0] : p->dim[1];
    t->dim[1] = t->dim[2] = t->dim[3] = 1;
    snprintf(t->name, sizeof t->name, "%.*s.bias", (int)stem, p->name);
    return true;
}

/* ---- names, reading ---------------------------------------------------------------------- */

/* Everything one matching needs. */
typedef struct {
    const GptDims *dims;
    const Layout *layout;
    Weight *found, lm_head;
} Match;

static const char *without_prefix(const char *name)
{
    size_t n = sizeof PREFIX - 1;
    return strncmp(name, PREFIX, n) == 0 ? name + n : name;
}

/* "h.N.attn.bias" and "h.N.attn.masked_bias": causal masks, saved by old transformers. */
static bool is_mask(const char *name)
{
    int layer, end = 0;
    if (sscanf(name, "h.%9d.attn.%n", &layer, &end) != 1 || end == 0)
        return false;
    return strcmp(name + end, "bias") == 0 || strcmp(name + end, "masked_bias") == 0;
}

Err hf_check_shape(const char *path, const SafeTensor *t, const SafeTensor *wanted)
{
    if (t->rank != wanted->rank)
        FAIL(ERR_DATA, "%s: tensor %s: %d dimensions, wanted %d", path, t->name, t->rank,
             wanted->rank);
    for (int32_t d = 0; d < t->rank; d++)
        if (t->dim[d] != wanted->dim[d])
            FAIL(ERR_DATA, "%s: tensor %s: dimension %d is %lld, wanted %lld", path, t->name, d,
                 (long long)t->dim[d], (long long)wanted->dim[d]);
    if (t->dtype == DTYPE_U8)
        FAIL(ERR_DATA, "%s: tensor %s: its dtype is not a float", path, t->name);
    return OK;
}

/* Is t the bias that weight p would have? It must be zero then. */
static Err match_zero_bias(const Param *p, const Weight *w, bool *matched)
{
    SafeTensor bias;
    const char *path = w->file->path, *name = w->tensor->name;
    *matched = hf_zero_bias(p, &bias) && strcmp(bias.name, without_prefix(name)) == 0;
    if (!*matched)
        return OK;
    TRY(hf_check_shape(path, w->tensor, &bias));
    for (int64_t i = 0; i < bias.dim[0]; i++) {
        float value;
        weight_read_f32(w, i, 1, &value);
        if (value != 0)
            FAIL(ERR_DATA,
                 "%s: tensor %s: element %lld is %g, and bias = false has no place for it: "
                 "set bias = true, or leave it out",
                 path, name, (long long)i, (double)value);
    }
    return OK;
}

static Err match_param(Match *m, int32_t index, const Weight *w)
{
    const Param *p = &m->layout->param[index];
    const SafeTensor *t = w->tensor;
    SafeTensor wanted = hf_tensor(p, "");
    if (m->found[index].file)
        FAIL(ERR_DATA, "%s: tensors %s and %s are the same", w->file->path,
             m->found[index].tensor->name, t->name);
    if (p->kind == PARAM_WPE && t->rank == wanted.rank && t->dim[0] > wanted.dim[0])
        wanted.dim[0] = t->dim[0];
    TRY(hf_check_shape(w->file->path, t, &wanted));
    m->found[index] = *w;
    return OK;
}

static Err match_tensor(Match *m, const Weight *w)
{
    const char *name = without_prefix(w->tensor->name);
    bool matched = is_mask(name);
    if (strcmp(w->tensor->name, LM_HEAD) == 0) {
        m->lm_head = *w;
        return OK;
    }
    for (int32_t i = 0; i < m->layout->n_params && !matched; i++) {
        const Param *p = &m->layout->param[i];
        if (strcmp(name, p->name) == 0)
            return match_param(m, i, w);
        if (!m->dims->bias)
            TRY(match_zero_bias(p, w, &matched));
    }
    if (!matched)
        FAIL(ERR_DATA, "%s: tensor %s: no such tensor in a GPT-2 of %d layers", w->file->path,
             w->tensor->name, m->dims->n_layer);
    return OK;
}

static Err match_file(Match *m, const WeightFile *file)
{
    for (int32_t i = 0; i < file->safe.n_tensors; i++)
        TRY(match_tensor(m, &(Weight){file, &file->safe.tensor[i]}));
    return OK;
}

static const uint8_t *bytes_of(const Weight *w)
{
    return w->file->safe.map.data + w->tensor->offset;
}

/* A head of its own would be lost without a word. */
static Err check_tied(const Match *m)
{
    const Weight *head = &m->lm_head, *wte = &m->found[0];
    if (!head->file)
        return OK;
    ASSERT(m->layout->param[0].kind == PARAM_WTE, "%s comes first", m->layout->param[0].name);
    bool tied = head->tensor->dtype == wte->tensor->dtype &&
                head->tensor->n_bytes == wte->tensor->n_bytes &&
                memcmp(bytes_of(head), bytes_of(wte), wte->tensor->n_bytes) == 0;
    if (!tied)
        FAIL(ERR_DATA, "%s: tensor %s: it differs from wte.weight; only tied heads are supported",
             head->file->path, LM_HEAD);
    return OK;
}

Err hf_match(const Weights *weights, const char *where, const GptDims *dims, const Layout *layout,
             Weight *found)
{
    Match m = {dims, layout, found, {0}};
    memset(found, 0, (size_t)layout->n_params * sizeof *found);
    for (int32_t i = 0; i < weights->n_files; i++)
        TRY(match_file(&m, &weights->file[i]));
    for (int32_t i = 0; i < layout->n_params; i++)
        if (!found[i].file)
            FAIL(ERR_DATA, "%s: tensor %s is missing", where, layout->param[i].name);
    return check_tied(&m);
}
