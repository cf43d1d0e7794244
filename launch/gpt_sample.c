/* gpt_sample: continue a text with a trained model, token by token. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launch/args.h"
#include "launch/faults.h"
#include "launch/report.h"
#include "launch/text_model.h"
#include "model/sampler.h"
#include "text/utf8.h"

enum {
    FLAG_PROMPT,
    FLAG_NUM_SAMPLES,
    FLAG_MAX_NEW_TOKENS,
    FLAG_TEMPERATURE,
    FLAG_TOP_K,
    FLAG_TOP_P,
    FLAG_SEED,
    FLAG_STOP_AT_EOT,
    FLAG_TOKENIZER,
    FLAG_DEVICE,
    FLAG_DTYPE,
    FLAG_THREADS,
    FLAG_NO_CACHE,
    FLAG_HELP,
    FLAG_VERSION,
    N_FLAGS
};

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_PROMPT] = {"prompt", "TEXT",
                     "the text to continue, FILE:path, or - for standard input (default a newline)",
                     NULL},
    [FLAG_NUM_SAMPLES] = {"num_samples", "N", "how many continuations (default 10)", NULL},
    [FLAG_MAX_NEW_TOKENS] = {"max_new_tokens", "N", "tokens of each, at most (default 500)", NULL},
    [FLAG_TEMPERATURE] = {"temperature", "X",
                          "below 1 safer, above bolder, 0 always the likeliest token (default 0.8)",
                          NULL},
    [FLAG_TOP_K] = {"top_k", "K", "draw from the K likeliest tokens, 0 from all (default 200)",
                    NULL},
    [FLAG_TOP_P] = {"top_p", "P",
                    "of these, from the likeliest that together have the probability P (default 1)",
                    NULL},
    [FLAG_SEED] = {"seed", "N", "another seed, other texts (default 1337)", NULL},
    [FLAG_STOP_AT_EOT] = {"stop_at_eot", "BOOL",
                          "end a text at <|endoftext|>, where the tokenizer has it (default true)",
                          NULL},
    [FLAG_TOKENIZER] = {"tokenizer", "DIR",
                        "another folder with vocab.json and merges.txt, encoder.json and "
                        "vocab.bpe, or meta.json",
                        NULL},
    [FLAG_DEVICE] = {"device", "DEVICE",
                     "auto, cpu or cuda (default auto: a GPU when there is one)", NULL},
    [FLAG_DTYPE] = {"dtype", "DTYPE",
                    "auto, float32, bfloat16 or float16 (default auto: what the device is best at)",
                    NULL},
    [FLAG_THREADS] = {"threads", "N", "CPU threads (default OMP_NUM_THREADS, else all CPUs)", NULL},
    [FLAG_NO_CACHE] = {"no_cache", NULL,
                       "keep no keys and values: a whole forward pass for each token, to compare",
                       NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
    [FLAG_VERSION] = {"version", NULL, "versions of what it is built with", NULL},
};

typedef struct {
    Flag flag[N_FLAGS];
    int64_t num_samples, max_new_tokens;
    bool stop_at_eot;
    Sampler sampler;
    TextModelArgs model;
} Options;

/* The text so far, with room for all that will be drawn. */
typedef struct {
    int32_t *ids;
    int64_t n_prompt, n_ids;
    int64_t n_drawn;         /* of all samples */
    int32_t end;             /* the token that ends a text; -1: none does */
    float *logits, *scratch; /* (vocab_size) */
} Text;

static void print_help(void)
{
    printf("usage: gpt_sample DIR [flags]\n\n"
           "Continues a text with a trained model. DIR is a checkpoint or model directory, or the "
           "out_dir\nof a run (its newest checkpoint). Needs no MPI.\n\n");
    args_help(FLAGS, N_FLAGS, stdout);
    printf("\nA text longer than the model's block_size goes on as in nanoGPT, from its last "
           "block_size tokens:\neach further token then costs a whole forward pass.\n");
    printf("\nexit codes:\n");
    report_exit_codes(stdout, ERR_WRITE);
}

/* ---- the command line -------------------------------------------------------------------- */

static Err parse_numbers(Options *o)
{
    int64_t seed = 1337, n_threads = 0;
    o->num_samples = 10;
    o->max_new_tokens = 500;
    o->sampler = sampler_default((uint64_t)seed);
    TRY(args_integer(&o->flag[FLAG_NUM_SAMPLES], 1, INT32_MAX, &o->num_samples));
    TRY(args_integer(&o->flag[FLAG_MAX_NEW_TOKENS], 1, INT32_MAX, &o->max_new_tokens));
    TRY(args_integer(&o->flag[FLAG_TOP_K], 0, INT32_MAX, &o->sampler.top_k));
    TRY(args_integer(&o->flag[FLAG_SEED], 0, INT64_MAX, &seed));
    TRY(args_integer(&o->flag[FLAG_THREADS], 1, 4096, &n_threads));
    TRY(args_number(&o->flag[FLAG_TEMPERATURE], 0, 1e6, &o->sampler.temperature));
    TRY(args_number(&o->flag[FLAG_TOP_P], 0, 1, &o->sampler.top_p));
    if (o->sampler.top_p == 0)
        FAIL(ERR_USAGE, "--top_p=%s: no token is likely enough; 1 draws from all",
             o->flag[FLAG_TOP_P].text);
    o->sampler.seed = (uint64_t)seed;
    o->model.n_threads = (int32_t)n_threads;
    return OK;
}

