/* Memory: of a plan for programs (plan/plan_json.c), how much of the whole each group takes.
 *
 * Regions that are never live together share memory. Such bytes count for the region that stands
 * first in the plan, so that the groups add up. */
#ifndef GPT_REPORT_MEMORY_H
#define GPT_REPORT_MEMORY_H

#include "report/folder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* *out = {"groups": [{"name", "bytes", "own"}], "total", "limit", "host"}: bytes of a group that
 * count for it, and of all its regions; total, limit and host of the plan, null when not known. The
 * caller owns it; NULL: there is no plan, or none that makes sense. ERR_SYSTEM. */
Err memory_groups(const Folder *folder, json_t **out);

#ifdef __cplusplus
}
#endif
#endif
