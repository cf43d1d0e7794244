#include "model/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { TENSOR_ALIGN_ELEMENTS = 64, VOCAB_ALIGN = 128 };

/* One row per tensor of a block or of the end, in forward order; dimensions in units of n_embd. */
typedef struct {
    ParamKind kind;
    const char *name;
    int32_t rows, cols; /* cols 0: a vector */
    bool is_bias;
} Spec;

static const Spec BLOCK[] = {
    {PARAM_LN_1_W, "ln_1.weight", 1, 0, false},
    {PARAM_LN_1_B, "ln_1.bias", 1, 0, true},
    {PARAM_ATTN_W, "attn.c_attn.weight", 1, 3, false},
    {PARAM_ATTN_B, "attn.c_attn.bias", 3, 0, true},
    {PARAM_ATTN_PROJ_W, "attn.c_proj.weight", 1, 1, false},
    {PARAM_ATTN_PROJ_B, "attn.c_proj.bias", 1, 0, true},
    {PARAM_LN_2_W, "ln_2.weight", 1, 0, false},
    {PARAM_LN_2_B, "ln_2.bias", 1, 0, true},
    {PARAM_FC_W, "mlp.c_fc.weight", 1, 4, false},
    {PARAM_FC_B, "mlp.c_fc.bias", 4, 0, true},
    {PARAM_FC_PROJ_W, "mlp.c_proj.weight", 4, 1, false},
    {PARAM_FC_PROJ_B, "mlp.c_proj.bias", 1, 0, true},
};
static const Spec FINAL[] = {
    {PARAM_LN_F_W, "ln_f.weight", 1, 0, false},
    {PARAM_LN_F_B, "ln_f.bias", 1, 0, true},
};

#define COUNT_OF(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

static int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

GptDims gpt_dims(const Config *cfg, int64_t vocab_size)
{
    const ModelConfig *model = &cfg->model;
    return (GptDims){
        .n_layer = (int32_t)model->n_layer,
        .n_head = (int32_t)model->n_head,
        .n_embd = model->n_embd,
        .block_size = model->block_size,
        .vocab_size = vocab_size,
        .vocab_padded = round_up(vocab_size, VOCAB_ALIGN),
        .bias = model->bias,
        .gelu = model->gelu == CONFIG_GELU_ERF ? GELU_ERF : GELU_TANH,
        .dropout = (float)model->dropout,
    };
}

/* ---- the tensors ------------------------------------------------------------------------- */

static Param *add_param(Layout *layout, ParamKind kind, int32_t layer)
{
    Param *p = &layout->param[layout->n_params++];
    p->kind = kind;
    p->layer = layer;
    return p;
}

static void add_table(Layout *layout, const char *name, ParamKind kind, int64_t rows,
                      int64_t file_rows, int64_t cols)
{
    Param *p = add_param(layout, kind, -1);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->rank = 2;
    p->dim[0] = rows;
    p->dim[1] = cols;
    p->file_rows = file_rows;
    p->decay = true;
}

static void add_specs(Layout *layout, const GptDims *dims, const Spec *spec, int32_t n,
                      int32_t layer)
{
    for (int32_t i = 0; i < n; i++, spec++) {
        if (spec->is_bias && !dims->bias)
            continue;
        Param *p = add_param(layout, spec->kind, layer);
        if (layer < 0)
            snprintf(p->name, sizeof p->name, "%s", spec->name);
        else
            snprintf(p->name, sizeof p->name, "h.%d.%s", (int)layer, spec->name);
        p->rank = spec->cols ? 2 : 1;
        p->dim[0] = spec->rows * dims->n_embd;
        p->dim[1] = spec->cols ? spec->cols * dims->n_embd : 1;
        p->file_rows = p->dim[0];
        p->decay = p->rank == 2;
    }
}

static void add_params(Layout *layout, const GptDims *dims)
{
    add_table(layout, "wte.weight", PARAM_WTE, dims->vocab_padded, dims->vocab_size, dims->n_embd);
    add_table(layout, "wpe.weight", PARAM_WPE, dims->block_size, dims->block_size, dims->n_embd);
    for (int32_t layer = 0; layer < dims->n_layer; layer++)
        add_specs(layout, dims, BLOCK, COUNT_OF(BLOCK), layer);
    layout->n_block_params = (layout->n_params - LAYOUT_TABLES) / dims->n_layer;
    add_specs(layout, dims, FINAL, COUNT_OF(FINAL), -1);
}

/* ---- the buckets ------------------------------------------------------------------------- */

static void open_bucket(Layout *layout, int32_t first_param)
{
    layout->bucket[layout->n_buckets++] =
        (Bucket){.offset = layout->count, .first_param = first_param};
}

static void close_bucket(Layout *layout, int64_t pad_elements)
{
    Bucket *bucket = &layout->bucket[layout->n_buckets - 1];
    bucket->count = round_up(bucket->count, pad_elements);
    layout->count += bucket->count;
}

