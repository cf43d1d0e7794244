/* Encode a batch: the documents of a CorpusBatch become tokens, for each of the two sequences. One
 * thread's work: it touches nothing that others do. */
#ifndef GPT_DATA_ENCODE_BATCH_H
#define GPT_DATA_ENCODE_BATCH_H

#include "data/corpus.h"
#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where BPE_END_OF_TEXT stands: behind each document as nanoGPT has it, before it as llm.c. */
typedef enum { EOT_APPEND, EOT_PREPEND, EOT_NONE } EotPlace;

typedef struct {
    const Bpe *bpe;
    const char *text_key; /* of JSON lines */
    double val_fraction;
    EotPlace eot;
} EncodeRules;

enum { ENCODE_WHY_BYTES = 160 };

/* Zero-initialised is empty. */
typedef struct {
    uint16_t *ids[N_SPLITS]; /* owned */
    size_t capacity;         /* of each */
    int64_t n_ids[N_SPLITS], n_documents[N_SPLITS];
    size_t n_bytes;             /* of text */
    int64_t n_bad;              /* lines that hold no document */
    int64_t first_bad;          /* the first one's number, when n_bad > 0 */
    char why[ENCODE_WHY_BYTES]; /* it does not */
} Encoded;

/* Replaces what is in `out`. ERR_SYSTEM: memory. */
Err encode_batch(const EncodeRules *rules, BpeEncoder *e, const CorpusBatch *batch, Encoded *out);
void encoded_free(Encoded *out);

#ifdef __cplusplus
}
#endif
#endif
