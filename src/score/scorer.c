#include "score/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/human.h"
#include "base/status_line.h"

enum { NO_TARGET = -1 };

/* ---- a batch ----------------------------------------------------------------------------- */

static int64_t batch_tokens(const Scorer *s)
{
    return s->model->shape.micro_batch * s->model->shape.n_tokens;
}

/* Where the two share memory there is nothing to move. */
static void upload(Device *dev, Tensor to, const int32_t *from)
{
    if (to.data != (const void *)from)
        device_upload(dev, to, from);
}

/* The first B x T tokens in host memory through the model; losses of all rows. */
static Err run_batch(const Scorer *s, int64_t B, int64_t T, GptBatch *batch)
{
    *batch = (GptBatch){.tokens = tensor_as_2d(tensor_range(s->tokens, 0, B * T), B, T),
                        .targets = tensor_as_2d(tensor_range(s->targets, 0, B * T), B, T)};
    upload(s->dev, batch->tokens, s->host_tokens);
    upload(s->dev, batch->targets, s->host_targets);
    gpt2_forward(s->model, s->dev, batch);
    return gpt2_row_losses(s->model, s->dev, batch, s->losses);
}

static void take_losses(const Scorer *s, int64_t b, int64_t T, RowScore *score)
{
    *score = (RowScore){0};
    for (int64_t t = 0; t < T; t++) {
        if (s->host_targets[b * T + t] == NO_TARGET)
            continue;
        score->nll += (double)s->losses[b * T + t];
        score->n_tokens++;
    }
}

/* ---- rows of a task ---------------------------------------------------------------------- */

