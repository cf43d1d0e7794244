/* gpt_eval: how good is a model? The loss of a token file, HellaSwag, LAMBADA; on one rank or many.
 *
 * Ranks agree on what they found before any of them leaves, and rank 0 alone speaks. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/args.h"
#include "launch/bind.h"
#include "launch/eval_model.h"
#include "launch/faults.h"
#include "launch/item_file.h"
#include "launch/report.h"

enum {
    FLAG_DATA,
    FLAG_STRIDE,
    FLAG_HELLASWAG,
    FLAG_LAMBADA,
    FLAG_MAX_ITEMS,
    FLAG_ITEMS,
    FLAG_TOKENIZER,
    FLAG_DEVICE,
    FLAG_DTYPE,
    FLAG_HELP,
    FLAG_VERSION,
    N_FLAGS
};

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_DATA] =
        {"data", "FILE",
         "loss and perplexity of a token file, a glob, or a folder (of it what is to validate)",
         NULL},
    [FLAG_STRIDE] = {"stride", "N",
                     "tokens from window to window, each predicted once: less than block_size "
                     "(default) leaves more context",
                     NULL},
    [FLAG_HELLASWAG] = {"hellaswag", "FILE", "HellaSwag: lines of JSON, or text, 6 lines an item",
                        NULL},
    [FLAG_LAMBADA] = {"lambada", "FILE", "LAMBADA: lines of JSON", NULL},
    [FLAG_MAX_ITEMS] = {"max_items", "N", "of each of the two, the first N (default all)", NULL},
    [FLAG_ITEMS] = {"items", "FILE", "write each row's losses, a line of JSON each", NULL},
    [FLAG_TOKENIZER] = {"tokenizer", "DIR", "with vocab.json and merges.txt (default: the model's)",
                        NULL},
    [FLAG_DEVICE] = {"device", "auto|cuda|cpu", "where (default auto)", NULL},
    [FLAG_DTYPE] = {"dtype", "auto|float32|bfloat16|float16", "of the weights (default auto)",
                    NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
    [FLAG_VERSION] = {"version", NULL, "versions of what it is built with", NULL},
};

typedef struct {
    Flag flag[N_FLAGS];
    const char *path;
    int64_t stride, max_items; /* 0: not given */
    Config cfg;                /* of it only [system] is used */
} Options;

/* ---- the command line -------------------------------------------------------------------- */

static void print_help(void)
{
    printf("usage: gpt_eval DIR [flags]\n"
           "       mpirun -np 4 gpt_eval DIR [flags]\n\n"
           "Measures a model. DIR is a checkpoint or Hugging Face model directory, or the out_dir "
           "of a\nrun (its newest checkpoint).\n\n");
    args_help(FLAGS, N_FLAGS, stdout);
    printf("\nexit codes:\n");
    report_exit_codes(stdout, ERR_WRITE);
}

static bool asked(const Options *o, int32_t flag)
{
    return o->flag[flag].text != NULL;
}

/* What a flag is for must be asked, or it would be left out without a word. */
static Err check_uses(const Options *o)
{
    const bool has_items = asked(o, FLAG_HELLASWAG) || asked(o, FLAG_LAMBADA);
    if (asked(o, FLAG_STRIDE) && !asked(o, FLAG_DATA))
        FAIL(ERR_USAGE, "--stride is for --data");
    if (asked(o, FLAG_MAX_ITEMS) && !has_items)
        FAIL(ERR_USAGE, "--max_items is for --hellaswag and --lambada");
    if (asked(o, FLAG_ITEMS) && !has_items)
        FAIL(ERR_USAGE, "--items is for --hellaswag and --lambada");
    return OK;
}

static Err parse_values(Options *o)
{
    TRY(args_integer(&o->flag[FLAG_STRIDE], 1, INT32_MAX, &o->stride));
    TRY(args_integer(&o->flag[FLAG_MAX_ITEMS], 1, INT32_MAX, &o->max_items));
    config_defaults(&o->cfg);
    if (asked(o, FLAG_DEVICE))
        TRY(config_set(&o->cfg, "command line", "device", o->flag[FLAG_DEVICE].text));
    if (asked(o, FLAG_DTYPE))
        TRY(config_set(&o->cfg, "command line", "dtype", o->flag[FLAG_DTYPE].text));
    if (!asked(o, FLAG_DATA) && !asked(o, FLAG_HELLASWAG) && !asked(o, FLAG_LAMBADA))
        FAIL(ERR_USAGE, "nothing to do: give --data, --hellaswag or --lambada with a file");
    return check_uses(o);
}

