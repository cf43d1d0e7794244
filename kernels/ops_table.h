/* DeviceOps: what a backend is. One function pointer for each function of device.h and each op of
 * ops.h, with the same arguments. A backend fills one constant table with designated initialisers;
 * device_open refuses a table with a hole. Private to kernels/: everybody else calls device_* and
 * op_*.
 *
 * A backend function may trust its arguments: shapes and dtypes were checked in ops.c, the device
 * has no sticky error, and no tensor is empty unless its contract calls it optional. */
#ifndef GPT_KERNELS_OPS_TABLE_H
#define GPT_KERNELS_OPS_TABLE_H

#include "kernels/device.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct DeviceOps {
    /* ---- the device ---- */
    Err (*open)(Device *dev, const DeviceArgs *args); /* fills n_threads and impl */
    void (*close)(Device *dev);                       /* releases impl, also after a failed open */
    Err (*info)(Device *dev, DeviceInfo *info);
    Err (*sync)(Device *dev); /* wait; faults found now. The sticky one is device.c's business. */

    /* ---- memory ---- */
    Err (*alloc)(Device *dev, size_t n_bytes, void **memory);
    void (*free)(Device *dev, void *memory);
    void (*other_users)(Device *dev, char *text, size_t n_bytes);
    Err (*alloc_host)(Device *dev, size_t n_bytes, void **memory);
    void (*free_host)(Device *dev, void *memory);
    void (*zero)(Device *dev, Tensor t);
    void (*copy)(Device *dev, Tensor dst, Tensor src);
    void (*upload)(Device *dev, Tensor dst, const void *host);
    void (*download)(Device *dev, void *host, Tensor src);
    void (*copy_in)(Device *dev, Tensor dst, const void *host);
    void (*copy_out)(Device *dev, void *host, Tensor src);
    void (*order)(Device *dev, DeviceQueue later, DeviceQueue earlier);

    /* ---- time ---- */
    void (*stamp)(Device *dev, DeviceStamp stamp);
    double (*stamped_ms)(Device *dev);

    /* ---- choosing algorithms ---- */
    bool (*can_tune)(const Device *dev);
    void (*tune)(Device *dev, bool tuning);
    Err (*tuning_export)(Device *dev, char **text);
    Err (*tuning_import)(Device *dev, const char *text);

    /* ---- ops ---- */
    void (*dropout)(Device *dev, Tensor y, Tensor x, Dropout dropout); /* rate > 0 */
    void (*embedding_forward)(Device *dev, Tensor x, Tensor tokens, Tensor wte, Tensor wpe);
    void (*embedding_backward)(Device *dev, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens);
    void (*layernorm_forward)(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                              Tensor b);
    void (*residual_layernorm_forward)(Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor sum,
                                       Tensor x, Tensor delta, Tensor w, Tensor b);
    void (*layernorm_backward)(Device *dev, const LayernormBackward *args);
    void (*linear_forward)(Device *dev, Tensor y, Tensor x, Tensor w, Tensor b);
    void (*linear_backward_data)(Device *dev, Tensor dx, Tensor dy, Tensor w);
    void (*linear_backward_weight)(Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy);
    void (*gelu_forward)(Device *dev, Tensor y, Tensor x, GeluKind kind);
    void (*gelu_backward)(Device *dev, Tensor dx, Tensor y, Tensor dy, Tensor x, GeluKind kind);
    void (*attention_forward)(Device *dev, Tensor out, Tensor lse, Tensor qkv, Dropout dropout);
    void (*attention_backward)(Device *dev, const AttentionBackward *args);
    void (*cache_append)(Device *dev, KvCache cache, Tensor qkv, int64_t first);
    void (*attention_cached)(Device *dev, Tensor out, Tensor qkv, KvCache cache, int64_t first,
                             int32_t n_head);
    void (*head_forward)(Device *dev, Tensor logits, Tensor x, Tensor wte);
    void (*head_backward)(Device *dev, Tensor dx, Tensor dwte, Tensor dlogits, Tensor x,
                          Tensor wte);
    void (*cross_entropy_forward)(Device *dev, Tensor losses, Tensor logits, Tensor targets,
                                  int64_t vocab_size);
    void (*cross_entropy_forward_backward)(Device *dev, Tensor losses, Tensor logits,
                                           Tensor targets, int64_t vocab_size, float dloss);
    void (*add_sum)(Device *dev, Tensor total, Tensor x, double scale);
    void (*add_sum_squares)(Device *dev, Tensor total, Tensor x);
    void (*convert)(Device *dev, Tensor dst, Tensor src);
    void (*add)(Device *dev, Tensor dst, Tensor src);
    void (*checksum)(Device *dev, Tensor sum, Tensor x);
    void (*adamw)(Device *dev, const AdamwArgs *args);
};

/* What device.c must know of a backend before one is open. */
typedef struct {
    const DeviceOps *ops;
    bool (*available)(const char **reason);
    void (*print_versions)(FILE *out); /* "name: version" lines */
} Backend;

extern const Backend cpu_backend;  /* kernels/cpu/cpu_device.c */
extern const Backend cuda_backend; /* kernels/cuda/cuda_device.c */

#ifdef __cplusplus
}
#endif
#endif
