/* trainer.json: what is accepted has counts and numbers that a run can go on with, and is the same
 * when it is written and read again. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "checkpoint/record.h"
#include "tests/fuzz/fuzz.h"

static void check_progress(const Progress *p)
{
    ASSERT(p->step >= 0 && p->n_sequences >= 0 && p->n_bad_steps >= 0, "a negative count");
    ASSERT(p->n_updates >= 0 && p->n_updates <= p->step, "more updates than steps");
    ASSERT(!isnan(p->best_val_loss) && isfinite(p->loss_scale.scale), "no number");
}

static void check_written(const Progress *p, const StepCut *cut)
{
    static const GptDims dims = {.block_size = 1 << 20, .vocab_size = 3, .bias = true};
    static Config cfg;
    Progress again;
    StepCut cut_again;
    config_defaults(&cfg);
    strcpy(cfg.data.dataset, "\xFF"); /* not UTF-8 */
    Err err = record_write("again.json", &cfg, &dims, p, cut, NULL);
    if (!err)
        err = record_read("again.json", &again);
    if (!err)
        err = record_read_cut("again.json", &cut_again);
    if (fuzz_has_memory()) {
        ASSERT(!err, "%s", err_message(err));
        ASSERT(again.step == p->step && again.n_sequences == p->n_sequences &&
                   again.n_updates == p->n_updates && again.n_bad_steps == p->n_bad_steps,
               "counts read differently");
        ASSERT(again.best_val_loss == p->best_val_loss &&
                   again.loss_scale.scale == p->loss_scale.scale &&
                   again.loss_scale.n_good == p->loss_scale.n_good,
               "numbers read differently");
        ASSERT(memcmp(&cut_again, cut, sizeof *cut) == 0, "the cut read differently");
    }
    err_free(err);
}

void fuzz_execute(const uint8_t *data, size_t n_bytes)
{
    Progress p;
    StepCut cut;
    bool bias;
    const char *path = fuzz_file("trainer.json", data, n_bytes);
    Err err = record_read(path, &p), cut_err = record_read_cut(path, &cut);
    ASSERT(cut_err || cut.world == 0 || (cut.micro_batch > 0 && cut.head_chunk > 0), "empty cut");
    if (!err)
        check_progress(&p);
    if (!err && !cut_err && fuzz_is_turn())
        check_written(&p, &cut);
    err_free(err);
    err_free(cut_err);
    err_free(record_read_bias(path, &bias));
}
