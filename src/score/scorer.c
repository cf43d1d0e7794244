#include "score/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { NO_TARGET = -1 };

/* ---- a batch ----------------------------------------------------------------------------- */

/* Host memory of a batch: (B,T) as the model's shape. */
typedef struct {
    int32_t *token, *target;
    float *loss;
} Staging;

static int64_t batch_tokens(const Scorer *s)
{
    return s->model->shape.micro_batch * s->model->shape.n_tokens;
}

static Err staging_open(Staging *st, const Scorer *s)
{
    size_t n = (size_t)batch_tokens(s);
    *st = (Staging){calloc(n, sizeof *st->token), calloc(n, sizeof *st->target),
                    calloc(n, sizeof *st->loss)};
    if (!st->token || !st->target || !st->loss)
        FAIL(ERR_SYSTEM, "out of memory for a batch of %zu tokens", n);
    return OK;
}

static void staging_close(Staging *st)
{
    free(st->token);
    free(st->target);
    free(st->loss);
}

/* The first B x T of the staging through the model; losses of all rows. */
static Err run_batch(const Scorer *s, Staging *st, int64_t B, int64_t T, GptBatch *batch)
{
    *batch = (GptBatch){.tokens = tensor_as_2d(tensor_range(s->tokens, 0, B * T), B, T),
                        .targets = tensor_as_2d(tensor_range(s->targets, 0, B * T), B, T)};
    device_upload(s->dev, batch->tokens, st->token);
    device_upload(s->dev, batch->targets, st->target);
    gpt2_forward(s->model, s->dev, batch);
    return gpt2_row_losses(s->model, s->dev, batch, st->loss);
}

static Err check_token(const Scorer *s, int64_t token)
{
    if (token >= s->model->dims.vocab_size)
        FAIL(ERR_DATA, "token %lld, but the model's vocabulary has %lld: another tokenizer?",
             (long long)token, (long long)s->model->dims.vocab_size);
    return OK;
}

/* ---- rows of a task ---------------------------------------------------------------------- */

typedef struct {
    int64_t index; /* of the row in the task */
    ScoreRow row;  /* cut to the model's context */
} Piece;

