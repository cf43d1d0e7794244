/* Safetensors: the file format, a strict reader and a streaming writer.
 *
 * u64 little-endian header length, JSON header padded with spaces to 8 bytes, then the tensors'
 * bytes, contiguous. The reader treats files as hostile: bounded header, no overlap, no gap, no
 * overflow, known dtypes. Every defect is one ERR_DATA that names the file and, where there is one,
 * the tensor. Source: github.com/huggingface/safetensors, format description. */
#ifndef GPT_CHECKPOINT_SAFETENSORS_H
#define GPT_CHECKPOINT_SAFETENSORS_H

#include "base/err.h"
#include "base/file.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    char name[96];
    DType dtype; /* F32, BF16 or F16; U8 (also for BOOL) in masks, which are never read */
    int32_t rank;
    int64_t dim[TENSOR_MAX_RANK];
    size_t offset, n_bytes; /* offset from the beginning of the file */
} SafeTensor;

/* ---- reading ----------------------------------------------------------------------------- */
typedef struct {
    FileMap map;
    int32_t n_tensors;
    SafeTensor *tensor; /* sorted by offset; owned */
} SafeFile;
Err safe_open(SafeFile *file, const char *path);
void safe_close(SafeFile *file);
const SafeTensor *safe_find(const SafeFile *file, const char *name); /* NULL when absent */
/* out[0..n) = elements [begin, begin + n) of tensor t as float32, from F32, BF16 or F16. */
void safe_read_f32(const SafeFile *file, const SafeTensor *t, int64_t begin, int64_t n, float *out);

/* ---- writing: declare all tensors, then stream their bytes in that order ----------------- */
typedef struct SafeWriter SafeWriter;
/* tensor[i].offset and n_bytes are filled in. metadata {"format":"pt"} is written: transformers
 * wants it. */
Err safe_create(SafeWriter **out, const char *path, SafeTensor *tensor, int32_t n_tensors);
Err safe_write(SafeWriter *w, const void *data, size_t n_bytes);
/* ERR_WRITE; an ASSERT when the bytes written are not the bytes declared. Frees w whatever happens.
 */
Err safe_finish(SafeWriter *w, FileDigest *digest);
void safe_abandon(SafeWriter *w);

#ifdef __cplusplus
}
#endif
#endif
