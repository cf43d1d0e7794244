/* Saver: a tiny run of one rank that saves checkpoints into folders of its own, and tells what a
 * folder's newest verified checkpoint holds. Its values depend on a number, the fill, which is
 * saved along, so a checkpoint that mixes two saves is seen. */
#ifndef GPT_TESTS_FAULT_SAVER_H
#define GPT_TESTS_FAULT_SAVER_H

#include "checkpoint/writer.h"
#include "tests/support/temp.h"
#include "tests/support/toy_run.h"

typedef struct {
    Temp temp;
    Comm comm;
    Device dev;
    ToyRun run;
    TokenizerFiles tokenizer;
    Writer writer;
    bool beside; /* saves and prunings are the writer's */
    int32_t n_folders;
} Saver;

/* What find chose: -1, -1 for nothing. */
typedef struct {
    int64_t step, fill;
} Saved;

void saver_open(Saver *s);
void saver_close(Saver *s);

/* An empty folder; saves go to "out" in it. Returned: its path, valid until the next call. */
const char *saver_folder(Saver *s);
const char *saver_out_dir(const Saver *s);

/* Beside training the values change as soon as they are copied. */
Err saver_save(Saver *s, int64_t step, int64_t fill);
Err saver_prune(Saver *s, int64_t keep);

/* The newest checkpoint of out_dir that verifies, loaded. Fails the test when it is not, bit for
 * bit, what saver_save wrote with its fill. */
Saved saver_found(Saver *s);

#endif
