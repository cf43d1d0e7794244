#include "train/replicas.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/ops.h"
#include "train/trainer.h"

enum { SUM_BYTES = 8, MAX_VECTORS = 4 };

/* ---- what is compared -------------------------------------------------------------------- */

typedef struct {
    const char *name; /* before a tensor's */
    Tensor flat;      /* laid out as the parameters are */
} Vector;

/* Under zero_stage 0 the shard is the whole flat vector. */
static int32_t list_vectors(const Trainer *t, Vector *vector)
{
    const AdamW *optim = &t->optim;
    int32_t n = 0;
    vector[n++] = (Vector){"", t->model.params};
    if (optim->shard->world > 1 || optim->form.offload)
        return n;
    vector[n++] = (Vector){"exp_avg of ", optim->state.m};
    vector[n++] = (Vector){"exp_avg_sq of ", optim->state.v};
    if (tensor_present(optim->state.master))
        vector[n++] = (Vector){"master weights of ", optim->state.master};
    return n;
}

/* A tensor and the padding behind it, up to the next one. */
static Tensor tensor_and_padding(const Layout *layout, Tensor flat, int32_t param)
{
    int64_t begin = layout->param[param].offset;
    int64_t end = param + 1 < layout->n_params ? layout->param[param + 1].offset : layout->count;
    return tensor_range(flat, begin, end - begin);
}

/* sums (n_vectors * n_params) on the host. On the device they lie where gradients are during a
 * step. */
static Err own_sums(Trainer *t, const Vector *vector, int32_t n_vectors, uint64_t *sums)
{
    const Layout *layout = &t->layout;
    int64_t n = (int64_t)n_vectors * layout->n_params;
    Tensor room = tensor_1d(t->model.grads.data, DTYPE_U8, n * SUM_BYTES);
    ASSERT(tensor_bytes(room) <= tensor_bytes(t->model.grads), "no room for %lld checksums",
           (long long)n);
    Err err = reducer_await(&t->reducer);
    for (int64_t i = 0; i < n; i++) {
        int32_t param = (int32_t)(i % layout->n_params);
        op_checksum(t->dev, tensor_range(room, i * SUM_BYTES, SUM_BYTES),
                    tensor_and_padding(layout, vector[i / layout->n_params].flat, param));
    }
    err = err_first(err, comm_sync(t->comm, t->dev)); /* before the download: see device.h */
    device_download(t->dev, sums, room);
    return err_first(err, device_sync(t->dev));
}

/* ---- who is wrong ------------------------------------------------------------------------ */

static int32_t count_equal(const uint64_t *sum, int64_t stride, int32_t world, uint64_t value)
{
    int32_t n = 0;
    for (int32_t r = 0; r < world; r++)
        n += sum[r * stride] == value;
    return n;
}

bool replicas_vote(const uint64_t *sum, int64_t stride, int32_t world, int32_t *most,
                   bool *outvoted)
{
    uint64_t winner = sum[0];
    *most = 0;
    for (int32_t r = 0; r < world; r++) {
        int32_t n = count_equal(sum, stride, world, sum[r * stride]);
        if (n > *most) {
            *most = n;
            winner = sum[r * stride];
        }
    }
    for (int32_t r = 0; r < world; r++)
        outvoted[r] = sum[r * stride] != winner;
    return 2 * *most > world;
}

/* What was gathered, and the first tensor that differs. */
typedef struct {
    const Layout *layout;
    const Vector *vector;
    const uint64_t *all; /* (world, n) */
    int64_t n;
    int32_t world;
    int64_t first, n_differ; /* of n; n: none differs */
} Comparison;

static void compare(Comparison *c)
{
    c->first = c->n;
    for (int64_t i = c->n - 1; i >= 0; i--)
        if (count_equal(c->all + i, c->n, c->world, c->all[i]) < c->world) {
            c->first = i;
            c->n_differ++;
        }
}

/* ---- what is said ------------------------------------------------------------------------ */

typedef struct {
    char text[400];
} Names;

