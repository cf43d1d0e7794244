/* Every file operation of a save, a save over an older one and a pruning, failing in every way:
 * what is found afterwards is the old checkpoint or the new one, bit for bit, and the next save
 * works. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/saver.h"
#include "tests/fault/shim.h"
#include "tests/support/check_err.h"

typedef struct {
    const char *name;
    void (*prepare)(Saver *s);
    Err (*act)(Saver *s);
    Saved before, after; /* what is found without act, and when it has worked */
} Scenario;

static void leave(Saver *s, const char *dir, const char *file)
{
    char path[FILE_PATH_BYTES], name[FILE_PATH_BYTES];
    assert_null(path_join(path, saver_out_dir(s), dir));
    assert_null(dir_make(path));
    assert_null(path_join(name, path, file));
    assert_null(file_publish(name, "left", 4));
}

/* An older checkpoint, and what two crashes left. */
static void prepare_one(Saver *s)
{
    check_no_err(saver_save(s, 1, 1));
    leave(s, ".tmp_step_00000002", "model.safetensors");
    leave(s, ".old_step_00000001", "model.safetensors");
}

static Err save_second(Saver *s)
{
    return saver_save(s, 2, 2);
}

static void prepare_two(Saver *s)
{
    check_no_err(saver_save(s, 1, 1));
    check_no_err(saver_save(s, 2, 2));
}

static Err save_again(Saver *s)
{
    return saver_save(s, 2, 3);
}

static void prepare_three(Saver *s)
{
    prepare_two(s);
    check_no_err(saver_save(s, 3, 3));
}

static Err prune_two(Saver *s)
{
    return saver_prune(s, 1);
}

static const Scenario FIRST = {"a first save", NULL, save_second, {-1, -1}, {2, 2}};
static const Scenario NEXT = {"a save", prepare_one, save_second, {1, 1}, {2, 2}};
static const Scenario AGAIN = {"a save of the same step", prepare_two, save_again, {2, 2}, {2, 3}};
static const Scenario PRUNE = {"a pruning", prepare_three, prune_two, {3, 3}, {3, 3}};

/* The case that runs; tear_down shows it when the test ended in it. */
static char current[128];

static void prepare(Saver *s, const Scenario *scenario)
{
    fault_watch(saver_folder(s));
    if (scenario->prepare)
        scenario->prepare(s);
}

/* The operations that act does when nothing fails. */
static int64_t count_operations(Saver *s, const Scenario *scenario)
{
    prepare(s, scenario);
    fault_arm(FAULT_NONE, 0);
    check_no_err(scenario->act(s));
    return fault_disarm();
}

/* act in a process that dies in the place of operation `at`. */
static void act_and_die(Saver *s, const Scenario *scenario, int64_t at)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fault_arm(FAULT_KILL, at);
        err_free(scenario->act(s));
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Whether it worked. What fails must be a fault that training survives. */
static bool act_and_fail(Saver *s, const Scenario *scenario, FaultKind kind, int64_t at)
{
    fault_arm(kind, at);
    Err err = scenario->act(s);
    fault_disarm();
    bool worked = !err;
    if (err)
        assert_int_equal(err_code(err), ERR_WRITE);
    err_free(err);
    return worked;
}

static bool same(Saved a, Saved b)
{
    return a.step == b.step && a.fill == b.fill;
}

static void check_found(Saver *s, const Scenario *scenario, bool worked)
{
    Saved found = saver_found(s);
    if (same(found, scenario->after) || (!worked && same(found, scenario->before)))
        return;
    fail_msg("found step %lld, fill %lld", (long long)found.step, (long long)found.fill);
}

/* A checkpoint set aside that nothing has replaced is one still. */
static bool is_wanted(Saver *s, const char *name)
{
    char twin[FILE_PATH_BYTES];
    if (strncmp(name, ".old_", 5) != 0)
        return strncmp(name, "step_", 5) == 0;
    assert_null(path_join(twin, saver_out_dir(s), name + 5));
    return !path_exists(twin);
}

/* Training went on: its next save works and clears away what the failed one left. */
static void check_next(Saver *s)
{
    const Saved next = {9, 9};
    char **name;
    int32_t n;
    check_no_err(saver_save(s, next.step, next.fill));
    assert_true(same(saver_found(s), next));
    check_no_err(dir_list(saver_out_dir(s), &name, &n));
    for (int32_t i = 0; i < n; i++)
        if (!is_wanted(s, name[i]))
            fail_msg("%s is still there", name[i]);
    dir_list_free(name, n);
}

static void run_case(Saver *s, const Scenario *scenario, FaultKind kind, int64_t at)
{
    bool worked = false;
    prepare(s, scenario);
    if (kind == FAULT_KILL)
        act_and_die(s, scenario, at);
    else
        worked = act_and_fail(s, scenario, kind, at);
    check_found(s, scenario, worked);
    check_next(s);
}

static void run_each(Saver *s, const Scenario *scenario)
{
    const char *how = s->beside ? " beside training" : "";
    int64_t n = count_operations(s, scenario), n_cases = 0;
    assert_true(n > 0);
    for (FaultKind kind = FAULT_KILL; kind < N_FAULTS; kind++) {
        for (int64_t at = 1; at <= n; at++) {
            snprintf(current, sizeof current, "%s%s, %s at operation %lld", scenario->name, how,
                     fault_name(kind), (long long)at);
            run_case(s, scenario, kind, at);
            n_cases++;
        }
    }
    fault_watch(NULL);
    current[0] = '\0';
    printf("%s%s: %lld operations x %d faults: %lld of %lld\n", scenario->name, how, (long long)n,
           N_FAULTS - 1, (long long)n_cases, (long long)(n * (N_FAULTS - 1)));
}

static void run_scenario(void **state, const Scenario *scenario)
{
    Saver *s = *state;
    for (int beside = 0; beside < 2; beside++) {
        s->beside = beside;
        run_each(s, scenario);
    }
}

static void first_save(void **state)
{
    run_scenario(state, &FIRST);
}

static void next_save(void **state)
{
    run_scenario(state, &NEXT);
}

static void same_step_again(void **state)
{
    run_scenario(state, &AGAIN);
}

static void pruning(void **state)
{
    run_scenario(state, &PRUNE);
}

static int set_up(void **state)
{
    *state = calloc(1, sizeof(Saver));
    saver_open(*state);
    return 0;
}

static int tear_down(void **state)
{
    fault_disarm();
    fault_watch(NULL);
    if (current[0])
        printf("the case: %s\n", current);
    saver_close(*state);
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_save, set_up, tear_down),
        cmocka_unit_test_setup_teardown(next_save, set_up, tear_down),
        cmocka_unit_test_setup_teardown(same_step_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pruning, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