/* In the order of ConfigDevice and ConfigDtype. */
static Err parse_choices(Options *o)
{
    static const char *const DEVICES[] = {"auto", "cuda", "cpu", NULL};
    static const char *const DTYPES[] = {"auto", "bfloat16", "float16", "float32", NULL};
    static const char *const BOOLS[] = {"false", "true", NULL};
    int32_t device = CONFIG_DEVICE_AUTO, dtype = CONFIG_DTYPE_AUTO, stop = true;
    TRY(args_choice(&o->flag[FLAG_DEVICE], DEVICES, &device));
    TRY(args_choice(&o->flag[FLAG_DTYPE], DTYPES, &dtype));
    TRY(args_choice(&o->flag[FLAG_STOP_AT_EOT], BOOLS, &stop));
    o->model.device = (ConfigDevice)device;
    o->model.dtype = (ConfigDtype)dtype;
    o->model.tokenizer = o->flag[FLAG_TOKENIZER].text;
    o->stop_at_eot = stop;
    return OK;
}

/* What nanoGPT's sample.py takes, and is written otherwise here. `rest` has room for all. */
static Err refuse_nanogpt(int argc, char **argv, char **rest)
{
    enum { N_HABITS = 3 };
    static const char STANDS_ALONE[] = "the folder stands alone: gpt_sample DIR";
    Flag habit[N_HABITS] = {{"start", "[TEXT]", "it is --prompt=TEXT here", NULL},
                            {"out_dir", "[DIR]", STANDS_ALONE, NULL},
                            {"init_from", "[DIR]", STANDS_ALONE, NULL}};
    int32_t n_rest;
    TRY(args_take(habit, N_HABITS, argc, argv, rest, &n_rest));
    for (int i = 0; i < N_HABITS; i++)
        if (habit[i].text)
            FAIL(ERR_USAGE, "unknown argument --%s: %s", habit[i].name, habit[i].help);
    return OK;
}

static Err options_parse(Options *o, int argc, char **argv)
{
    int32_t n_rest = 0;
    memcpy(o->flag, FLAGS, sizeof FLAGS);
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    if (!rest)
        FAIL(ERR_SYSTEM, "out of memory for the command line");
    Err err = refuse_nanogpt(argc, argv, rest);
    if (!err)
        err = args_take(o->flag, N_FLAGS, argc, argv, rest, &n_rest);
    if (!err)
        err = args_refuse_rest(FLAGS, N_FLAGS, rest, n_rest, 1);
    o->model.path = n_rest > 0 ? rest[0] : NULL;
    free(rest);
    TRY(err);
    TRY(parse_numbers(o));
    return parse_choices(o);
}

/* ---- the prompt -------------------------------------------------------------------------- */

/* *text is malloc'd. */
static Err read_prompt(const Options *o, char **text, size_t *n_bytes)
{
    enum { MOST_BYTES = 64 << 20 };
    const char *prompt = o->flag[FLAG_PROMPT].text ? o->flag[FLAG_PROMPT].text : "\n";
    if (strncmp(prompt, "FILE:", 5) == 0)
        return file_read_text(prompt + 5, MOST_BYTES, text, n_bytes);
    if (strcmp(prompt, "-") == 0)
        return file_read_text("/dev/stdin", MOST_BYTES, text, n_bytes);
    *text = strdup(prompt);
    *n_bytes = strlen(prompt);
    if (!*text)
        FAIL(ERR_SYSTEM, "out of memory for the prompt");
    return OK;
}

static Err text_reserve(Text *text, const TextModel *model, int64_t max_new_tokens)
{
    size_t n_ids = (size_t)(text->n_prompt + max_new_tokens);
    size_t n_logits = (size_t)model->model.dims.vocab_size;
    int32_t *ids = realloc(text->ids, n_ids * sizeof *ids);
    if (ids)
        text->ids = ids;
    text->logits = malloc(n_logits * sizeof *text->logits);
    text->scratch = malloc(n_logits * sizeof *text->scratch);
    if (!ids || !text->logits || !text->scratch)
        FAIL(ERR_SYSTEM, "out of memory for a text of %zu tokens", n_ids);
    return OK;
}

static void say_what_counts(const Text *text, const TextModel *model)
{
    int64_t block_size = model->model.dims.block_size;
    if (text->n_prompt > block_size)
        fprintf(stderr,
                "gpt_sample: the prompt has %lld tokens; the model sees the last %lld of them\n",
                (long long)text->n_prompt, (long long)block_size);
}

