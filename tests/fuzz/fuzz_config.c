/* Settings: what is accepted prints as a file that is read back to the same text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/config.h"
#include "tests/fuzz/fuzz.h"

static char *printed(const Config *cfg, size_t *n_bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, n_bytes);
    ASSERT(out, "no memory");
    config_print(cfg, out);
    fclose(out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static Config cfg, again;
    Err err = config_load(&cfg, fuzz_file("run.ini", data, n_bytes), 0, NULL);
    if (!err) {
        size_t n_text, n_again;
        char *text = printed(&cfg, &n_text);
        Err refused = config_load(&again, fuzz_file("again.ini", text, n_text), 0, NULL);
        ASSERT(!refused, "%s", err_message(refused));
        char *text_again = printed(&again, &n_again);
        ASSERT(strcmp(text, text_again) == 0, "printed differently");
        free(text);
        free(text_again);
    }
    err_free(err);
    return 0;
}
