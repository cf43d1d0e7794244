#include "launch/eval_model.h"

#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "kernels/carve.h"
#include "launch/machine.h"
#include "launch/model_dir.h"
#include "plan/plan.h"

enum { BATCH_TOKENS = 4096, HEAD_ROWS = 1024 };

Err eval_model_find(EvalModel *m, const char *path, Comm *comm)
{
    *m = (EvalModel){.scorer.comm = comm};
    TRY(model_dir_find(comm, path, m->dir));
    return comm_agree(comm, checkpoint_read_dims(m->dir, &m->dims));
}

/* ---- opening ----------------------------------------------------------------------------- */

static void carve(void *model, Arena *arena)
{
    EvalModel *m = model;
    const GptShape *shape = &m->model.shape;
    const int64_t n_rows = shape->micro_batch * shape->n_tokens;
    const OpLimits limits = {.n_rows = n_rows,
                             .block_size = shape->n_tokens,
                             .n_embd = m->dims.n_embd,
                             .n_head = m->dims.n_head,
                             .vocab_padded = m->dims.vocab_padded};
    size_t n_bytes = ops_workspace_bytes(m->dev.kind, m->dev.n_threads, &limits);
    gpt2_layout(&m->model, arena);
    m->scorer.tokens = arena_1d(arena, REGION_DATA, "tokens", DTYPE_I32, n_rows);
    m->scorer.targets = arena_1d(arena, REGION_DATA, "targets", DTYPE_I32, n_rows);
    device_set_workspace(
        &m->dev, arena_1d(arena, REGION_WORKSPACE, "op workspace", DTYPE_U8, (int64_t)n_bytes));
}

/* Tokens, targets and losses of a batch, and a row of logits. */
static Err allocate_host(EvalModel *m)
{
    const int64_t n = m->model.shape.micro_batch * m->model.shape.n_tokens;
    const int64_t n_logits = m->dims.vocab_size;
    m->host = calloc((size_t)(3 * n + n_logits), sizeof *m->host);
    if (!m->host)
        FAIL(ERR_SYSTEM, "out of memory for a batch of %lld tokens", (long long)n);
    m->scorer.host_tokens = m->host;
    m->scorer.host_targets = m->host + n;
    m->scorer.losses = (float *)(m->host + 2 * n);
    m->scorer.logits = (float *)(m->host + 3 * n);
    return OK;
}

static Err open_model(EvalModel *m, const Config *cfg, int64_t T)
{
    int64_t B = T < BATCH_TOKENS ? BATCH_TOKENS / T : 1;
    GptShape shape = {.micro_batch = B,
                      .n_tokens = T,
                      .head_chunk = B * T < HEAD_ROWS ? B * T : HEAD_ROWS,
                      .training = false};
    TRY(plan_dtype(cfg, m->dev.kind, &shape.dtype));
    TRY(layout_make(&m->layout, &m->dims, 1, 128));
    TRY(gpt2_open(&m->model, &m->dims, &shape, &m->layout));
    TRY(device_carve(&m->dev, CARVE_DEVICE, carve, m, &m->memory, NULL));
    TRY(allocate_host(m));
    return checkpoint_load_weights(m->dir, &m->model, NULL, &m->dev);
}

Err eval_model_open(EvalModel *m, const Config *cfg, int64_t T)
{
    TRY(machine_open(cfg, m->scorer.comm, &m->dev));
    m->scorer.model = &m->model;
    m->scorer.dev = &m->dev;
    return comm_agree(m->scorer.comm, open_model(m, cfg, T));
}

void eval_model_close(EvalModel *m)
{
    if (m->scorer.dev)
        comm_unbind(m->scorer.comm, &m->dev);
    if (m->memory) {
        device_set_workspace(&m->dev, tensor_none());
        device_free(&m->dev, m->memory);
    }
    free(m->host);
    gpt2_close(&m->model);
    layout_free(&m->layout);
    device_close(&m->dev);
    *m = (EvalModel){0};
}
