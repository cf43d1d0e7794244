/* Carve: one allocation of a device for all that a carve function lays out. */
#ifndef GPT_KERNELS_CARVE_H
#define GPT_KERNELS_CARVE_H

#include "base/arena.h"
#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Takes the same tensors from an arena each time it is called (base/arena.h). */
typedef void (*CarveFn)(void *arg, Arena *arena);

typedef enum { CARVE_DEVICE, CARVE_HOST } CarveWhere; /* device_alloc, device_alloc_host */

/* Calls `carve` twice: to measure, and with *memory, of *n_bytes (which may be NULL), for the
 * caller to release with device_free or device_free_host. Where nothing is taken *memory is NULL,
 * and `carve` only measures. ERR_SYSTEM. Not collective. */
Err device_carve(Device *dev, CarveWhere where, CarveFn carve, void *arg, void **memory,
                 size_t *n_bytes);

#ifdef __cplusplus
}
#endif
#endif
