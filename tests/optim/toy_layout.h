/* Toy layouts: a few tensors of any shape in any buckets, by the rules of model/layout.h but not by
 * its code, so that shards and optimizers are tested on more than GPT-2's shapes. */
#ifndef GPT_TESTS_TOY_LAYOUT_H
#define GPT_TESTS_TOY_LAYOUT_H

#include <stdlib.h>

#include "base/rng.h"
#include "model/layout.h"
#include "optim/shard.h"
#include "tests/support/check_err.h"

enum { TOY_MAX_PARAMS = 12 };

typedef struct {
    int64_t rows, file_rows, cols;
    bool decay, ends_bucket;
} ToyParam;

static inline int64_t toy_round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline void toy_close_bucket(Layout *layout, int32_t end_param, int64_t pad)
{
    Bucket *bucket = &layout->bucket[layout->n_buckets++];
    bucket->n_params = end_param - bucket->first_param;
    bucket->count = toy_round_up(layout->count - bucket->offset, pad);
    layout->count = bucket->offset + bucket->count;
    layout->bucket[layout->n_buckets] = (Bucket){.offset = layout->count, .first_param = end_param};
}

/* The last tensor ends the last bucket, whatever it says. Release with layout_free. */
static inline Layout toy_layout(const ToyParam *toy, int32_t n_params, int32_t world)
{
    Layout layout = {.n_params = n_params,
                     .param = calloc(TOY_MAX_PARAMS, sizeof *layout.param),
                     .bucket = calloc(TOY_MAX_PARAMS + 1, sizeof *layout.bucket)};
    for (int32_t i = 0; i < n_params; i++) {
        layout.param[i] = (Param){.layer = -1,
                                  .bucket = layout.n_buckets,
                                  .rank = 2,
                                  .dim = {toy[i].rows, toy[i].cols},
                                  .file_rows = toy[i].file_rows,
                                  .offset = layout.count,
                                  .decay = toy[i].decay};
        layout.count += toy_round_up(toy[i].rows * toy[i].cols, 64);
        if (toy[i].ends_bucket || i + 1 == n_params)
            toy_close_bucket(&layout, i + 1, shard_pad_elements(world));
    }
    return layout;
}

static inline int64_t toy_random(uint64_t trial, uint64_t *draw, uint64_t n)
{
    return (int64_t)rng_below(20240607, RNG_DATA, trial, (*draw)++, n);
}

/* A function of (trial, world) only; the tensors are the same for every world. */
static inline Layout toy_random_layout(uint64_t trial, int32_t world)
{
    ToyParam toy[TOY_MAX_PARAMS];
    uint64_t draw = 0;
    int32_t n_params = 1 + (int32_t)toy_random(trial, &draw, TOY_MAX_PARAMS);
    for (int32_t i = 0; i < n_params; i++) {
        int64_t rows = 1 + toy_random(trial, &draw, 60);
        int64_t padded_rows = toy_random(trial, &draw, 3) == 0 ? toy_random(trial, &draw, 9) : 0;
        toy[i] = (ToyParam){.rows = rows + padded_rows,
                            .file_rows = rows,
                            .cols = 1 + toy_random(trial, &draw, 40),
                            .decay = toy_random(trial, &draw, 2) == 0,
                            .ends_bucket = toy_random(trial, &draw, 3) == 0};
    }
    return toy_layout(toy, n_params, world);
}

/* is_real[i] = 1 where a flat vector holds an element of a tensor that exists for the world. */
static inline void toy_mark_real(const Layout *layout, uint8_t *is_real)
{
    for (int64_t i = 0; i < layout->count; i++)
        is_real[i] = 0;
    for (int32_t p = 0; p < layout->n_params; p++)
        for (int64_t i = 0; i < layout->param[p].file_rows * layout->param[p].dim[1]; i++)
            is_real[layout->param[p].offset + i] = 1;
}

/* A flat vector: random where the layout holds an element, `padding` elsewhere. The caller frees.
 */
static inline float *toy_random_values(const Layout *layout, uint64_t stream, float padding)
{
    float *x = malloc((size_t)layout->count * sizeof *x);
    uint8_t *is_real = malloc((size_t)layout->count);
    assert_true(x && is_real);
    rng_fill_normal(x, layout->count, 1.0f, 42, RNG_INIT, stream);
    toy_mark_real(layout, is_real);
    for (int64_t i = 0; i < layout->count; i++)
        x[i] = is_real[i] ? x[i] : padding;
    free(is_real);
    return x;
}

#endif
