/* Layout: which parameter tensors a GPT-2 has, what they are called, and where they lie in the
 * flat vectors.
 *
 * One flat vector per role (parameters, gradients) holds all tensors in forward order: wte,
 * wpe, h.0 ... h.L-1, ln_f. Names and shapes are Hugging Face's (linear weights are (in, out)),
 * so a checkpoint needs no transposing. Each tensor starts at a multiple of 64 elements. A
 * bucket is a run of whole tensors, the unit of communication: at least bucket_elements long,
 * padded to a multiple of pad_elements. wte and wpe are buckets of their own, the first two, for
 * their gradients are final last (wte is tied to the head). The others end only where backward has
 * finished all tensors behind: while gradients of one are added up, those of no other are. Padding
 * is zero for ever and counts in no norm and in no file. */
#ifndef GPT_MODEL_LAYOUT_H
#define GPT_MODEL_LAYOUT_H

#include "base/err.h"
#include "base/tensor.h"
#include "config/config.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t n_layer, n_head;
    int64_t n_embd, block_size;
    int64_t vocab_size;   /* V: what the data and the checkpoint know */
    int64_t vocab_padded; /* Vp: V rounded up to a multiple of 128, in memory only */
    bool bias;
    GeluKind gelu;
    float dropout;
} GptDims;

/* The dims of a config whose vocab_size is known. */
GptDims gpt_dims(const Config *cfg, int64_t vocab_size);

typedef enum {
    PARAM_WTE,
    PARAM_WPE,
    PARAM_LN_1_W,
    PARAM_LN_1_B,
    PARAM_ATTN_W,
    PARAM_ATTN_B,
    PARAM_ATTN_PROJ_W,
    PARAM_ATTN_PROJ_B,
    PARAM_LN_2_W,
    PARAM_LN_2_B,
    PARAM_FC_W,
    PARAM_FC_B,
    PARAM_FC_PROJ_W,
    PARAM_FC_PROJ_B,
    PARAM_LN_F_W,
    PARAM_LN_F_B,
    N_PARAM_KINDS
} ParamKind;

typedef struct {
    char name[48]; /* Hugging Face: "h.0.attn.c_attn.weight" */
    ParamKind kind;
    int32_t layer; /* -1 outside the blocks */
    int32_t bucket;
    int32_t rank;      /* 1 or 2 */
    int64_t dim[2];    /* in memory: wte is (Vp, C); a vector is (n, 1) */
    int64_t file_rows; /* rows that exist for the world: V for wte, else dim[0] */
    int64_t offset;    /* first element in the flat vector */
    bool decay;        /* weight decay applies: tensors of two dimensions */
} Param;

typedef struct {
    int64_t offset, count; /* padded elements in the flat vector */
    int32_t first_param, n_params;
} Bucket;

typedef struct {
    int32_t n_params, n_buckets;
    int32_t n_block_params; /* of one block; the first block's begin behind wte and wpe */
    Param *param;   /* [n_params] in flat order */
    Bucket *bucket; /* [n_buckets] in flat order, contiguous and covering */
    int64_t count;  /* elements of a flat vector, padding included */
} Layout;

enum { LAYOUT_TABLES = 2 }; /* the first tensors, each a bucket: wte and wpe */

/* pad_elements: what every bucket is padded to a multiple of, so that it cuts evenly over ranks
 * (optim/shard.h, shard_pad_elements). Allocates two small tables (host memory); layout_free
 * releases them. */
Err layout_make(Layout *layout, const GptDims *dims, int64_t bucket_elements, int64_t pad_elements);
void layout_free(Layout *layout);
/* Elements of the largest bucket after the first `skip`. */
int64_t layout_largest_bucket(const Layout *layout, int32_t skip);

int64_t param_count(const Param *p);      /* elements in memory */
int64_t param_file_count(const Param *p); /* elements in a checkpoint */
/* NULL: no such tensor (bias off). */
const Param *layout_find(const Layout *layout, ParamKind kind, int32_t layer);

/* The parameters the world counts: no padding; nanoGPT's printed number leaves out wpe. */
int64_t gpt_param_count(const GptDims *dims, bool with_wpe);

/* FLOP per token of one training step: 6 N + 6 L C T (causal attention), N without wpe. */
double gpt_flop_per_token(const GptDims *dims);

#ifdef __cplusplus
}
#endif
#endif
