/* Do all ranks have the same settings? They decide alike only when they do: with others they would
 * wait for each other for ever. */
#ifndef GPT_LAUNCH_SETTINGS_H
#define GPT_LAUNCH_SETTINGS_H

#include "comm/comm.h"
#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ERR_USAGE on every rank, naming the first setting in which a rank differs from rank 0.
 * Collective. */
Err settings_agree(Comm *comm, const Config *cfg);

#ifdef __cplusplus
}
#endif
#endif
