/* Machine: the device this rank computes on and what carries its gradients, chosen by all ranks
 * together from the settings and from what is there. */
#ifndef GPT_LAUNCH_MACHINE_H
#define GPT_LAUNCH_MACHINE_H

#include "comm/comm.h"
#include "config/config.h"
#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Open dev and bind comm to it. device = auto takes a GPU when every rank has one and the CPU when
 * none has; rank 0 says on stdout why not the GPU. Ranks that share a GPU are refused unless comm =
 * mpi. The same on all ranks, in the error too; dev is the caller's to close, also after one.
 * Collective. ERR_SYSTEM: no GPU where one is needed, a shared one, whatever opening meets;
 * ERR_USAGE: a dtype the GPU does not have, a comm that cannot reach the device. */
Err machine_open(const Config *cfg, Comm *comm, Device *dev);

#ifdef __cplusplus
}
#endif
#endif
