/* Decoder: what comes next in a text that grows token by token. The keys and values of the tokens
 * seen are kept (block_size rows of C for each layer), so that one more token costs one row of each
 * product.
 *
 * A token's keys depend on its position. When a text has outgrown block_size its last block_size
 * tokens count, each one place earlier with every further token, as in nanoGPT: nothing that was
 * kept holds any more, and each token costs a whole forward pass. */
#ifndef GPT_MODEL_DECODER_H
#define GPT_MODEL_DECODER_H

#include "model/gpt2.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    GPT2 *model;    /* borrowed */
    bool keep;      /* false: whole passes, to compare with. True unless set after open */
    KvCache *layer; /* [n_layer] (n_tokens, C) */
    Tensor tokens;  /* (n_tokens) i32 */
    int32_t *ids;   /* [n_tokens] those whose keys and values are in the cache, ... */
    int64_t n_ids;  /* ... so many of them */
} Decoder;

/* Host-side tables only; decoder_close frees them. The model must outlive the decoder, is open for
 * one sequence of block_size tokens, and belongs to it: a forward pass of others leaves the cache
 * as it is. ERR_SYSTEM. */
Err decoder_open(Decoder *d, GPT2 *model);
void decoder_close(Decoder *d);
/* Lay out the cache, beside gpt2_layout. May be called again, on another arena. */
void decoder_layout(Decoder *d, Arena *arena);

/* Nothing is kept: the parameters, or what lies in the cache's memory, are others now. */
void decoder_forget(Decoder *d);

/* logits (vocab_size), float32 in host memory, of the token after ids[0..n_ids), n_ids >= 1, of
 * which the last block_size count. Any ids: what they share with the call before from the first on
 * is not computed again. Waits. */
Err decoder_next(Decoder *d, Device *dev, const int32_t *ids, int64_t n_ids, float *logits);

#ifdef __cplusplus
}
#endif
#endif
