#include "train/run_file.h"

#include <stdlib.h>

#include "base/file.h"
#include "checkpoint/record.h"

enum { FORMAT_VERSION = 1 };

static Err print_run(const Config *cfg, const Plan *plan, FILE *out)
{
    json_t *config = record_settings(cfg);
    fprintf(out, "{\n\"version\": %d,\n\"config\": ", FORMAT_VERSION);
    int failed = config ? json_dumpf(config, out, JSON_INDENT(1)) : -1;
    json_decref(config);
    if (failed)
        FAIL(ERR_SYSTEM, "out of memory for the settings");
    fputs(",\n\"plan\": ", out);
    TRY(plan_print_json(plan, out));
    fputs("\n}\n", out);
    return OK;
}

Err run_file_write(const char *out_dir, const Config *cfg, const Plan *plan)
{
    char path[FILE_PATH_BYTES], *text = NULL;
    size_t n_bytes = 0;
    TRY(path_join(path, out_dir, "run.json"));
    FILE *out = open_memstream(&text, &n_bytes);
    if (!out)
        FAIL(ERR_SYSTEM, "out of memory for %s", path);
    Err err = print_run(cfg, plan, out);
    if (fclose(out) != 0)
        err = err_first(err, ERR_NEW(ERR_SYSTEM, "out of memory for %s", path));
    if (!err)
        err = file_publish(path, text, n_bytes);
    free(text);
    return err;
}
