#include "tests/support/run.h"

#include <stdlib.h>

#include "tests/support/check_err.h"

void run_write_tokens(TestRun *run, const char *name, int32_t n)
{
    uint16_t *tokens = malloc((size_t)n * sizeof *tokens);
    assert_non_null(tokens);
    for (int32_t i = 0; i < n; i++)
        tokens[i] = (uint16_t)(i % 7 == 3 ? (i * i) % TEST_RUN_VOCAB : i % TEST_RUN_VOCAB);
    temp_write(&run->temp, name, tokens, (size_t)n * sizeof *tokens);
    free(tokens);
}

void run_set(TestRun *run, const char *key, const char *value)
{
    check_no_err(config_set(&run->cfg, "test", key, value));
}

static void set_all(TestRun *run, const TestSetting *setting, int32_t n_settings)
{
    config_defaults(&run->cfg);
    run_set(run, "n_layer", "2");
    run_set(run, "block_size", "8");
    run_set(run, "vocab_size", "17");
    run_set(run, "dataset", run->temp.dir);
    run_set(run, "out_dir", temp_path(&run->temp, "out"));
    for (int32_t i = 0; i < n_settings; i++)
        run_set(run, setting[i].key, setting[i].value);
}

int run_setup(void **state, DeviceKind device, int32_t n_train, int32_t n_val,
              const TestSetting *setting, int32_t n_settings)
{
    TestRun *run = calloc(1, sizeof *run);
    if (!run)
        return -1;
    *state = run;
    temp_make(&run->temp);
    run_write_tokens(run, "train.bin", n_train);
    run_write_tokens(run, "val.bin", n_val);
    set_all(run, setting, n_settings);
    check_no_err(comm_open(&run->comm, false));
    check_no_err(device_open(&run->dev, &(DeviceArgs){.kind = device, .n_threads = 1}));
    check_no_err(comm_bind(&run->comm, &run->dev, COMM_SINGLE));
    return 0;
}

int run_teardown(void **state)
{
    TestRun *run = *state;
    trainer_close(&run->trainer);
    comm_unbind(&run->comm, &run->dev);
    comm_close(&run->comm);
    device_close(&run->dev);
    temp_remove(&run->temp);
    free(run);
    return 0;
}