/* Longest first; of equals the earlier. */
static int compare_pieces(const void *a, const void *b)
{
    const Piece *x = a, *y = b;
    if (x->row.n_tokens != y->row.n_tokens)
        return x->row.n_tokens > y->row.n_tokens ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* The last token is predicted, not read. */
static Err cut(const Scorer *s, Piece *piece)
{
    int64_t most = s->model->shape.n_tokens + 1, over = piece->row.n_tokens - most;
    if (over <= 0)
        return OK;
    if (over >= piece->row.n_context)
        FAIL(ERR_DATA, "item %lld: a continuation of %lld tokens, and the model sees %lld",
             (long long)piece->index, (long long)(piece->row.n_tokens - piece->row.n_context),
             (long long)most - 1);
    piece->row.begin += over;
    piece->row.n_tokens -= (int32_t)over;
    piece->row.n_context -= (int32_t)over;
    return OK;
}

static Err list_pieces(const Scorer *s, const ScoreTask *task, Piece *piece)
{
    for (int64_t i = 0; i < task->n_items * task->n_choices; i++) {
        const ScoreItem *item = &task->item[i / task->n_choices];
        piece[i] = (Piece){i, item->row[i % task->n_choices]};
        TRY(cut(s, &piece[i]));
    }
    qsort(piece, (size_t)(task->n_items * task->n_choices), sizeof *piece, compare_pieces);
    return OK;
}

/* Row b of (B,T): inputs, and as targets only the continuation. */
static Err fill_row(const Scorer *s, Staging *st, const ScoreTask *task, const ScoreRow *row,
                    int64_t b, int64_t T)
{
    const uint16_t *token = task->token + row->begin;
    for (int64_t t = 0; t < T; t++) {
        bool is_input = t + 1 < row->n_tokens;
        bool counts = is_input && t + 1 >= row->n_context;
        st->token[b * T + t] = is_input ? token[t] : 0;
        st->target[b * T + t] = counts ? token[t + 1] : NO_TARGET;
    }
    for (int64_t t = 0; t < row->n_tokens; t++)
        TRY(check_token(s, token[t]));
    return OK;
}

/* Is every token of row b's continuation the likeliest? logits: (vocab_size). */
static Err look_greedy(const Scorer *s, const Staging *st, const GptBatch *batch, int64_t b,
                       float *logits, int64_t *greedy)
{
    const int64_t T = batch->tokens.dim[1], V = s->model->dims.vocab_size;
    *greedy = 1;
    for (int64_t t = 0; t < T && *greedy; t++) {
        int64_t best = 0, target = st->target[b * T + t];
        if (target == NO_TARGET)
            continue;
        TRY(gpt2_logits(s->model, s->dev, batch, b, t, logits));
        for (int64_t v = 1; v < V; v++)
            best = logits[v] > logits[best] ? v : best;
        *greedy = best == target;
    }
    return OK;
}

static void take_losses(const Staging *st, int64_t b, int64_t T, RowScore *score)
{
    *score = (RowScore){0};
    for (int64_t t = 0; t < T; t++) {
        if (st->target[b * T + t] == NO_TARGET)
            continue;
        score->nll += (double)st->loss[b * T + t];
        score->n_tokens++;
    }
}

/* One rank's part of a task. */
typedef struct {
    const Scorer *s;
    const ScoreTask *task;
    Piece *piece;
    Staging staging;
    float *logits;   /* (vocab_size) */
    RowScore *score; /* zeros where another rank is at work */
} Work;

static Err score_batch(Work *w, int64_t first, int64_t B)
{
    const int64_t T = w->piece[first].row.n_tokens - 1;
    GptBatch batch;
    for (int64_t b = 0; b < B; b++)
        TRY(fill_row(w->s, &w->staging, w->task, &w->piece[first + b].row, b, T));
    TRY(run_batch(w->s, &w->staging, B, T, &batch));
    for (int64_t b = 0; b < B; b++) {
        RowScore *score = &w->score[w->piece[first + b].index];
        take_losses(&w->staging, b, T, score);
        if (w->task->n_choices == 1)
            TRY(look_greedy(w->s, &w->staging, &batch, b, w->logits, &score->greedy));
    }
    return OK;
}

/* Batches go round the ranks. */
static Err score_share(Work *w)
{
    const int64_t n = w->task->n_items * w->task->n_choices, B = w->s->model->shape.micro_batch;
    TRY(list_pieces(w->s, w->task, w->piece));
    for (int64_t first = w->s->comm->rank * B; first < n; first += w->s->comm->world * B)
        TRY(score_batch(w, first, n - first < B ? n - first : B));
    return OK;
}

static Err work_open(Work *w)
{
    size_t n = (size_t)(w->task->n_items * w->task->n_choices);
    TRY(staging_open(&w->staging, w->s));
    w->piece = calloc(n, sizeof *w->piece);
    w->score = calloc(n, sizeof *w->score);
    w->logits = calloc((size_t)w->s->model->dims.vocab_size, sizeof *w->logits);
    if (!w->piece || !w->score || !w->logits)
        FAIL(ERR_SYSTEM, "out of memory for %zu texts", n);
    return OK;
}

static void work_close(Work *w)
{
    staging_close(&w->staging);
    free(w->piece);
    free(w->score);
    free(w->logits);
}

/* A row was scored by one rank, and is zero on the others. */
static Err gather(const Scorer *s, const RowScore *mine, int64_t n, RowScore *score)
{
    size_t n_bytes = (size_t)n * sizeof *mine;
    RowScore *all = malloc(n_bytes * (size_t)s->comm->world);
    Err err = comm_agree(s->comm, all ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the scores"));
    if (!err)
        err = comm_gather_bytes(s->comm, mine, n_bytes, all);
    for (int64_t i = 0; i < n && !err; i++)
        for (int64_t r = 0; r < s->comm->world; r++)
            if (all[r * n + i].n_tokens > 0)
                score[i] = all[r * n + i];
    free(all);
    return err;
}

Err score_task_run(const Scorer *s, const ScoreTask *task, RowScore *score)
{
    Work work = {.s = s, .task = task};
    Err err = work_open(&work);
    if (!err)
        err = score_share(&work);
    err = comm_agree(s->comm, err);
    if (!err)
        err = gather(s, work.score, task->n_items * task->n_choices, score);
    work_close(&work);
    return err;
}

/* The first of the rows with the least sum, or the least mean, of losses. */
static int32_t best_row(const RowScore *score, int32_t n, bool mean)
{
    int32_t best = 0;
    double least = INFINITY;
    for (int32_t i = 0; i < n; i++) {
        double loss = mean ? score[i].nll / (double)score[i].n_tokens : score[i].nll;
        if (loss < least) {
            least = loss;
            best = i;
        }
    }
    return best;
}

ScoreSummary score_summary(const ScoreTask *task, const RowScore *score)
{
    const double n = (double)task->n_items;
    ScoreSummary sum = {.n_items = task->n_items};
    double nll = 0;
    for (int64_t i = 0; i < task->n_items; i++) {
        const RowScore *row = score + i * task->n_choices;
        int32_t label = task->item[i].label;
        bool alone = task->n_choices == 1;
        sum.acc += alone ? (double)row->greedy : best_row(row, task->n_choices, false) == label;
        sum.acc_norm += alone ? (double)row->greedy : best_row(row, task->n_choices, true) == label;
        nll += row[label].nll;
    }
    sum.acc /= n;
    sum.acc_norm /= n;
    sum.perplexity = exp(nll / n);
    return sum;
}

/* ---- a token file ------------------------------------------------------------------------ */

/* Window w predicts [first, end) of the file's tokens and reads the tokens before `end` back to
 * `begin`. */
typedef struct {
    int64_t begin, first, end;
} Window;

static Window window_at(int64_t w, int64_t n_tokens, int64_t T, int64_t stride)
{
    Window win = {.first = w == 0 ? 1 : T + 1 + (w - 1) * stride};
    win.end = win.first + (w == 0 ? T : stride);
    win.end = win.end < n_tokens ? win.end : n_tokens;
    win.begin = win.end - 1 - T > 0 ? win.end - 1 - T : 0;
    return win;
}

static int64_t count_windows(int64_t n_tokens, int64_t T, int64_t stride)
{
    int64_t rest = n_tokens - 1 - T;
    return rest > 0 ? 1 + (rest + stride - 1) / stride : 1;
}

/* text: room for T + 1. */
static Err fill_window(const Scorer *s, Staging *st, const TokenFiles *files, const Window *win,
                       int64_t b, int32_t *text)
{
    const int64_t T = s->model->shape.n_tokens, n = win->end - win->begin;
    token_files_read(files, win->begin, n, text);
    for (int64_t t = 0; t < n; t++)
        TRY(check_token(s, text[t]));
    for (int64_t t = 0; t < T; t++) {
        bool counts = t + 1 < n && win->begin + t + 1 >= win->first;
        st->token[b * T + t] = t + 1 < n ? text[t] : 0;
        st->target[b * T + t] = counts ? text[t + 1] : NO_TARGET;
    }
    return OK;
}

typedef struct {
    double nll, n_tokens;
} FileSum;

static Err sum_share(const Scorer *s, const TokenFiles *files, int64_t stride, Staging *st,
                     int32_t *text, FileSum *sum)
{
    const int64_t T = s->model->shape.n_tokens, most = s->model->shape.micro_batch;
    const int64_t n = count_windows(files->n_tokens, T, stride);
    for (int64_t w = s->comm->rank * most; w < n; w += s->comm->world * most) {
        int64_t B = n - w < most ? n - w : most;
        GptBatch batch;
        for (int64_t b = 0; b < B; b++) {
            Window win = window_at(w + b, files->n_tokens, T, stride);
            TRY(fill_window(s, st, files, &win, b, text));
        }
        TRY(run_batch(s, st, B, T, &batch));
        for (int64_t b = 0; b < B; b++) {
            RowScore row;
            take_losses(st, b, T, &row);
            sum->nll += row.nll;
            sum->n_tokens += (double)row.n_tokens;
        }
    }
    return OK;
}

Err score_file_run(const Scorer *s, const TokenFiles *files, int64_t stride, double *loss,
                   int64_t *n_tokens)
{
    const int64_t T = s->model->shape.n_tokens;
    Staging st;
    FileSum sum = {0, 0};
    ASSERT(stride >= 1 && stride <= T, "stride %lld", (long long)stride);
    int32_t *text = malloc((size_t)(T + 1) * sizeof *text);
    Err err = staging_open(&st, s);
    if (!err && !text)
        err = ERR_NEW(ERR_SYSTEM, "out of memory for a window");
    if (!err && files->n_tokens < 2)
        err = ERR_NEW(ERR_DATA, "nothing to predict: the file has one token");
    if (!err)
        err = sum_share(s, files, stride, &st, text, &sum);
    staging_close(&st);
    free(text);
    TRY(comm_agree(s->comm, err));
    TRY(comm_sum_f64(s->comm, &sum.nll, 1));
    TRY(comm_sum_f64(s->comm, &sum.n_tokens, 1));
    *loss = sum.nll / sum.n_tokens;
    *n_tokens = (int64_t)sum.n_tokens;
    return OK;
}
