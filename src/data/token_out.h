/* TokenOut: the token files of a data set on their way to the disk, of the two sequences train and
 * val: nanoGPT's train.bin and val.bin (16-bit ids), or llm.c's shards NAME_train_000000.bin ...
 * and NAME_val_000000.bin ... (256 int32: 20240520, 1, count; then the ids). */
#ifndef GPT_DATA_TOKEN_OUT_H
#define GPT_DATA_TOKEN_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "data/corpus.h"
#include "data/staging.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { TOKEN_NANOGPT, TOKEN_LLMC } TokenFormat;

typedef struct TokenOut TokenOut;

/* name: of llm.c's files; shard_tokens: of all but the last of each sequence. Both are borrowed
 * with staging. ERR_SYSTEM. Release with token_out_close, which removes what is not published. */
Err token_out_open(TokenOut **out, const Staging *staging, TokenFormat format, const char *name,
                   int64_t shard_tokens);
/* How far a sequence is. */
typedef struct {
    int32_t n_files;
    bool is_open; /* the newest file; it has n_in_file ids */
    int64_t n_ids, n_in_file;
} TokenPlace;

/* All that was written is on the disk, up to there. ERR_WRITE. */
Err token_out_sync(TokenOut *out, TokenPlace place[N_SPLITS]);
/* Go on from there, before anything is written, with the files of another run whose staging this
 * is. ERR_WRITE when they are not all there: then those are removed that are. */
Err token_out_resume(TokenOut *out, const TokenPlace place[N_SPLITS]);

Err token_out_write(TokenOut *out, CorpusSplit split, const uint16_t *ids, int64_t n_ids);
/* All is written and synced: only names are missing. ERR_WRITE. */
Err token_out_finish(TokenOut *out);
/* *name: a file in the folder that training might take for tokens; "" when there is none. */
Err token_out_find_older(const Staging *staging, char name[FILE_PATH_BYTES]);
/* The same, but one whose name is none of those that are written here. */
Err token_out_find_foreign(const Staging *staging, char name[FILE_PATH_BYTES]);
/* Remove the token files of both formats in the folder that have names as they are written here.
 * ERR_WRITE. */
Err token_out_remove_older(TokenOut *out);
/* Give these their names; the first of val gets its own last: without one, a data set is refused as
 * incomplete. ERR_WRITE. */
Err token_out_publish(TokenOut *out);
void token_out_close(TokenOut *out); /* accepts NULL */

int64_t token_out_tokens(const TokenOut *out, CorpusSplit split);
int32_t token_out_files(const TokenOut *out, CorpusSplit split);

#ifdef __cplusplus
}
#endif
#endif
