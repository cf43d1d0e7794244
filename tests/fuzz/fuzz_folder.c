/* What a run left: after the letter M its metrics.jsonl, after S its samples.jsonl, after T the
 * trainer.json of a checkpoint, else its run.json. What is read becomes the data of a page: JSON
 * without a '<' whose curves have as many places as values, all of them numbers. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "report/page.h"
#include "tests/fuzz/fuzz.h"

static const char METRICS[] = "{\"iter\":0,\"tokens\":0,\"train_loss\":4.25,\"val_loss\":4.16}\n";

static void check_curve(const json_t *curve)
{
    size_t n = json_array_size(json_object_get(curve, "v"));
    for (const char *axis = "its"; *axis; axis++) {
        const char key[2] = {*axis, 0};
        ASSERT(json_array_size(json_object_get(curve, key)) == n, "%s of another length", key);
    }
}

static void check_data(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    const json_t *run = json_array_get(json_object_get(root, "runs"), 0);
    const char *key;
    json_t *curve;
    ASSERT(!strchr(text, '<'), "a tag may stand in the page");
    ASSERT(json_is_object(run), "no data");
    json_object_foreach(json_object_get(run, "curves"), key, curve)
    {
        check_curve(curve);
    }
    json_decref(root);
}

static void make_page(const Folder *folder)
{
    char *text = NULL;
    Err err = page_data(folder, 1, &text);
    if (fuzz_has_memory())
        ASSERT(!err, "%s", err_message(err));
    if (!err)
        check_data(text);
    free(text);
    err_free(err);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    Folder folder;
    char kind = n_bytes > 0 ? (char)data[0] : 'R';
    size_t skip = n_bytes > 0;
    fuzz_file("out/metrics.jsonl", METRICS, sizeof METRICS - 1);
    const char *path = kind == 'M'   ? "out/metrics.jsonl"
                       : kind == 'S' ? "out/samples.jsonl"
                       : kind == 'T' ? "out/step_00000001/trainer.json"
                                     : "out/run.json";
    fuzz_file(path, data + skip, n_bytes - skip);
    Err err = folder_open(&folder, "out");
    if (!err && fuzz_is_turn())
        make_page(&folder);
    folder_close(&folder);
    err_free(err);
}
