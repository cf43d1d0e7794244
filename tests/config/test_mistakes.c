/* What people get wrong in a configuration, and the one line each mistake must be answered with. */
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/check_err.h"
#include "tests/support/temp.h"

typedef struct {
    const char *text;     /* the file x.ini; NULL: none */
    const char *argument; /* an override; NULL: none */
    const char *message;  /* the whole of it, behind "<path>/x.ini" when it starts with ':' */
} Mistake;

static const Mistake MISTAKES[] = {
    /* keys */
    {"[batch]\nbatchsize = 12\n", NULL, ":2: unknown key \"batchsize\"; did you mean batch_size?"},
    {"n_layers = 12\n", NULL, ":1: unknown key \"n_layers\"; did you mean n_layer?"},
    {"N_HEAD = 12\n", NULL, ":1: unknown key \"N_HEAD\"; did you mean n_head?"},
    {"wandb_runname = x\n", NULL,
     ":1: unknown key \"wandb_runname\"; did you mean wandb_run_name?"},
    {"tensor_parallel_degree = 2\n", NULL,
     ":1: unknown key \"tensor_parallel_degree\"; --help lists the keys"},
    {NULL, "--learning-rate=1",
     "command line: unknown key \"learning-rate\"; did you mean "
     "learning_rate?"},
    {NULL, "--x=1", "command line: unknown key \"x\"; --help lists the keys"},
    {NULL, "--optim.batch_size=1",
     "command line: batch_size is in section batch, not optim; write --batch_size=value"},
    {NULL, "--bias", "command line: \"--bias\" is not a setting; write --key=value"},
    {NULL, "other.ini", "command line: \"other.ini\" is not a setting; write --key=value"},
    {NULL, "--=3", "command line: \"--=3\" is not a setting; write --key=value"},
    {"[model]\nbias = true\n\nbias = false\n", NULL,
     ":4: bias was already set on line 2; remove one of the two"},

    /* types */
    {"\n\nn_layer = twelve\n", NULL, ":3: n_layer = twelve is not a whole number; use 1 to 1000"},
    {"n_layer = 1.5\n", NULL, ":1: n_layer = 1.5 is not a whole number; use 1 to 1000"},
    {"n_layer = auto\n", NULL, ":1: n_layer = auto is not a whole number; use 1 to 1000"},
    {"batch_size = 99999999999999999999\n", NULL,
     ":1: batch_size = 99999999999999999999 is not a whole number; use 1 to 65536 sequences"},
    {"micro_batch = best\n", NULL,
     ":1: micro_batch = best is not a whole number; use 1 to 65536 sequences, or auto"},
    {"bias = maybe\n", NULL, ":1: bias = maybe is neither true nor false; use true or false"},
    {"learning_rate = fast\n", NULL, ":1: learning_rate = fast is not a number; use 0 to 10"},
    {"learning_rate = 6e-4.\n", NULL, ":1: learning_rate = 6e-4. is not a number; use 0 to 10"},
    {"memory_limit = most\n", NULL,
     ":1: memory_limit = most is not an amount of memory such as 11.6GiB or 512M; use 1MiB to "
     "1024TiB, or auto"},
    {"save_timeout = soon\n", NULL,
     ":1: save_timeout = soon is not a duration such as 120s, 10m or 23h50m; use 0 to 1000000 "
     "seconds"},
    {"init_timeout = 0\n", NULL,
     ":1: init_timeout = 0 is out of bounds; use 1 to 1000000 seconds"},
    {"gelu = relu\n", NULL, ":1: gelu = relu is not known; use tanh, erf"},
    {"device = cuda:0\n", NULL, ":1: device = cuda:0 is not known; use auto, cuda, cpu"},
    {"out_dir =\n", NULL, ":1: out_dir has no value; give it one or remove the line"},
    {NULL, "--out_dir=", "command line: out_dir has no value; give it one or leave it out"},
    {NULL, "--out_dir=''", "command line: out_dir has no value; give it one or leave it out"},
    {NULL, "--out_dir=a\nb",
     "command line: out_dir holds a control character (code 10); remove it"},
    {NULL, "--out_dir=it's \"x\"",
     "command line: out_dir holds both kinds of quotes; rename so that it "
     "has at most one kind"},

    {NULL, "--n_layer=1\n2",
     "command line: n_layer holds a control character (code 10); remove it"},

    /* bounds */
    {"n_layer = 0\n", NULL, ":1: n_layer = 0 is out of bounds; use 1 to 1000"},
    {NULL, "--batch_size=-1",
     "command line: batch_size = -1 is out of bounds; use 1 to 65536 sequences"},
    {"dropout = 1\n", NULL, ":1: dropout = 1 is out of bounds; use 0 or more, below 1"},
    {"dropout = -0.1\n", NULL, ":1: dropout = -0.1 is out of bounds; use 0 or more, below 1"},
    {"beta1 = 1.0\n", NULL, ":1: beta1 = 1.0 is out of bounds; use 0 or more, below 1"},
    {"beta2 = 95\n", NULL, ":1: beta2 = 95 is out of bounds; use 0 or more, below 1"},
    {"eps = 0\n", NULL, ":1: eps = 0 is out of bounds; use 1e-30 to 1"},
    {"learning_rate = -6e-4\n", NULL, ":1: learning_rate = -6e-4 is out of bounds; use 0 to 10"},
    {"eval_interval = 0\n", NULL,
     ":1: eval_interval = 0 is out of bounds; use 1 to 1000000000 steps"},
    {"max_iters = 0\n", NULL, ":1: max_iters = 0 is out of bounds; use 1 to 1000000000 steps"},
    {"zero_stage = 3\n", NULL, ":1: zero_stage = 3 is out of bounds; use 0 to 2, or auto"},
    {"memory_limit = 12\n", NULL,
     ":1: memory_limit = 12 is out of bounds; use 1MiB to 1024TiB, or auto"},
    {"seed = -1\n", NULL, ":1: seed = -1 is out of bounds; use 0 to 9007199254740992"},
    {"keep_checkpoints = 0\n", NULL, ":1: keep_checkpoints = 0 is out of bounds; use 1 to 1000000"},
    {"max_bad_steps = 0\n", NULL, ":1: max_bad_steps = 0 is out of bounds; use 1 to 1000000 steps"},

    /* contradictions: the later of the two settings is named */
    {"n_head = 7\n", NULL, ":1: n_embd = 768 is not divisible by n_head = 7; use n_head = 6 or 8"},
    {"n_head = 12\nn_embd = 100\n", NULL,
     ":2: n_embd = 100 is not divisible by n_head = 12; use n_head = 10 or 20"},
    {"n_embd = 384\n", "--n_head=1000",
     "command line: n_embd = 384 is not divisible by n_head = 1000; use n_head = 384"},
    {"learning_rate = 1e-5\n", NULL,
     ":1: min_lr = 6e-05 is above learning_rate = 1e-05; lower min_lr (a tenth is usual), or set "
     "decay_lr = false"},
    {"\nlr_decay_iters = 1000\n", NULL,
     ":2: warmup_iters = 2000 is above lr_decay_iters = 1000; lower warmup_iters"},
    {"eval_interval = 250\nalways_save_checkpoint = false\ncheckpoint_interval = 300\n", NULL,
     ":3: always_save_checkpoint = false needs a validation loss at each checkpoint, but "
     "checkpoint_interval = 300 is not a multiple of eval_interval = 250; use auto"},
    {"device = cpu\ndtype = bfloat16\n", NULL,
     ":2: dtype = bfloat16 with device = cpu: CPU ranks train in float32; use dtype = auto"},
    {"dtype = float16\n", "--device=cpu",
     "command line: dtype = float16 with device = cpu: CPU ranks train in float32; use dtype = "
     "auto"},
    {"device = cpu\ncomm = nccl\n", NULL,
     ":2: comm = nccl with device = cpu: NCCL moves GPU memory; use comm = auto"},
    {"offload = optimizer\ndevice = cpu\n", NULL,
     ":2: offload = optimizer with device = cpu: its state is in host memory already; use offload "
     "= auto"},
    {"device = cpu\nmaster = remainder16\n", NULL,
     ":2: master = remainder16 with device = cpu: it goes with bfloat16 parameters; use master = "
     "auto"},
    {"master = remainder16\ndtype = float16\n", NULL,
     ":2: master = remainder16 with dtype = float16: it goes with bfloat16 parameters; use master "
     "= auto"},
    {"dtype = float32\n", "--master=remainder16",
     "command line: master = remainder16 with dtype = float32: it goes with bfloat16 parameters; "
     "use master = auto"},

    /* the file itself */
    {"import time\n", NULL,
     ":1: \"import time\" is no [section], no comment and no setting; write key = value"},
    {"[model\n", NULL, ":1: \"[model\" has no closing ]; write [section]"},
    {"dataset = 'owt\n", NULL, ":1: the quote that opens 'owt is not closed"},
};

