/* GemmPlan: one distinct product, its cuBLASLt descriptors and its algorithm; GemmTuner: all of
 * them. Private to gemm.c, which makes and runs plans, gemm_choose.c, which finds their algorithms,
 * and gemm_text.c, which writes and reads choices.
 *
 * cuBLASLt is column-major, we are row-major: c = a b here is c^T = b^T a^T there, so its A is our
 * b, its B our a, and a stored (rows, cols) with ld is its (cols, rows) with the same ld. */
#ifndef GPT_KERNELS_CUDA_GEMM_PLAN_H
#define GPT_KERNELS_CUDA_GEMM_PLAN_H

#include "kernels/cuda/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All that an algorithm may depend on, X(name):
 *   m n k             c is (m,n)
 *   lda ldb ldc       elements from row to row
 *   ta tb             1: transposed
 *   in out            cudaDataType_t
 *   compute           cublasComputeType_t
 *   add               1: beta is not 0
 *   align_a .. _c     of addresses: the largest power of two up to KEY_MAX_ALIGN that divides them,
 *                     so that choices do not depend on where an arena put things
 *   align_bias        0: no bias */
#define GEMM_KEY_FIELDS(X)                                                                         \
    X(m)                                                                                           \
    X(n)                                                                                           \
    X(k)                                                                                           \
    X(lda)                                                                                         \
    X(ldb)                                                                                         \
    X(ldc)                                                                                         \
    X(ta)                                                                                          \
    X(tb)                                                                                          \
    X(in)                                                                                          \
    X(out)                                                                                         \
    X(compute)                                                                                     \
    X(add)                                                                                         \
    X(align_a)                                                                                     \
    X(align_b)                                                                                     \
    X(align_c)                                                                                     \
    X(align_bias)

enum { KEY_MAX_ALIGN = 16 };

/* One type, no padding: compared and hashed as bytes. */
typedef struct {
#define X(field) int64_t field;
    GEMM_KEY_FIELDS(X)
#undef X
} GemmKey;

enum { GEMM_KEY_TEXT_BYTES = 512 };
/* "m=8192 n=768 ...". */
void gemm_key_print(char text[GEMM_KEY_TEXT_BYTES], const GemmKey *key);

typedef struct GemmPlan {
    GemmKey key;
    struct GemmPlan *next_in_bucket;
    bool chosen;     /* algo is this product's: imported, or found here */
    bool ready;      /* the descriptors are made; chosen or bias_apart */
    bool bias_apart; /* no algorithm adds a bias to such a product: see cuda_gemm */
    cublasLtMatmulAlgo_t algo;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c; /* ours */
} GemmPlan;

enum { TUNER_BUCKETS = 1024 };

struct GemmTuner {
    bool tuning;
    GemmPlan **plan; /* in the order they were made */
    int64_t n_plans, capacity;
    GemmPlan *bucket[TUNER_BUCKETS];
};

/* The plan of a key; NULL when there is none. */
GemmPlan *gemm_tuner_find(const GemmTuner *tuner, const GemmKey *key);
/* A new plan, nothing chosen, of a key that has none. NULL: out of memory. */
GemmPlan *gemm_tuner_add(GemmTuner *tuner, const GemmKey *key);

/* Where a product's numbers are. */
typedef struct {
    const void *a, *b, *bias;
    void *c;
    float beta;
} GemmData;

/* Queue the product of a plan with descriptors, by this algorithm. */
cublasStatus_t gemm_plan_run(Device *dev, const GemmPlan *plan, const cublasLtMatmulAlgo_t *algo,
                             const GemmData *data);

/* Choose plan->algo, from its descriptors: what is there if it is good (an imported one may not
 * be), else the fastest on this data while tuning, else the heuristic's first. On a failure the
 * device may have a sticky error; without one the status says why no algorithm will do. */
cublasStatus_t gemm_plan_choose(Device *dev, GemmPlan *plan, const GemmData *data);

#ifdef __cplusplus
}
#endif
#endif