/* Few lengths make few shapes, for each of which a GPU's library has to choose algorithms. */
static int64_t padded_length(const Scorer *s, const ScorePlace *longest)
{
    enum { MULTIPLE = 16 };
    int64_t n = (longest->n_tokens + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
    return n < s->model->shape.n_tokens ? n : s->model->shape.n_tokens;
}

int64_t score_group_items(const Scorer *s, const ScoreTask *task, int64_t first)
{
    int64_t n = batch_tokens(s) / padded_length(s, &task->order[first]);
    n = (n < SCORE_GROUP_ROWS ? n : SCORE_GROUP_ROWS) / task->n_choices;
    n = n > 1 ? n : 1;
    return n < task->n_items - first ? n : task->n_items - first;
}

/* Row b of (B,T): inputs, and as targets only the continuation. */
static void fill_row(const Scorer *s, const ScoreTask *task, const ScoreRow *row, int64_t b,
                     int64_t T)
{
    const uint16_t *token = task->token + row->begin;
    for (int64_t t = 0; t < T; t++) {
        bool is_input = t + 1 < row->n_tokens;
        bool counts = is_input && t + 1 >= row->n_context;
        s->host_tokens[b * T + t] = is_input ? token[t] : 0;
        s->host_targets[b * T + t] = counts ? token[t + 1] : NO_TARGET;
    }
}

/* Is every token of row b's continuation the likeliest? */
static Err look_greedy(const Scorer *s, const GptBatch *batch, int64_t b, int64_t *greedy)
{
    const int64_t T = batch->tokens.dim[1], V = s->model->dims.vocab_size;
    const float *logits = s->logits;
    *greedy = 1;
    for (int64_t t = 0; t < T && *greedy; t++) {
        int64_t best = 0, target = s->host_targets[b * T + t];
        if (target == NO_TARGET)
            continue;
        TRY(gpt2_logits(s->model, s->dev, batch, b, t, s->logits));
        for (int64_t v = 1; v < V; v++)
            best = logits[v] > logits[best] ? v : best;
        *greedy = best == target;
    }
    return OK;
}

/* Row r of the task, counted over its items in order. */
static const ScoreRow *row_at(const ScoreTask *task, int64_t r)
{
    const ScorePlace *place = &task->order[r / task->n_choices];
    return &task->item[place->item].row[r % task->n_choices];
}

/* Rows [first, first + B) as one batch. */
static Err score_batch(const Scorer *s, const ScoreTask *task, int64_t first, int64_t B, int64_t T,
                       RowScore *score)
{
    GptBatch batch;
    for (int64_t b = 0; b < B; b++)
        fill_row(s, task, row_at(task, first + b), b, T);
    TRY(run_batch(s, B, T, &batch));
    for (int64_t b = 0; b < B; b++) {
        take_losses(s, b, T, &score[b]);
        if (task->n_choices == 1)
            TRY(look_greedy(s, &batch, b, &score[b].greedy));
    }
    return OK;
}

Err score_group_run(const Scorer *s, const ScoreTask *task, int64_t first, int64_t n,
                    RowScore *score)
{
    const int64_t T = padded_length(s, &task->order[first]), n_rows = n * task->n_choices;
    const int64_t most = batch_tokens(s) / T;
    for (int64_t r = 0, B; r < n_rows; r += B) {
        B = n_rows - r < most ? n_rows - r : most;
        TRY(score_batch(s, task, first * task->n_choices + r, B, T, score + r));
    }
    return OK;
}

static void show_part(StatusLine *line, int64_t done, int64_t all, const char *what)
{
    status_line_show(line, (double)done / (double)all, "%s of %s %s", human_count(done).text,
                     human_count(all).text, what);
}

/* Groups go round the ranks; score: in the file's order, zeros where another rank is at work. */
static Err score_share(const Scorer *s, const ScoreTask *task, StatusLine *line, RowScore *score)
{
    RowScore of_group[SCORE_GROUP_ROWS];
    int64_t turn = 0;
    for (int64_t first = 0, n; first < task->n_items; first += n, turn++) {
        n = score_group_items(s, task, first);
        if (turn % s->comm->world != s->comm->rank)
            continue;
        TRY(score_group_run(s, task, first, n, of_group));
        for (int64_t i = 0; i < n; i++)
            memcpy(score + task->order[first + i].item * task->n_choices,
                   of_group + i * task->n_choices, (size_t)task->n_choices * sizeof *score);
        show_part(line, first + n, task->n_items, "items");
    }
    return OK;
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
    int64_t n = task->n_items * task->n_choices;
    RowScore *mine = calloc((size_t)n, sizeof *mine);
    StatusLine line = status_line_begin(s->terminal, 0);
    Err err = mine ? score_share(s, task, &line, mine)
                   : ERR_NEW(ERR_SYSTEM, "out of memory for %lld texts", (long long)n);
    status_line_clear(&line);
    err = comm_agree(s->comm, err);
    if (!err)
        err = gather(s, mine, n, score);
    free(mine);
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

bool score_item_is_right(const ScoreTask *task, const ScoreItem *item, const RowScore *row,
                         bool by_mean)
{
    if (task->n_choices == 1)
        return row->greedy;
    return best_row(row, task->n_choices, by_mean) == item->label;
}

ScoreSummary score_summary(const ScoreTask *task, const RowScore *score)
{
    const double n = (double)task->n_items;
    ScoreSummary sum = {.n_items = task->n_items};
    double nll = 0;
    for (int64_t i = 0; i < task->n_items; i++) {
        const ScoreItem *item = &task->item[i];
        const RowScore *row = score + i * task->n_choices;
        sum.acc += score_item_is_right(task, item, row, false);
        sum.acc_norm += score_item_is_right(task, item, row, true);
        nll += row[item->label].nll;
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

static Err check_token(const Scorer *s, int64_t token)
{
    if (token >= s->model->dims.vocab_size)
        FAIL(ERR_DATA, "token %lld, but the model's vocabulary has %lld: another tokenizer?",
             (long long)token, (long long)s->model->dims.vocab_size);
    return OK;
}

/* text: room for T + 1. */
static Err fill_window(const Scorer *s, const TokenFiles *files, const Window *win, int64_t b,
                       int32_t *text)
{
    const int64_t T = s->model->shape.n_tokens, n = win->end - win->begin;
    token_files_read(files, win->begin, n, text);
    for (int64_t t = 0; t < n; t++)
        TRY(check_token(s, text[t]));
    for (int64_t t = 0; t < T; t++) {
        bool counts = t + 1 < n && win->begin + t + 1 >= win->first;
        s->host_tokens[b * T + t] = t + 1 < n ? text[t] : 0;
        s->host_targets[b * T + t] = counts ? text[t + 1] : NO_TARGET;
    }
    return OK;
}

typedef struct {
    double nll, n_tokens;
} FileSum;

static Err sum_share(const Scorer *s, const TokenFiles *files, int64_t stride, int32_t *text,
                     StatusLine *line, FileSum *sum)
{
    const int64_t T = s->model->shape.n_tokens, most = s->model->shape.micro_batch;
    const int64_t n = count_windows(files->n_tokens, T, stride);
    for (int64_t w = s->comm->rank * most; w < n; w += s->comm->world * most) {
        int64_t B = n - w < most ? n - w : most;
        GptBatch batch;
        for (int64_t b = 0; b < B; b++) {
            Window win = window_at(w + b, files->n_tokens, T, stride);
            TRY(fill_window(s, files, &win, b, text));
        }
        TRY(run_batch(s, B, T, &batch));
        for (int64_t b = 0; b < B; b++) {
            RowScore row;
            take_losses(s, b, T, &row);
            sum->nll += row.nll;
            sum->n_tokens += (double)row.n_tokens;
        }
        show_part(line, w + B, n, "windows");
    }
    return OK;
}

Err score_file_run(const Scorer *s, const TokenFiles *files, int64_t stride, double *loss,
                   int64_t *n_tokens)
{
    const int64_t T = s->model->shape.n_tokens;
    FileSum sum = {0, 0};
    StatusLine line = status_line_begin(s->terminal, 0);
    ASSERT(stride >= 1 && stride <= T, "stride %lld", (long long)stride);
    int32_t *text = malloc((size_t)(T + 1) * sizeof *text);
    Err err = text ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for a window");
    if (!err && files->n_tokens < 2)
        err = ERR_NEW(ERR_DATA, "nothing to predict: the file has one token");
    if (!err)
        err = sum_share(s, files, stride, text, &line, &sum);
    status_line_clear(&line);
    free(text);
    TRY(comm_agree(s->comm, err));
    TRY(comm_sum_f64(s->comm, &sum.nll, 1));
    TRY(comm_sum_f64(s->comm, &sum.n_tokens, 1));
    *loss = sum.nll / sum.n_tokens;
    *n_tokens = (int64_t)sum.n_tokens;
    return OK;
}
