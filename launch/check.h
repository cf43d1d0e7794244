/* Check: the preflight of --check. All that a run needs is looked at, in seconds and one line each:
 *
 *     data       ok        dataset text: 42,436 tokens to train, ...
 *     out_dir    FAILED    out: 1.2 GiB are free, and a checkpoint takes 1.4 GiB: ...
 *
 * What does not depend on a check that failed is looked at all the same. Nothing is left behind. */
#ifndef GPT_LAUNCH_CHECK_H
#define GPT_LAUNCH_CHECK_H

#include "comm/comm.h"
#include "config/config.h"
#include "launch/bind.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rank 0 says the lines on stdout. An error has the code of the first check that failed. Opens and
 * closes the device and the data plane. Collective. */
Err check_run(const Config *cfg, Comm *comm, const Launcher *launcher);

#ifdef __cplusplus
}
#endif
#endif
