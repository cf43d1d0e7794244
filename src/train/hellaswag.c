#include "train/hellaswag.h"

#include "plan/plan.h"
#include "score/scorer.h"
#include "train/batch.h"
#include "train/eval.h"

/* ---- the file ---------------------------------------------------------------------------- */

static Err read_encoded(ScoreTask *task, const RunConfig *run, const Bpe *bpe)
{
    BpeEncoder *encoder = NULL;
    TRY(bpe_encoder_open(&encoder, bpe));
    Err err = hellaswag_open(task, run->eval_hellaswag, encoder, run->hellaswag_items);
    bpe_encoder_close(encoder);
    return err;
}

static Err read_fitted(ScoreTask *task, const Config *cfg, const Dataset *data)
{
    Tokenizer tokenizer;
    TRY(dataset_tokenizer(data, &tokenizer));
    Err err = tokenizer.kind == TOKENIZER_BPE
                  ? read_encoded(task, &cfg->run, tokenizer.bpe)
                  : ERR_NEW(ERR_USAGE,
                            "dataset %s has a vocabulary of its own, and HellaSwag is scored in "
                            "GPT-2's tokens: leave it out, or use gpt_prepare --tokenizer",
                            cfg->data.dataset);
    tokenizer_free(&tokenizer);
    TRY(err);
    return score_task_fit(task, cfg->model.block_size, plan_vocab_size(cfg, data->vocab_size));
}

Err hellaswag_read(ScoreTask *task, const Config *cfg, const Dataset *data)
{
    *task = (ScoreTask){0};
    if (!cfg->run.eval_hellaswag[0])
        return OK;
    return err_prefix(read_fitted(task, cfg, data), "eval_hellaswag");
}

/* ---- scoring ----------------------------------------------------------------------------- */

bool hellaswag_due(const Trainer *t)
{
    const RunConfig *run = &t->cfg->run;
    int64_t interval = run->hellaswag_interval;
    if (interval == CONFIG_AUTO)
        interval = run->eval_interval;
    return t->hellaswag.n_items > 0 &&
           (trainer_is_last(t) || run->eval_only || t->progress.step % interval == 0);
}

/* Right answers: by the sum of an ending's losses, and by their mean. */
enum { RIGHT_BY_SUM, RIGHT_BY_MEAN, N_RIGHT };

static Scorer scorer_of(Trainer *t)
{
    return (Scorer){.model = &t->model,
                    .dev = t->dev,
                    .comm = t->comm,
                    .tokens = t->mem.tokens,
                    .targets = t->mem.targets,
                    .host_tokens = t->mem.host_tokens.data,
                    .host_targets = t->mem.host_targets.data,
                    .losses = t->mem.row_losses.data};
}

static Err score_group(const Scorer *s, const ScoreTask *task, int64_t first, int64_t n,
                       double right[N_RIGHT])
{
    RowScore score[SCORE_GROUP_ROWS];
    TRY(score_group_run(s, task, first, n, score));
    for (int64_t i = 0; i < n; i++) {
        const ScoreItem *item = &task->item[task->order[first + i].item];
        const RowScore *row = score + i * task->n_choices;
        right[RIGHT_BY_SUM] += score_item_is_right(task, item, row, false);
        right[RIGHT_BY_MEAN] += score_item_is_right(task, item, row, true);
    }
    return OK;
}

/* A group for each rank, from item *first on, which becomes the first after them. */
static Err score_round(const Scorer *s, const ScoreTask *task, int64_t *first,
                       double right[N_RIGHT])
{
    Err err = OK;
    for (int32_t rank = 0; rank < s->comm->world && *first < task->n_items; rank++) {
        int64_t n = score_group_items(s, task, *first);
        if (rank == s->comm->rank)
            err = score_group(s, task, *first, n, right);
        *first += n;
    }
    return err;
}

Err hellaswag_run(Trainer *t)
{
    const ScoreTask *task = &t->hellaswag;
    const Scorer scorer = scorer_of(t);
    double right[N_RIGHT] = {0}, n = (double)task->n_items;
    TRY(eval_begin(t));
    for (int64_t first = 0; first < task->n_items && !t->stop;) {
        trainer_enter(t, PHASE_EVAL, "HellaSwag", 0);
        activity_do(t->comm->activity, "HellaSwag, from item", first);
        TRY(eval_exchange(t, score_round(&scorer, task, &first, right), NULL));
    }
    if (t->stop)
        return OK;
    TRY(comm_sum_f64(t->comm, right, N_RIGHT));
    const HellaswagRecord record = {.iter = t->progress.step,
                                    .tokens = trainer_tokens(t),
                                    .n_items = task->n_items,
                                    .acc = right[RIGHT_BY_SUM] / n,
                                    .acc_norm = right[RIGHT_BY_MEAN] / n};
    log_hellaswag(&t->log, &record);
    return OK;
}
