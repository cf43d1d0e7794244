/* gpt_ddp: train. Reads the settings, then either answers a question about them (--plan,
 * --print-config), looks whether a run could start (--check), or runs.
 *
 * Every rank reads the same command line and file; ranks agree on what they found before any of
 * them leaves, and rank 0 alone speaks. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "launch/args.h"
#include "launch/bind.h"
#include "launch/cache.h"
#include "launch/check.h"
#include "launch/guard.h"
#include "launch/job.h"
#include "launch/machine.h"
#include "launch/report.h"
#include "launch/settings.h"
#include "launch/signals.h"
#include "launch/verify.h"
#include "plan/estimate.h"
#include "train/trainer.h"

enum {
    FLAG_CHECK,
    FLAG_PLAN,
    FLAG_WORLD,
    FLAG_GPU,
    FLAG_VERIFY,
    FLAG_PRINT_CONFIG,
    FLAG_HELP,
    FLAG_VERSION,
    N_FLAGS
};

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_CHECK] = {"check", NULL,
                    "look at data, out_dir, ranks, memory and network in seconds, and end", NULL},
    [FLAG_PLAN] = {"plan", "[=json]", "print the memory plan and end; needs no GPU and no MPI",
                   NULL},
    [FLAG_WORLD] = {"world", "N", "with --plan: for N ranks (default: those of mpirun, or 1)",
                    NULL},
    [FLAG_GPU] = {"gpu", "CARD",
                  "with --plan: rtx3060 rtx4090 a100 h100 h200: its memory and speed", NULL},
    [FLAG_VERIFY] =
        {"verify", "DIR",
         "look whether the checkpoints in an out_dir (or one of them) are whole and end", NULL},
    [FLAG_PRINT_CONFIG] = {"print-config", NULL, "print every setting as it stands and end", NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
    [FLAG_VERSION] = {"version", NULL, "versions of what it is built with", NULL},
};

typedef struct {
    Flag flag[N_FLAGS];
    Config cfg;
    /* of --plan */
    int64_t world;
    const GpuSpec *gpu; /* NULL: not given */
    bool as_json;
} Options;

/* ---- the command line -------------------------------------------------------------------- */

/* The config file is the one word that sets nothing; it may stand anywhere. */
static Err split_words(char **word, int32_t n_words, const char **path, int32_t *n_overrides)
{
    int32_t n = 0;
    for (int32_t i = 0; i < n_words; i++) {
        if (word[i][0] == '-' || strchr(word[i], '='))
            word[n++] = word[i];
        else if (!*path)
            *path = word[i];
        else
            FAIL(ERR_USAGE, "two config files, %s and %s: give one, and settings as --key=value",
                 *path, word[i]);
    }
    *n_overrides = n;
    return OK;
}

static bool asked(const Options *o, int32_t flag)
{
    return o->flag[flag].text != NULL;
}

static Err parse_plan_flags(Options *o)
{
    const char *form = o->flag[FLAG_PLAN].text, *card = o->flag[FLAG_GPU].text;
    TRY(args_integer(&o->flag[FLAG_WORLD], 1, 1 << 20, &o->world));
    if (asked(o, FLAG_WORLD) && !asked(o, FLAG_PLAN))
        FAIL(ERR_USAGE, "--world is for --plan; a run gets its ranks from mpirun -np N");
    if (asked(o, FLAG_GPU) && !asked(o, FLAG_PLAN))
        FAIL(ERR_USAGE, "--gpu is for --plan; a run uses the GPU that is there");
    if (form && form[0] && strcmp(form, "json") != 0)
        FAIL(ERR_USAGE, "--plan=%s: use --plan for a table or --plan=json", form);
    o->as_json = form && form[0];
    o->gpu = card ? gpu_spec_find(card) : NULL;
    if (card && !o->gpu)
        FAIL(ERR_USAGE, "--gpu=%s is not known; use one of %s, or memory_limit", card,
             gpu_spec_names());
    if (card && o->cfg.system.device == CONFIG_DEVICE_CPU)
        FAIL(ERR_USAGE, "--gpu=%s with device = cpu: use device = auto or cuda", card);
    return OK;
}

static void try_setting(void *nearest, const char *key, const char *value)
{
    (void)value;
    nearest_try(nearest, key);
}

/* A flag that a word may have been meant for, when no setting is as near. */
static Err refuse_flag(const Options *o, const char *word)
{
    char name[ARGS_NAME_BYTES];
    args_name(word, name);
    Nearest nearest = nearest_begin(name);
    config_visit(&o->cfg, try_setting, &nearest);
    const char *setting = nearest.known;
    args_try(FLAGS, N_FLAGS, &nearest);
    if (nearest.known != setting)
        FAIL(ERR_USAGE, "unknown argument %s; did you mean --%s?", word, nearest.known);
    return OK;
}

/* The settings know nothing of the flags: a word they refuse may be one. */
static Err load_settings(Options *o, const char *path, char **word, int32_t n_words)
{
    Err err = config_load(&o->cfg, path, n_words, word);
    for (int32_t i = 0; i < n_words && err; i++) {
        Err flag = refuse_flag(o, word[i]);
        if (flag) {
            err_free(err);
            return flag;
        }
    }
    return err;
}

