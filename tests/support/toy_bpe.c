#include "tests/support/toy_bpe.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check_err.h"

void toy_bpe_dir(char *dir)
{
    const char *source = getenv("GPT_SOURCE");
    snprintf(dir, FILE_PATH_BYTES, "%s/tests/golden/bpe", source ? source : ".");
}

char *toy_bpe_text(const char *name, size_t *n_bytes)
{
    char dir[FILE_PATH_BYTES], path[FILE_PATH_BYTES], *text;
    toy_bpe_dir(dir);
    check_no_err(path_join(path, dir, name));
    check_no_err(file_read_text(path, BPE_MAX_FILE_BYTES, &text, n_bytes));
    return text;
}

Bpe *toy_bpe_open(void)
{
    char dir[FILE_PATH_BYTES];
    Bpe *bpe;
    toy_bpe_dir(dir);
    check_no_err(bpe_open(&bpe, dir));
    return bpe;
}
