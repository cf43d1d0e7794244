/* trainer.json: what is accepted has counts and numbers that a run can go on with. */
#include <math.h>

#include "base/check.h"
#include "checkpoint/record.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    Progress p;
    bool bias;
    StepCut cut;
    const char *path = fuzz_file("trainer.json", data, n_bytes);
    Err err = record_read(path, &p);
    if (!err) {
        ASSERT(p.step >= 0 && p.n_sequences >= 0 && p.n_bad_steps >= 0, "a negative count");
        ASSERT(p.n_updates >= 0 && p.n_updates <= p.step, "more updates than steps");
        ASSERT(!isnan(p.best_val_loss) && isfinite(p.loss_scale.scale), "no number");
    }
    err_free(err);
    err_free(record_read_bias(path, &bias));
    err = record_read_cut(path, &cut);
    ASSERT(err || cut.world == 0 || (cut.micro_batch > 0 && cut.head_chunk > 0), "an empty cut");
    err_free(err);
    return 0;
}
