/* Power loss after every file operation of a series of saves and prunings, under four models of
 * what a disk keeps: the newest checkpoint that verifies is the last one saved or the one in
 * progress, never a wrong one, and none is lost. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/fault/disk.h"
#include "tests/fault/saver.h"
#include "tests/fault/shim.h"
#include "tests/support/check_err.h"

enum { N_SEEDS = 8, N_SAVES = 5 };

static const Saved SAVES[N_SAVES] = {{1, 1}, {2, 2}, {2, 3}, {3, 4}, {4, 5}};

typedef struct {
    Saver saver;
    FaultLog log;
    int32_t done[N_SAVES]; /* operations when save i had returned */
    char current[96];      /* the state looked at; "" when all is well */
} Power;

/* Saves of new steps and of the same again, every other beside training; from the third on older
 * ones are pruned. */
static void record_run(Power *p)
{
    Saver *s = &p->saver;
    fault_watch(saver_folder(s));
    fault_record(&p->log);
    for (int32_t i = 0; i < N_SAVES; i++) {
        s->beside = i % 2;
        check_no_err(saver_save(s, SAVES[i].step, SAVES[i].fill));
        p->done[i] = p->log.n;
        if (i >= 2)
            check_no_err(saver_prune(s, 1));
    }
    fault_record(NULL);
    fault_watch(NULL);
}

static bool is_save(Saved found, int32_t i)
{
    return i < 0 ? found.step < 0
                 : i < N_SAVES && found.step == SAVES[i].step && found.fill == SAVES[i].fill;
}

/* After the loss of power behind n operations. */
static void check_state(Power *p, const Disk *disk, int32_t n, DiskModel model, uint64_t seed)
{
    int32_t last = -1;
    while (last + 1 < N_SAVES && p->done[last + 1] <= n)
        last++;
    snprintf(p->current, sizeof p->current, "after operation %d of %d, model %d, seed %llu", n,
             p->log.n, (int)model, (unsigned long long)seed);
    disk_materialise(disk, model, seed, saver_folder(&p->saver));
    Saved found = saver_found(&p->saver);
    if (!is_save(found, last) && !is_save(found, last + 1))
        fail_msg("found step %lld, fill %lld", (long long)found.step, (long long)found.fill);
    p->current[0] = '\0';
}

static void every_prefix(void **state)
{
    Power *p = *state;
    int64_t n_states = 0;
    record_run(p);
    Disk *disk = disk_new();
    for (int32_t n = 0; n <= p->log.n; n++) {
        for (DiskModel model = DISK_ALL; model < N_DISK_MODELS; model++) {
            uint64_t n_seeds = model == DISK_RANDOM ? N_SEEDS : 1;
            for (uint64_t seed = 0; seed < n_seeds; seed++, n_states++)
                check_state(p, disk, n, model, seed);
        }
        if (n < p->log.n)
            disk_apply(disk, &p->log.op[n]);
    }
    disk_free(disk);
    printf("power loss: %d operations, %lld states: %lld of %lld\n", p->log.n, (long long)n_states,
           (long long)n_states, (long long)n_states);
}

static int set_up(void **state)
{
    Power *p = calloc(1, sizeof *p);
    *state = p;
    saver_open(&p->saver);
    return 0;
}

static int tear_down(void **state)
{
    Power *p = *state;
    fault_record(NULL);
    fault_watch(NULL);
    if (p->current[0])
        printf("the state: %s\n", p->current);
    fault_log_free(&p->log);
    saver_close(&p->saver);
    free(p);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_prefix, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
