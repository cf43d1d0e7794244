/* Events: numbers for TensorBoard, in its own file format, without its libraries.
 *
 * A file is a sequence of records: u64 length, u32 checksum of these 8 bytes, that many bytes, u32
 * checksum of them; all little-endian, checksums CRC-32C, masked. The bytes are an Event in
 * protocol buffers' encoding: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log =
 * 7. Source: tensorflow/core/lib/io/record_writer.h and core/util/event.proto. */
#ifndef GPT_TRAIN_EVENTS_H
#define GPT_TRAIN_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    FILE *file; /* owned; NULL when not open */
} Events;

typedef struct {
    const char *tag; /* TensorBoard groups by what is before the first '/' */
    double value;    /* becomes a float; one that is not finite is left out */
} Scalar;

/* Create dir/events.out.tfevents.SECONDS.HOST.PID. A run that goes on at from_step > 0 has
 * TensorBoard forget what older files of the folder say of that step and later ones. ERR_WRITE. */
Err events_open(Events *events, const char *dir, int64_t from_step);
/* One event, flushed. False, with errno, when it cannot be written. n at most 16, tags at most 64
 * bytes. */
bool events_write(Events *events, int64_t step, const Scalar *scalar, int32_t n);
void events_close(Events *events); /* accepts a zero-initialised one */

#ifdef __cplusplus
}
#endif
#endif
