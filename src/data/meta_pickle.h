/* nanoGPT's meta.pkl of a vocabulary of characters: the pickle of a dict {"vocab_size": n, "itos":
 * {id: character}, "stoi": {character: id}}. Of pickle's language only what Python writes for that
 * shape is read (protocols 2 to 5): dicts, strings, whole numbers and references to those. Nothing
 * that names a class or calls anything is known here. */
#ifndef GPT_DATA_META_PICKLE_H
#define GPT_DATA_META_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* *code_point (malloc'd, [*n]): the character of each id, ascending. ERR_DATA: anything but that
 * shape, ids that are not 0 .. n-1, itos and stoi that differ, characters out of order, as nanoGPT
 * never writes them. ERR_SYSTEM. */
Err meta_pickle_read(const uint8_t *data, size_t n_bytes, uint32_t **code_point, int32_t *n);

#ifdef __cplusplus
}
#endif
#endif