static void add_to_bucket(Layout *layout, Param *p)
{
    Bucket *bucket = &layout->bucket[layout->n_buckets - 1];
    p->bucket = layout->n_buckets - 1;
    p->offset = bucket->offset + bucket->count;
    bucket->count += round_up(param_count(p), TENSOR_ALIGN_ELEMENTS);
    bucket->n_params++;
}

/* Does backward finish this tensor and those behind it before it begins with those in front? The
 * places of final_from in backward.c. */
static bool begins_group(const Param *p)
{
    return p->kind == PARAM_LN_1_W || p->kind == PARAM_ATTN_PROJ_W || p->kind == PARAM_LN_2_W ||
           p->kind == PARAM_FC_PROJ_W || p->kind == PARAM_LN_F_W;
}

/* `last` is not the last of all. */
static bool bucket_is_full(const Layout *layout, const Param *last, int64_t bucket_elements)
{
    if (last->kind == PARAM_WTE || last->kind == PARAM_WPE)
        return true;
    return begins_group(last + 1) && layout->bucket[last->bucket].count >= bucket_elements;
}

static void place_params(Layout *layout, int64_t bucket_elements, int64_t pad_elements)
{
    open_bucket(layout, 0);
    for (int32_t i = 0; i < layout->n_params; i++) {
        add_to_bucket(layout, &layout->param[i]);
        bool is_last = i + 1 == layout->n_params;
        if (!is_last && !bucket_is_full(layout, &layout->param[i], bucket_elements))
            continue;
        close_bucket(layout, pad_elements);
        if (!is_last)
            open_bucket(layout, i + 1);
    }
}

Err layout_make(Layout *layout, const GptDims *dims, int64_t bucket_elements, int64_t pad_elements)
{
    ASSERT(pad_elements > 0 && pad_elements % TENSOR_ALIGN_ELEMENTS == 0, "pad_elements %lld",
           (long long)pad_elements);
    ASSERT(dims->vocab_padded >= dims->vocab_size, "vocab_padded %lld",
           (long long)dims->vocab_padded);
    size_t most = LAYOUT_TABLES + (size_t)dims->n_layer * COUNT_OF(BLOCK) + COUNT_OF(FINAL);
    *layout = (Layout){.param = calloc(most, sizeof *layout->param),
                       .bucket = calloc(most, sizeof *layout->bucket)};
    if (!layout->param || !layout->bucket) {
        layout_free(layout);
        FAIL(ERR_SYSTEM, "no memory for the table of %zu tensors", most);
    }
    add_params(layout, dims);
    place_params(layout, bucket_elements, pad_elements);
    return OK;
}

void layout_free(Layout *layout)
{
    free(layout->param);
    free(layout->bucket);
    *layout = (Layout){0};
}

/* ---- questions --------------------------------------------------------------------------- */

int64_t param_count(const Param *p)
{
    return p->dim[0] * p->dim[1];
}

int64_t param_file_count(const Param *p)
{
    return p->file_rows * p->dim[1];
}

int64_t layout_largest_bucket(const Layout *layout, int32_t skip)
{
    int64_t largest = 0;
    for (int32_t b = skip; b < layout->n_buckets; b++)
        largest = layout->bucket[b].count > largest ? layout->bucket[b].count : largest;
    return largest;
}

const Param *layout_find(const Layout *layout, ParamKind kind, int32_t layer)
{
    int32_t begin = layer < 0 ? 0 : LAYOUT_TABLES + layer * layout->n_block_params;
    int32_t end = layer < 0 ? layout->n_params : begin + layout->n_block_params;
    for (int32_t i = begin; i < end && i < layout->n_params; i++)
        if (layout->param[i].kind == kind && layout->param[i].layer == layer)
            return &layout->param[i];
    return NULL;
}

static int64_t specs_count(const GptDims *dims, const Spec *spec, int32_t n)
{
    int64_t count = 0, C = dims->n_embd;
    for (int32_t i = 0; i < n; i++, spec++)
        if (!spec->is_bias || dims->bias)
            count += spec->rows * C * (spec->cols ? spec->cols * C : 1);
    return count;
}

int64_t gpt_param_count(const GptDims *dims, bool with_wpe)
{
    int64_t rows = dims->vocab_size + (with_wpe ? dims->block_size : 0);
    return rows * dims->n_embd + dims->n_layer * specs_count(dims, BLOCK, COUNT_OF(BLOCK)) +
           specs_count(dims, FINAL, COUNT_OF(FINAL));
}

double gpt_flop_per_token(const GptDims *dims)
{
    double n_params = (double)gpt_param_count(dims, false);
    double attention = (double)dims->n_layer * (double)dims->n_embd * (double)dims->block_size;
    return 6.0 * n_params + 6.0 * attention;
}
