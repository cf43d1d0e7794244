/* gpt_prepare: make token files out of texts. */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/human.h"
#include "data/prepare.h"
#include "data/prepare_corpus.h"
#include "launch/args.h"
#include "launch/faults.h"
#include "launch/report.h"

enum {
    FLAG_KIND,
    FLAG_VAL_FRACTION,
    FLAG_OUT,
    FLAG_TOKENIZER,
    FLAG_TEXT_KEY,
    FLAG_SPLIT,
    FLAG_EOT,
    FLAG_FORMAT,
    FLAG_SHARD_TOKENS,
    FLAG_STRICT,
    FLAG_FORCE,
    FLAG_THREADS,
    FLAG_SAVE_SECONDS,
    FLAG_HELP,
    FLAG_VERSION,
    N_FLAGS,
    FIRST_BPE_FLAG = FLAG_TEXT_KEY,
    LAST_BPE_FLAG = FLAG_SAVE_SECONDS
};

static const Flag FLAGS[N_FLAGS] = {
    [FLAG_KIND] = {"kind", "KIND",
                   "char: a token is a character found in the text (default); byte: a byte; bpe: "
                   "GPT-2's (default with --tokenizer)",
                   NULL},
    [FLAG_VAL_FRACTION] =
        {"val_fraction", "X",
         "the part to validate: the last of one text (default 0.1), or so many of "
         "the documents (default 0.01)",
         NULL},
    [FLAG_OUT] = {"out", "DIR", "where the files go (default data/NAME for a text NAME.txt)", NULL},
    [FLAG_TOKENIZER] = {"tokenizer", "DIR",
                        "bpe: where vocab.json and merges.txt are, or encoder.json and vocab.bpe",
                        NULL},
    [FLAG_TEXT_KEY] = {"text_key", "KEY",
                       "bpe: where the text is in JSON lines (default text); given, standard input "
                       "is JSON lines",
                       NULL},
    [FLAG_SPLIT] = {"split", "HOW",
                    "bpe: hash: a document as a whole, by its beginning (default); tail: one text, "
                    "by place, as nanoGPT's shakespeare",
                    NULL},
    [FLAG_EOT] = {"eot", "PLACE",
                  "bpe: <|endoftext|> of each document: append (default), prepend (default for "
                  "llmc), none (default for tail)",
                  NULL},
    [FLAG_FORMAT] = {"format", "FORMAT",
                     "bpe: nanogpt: train.bin and val.bin (default); llmc: shards with a header",
                     NULL},
    [FLAG_SHARD_TOKENS] = {"shard_tokens", "N", "llmc: tokens of a shard (default 100000000)",
                           NULL},
    [FLAG_STRICT] = {"strict", NULL, "bpe: stop at a line that is not JSON or has no text", NULL},
    [FLAG_FORCE] = {"force", NULL, "bpe: replace the token files that are there", NULL},
    [FLAG_THREADS] = {"threads", "N", "bpe: how many encode (default: all CPUs)", NULL},
    [FLAG_SAVE_SECONDS] = {"save_seconds", "X",
                           "bpe: between points from which the same command goes on after a kill "
                           "(default 30)",
                           NULL},
    [FLAG_HELP] = {"help", NULL, "this text", NULL},
    [FLAG_VERSION] = {"version", NULL, "versions of what it is built with", NULL},
};

static void print_help(void)
{
    printf("usage: gpt_prepare [flags] TEXT\n"
           "       gpt_prepare --tokenizer=DIR [flags] TEXT...\n\n"
           "Makes train.bin, val.bin (16-bit tokens, as nanoGPT's) and meta.json (the tokenizer) "
           "out of a\n"
           "text file; \"-\" is standard input. With --tokenizer: GPT-2's tokens of any number of "
           "texts, JSON\n"
           "lines (.jsonl), both as .gz or .zst, and folders of them. Train on them with: gpt_ddp "
           "--dataset=NAME\n\n");
    args_help(FLAGS, N_FLAGS, stdout);
    printf("\nexit codes:\n");
    report_exit_codes(stdout, ERR_WRITE);
}

static Err parse_kind(const Flag *flag, TokenizerKind *kind)
{
    const char *text = flag[FLAG_KIND].text;
    bool has_tokenizer = flag[FLAG_TOKENIZER].text != NULL;
    *kind = has_tokenizer ? TOKENIZER_BPE : TOKENIZER_CHAR;
    if (text && strcmp(text, "char") == 0)
        *kind = TOKENIZER_CHAR;
    else if (text && strcmp(text, "byte") == 0)
        *kind = TOKENIZER_BYTE;
    else if (text && strcmp(text, "bpe") == 0)
        *kind = TOKENIZER_BPE;
    else if (text)
        FAIL(ERR_USAGE, "--kind=%s: should be char, byte or bpe", text);
    if (*kind == TOKENIZER_BPE && !has_tokenizer)
        FAIL(ERR_USAGE, "--kind=bpe: where is the vocabulary? --tokenizer=DIR");
    if (*kind != TOKENIZER_BPE && has_tokenizer)
        FAIL(ERR_USAGE, "--tokenizer is for --kind=bpe");
    return OK;
}

