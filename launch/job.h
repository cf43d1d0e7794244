/* Job: what a batch system tells a program about the time it has. */
#ifndef GPT_LAUNCH_JOB_H
#define GPT_LAUNCH_JOB_H

#include "train/deadline.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The process begins now; call it first in main. Reads SLURM_JOB_END_TIME, seconds since 1970; an
 * end that is no number, or lies in the past, is not known. */
JobTimes job_times(void);

#ifdef __cplusplus
}
#endif
#endif
