/* The small BPE vocabulary of tests/golden/bpe: 256 bytes, 200 merges, <|endoftext|>. */
#ifndef GPT_TESTS_TOY_BPE_H
#define GPT_TESTS_TOY_BPE_H

#include "tests/support/temp.h"
#include "text/bpe.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TOY_BPE_VOCAB = 457 };

/* Its folder, into `dir` (FILE_PATH_BYTES). */
void toy_bpe_dir(char *dir);
/* The text of one of its files; free it. */
char *toy_bpe_text(const char *name, size_t *n_bytes);
/* bpe_close it. A test stops when it cannot be opened. */
Bpe *toy_bpe_open(void);

#ifdef __cplusplus
}
#endif
#endif