/* data/NAME for a text .../NAME.txt, or .../NAME.jsonl.gz. */
static Err default_out(const char *input, char out[FILE_PATH_BYTES])
{
    const char *slash = strrchr(input, '/');
    char name[FILE_PATH_BYTES];
    if (strcmp(input, "-") == 0)
        FAIL(ERR_USAGE, "standard input has no name: say where the files go with --out=DIR");
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : input);
    char *dot = strrchr(name, '.');
    if (dot && dot != name && (strcmp(dot, ".gz") == 0 || strcmp(dot, ".zst") == 0)) {
        *dot = '\0';
        dot = strrchr(name, '.');
    }
    if (dot && dot != name)
        *dot = '\0';
    if (!name[0] || strcmp(name, ".") == 0)
        FAIL(ERR_USAGE, "%s names no data set: say where the files go with --out=DIR", input);
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

/* ---- one text, by characters or bytes ---------------------------------------------------- */

/* Its quotes and braces become tokens, which few want. */
static void note_lines(const char *input)
{
    if (corpus_is_lines_name(input))
        fprintf(stderr,
                "gpt_prepare: %s was taken as one plain text, braces and all: --tokenizer=DIR "
                "reads JSON lines\n",
                input);
}

static Err prepare_one(const Flag *flag, TokenizerKind kind, const char *input, const char *out_dir)
{
    PrepareArgs args = {.input = input,
                        .out_dir = out_dir,
                        .kind = kind,
                        .val_fraction = 0.1,
                        .progress = isatty(STDERR_FILENO) ? stderr : NULL};
    TRY(args_fraction(&flag[FLAG_VAL_FRACTION], &args.val_fraction));
    PrepareResult result;
    TRY(prepare_text(&args, &result));
    note_lines(input);
    Err err = print_result(&args, &result);
    tokenizer_free(&result.tokenizer);
    return err;
}

/* ---- a corpus, by GPT-2's tokens --------------------------------------------------------- */

static int32_t count_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static Err parse_corpus(const Flag *flag, CorpusArgs *args)
{
    static const char *const SPLITS[] = {"hash", "tail", NULL};
    static const char *const PLACES[] = {"append", "prepend", "none", NULL};
    static const char *const FORMATS[] = {"nanogpt", "llmc", NULL};
    int32_t split = 0, eot, format = TOKEN_NANOGPT;
    int64_t n_threads = count_cpus();
    TRY(args_choice(&flag[FLAG_SPLIT], SPLITS, &split));
    TRY(args_choice(&flag[FLAG_FORMAT], FORMATS, &format));
    eot = split ? EOT_NONE : format == TOKEN_LLMC ? EOT_PREPEND : EOT_APPEND;
    TRY(args_choice(&flag[FLAG_EOT], PLACES, &eot));
    args->tail = split == 1;
    args->format = (TokenFormat)format;
    args->eot = (EotPlace)eot;
    args->val_fraction = args->tail ? 0.1 : 0.01;
    args->shard_tokens = 100000000;
    TRY(args_fraction(&flag[FLAG_VAL_FRACTION], &args->val_fraction));
    args->save_seconds = 30;
    TRY(args_number(&flag[FLAG_SAVE_SECONDS], 0, 1e9, &args->save_seconds));
    TRY(args_integer(&flag[FLAG_SHARD_TOKENS], 1, INT32_MAX, &args->shard_tokens));
    TRY(args_integer(&flag[FLAG_THREADS], 1, 1024, &n_threads));
    args->n_threads = (int32_t)n_threads;
    args->tokenizer_dir = flag[FLAG_TOKENIZER].text;
    args->text_key = flag[FLAG_TEXT_KEY].text;
    args->strict = flag[FLAG_STRICT].text != NULL;
    args->force = flag[FLAG_FORCE].text != NULL;
    return OK;
}