static Err load_config(Options *o, char **word, int32_t n_words)
{
    const char *path = NULL;
    int32_t n_overrides = 0;
    TRY(split_words(word, n_words, &path, &n_overrides));
    TRY(load_settings(o, path, word, n_overrides));
    TRY(checkpoint_adopt_shape(&o->cfg));
    return parse_plan_flags(o);
}

static Err options_parse(Options *o, int argc, char **argv)
{
    int32_t n_words = 0;
    memcpy(o->flag, FLAGS, sizeof FLAGS);
    const int32_t world = launcher_detect().world;
    o->world = world > 0 ? world : 1;
    char **word = calloc((size_t)argc + 1, sizeof *word);
    if (!word)
        FAIL(ERR_SYSTEM, "out of memory for the command line");
    Err err = args_take(o->flag, N_FLAGS, argc, argv, word, &n_words);
    if (!err && !asked(o, FLAG_HELP) && !asked(o, FLAG_VERSION))
        err = load_config(o, word, n_words);
    free(word);
    return err;
}

/* ---- questions --------------------------------------------------------------------------- */

static void print_help(void)
{
    printf("usage: gpt_ddp [CONFIG.ini] [--key=value ...] [flags]\n"
           "       mpirun -np 4 gpt_ddp CONFIG.ini [--key=value ...]\n\n"
           "Trains a GPT-2 on one or many processes. Settings come from the file, then from the "
           "command "
           "line.\n\nflags:\n");
    args_help(FLAGS, N_FLAGS, stdout);
    printf("\nsettings, key = default:\n");
    config_help(stdout);
    printf("\nexit codes:\n");
    report_exit_codes(stdout, ERR_REPLICA);
}

/* The data's vocabulary when the data is there; a plan needs none. */
static int64_t vocab_for_plan(const Config *cfg)
{
    Dataset data = {.vocab_size = CONFIG_AUTO};
    Err err = dataset_open(&data, cfg);
    int64_t known = err ? CONFIG_AUTO : data.vocab_size;
    if (err && cfg->model.vocab_size == CONFIG_AUTO)
        fprintf(stderr, "(dataset %s is not here: planned for GPT-2's vocabulary)\n",
                cfg->data.dataset);
    err_free(err);
    dataset_close(&data);
    return plan_vocab_size(cfg, known);
}

/* Bytes a rank may use: memory_limit, else what the named card has; 0: not known. */
static size_t planned_limit(const Options *o, DeviceKind device)
{
    int64_t limit = o->cfg.memory.memory_limit;
    if (limit != CONFIG_AUTO)
        return (size_t)limit;
    if (device == DEVICE_CPU || !o->gpu)
        return 0;
    return o->gpu->memory_bytes - gpu_reserve_bytes((int32_t)o->world);
}

/* A plan that cannot be made prints nothing. *printed: has a plan been? */
static Err print_plan_for(const Options *o, DeviceKind device, int64_t vocab_size, bool *printed)
{
    const Config *cfg = &o->cfg;
    PlanTarget target = {.device = device,
                         .world = (int32_t)o->world,
                         .vocab_size = vocab_size,
                         .limit_bytes = planned_limit(o, device),
                         .gpu = device == DEVICE_CUDA ? o->gpu : NULL};
    TRY(bind_planned_threads(target.world, &target.n_threads));
    TRY(plan_dtype(cfg, device, &target.dtype));
    Plan *plan = malloc(sizeof *plan);
    if (!plan)
        FAIL(ERR_SYSTEM, "out of memory for the plan");
    Err err = plan_build(plan, cfg, &target);
    if (!err && o->as_json && *printed)
        printf(",\n");
    if (!err && o->as_json)
        err = plan_print_json(plan, stdout);
    else if (!err)
        plan_print(plan, stdout);
    *printed = *printed || !err;
    if (!err)
        err = plan_check(plan);
    fflush(stdout); /* before what stderr has to say of it */
    free(plan);
    return err;
}

/* With device = auto both tables; the answer is no only when neither fits. */
static Err print_both_plans(const Options *o, int64_t vocab_size)
{
    FILE *remarks = o->as_json ? stderr : stdout;
    bool printed = false;
    Err on_cpu = print_plan_for(o, DEVICE_CPU, vocab_size, &printed);
    if (on_cpu)
        fprintf(remarks, "%s\n", err_message(on_cpu));
    if (!o->as_json)
        printf("\n");
    Err on_cuda = print_plan_for(o, DEVICE_CUDA, vocab_size, &printed);
    if (on_cuda && !on_cpu)
        fprintf(remarks, "%s\n", err_message(on_cuda));
    if (on_cuda && on_cpu)
        return err_first(on_cuda, on_cpu);
    err_free(on_cpu);
    err_free(on_cuda);
    return OK;
}

/* JSON is an array of the plans that can be made, at most two. A named card is what is asked about.
 */
