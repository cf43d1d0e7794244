/* gpt_prepare: make token files out of a text. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/human.h"
#include "data/prepare.h"
#include "launch/args.h"
#include "launch/report.h"

enum { FLAG_KIND, FLAG_VAL_FRACTION, FLAG_OUT, FLAG_HELP, FLAG_VERSION, N_FLAGS };

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_KIND] = {"kind", "KIND",
                   "char: a token is a character found in the text (default); byte: a byte", NULL},
    [FLAG_VAL_FRACTION] = {"val_fraction", "X",
                           "the last part of the text, to validate (default 0.1)", NULL},
    [FLAG_OUT] = {"out", "DIR", "where the files go (default data/NAME for a text NAME.txt)", NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
    [FLAG_VERSION] = {"version", NULL, "versions of what it is built with", NULL},
};

static void print_help(void)
{
    printf("usage: gpt_prepare [flags] TEXT\n\n"
           "Makes train.bin, val.bin (16-bit tokens, as nanoGPT's) and meta.json (the tokenizer) "
           "out of a\n"
           "text file; \"-\" is standard input. Train on them with: gpt_ddp --dataset=NAME\n\n");
    args_help(FLAGS, N_FLAGS, stdout);
    printf("\nexit codes:\n");
    report_exit_codes(stdout);
}

static Err parse_kind(const char *text, TokenizerKind *kind)
{
    if (!text || strcmp(text, "char") == 0)
        *kind = TOKENIZER_CHAR;
    else if (strcmp(text, "byte") == 0)
        *kind = TOKENIZER_BYTE;
    else if (strcmp(text, "bpe") == 0)
        FAIL(ERR_USAGE, "--kind=bpe is not built yet: use char or byte");
    else
        FAIL(ERR_USAGE, "--kind=%s: should be char or byte", text);
    return OK;
}

/* data/NAME for a text .../NAME.txt. */
static Err default_out(const char *input, char out[FILE_PATH_BYTES])
{
    const char *slash = strrchr(input, '/');
    char name[FILE_PATH_BYTES];
    if (strcmp(input, "-") == 0)
        FAIL(ERR_USAGE, "standard input has no name: say where the files go with --out=DIR");
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : input);
    char *dot = strrchr(name, '.');
    if (dot && dot != name)
        *dot = '\0';
    return path_join(out, "data", name);
}

/* What nanoGPT's prepare.py prints, and where the files are. */
static Err print_result(const PrepareArgs *args, const PrepareResult *result)
{
    printf("length of dataset in %s: %s\n", args->kind == TOKENIZER_CHAR ? "characters" : "bytes",
           human_count(result->n_chars).text);
    printf("vocab size: %" PRId32 "\n", result->tokenizer.vocab_size);
    printf("train has %s tokens\n", human_count(result->n_train).text);
    printf("val has %s tokens\n", human_count(result->n_val).text);
    printf("wrote train.bin, val.bin and meta.json in %s\n", args->out_dir);
    if (fflush(stdout) != 0 || ferror(stdout))
        FAIL(ERR_WRITE, "the files are in %s, but standard output cannot be written: %s",
             args->out_dir, strerror(errno));
    return OK;
}

static Err prepare(const Flag *flag, char *const *rest, int32_t n_rest)
{
    char out[FILE_PATH_BYTES];
    PrepareArgs args = {.val_fraction = 0.1, .progress = isatty(STDERR_FILENO) ? stderr : NULL};
    TRY(args_refuse_rest(rest, n_rest, 1));
    if (n_rest == 0)
        FAIL(ERR_USAGE,
             "no text given: name a file, or - for standard input; --help lists the flags");
    TRY(parse_kind(flag[FLAG_KIND].text, &args.kind));
    TRY(args_number(&flag[FLAG_VAL_FRACTION], 0, 1, &args.val_fraction));
    args.input = rest[0];
    args.out_dir = flag[FLAG_OUT].text;
    if (!args.out_dir) {
        TRY(default_out(args.input, out));
        args.out_dir = out;
    }
    PrepareResult result;
    TRY(prepare_text(&args, &result));
    Err err = print_result(&args, &result);
    tokenizer_free(&result.tokenizer);
    return err;
}

static Err run(int argc, char **argv)
{
    Flag flag[N_FLAGS];
    memcpy(flag, FLAGS, sizeof flag);
    char *rest[argc + 1];
    int32_t n_rest;
    TRY(args_take(flag, N_FLAGS, argc, argv, rest, &n_rest));
    if (flag[FLAG_HELP].text)
        print_help();
    else if (flag[FLAG_VERSION].text)
        report_version("gpt_prepare", stdout);
    else
        TRY(prepare(flag, rest, n_rest));
    return OK;
}

int main(int argc, char **argv)
{
    return report_error("gpt_prepare", run(argc, argv), true);
}
