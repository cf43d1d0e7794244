#include "launch/job.h"

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/activity.h"

/* The longest that Slurm gives a job without a limit: a year. */
enum { LONGEST_JOB_S = 366 * 86400 };

/* Seconds from now; 0: not known. */
static int64_t seconds_left(void)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    if (!text || !*text)
        return 0;
    char *rest;
    long long end = strtoll(text, &rest, 10), now = (long long)time(NULL);
    bool known = *rest == '\0' && end > now && end <= now + LONGEST_JOB_S;
    return known ? (int64_t)(end - now) : 0;
}

JobTimes job_times(void)
{
    JobTimes times = {.start_ns = activity_now_ns()};
    int64_t left_s = seconds_left();
    if (left_s > 0)
        times.job_end_ns = times.start_ns + left_s * 1000000000;
    return times;
}