static Err print_plans(const Options *o)
{
    int64_t vocab_size = vocab_for_plan(&o->cfg);
    int32_t device = o->gpu ? CONFIG_DEVICE_CUDA : o->cfg.system.device;
    bool printed = false;
    if (o->as_json)
        printf("[");
    Err err = device == CONFIG_DEVICE_AUTO
                  ? print_both_plans(o, vocab_size)
                  : print_plan_for(o, device == CONFIG_DEVICE_CPU ? DEVICE_CPU : DEVICE_CUDA,
                                   vocab_size, &printed);
    if (o->as_json)
        printf("]\n");
    return err;
}

static bool is_question(const Options *o)
{
    return asked(o, FLAG_HELP) || asked(o, FLAG_VERSION) || asked(o, FLAG_PRINT_CONFIG) ||
           asked(o, FLAG_PLAN) || asked(o, FLAG_VERIFY);
}

static Err answer(const Options *o)
{
    if (asked(o, FLAG_HELP))
        print_help();
    else if (asked(o, FLAG_VERSION))
        report_version("gpt_ddp", stdout);
    else if (asked(o, FLAG_PRINT_CONFIG))
        config_print(&o->cfg, stdout);
    else if (asked(o, FLAG_VERIFY))
        return verify_print(o->flag[FLAG_VERIFY].text, stdout);
    else
        return print_plans(o);
    return OK;
}

/* ---- the run ----------------------------------------------------------------------------- */

/* What the process learned before anything else. */
typedef struct {
    const int *stop_signal;
    JobTimes times;
} Circumstances;

static Err train(const Config *cfg, Comm *comm, Guard *guard, const Circumstances *given)
{
    Device dev = {0};
    char tuning_cache[FILE_PATH_BYTES];
    cache_tuning_path(tuning_cache);
    Trainer *trainer = calloc(1, sizeof *trainer);
    Err err = trainer ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the trainer");
    TRY_GOTO(err, done, comm_agree(comm, err));
    TRY_GOTO(err, done, machine_open(cfg, comm, &dev));
    guard_name_device(guard, &dev);
    TRY_GOTO(err, done, trainer_open(trainer, cfg, comm, &dev, given->stop_signal, tuning_cache));
    trainer_keep_to(trainer, &given->times);
    TRY_GOTO(err, done, trainer_run(trainer));
done:
    guard_leave(guard);
    comm_unbind(comm, &dev); /* first: what a collective waits for may never come */
    if (trainer)
        trainer_close(trainer);
    free(trainer);
    device_close(&dev);
    return err;
}

static void greet(const Launcher *launcher)
{
    printf("gpt_ddp %s\n", program_version());
    if (launcher->job_tasks > 1)
        printf("notice: this Slurm job is for %d tasks, and here is one process: srun --mpi=pmix "
               "or mpirun starts them all\n",
               launcher->job_tasks);
}

/* `parsed` is what this rank found in its command line and config file. */
static int run(const Options *o, Err parsed, const Circumstances *given)
{
    Launcher launcher = launcher_detect();
    Comm comm = {0};
    Guard guard;
    Err strangers = launcher_check_start(&launcher);
    if (strangers)
        return report_error("gpt_ddp", err_first(parsed, strangers), launcher.rank == 0);
    parsed = err_first(parsed, guard_open(&guard, &comm, &launcher, &o->cfg.fault));
    Err err = comm_open(&comm, launcher.present);
    if (err) {
        err_free(parsed);
        guard_close(&guard);
        return report_error("gpt_ddp", err, launcher.rank == 0);
    }
    err = comm_agree(&comm, parsed);
    if (!err)
        err = comm_agree(&comm, launcher_check(&launcher, &comm));
    if (!err)
        err = guard_join(&guard);
    if (!err)
        err = settings_agree(&comm, &o->cfg);
    if (!err && comm.rank == 0)
        greet(&launcher);
    if (!err)
        err = asked(o, FLAG_CHECK) ? check_run(&o->cfg, &comm, &launcher)
                                   : train(&o->cfg, &comm, &guard, given);
    guard_part(&guard);
    int exit_code = report_error("gpt_ddp", err, comm.rank == 0);
    comm_close(&comm);
    guard_close(&guard);
    return exit_code;
}

int main(int argc, char **argv)
{
    int stop_signal = 0;
    const Circumstances given = {.stop_signal = &stop_signal, .times = job_times()};
    Err err = signals_install(&stop_signal);
    Options *options = calloc(1, sizeof *options);
    if (!options)
        return report_error("gpt_ddp", err_first(err, ERR_NEW(ERR_SYSTEM, "out of memory")), true);
    int exit_code;
    if (!err)
        err = options_parse(options, argc, argv);
    if (!err && is_question(options)) {
        bool speaks = launcher_detect().rank == 0;
        exit_code = speaks ? report_error("gpt_ddp", answer(options), true) : 0;
    } else {
        exit_code = run(options, err, &given);
    }
    free(options);
    exit(exit_code); /* no return: stop_signal can be written as long as there is a process */
}