static Err text_begin(Text *text, const TextModel *model, const Options *o)
{
    char *prompt = NULL;
    size_t n_bytes = 0;
    TRY(err_prefix(read_prompt(o, &prompt, &n_bytes), "--prompt"));
    Err err = tokenizer_encode(&model->tokenizer, prompt, n_bytes, &text->ids, &text->n_prompt);
    free(prompt);
    if (err)
        return err_prefix(err, "--prompt");
    if (text->n_prompt == 0)
        FAIL(ERR_USAGE, "--prompt: is empty; give at least one character");
    bool ends = o->stop_at_eot && model->tokenizer.kind == TOKENIZER_BPE;
    text->end = ends ? bpe_end_of_text(model->tokenizer.bpe) : -1;
    TRY(text_reserve(text, model, o->max_new_tokens));
    say_what_counts(text, model);
    return OK;
}

static void text_free(Text *text)
{
    free(text->ids);
    free(text->logits);
    free(text->scratch);
}

/* ---- writing ----------------------------------------------------------------------------- */

static Err write_out(const char *bytes, size_t n_bytes)
{
    if (fwrite(bytes, 1, n_bytes, stdout) != n_bytes || fflush(stdout) != 0)
        FAIL(ERR_WRITE, "standard output cannot be written: %s", strerror(errno));
    return OK;
}

/* The text of a token, or as much of it as makes whole characters. */
static Err write_token(const TextModel *model, Utf8Stream *stream, int32_t id)
{
    char spare[TOKENIZER_BYTES_PER_ID];
    size_t n_bytes, n_out;
    const char *bytes = tokenizer_text(&model->tokenizer, id, spare, &n_bytes);
    char *out = malloc(n_bytes + UTF8_MAX_BYTES);
    if (!out)
        FAIL(ERR_SYSTEM, "out of memory for the text of a token");
    utf8_stream_push(stream, bytes, n_bytes, out, &n_out);
    Err err = write_out(out, n_out);
    free(out);
    return err;
}

static Err write_prompt(const TextModel *model, Utf8Stream *stream, const Text *text)
{
    for (int64_t i = 0; i < text->n_prompt; i++)
        TRY(write_token(model, stream, text->ids[i]));
    return OK;
}

/* What no token made whole, and the line between samples. */
static Err write_end(Utf8Stream *stream)
{
    static const char END[] = "\n---------------\n";
    char rest[UTF8_MAX_BYTES];
    size_t n_rest;
    utf8_stream_end(stream, rest, &n_rest);
    TRY(write_out(rest, n_rest));
    return write_out(END, sizeof END - 1);
}

/* Each token is shown as soon as it is drawn, but for the end of the text. */
static Err write_sample(TextModel *model, Text *text, const Options *o, int64_t sample)
{
    Utf8Stream stream = {0};
    text->n_ids = text->n_prompt;
    TRY(write_prompt(model, &stream, text));
    for (int64_t i = 0; i < o->max_new_tokens; i++) {
        TRY(text_model_next(model, text->ids, text->n_ids, text->logits));
        int32_t id = sampler_pick(&o->sampler, text->logits, model->n_vocab, (uint64_t)sample,
                                  (uint64_t)i, text->scratch);
        text->n_drawn++;
        if (id == text->end)
            break;
        text->ids[text->n_ids++] = id;
        TRY(write_token(model, &stream, id));
    }
    return write_end(&stream);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void say_speed(const TextModel *model, const Text *text, double seconds)
{
    fprintf(stderr, "gpt_sample: %lld tokens in %.2f s, %.1f tokens/s (%s, %s)\n",
            (long long)text->n_drawn, seconds, (double)text->n_drawn / seconds,
            device_kind_name(model->dev.kind), dtype_name(model->model.shape.dtype));
}

/* ---- the program ------------------------------------------------------------------------- */

static Err sample_all(TextModel *model, const Options *o)
{
    Text text = {0};
    Err err = text_begin(&text, model, o);
    double start = seconds_now();
    for (int64_t i = 0; i < o->num_samples && !err; i++)
        err = write_sample(model, &text, o, i);
    if (!err)
        say_speed(model, &text, seconds_now() - start);
    text_free(&text);
    return err;
}

static Err sample(const Options *o)
{
    if (!o->model.path)
        FAIL(ERR_USAGE, "which model? gpt_sample DIR; --help lists the flags");
    TextModel *model = calloc(1, sizeof *model);
    if (!model)
        FAIL(ERR_SYSTEM, "out of memory");
    Err err = text_model_open(model, &o->model);
    model->decoder.keep = o->flag[FLAG_NO_CACHE].text == NULL;
    if (!err)
        err = sample_all(model, o);
    text_model_close(model);
    free(model);
    return err;
}

static Err run(int argc, char **argv)
{
    Options o = {0};
    TRY(options_parse(&o, argc, argv));
    if (o.flag[FLAG_HELP].text)
        print_help();
    else if (o.flag[FLAG_VERSION].text)
        report_version("gpt_sample", stdout);
    else
        TRY(sample(&o));
    return OK;
}

int main(int argc, char **argv)
{
    faults_install();
    return report_error("gpt_sample", run(argc, argv), true);
}