/* What is not as one might think, on stderr: one line each. */
static void print_notes(const CorpusResult *r)
{
    if (r->n_bytes_earlier > 0)
        fprintf(stderr, "gpt_prepare: went on behind %s of text, where an earlier run stopped\n",
                human_bytes(r->n_bytes_earlier).text);
    if (r->n_bad > 0)
        fprintf(stderr, "gpt_prepare: %" PRId64 " lines hold no document, the first: %s\n",
                r->n_bad, r->first_bad);
    if (r->n_passed_over == 1)
        fprintf(stderr,
                "gpt_prepare: %s is neither a text (.txt) nor JSON lines (.jsonl): passed over\n",
                r->first_passed_over);
    if (r->n_passed_over > 1)
        fprintf(stderr,
                "gpt_prepare: %d files are neither texts (.txt) nor JSON lines (.jsonl), the "
                "first %s: passed over\n",
                r->n_passed_over, r->first_passed_over);
    if (r->n_cuts > 0)
        fprintf(stderr,
                "gpt_prepare: %" PRId64 " cuts within a run of more than 64 MiB of one kind of "
                "character\n",
                r->n_cuts);
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static Err print_corpus(const CorpusArgs *args, const CorpusResult *r)
{
    const int64_t n_parts = r->n_documents[SPLIT_TRAIN] + r->n_documents[SPLIT_VAL];
    const int64_t n_documents = args->tail ? 1 : n_parts;
    print_notes(r);
    printf("%s document%s, %s of text in %d file%s: %s, %.1f MB/s\n", human_count(n_documents).text,
           plural(n_documents), human_bytes(r->n_bytes).text, r->n_read, plural(r->n_read),
           human_duration(r->seconds).text,
           1e-6 * (double)(r->n_bytes - r->n_bytes_earlier) / r->seconds);
    printf("vocab size: %" PRId32 "\n", r->vocab_size);
    printf("train has %s tokens\n", human_count(r->n_tokens[SPLIT_TRAIN]).text);
    printf("val has %s tokens\n", human_count(r->n_tokens[SPLIT_VAL]).text);
    printf("wrote %d files of tokens and the tokenizer in %s\n",
           r->n_files[SPLIT_TRAIN] + r->n_files[SPLIT_VAL], args->out_dir);
    if (fflush(stdout) != 0 || ferror(stdout))
        FAIL(ERR_WRITE, "the files are in %s, but standard output cannot be written: %s",
             args->out_dir, strerror(errno));
    return OK;
}

static Err prepare_many(const Flag *flag, char *const *input, int32_t n_inputs, const char *out_dir)
{
    CorpusResult result;
    CorpusArgs args = {.input = (const char *const *)input,
                       .n_inputs = n_inputs,
                       .out_dir = out_dir,
                       .progress = isatty(STDERR_FILENO) ? stderr : NULL};
    TRY(parse_corpus(flag, &args));
    TRY(prepare_corpus(&args, &result));
    return print_corpus(&args, &result);
}

/* ---- the program ------------------------------------------------------------------------- */

static Err refuse_bpe_flags(const Flag *flag)
{
    for (int i = FIRST_BPE_FLAG; i <= LAST_BPE_FLAG; i++)
        if (flag[i].text)
            FAIL(ERR_USAGE, "--%s is for --kind=bpe", flag[i].name);
    return OK;
}

/* Without --tokenizer. */
static Err require_one_text(char *const *rest, int32_t n_rest)
{
    TRY(args_refuse_rest(FLAGS, N_FLAGS, rest, n_rest, n_rest));
    if (n_rest > 1 || path_is_dir(rest[0]))
        FAIL(ERR_USAGE,
             "several texts, or a folder of them, take GPT-2's tokens: --tokenizer=DIR (without "
             "it: one text)");
    return OK;
}

static Err prepare(const Flag *flag, char *const *rest, int32_t n_rest)
{
    char out[FILE_PATH_BYTES];
    const char *out_dir = flag[FLAG_OUT].text;
    TokenizerKind kind;
    if (n_rest == 0)
        FAIL(ERR_USAGE,
             "no text given: name a file, or - for standard input; --help lists the flags");
    if (flag[FLAG_TOKENIZER].text)
        TRY(args_refuse_rest(FLAGS, N_FLAGS, rest, n_rest, n_rest));
    else
        TRY(require_one_text(rest, n_rest));
    TRY(parse_kind(flag, &kind));
    if (out_dir && !out_dir[0])
        FAIL(ERR_USAGE, "--out is empty: name a folder");
    if (!out_dir) {
        TRY(default_out(rest[0], out));
        out_dir = out;
    }
    if (kind == TOKENIZER_BPE)
        return prepare_many(flag, rest, n_rest, out_dir);
    TRY(refuse_bpe_flags(flag));
    return prepare_one(flag, kind, rest[0], out_dir);
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
    faults_install();
    return report_error("gpt_prepare", run(argc, argv), true);
}
