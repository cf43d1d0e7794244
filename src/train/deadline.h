/* Deadline: when a run saves and leaves though nobody asked: when it has run for stop_after, and in
 * time before a batch system ends the job. Rank 0's clock decides for all. */
#ifndef GPT_TRAIN_DEADLINE_H
#define GPT_TRAIN_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a run stops; of several reasons the largest counts. */
typedef enum { STOP_NOT, STOP_AFTER, STOP_JOB_ENDS, STOP_SIGNAL } StopReason;

/* Instants of activity_now_ns's clock, as launch/ finds them. */
typedef struct {
    int64_t start_ns;   /* of the process */
    int64_t job_end_ns; /* when the batch system ends the job; 0: not known */
} JobTimes;

/* Zero-initialised: there is none. */
typedef struct {
    JobTimes times;
    int64_t stop_ns;       /* start_ns and stop_after; 0: never */
    double longest_save_s; /* so far; before the first, an estimate */
} Deadline;

/* stop_after_s 0: no such limit. n_save_bytes: of a checkpoint, taken to be written at 100 MB/s. */
void deadline_init(Deadline *d, const JobTimes *times, double stop_after_s, size_t n_save_bytes);
void deadline_add_save(Deadline *d, double seconds);
/* Seconds before the end of the job at which to stop: a minute, two saves and two steps, but no
 * more than a quarter of the time the job had when the process began. */
double deadline_margin(const Deadline *d, double step_s);
/* STOP_NOT, or which limit is reached. step_s: how long a step takes. */
StopReason deadline_reached(const Deadline *d, int64_t now_ns, double step_s);

#ifdef __cplusplus
}
#endif
#endif
