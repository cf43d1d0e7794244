/* Token files: what is opened can be checked and read to the last token. */
#include "base/check.h"
#include "data/shards.h"
#include "tests/fuzz/fuzz.h"

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    int32_t tokens[64];
    TokenFiles files;
    Err err = token_files_open(&files, fuzz_file("train.bin", data, n_bytes));
    if (!err) {
        int64_t n = files.n_tokens, tail = n < 64 ? n : 64;
        ASSERT(n >= 1 && (size_t)n <= n_bytes / 2, "%lld tokens", (long long)n);
        Err large = token_files_check(&files, 0, n, 50257);
        token_files_read(&files, n - tail, tail, tokens);
        for (int64_t i = 0; i < tail && !large; i++)
            ASSERT(tokens[i] >= 0 && tokens[i] < 50257, "token %d", tokens[i]);
        err_free(large);
        token_files_close(&files);
    }
    err_free(err);
}