static Err options_parse(Options *o, int argc, char **argv)
{
    int32_t n_words = 0;
    memcpy(o->flag, FLAGS, sizeof FLAGS);
    char **word = calloc((size_t)argc + 1, sizeof *word);
    if (!word)
        FAIL(ERR_SYSTEM, "out of memory for the command line");
    Err err = args_take(o->flag, N_FLAGS, argc, argv, word, &n_words);
    if (!err && !asked(o, FLAG_HELP) && !asked(o, FLAG_VERSION)) {
        err = args_refuse_rest(FLAGS, N_FLAGS, word, n_words, 1);
        if (!err && n_words == 0)
            err = ERR_NEW(ERR_USAGE, "which model? give a directory; --help tells more");
        o->path = n_words ? word[0] : NULL;
        if (!err)
            err = parse_values(o);
    }
    free(word);
    return err;
}

/* ---- tasks ------------------------------------------------------------------------------- */

typedef Err OpenTask(ScoreTask *task, const char *path, BpeEncoder *encoder, int64_t max_items);

/* One kind of task, from its file to its figures. */
typedef struct {
    const char *name;
    int32_t flag;
    OpenTask *open;
    ScoreTask task;
    RowScore *score;
} Bench;

static Err read_bench(const Options *o, const EvalModel *model, Bench *bench)
{
    Bpe *bpe = NULL;
    BpeEncoder *encoder = NULL;
    const char *path = o->flag[bench->flag].text, *tokenizer = o->flag[FLAG_TOKENIZER].text;
    Err err = bpe_open(&bpe, tokenizer ? tokenizer : model->dir);
    if (!err)
        err = bpe_encoder_open(&encoder, bpe);
    if (!err)
        err = bench->open(&bench->task, path, encoder, o->max_items);
    bpe_encoder_close(encoder);
    bpe_close(bpe);
    TRY(err);
    TRY(score_task_fit(&bench->task, model->dims.block_size, model->dims.vocab_size));
    size_t n = (size_t)(bench->task.n_items * bench->task.n_choices);
    bench->score = calloc(n, sizeof *bench->score);
    return bench->score ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for %zu scores", n);
}

static void close_bench(Bench *bench)
{
    score_task_close(&bench->task);
    free(bench->score);
}

/* {"task":"hellaswag","item":3,"choice":1,"label":0,"nll":12.5,"tokens":7} */
static void write_items(const Bench *bench, FILE *out)
{
    for (int64_t i = 0; i < bench->task.n_items; i++)
        for (int32_t c = 0; c < bench->task.n_choices; c++) {
            const RowScore *s = &bench->score[i * bench->task.n_choices + c];
            fprintf(out,
                    "{\"task\":\"%s\",\"item\":%" PRId64 ",\"choice\":%d,\"label\":%d,"
                    "\"nll\":%.9g,\"tokens\":%" PRId64 ",\"greedy\":%" PRId64 "}\n",
                    bench->name, i, c, bench->task.item[i].label, s->nll, s->n_tokens, s->greedy);
        }
}

static void say_bench(const Bench *bench)
{
    ScoreSummary sum = score_summary(&bench->task, bench->score);
    printf("%s: %" PRId64 " items, acc %.4f", bench->name, sum.n_items, sum.acc);
    if (bench->task.n_choices > 1)
        printf(", acc_norm %.4f\n", sum.acc_norm);
    else
        printf(", perplexity %.4f\n", sum.perplexity);
    fflush(stdout);
}

static Err run_bench(const Options *o, EvalModel *model, Bench *bench, FILE *items)
{
    Comm *comm = model->scorer.comm;
    Err err = comm_agree(comm, read_bench(o, model, bench));
    if (!err) /* rows as long as the longest */
        err = eval_model_open(model, &o->cfg, bench->task.order[0].n_tokens);
    if (!err)
        err = score_task_run(&model->scorer, &bench->task, bench->score);
    if (!err && comm->rank == 0)
        say_bench(bench);
    if (!err && items)
        write_items(bench, items); /* into memory: an error is seen at the end */
    close_bench(bench);
    return err;
}

/* ---- a token file ------------------------------------------------------------------------ */

static Err check_stride(const Options *o, const EvalModel *model)
{
    if (o->stride > model->dims.block_size)
        FAIL(ERR_USAGE, "--stride=%" PRId64 ": at most the model's block_size of %" PRId64,
             o->stride, model->dims.block_size);
    return OK;
}