enum { N_MISTAKES = sizeof MISTAKES / sizeof *MISTAKES };

static void check_mistake(Temp *t, const Mistake *m)
{
    Config cfg;
    char want[FILE_PATH_BYTES + 1024];
    char *const overrides[] = {(char *)m->argument};
    const char *path = m->text ? temp_write_text(t, "x.ini", m->text) : NULL;
    Err err = config_load(&cfg, path, m->argument ? 1 : 0, overrides);
    snprintf(want, sizeof want, "%s%s", *m->message == ':' ? t->path : "", m->message);
    if (err_code(err) != ERR_USAGE || strcmp(err_message(err), want) != 0)
        fail_msg("exit %d\n  got  %s\n  want %s", (int)err_code(err), err_message(err), want);
    err_free(err);
}

static void test_each_mistake_gets_its_line(void **state)
{
    (void)state;
    Temp t;
    temp_make(&t);
    for (int i = 0; i < N_MISTAKES; i++)
        check_mistake(&t, &MISTAKES[i]);
    temp_remove(&t);
}

static void test_missing_file(void **state)
{
    (void)state;
    Config cfg;
    check_err(config_load(&cfg, "/nonexistent/x.ini", 0, NULL), ERR_MISSING,
              "cannot open /nonexistent/x.ini: No such file or directory");
}

static void test_folder_instead_of_file(void **state)
{
    (void)state;
    Config cfg;
    check_err(config_load(&cfg, "/tmp", 0, NULL), ERR_MISSING, "cannot read /tmp: Is a directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_mistake_gets_its_line),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_folder_instead_of_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