/* "rank 1 on node7 and rank 3 on node8", of those chosen. */
static Names name_ranks(Trainer *t, const bool *chosen, const char (*host)[sizeof t->comm->host])
{
    Names names = {""};
    size_t n_bytes = sizeof names.text - 16; /* room for the last words */
    for (int32_t r = 0; r < t->comm->world; r++) {
        if (!chosen[r])
            continue;
        if (strlen(names.text) + sizeof *host + 32 > n_bytes) {
            text_append(names.text, sizeof names.text, " and others");
            break;
        }
        text_append(names.text, n_bytes, names.text[0] ? " and rank " : "rank ");
        text_append_integer(names.text, n_bytes, r);
        text_append(names.text, n_bytes, " on ");
        text_append(names.text, n_bytes, host[r]);
    }
    return names;
}

static Err refuse(Trainer *t, const Comparison *c, bool *chosen,
                  const char (*host)[sizeof t->comm->host])
{
    int32_t most = 0;
    bool clear = replicas_vote(c->all + c->first, c->n, c->world, &most, chosen);
    for (int32_t r = 0; !clear && r < c->world; r++)
        chosen[r] = true;
    Names who = name_ranks(t, chosen, host);
    const char *vector = c->vector[c->first / c->layout->n_params].name;
    const char *name = c->layout->param[c->first % c->layout->n_params].name;
    if (clear)
        FAIL(ERR_REPLICA,
             "after %" PRId64 " steps %s holds other bits of %s%s than the %d that agree (%" PRId64
             " of %" PRId64 " tensors differ): bad memory, a bad device or a bad transfer there; "
             "leave it out and resume from the last checkpoint, written before",
             t->progress.step, who.text, vector, name, most, c->n_differ, c->n);
    FAIL(ERR_REPLICA,
         "after %" PRId64 " steps %s hold different bits of %s%s (%" PRId64 " of %" PRId64
         " tensors differ), and which is wrong cannot be told: test their memory, and resume "
         "from the last checkpoint, written before",
         t->progress.step, who.text, vector, name, c->n_differ, c->n);
}

/* ---- together ---------------------------------------------------------------------------- */

bool replicas_due(const Trainer *t)
{
    int64_t interval = t->cfg->fault.replica_check_interval;
    return interval > 0 && t->progress.step % interval == 0;
}

/* Host memory for it all. */
typedef struct {
    uint64_t *mine, *all;
    bool *chosen;
    char (*host)[sizeof((Comm *)0)->host];
} Room;

static void room_free(Room *room)
{
    free(room->mine);
    free(room->all);
    free(room->chosen);
    free(room->host);
}

static Err room_make(Room *room, int32_t world, int64_t n)
{
    size_t ranks = (size_t)world;
    *room = (Room){.mine = calloc((size_t)n, sizeof *room->mine),
                   .all = calloc(ranks * (size_t)n, sizeof *room->all),
                   .chosen = calloc(ranks, sizeof *room->chosen),
                   .host = calloc(ranks, sizeof *room->host)};
    if (room->mine && room->all && room->chosen && room->host)
        return OK;
    FAIL(ERR_SYSTEM, "out of memory for the checksums of %d ranks", world);
}

static Err check(Trainer *t, Room *room, const Vector *vector, int32_t n_vectors)
{
    Comparison c = {.layout = &t->layout,
                    .vector = vector,
                    .all = room->all,
                    .n = (int64_t)n_vectors * t->layout.n_params,
                    .world = t->comm->world};
    TRY(comm_agree(t->comm, own_sums(t, vector, n_vectors, room->mine)));
    TRY(comm_gather_bytes(t->comm, room->mine, (size_t)c.n * sizeof *room->mine, room->all));
    compare(&c);
    if (c.first == c.n)
        return OK;
    TRY(comm_gather_bytes(t->comm, t->comm->host, sizeof t->comm->host, room->host));
    return refuse(t, &c, room->chosen, (const char(*)[sizeof t->comm->host])room->host);
}

Err replicas_check(Trainer *t)
{
    Vector vector[MAX_VECTORS];
    Room room;
    if (t->cfg->fault.replica_check_interval == 0 || t->comm->world == 1)
        return OK;
    trainer_enter(t, PHASE_STEP, "compare replicas", 0);
    int32_t n_vectors = list_vectors(t, vector);
    Err err = room_make(&room, t->comm->world, (int64_t)n_vectors * t->layout.n_params);
    err = comm_agree(t->comm, err);
    if (!err)
        err = check(t, &room, vector, n_vectors);
    room_free(&room);
    return err;
}
