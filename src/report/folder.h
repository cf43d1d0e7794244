/* Folder: what a run left in its out_dir, as far as a report shows it.
 *
 *     metrics.jsonl      steps and evaluations (metrics.h); the one file that must be there
 *     run.json           settings and memory plan, written when a run begins (train/run_file.h)
 *     step_N/            checkpoints; trainer.json in the newest has the settings where run.json is
 *                        missing
 *     samples.jsonl      {"iter": 2000, "text": "..."} a line: texts over time (train/samples.h),
 * or by whoever makes them
 *
 * What is missing is left out, what is damaged is left out with a remark. */
#ifndef GPT_REPORT_FOLDER_H
#define GPT_REPORT_FOLDER_H

#include <jansson.h>

#include "report/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FOLDER_MAX_REMARKS = 8, FOLDER_REMARK_BYTES = 512, FOLDER_MAX_SAMPLES = 200 };

typedef struct {
    char *name; /* as the report calls it; valid UTF-8. Owned */
    Metrics metrics;
    json_t *config;      /* object: key -> text; NULL: not known. Owned */
    json_t *plan;        /* object, as gpt_ddp --plan=json has it; NULL: not known. Owned */
    json_t *samples;     /* array of {iter, text}, at most FOLDER_MAX_SAMPLES; never NULL. Owned */
    int64_t *checkpoint; /* steps of the checkpoints that are there, rising. Owned */
    int32_t n_checkpoints;
    char remark[FOLDER_MAX_REMARKS][FOLDER_REMARK_BYTES]; /* what a reader should know, UTF-8 */
    int32_t n_remarks;
} Folder;

/* ERR_MISSING: no folder, or no metrics.jsonl in it; ERR_DATA, ERR_SYSTEM. The caller calls
 * folder_close whatever comes back. */
Err folder_open(Folder *folder, const char *path);
void folder_close(Folder *folder); /* accepts a zero-initialised one */

/* The setting as it was printed; "" when it is not known. Borrowed. */
const char *folder_setting(const Folder *folder, const char *key);

#ifdef __cplusplus
}
#endif
#endif
