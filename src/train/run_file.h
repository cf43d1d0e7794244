/* Run file: out_dir/run.json, what a run is, for gpt_report and other programs. Written whole each
 * time the run begins or goes on.
 *
 *     {"version": 1, "config": {key: text, ...}, "plan": {...}}
 *
 * config holds every setting as it stands, as in a checkpoint's trainer.json; plan is what gpt_ddp
 * --plan=json prints of it (plan/plan_json.c). */
#ifndef GPT_TRAIN_RUN_FILE_H
#define GPT_TRAIN_RUN_FILE_H

#include "config/config.h"
#include "plan/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Replace out_dir/run.json; out_dir is there. ERR_WRITE, ERR_SYSTEM. */
Err run_file_write(const char *out_dir, const Config *cfg, const Plan *plan);

#ifdef __cplusplus
}
#endif
#endif
