/* TestRun: a run of one rank with everything it needs: a folder with data, settings, a device. */
#ifndef GPT_TESTS_RUN_H
#define GPT_TESTS_RUN_H

#include "tests/support/temp.h"
#include "train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    Temp temp; /* train.bin and val.bin are in it */
    Config cfg;
    Comm comm;
    Device dev;
    Trainer trainer;
    int stop; /* what launch/ would set */
} TestRun;

typedef struct {
    const char *key, *value;
} TestSetting;

enum { TEST_RUN_VOCAB = 17 };

/* dir/name = n tokens of a text a small model learns quickly: mostly each token's successor. */
void run_write_tokens(TestRun *run, const char *name, int32_t n);
void run_set(TestRun *run, const char *key, const char *value);
/* *state: a new run on this device, not started yet, with these settings over the defaults and over
 * 2 layers, a block_size of 8 and this vocabulary; its data and "out" in its folder. 0, as cmocka
 * wants it. */
int run_setup(void **state, DeviceKind device, int32_t n_train, int32_t n_val,
              const TestSetting *setting, int32_t n_settings);
int run_teardown(void **state);

#ifdef __cplusplus
}
#endif
#endif