static Err run_data(const Options *o, EvalModel *model)
{
    TokenFiles files = {0};
    Comm *comm = model->scorer.comm;
    const int64_t T = model->dims.block_size, stride = o->stride ? o->stride : T;
    int64_t n_tokens = 0;
    double loss = 0;
    TRY(comm_agree(comm, check_stride(o, model)));
    Err err = comm_agree(comm, token_files_open_val(&files, o->flag[FLAG_DATA].text));
    if (!err)
        err = eval_model_open(model, &o->cfg, T);
    if (!err)
        err = score_file_run(&model->scorer, &files, stride, &loss, &n_tokens);
    if (!err && comm->rank == 0)
        printf("%s: %" PRId64 " tokens, loss %.6f, perplexity %.4f (block_size %" PRId64
               ", stride %" PRId64 ")\n",
               files.n_files == 1 ? files.file[0].path : o->flag[FLAG_DATA].text, n_tokens, loss,
               exp(loss), T, stride);
    token_files_close(&files);
    return err;
}

/* ---- the run ----------------------------------------------------------------------------- */

/* What "auto" came to is for those that follow, too. */
static void keep_device(Options *o, const EvalModel *model)
{
    o->cfg.system.device = model->dev.kind == DEVICE_CUDA ? CONFIG_DEVICE_CUDA : CONFIG_DEVICE_CPU;
}

/* Each with memory of its own: their batches differ in shape. */
static Err run_one(Options *o, Comm *comm, Bench *bench, FILE *items)
{
    EvalModel *model = calloc(1, sizeof *model);
    Err err = comm_agree(comm, model ? OK : ERR_NEW(ERR_SYSTEM, "out of memory for the model"));
    if (!err)
        err = eval_model_find(model, o->path, comm);
    if (!err && comm->rank == 0 && isatty(STDERR_FILENO))
        model->scorer.terminal = stderr;
    if (!err)
        err = bench ? run_bench(o, model, bench, items) : run_data(o, model);
    if (!err)
        keep_device(o, model);
    if (model && model->scorer.comm)
        eval_model_close(model);
    free(model);
    return err;
}

static Err run_all(Options *o, Comm *comm, FILE *items)
{
    Bench bench[] = {{"hellaswag", FLAG_HELLASWAG, hellaswag_open, {0}, NULL},
                     {"lambada", FLAG_LAMBADA, lambada_open, {0}, NULL}};
    if (asked(o, FLAG_DATA))
        TRY(run_one(o, comm, NULL, NULL));
    for (size_t i = 0; i < sizeof bench / sizeof *bench; i++)
        if (asked(o, bench[i].flag))
            TRY(run_one(o, comm, &bench[i], items));
    return OK;
}

static Err open_items(const Options *o, const Comm *comm, ItemFile *items)
{
    return comm->rank == 0 && asked(o, FLAG_ITEMS) ? item_file_open(items, o->flag[FLAG_ITEMS].text)
                                                   : OK;
}

/* Figures that nobody can read are an error, too. */
static Err finish(ItemFile *items)
{
    TRY(item_file_publish(items));
    if (fflush(stdout) != 0 || ferror(stdout))
        FAIL(ERR_WRITE, "standard output cannot be written: %s", strerror(errno));
    return OK;
}

/* `parsed` is what this rank found in its command line. */
static int run(Options *o, Err parsed)
{
    Launcher launcher = launcher_detect();
    Comm comm = {0};
    ItemFile items = {0};
    Err err = comm_open(&comm, launcher.present);
    if (err) {
        err_free(parsed);
        return report_error("gpt_eval", err, launcher.rank == 0);
    }
    err = comm_agree(&comm, parsed);
    if (!err)
        err = comm_agree(&comm, launcher_check(&launcher, &comm));
    if (!err)
        err = comm_agree(&comm, open_items(o, &comm, &items));
    if (!err)
        err = run_all(o, &comm, items.out);
    if (!err)
        err = comm_agree(&comm, finish(&items));
    item_file_close(&items);
    int exit_code = report_error("gpt_eval", err, comm.rank == 0);
    comm_close(&comm);
    return exit_code;
}

int main(int argc, char **argv)
{
    faults_install();
    Options *o = calloc(1, sizeof *o);
    if (!o)
        return report_error("gpt_eval", ERR_NEW(ERR_SYSTEM, "out of memory"), true);
    int exit_code = 0;
    Err err = options_parse(o, argc, argv);
    if (!err && asked(o, FLAG_HELP))
        print_help();
    else if (!err && asked(o, FLAG_VERSION))
        report_version("gpt_eval", stdout);
    else
        exit_code = run(o, err);
    free(o);
    return exit_code;
}
