#include "config/field.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"
#include "config/value.h"

/* ---- the table --------------------------------------------------------------------------- */

/* clang-format off */
/* Does not compile when the member has another type than the row says. */
#define MEMBER(type, section, key)                                                                 \
    #section, #key, AS_##type,                                                                     \
    _Generic(((Config *)0)->section.key, C_##type: offsetof(Config, section.key))
#define C_BOOL    bool
#define C_COUNT   int64_t
#define C_REAL    double
#define C_BYTES   int64_t
#define C_SECONDS double
#define C_CHOICE  int32_t
#define C_TEXT    char *

#define BOOL(section, key, def, help)                                                              \
    {MEMBER(BOOL, section, key), def, 0, 0, false, "", "", help, false}
#define COUNT(section, key, def, low, high, unit, help)                                            \
    {MEMBER(COUNT, section, key), def, low, high, false, unit, "", help, false}
#define COUNT_OR_AUTO(section, key, def, low, high, unit, help)                                    \
    {MEMBER(COUNT, section, key), def, low, high, false, unit, "", help, true}
#define REAL(section, key, def, low, high, help)                                                   \
    {MEMBER(REAL, section, key), def, low, high, false, "", "", help, false}
#define BELOW(section, key, def, low, high, help)                                                  \
    {MEMBER(REAL, section, key), def, low, high, true, "", "", help, false}
#define BYTES(section, key, def, low, high, help)                                                  \
    {MEMBER(BYTES, section, key), def, low, high, false, "", "", help, false}
#define SECONDS(section, key, def, low, high, help)                                       \
    {MEMBER(SECONDS, section, key), def, low, high, false, "seconds", "", help, false}
#define CHOICE(section, key, def, choices, help)                                          \
    {MEMBER(CHOICE, section, key), def, 0, 0, false, "", choices, help, false}
#define TEXT(section, key, def, help)                                                              \
    {MEMBER(TEXT, section, key), def, 0, 0, false, "", "", help, false}

/* One row for every setting: parsing, defaults, bounds, --help, the echo and the copy in each
 * checkpoint all come from here. Rows of one section stand together, in the order users read
 * them. */
static const Field FIELDS[] = {
    COUNT(model, n_layer, "12", 1, 1000, "", "transformer blocks"),
    COUNT(model, n_head, "12", 1, 1000, "", "attention heads; divides n_embd"),
    COUNT(model, n_embd, "768", 1, 65536, "", "width of the residual stream"),
    COUNT(model, block_size, "1024", 1, 1 << 20, "tokens", "context length"),
    BOOL(model, bias, "false", "biases in linear layers and LayerNorms; true as OpenAI's GPT-2"),
    BELOW(model, dropout, "0", 0, 1, "rate, after the embedding, attention and each projection"),
    CHOICE(model, gelu, "tanh", " tanh erf ", "tanh as OpenAI's GPT-2, erf as nanoGPT"),
    COUNT(model, vocab_size, "auto", 1, 1 << 20, "", "auto: from the data's meta.json, else 50257"),
    TEXT(model, init_from, "scratch",
         "scratch, resume (newest checkpoint in out_dir), auto (resume, else scratch), or "
         "a directory"),

    TEXT(data, dataset, "openwebtext", "a name under data_dir, or a path: directory, file or glob"),
    TEXT(data, data_dir, "data", "where datasets are looked for"),
    CHOICE(data, sampling, "random", " random shuffled ",
           "random: crops as nanoGPT takes them; shuffled: each window once per epoch"),

    COUNT(batch, batch_size, "12", 1, 65536, "sequences",
          "a step trains gradient_accumulation_steps * batch_size sequences, on any number of "
          "ranks"),
    COUNT(batch, gradient_accumulation_steps, "40", 1, 1 << 20, "", "total over all ranks"),
    COUNT(batch, micro_batch, "auto", 1, 65536, "sequences",
          "what a rank runs at once; changes memory and speed, not the result; auto: what fits"),

    REAL(optim, learning_rate, "6e-4", 0, 10, "the highest, after the warm-up"),
    REAL(optim, min_lr, "6e-5", 0, 10, "the lowest, from lr_decay_iters on"),
    COUNT(optim, warmup_iters, "2000", 0, 1e9, "steps", "the learning rate rises over these"),
    COUNT(optim, lr_decay_iters, "600000", 1, 1e9, "steps", "where the learning rate is min_lr"),
    BOOL(optim, decay_lr, "true", "false: learning_rate throughout, no warm-up"),
    CHOICE(optim, lr_schedule, "cosine", " cosine linear constant wsd ",
           "from learning_rate to min_lr; wsd: constant, then down over the last fifth"),
    COUNT(optim, max_iters, "600000", 1, 1e9, "steps", "updates in all"),
    REAL(optim, weight_decay, "0.1", 0, 10, "of tensors with two dimensions"),
    BELOW(optim, beta1, "0.9", 0, 1, "AdamW: memory of the mean gradient"),
    BELOW(optim, beta2, "0.95", 0, 1, "AdamW: memory of the squared gradient"),
    REAL(optim, eps, "1e-8", 1e-30, 1, "AdamW: added to the root of the squared gradient"),
    REAL(optim, grad_clip, "1", 0, 1e9, "largest norm of the whole gradient; 0: no clipping"),

    TEXT(run, out_dir, "out", "checkpoints and metrics.jsonl go here"),
    COUNT(run, eval_interval, "2000", 1, 1e9, "steps", "between evaluations"),
    COUNT(run, eval_iters, "200", 1, 1e9, "",
          "an evaluation takes eval_iters * batch_size windows"),
    BOOL(run, eval_only, "false", "evaluate once and end"),
    TEXT(run, eval_hellaswag, "",
         "a HellaSwag file, lines of JSON or text, 6 lines an item, to be scored at intervals; for "
         "data with a GPT-2 tokenizer beside it; empty: none"),
    COUNT(run, hellaswag_interval, "auto", 1, 1e9, "steps",
          "between these, which also come after the last step; auto: eval_interval"),
    COUNT(run, hellaswag_items, "0", 0, 1e9, "", "of the file the first so many; 0: all"),
    COUNT(run, sample_interval, "0", 0, 1e9, "steps",
          "between texts by the model, into samples.jsonl in out_dir, one also after the last step; "
          "0: none"),
    TEXT(run, sample_prompt, "", "what these go on from; empty: a line end"),
    COUNT(run, sample_tokens, "100", 1, 1e6, "tokens", "that each goes on for, at most"),
    COUNT(run, log_interval, "1", 1, 1e9, "steps", "between log lines"),
    BOOL(run, tensorboard, "true", "write the numbers of log lines for TensorBoard, into out_dir"),
    BOOL(run, always_save_checkpoint, "true",
         "false: only when the validation loss is the best so far"),
    COUNT(run, checkpoint_interval, "auto", 1, 1e9, "steps",
          "between checkpoints; auto: eval_interval"),
    SECONDS(run, checkpoint_time, "30m", 0, 1e6,
            "and whenever this long has passed since the last one, evaluated or not; 0: never"),
    COUNT(run, keep_checkpoints, "3", 1, 1e6, "",
          "older ones are deleted; the best stays where always_save_checkpoint is false"),
    COUNT(run, keep_every, "0", 0, 1e9, "steps",
          "checkpoints of steps that are a multiple are never deleted; 0: none"),
    BOOL(run, async_save, "true",
         "checkpoints are written while training goes on, from a copy in host memory: 12 bytes per "
         "parameter on rank 0"),
    SECONDS(run, stop_after, "0s", 0, 1e9,
            "save and leave (exit code 85) so long after the start of the program: 23h50m; 0: never"),
    COUNT(run, seed, "1337", 0, 0x1p53, "", "of weights, data order, dropout"),

    CHOICE(system, device, "auto", " auto cuda cpu ", "auto: a GPU if every rank has one"),
    CHOICE(system, dtype, "auto", " auto bfloat16 float16 float32 ",
           "of parameters and activations; auto: the best the device has; the CPU has float32, GPUs "
           "multiply it as TF32"),
    CHOICE(system, comm, "auto", " auto nccl mpi ", "what moves gradients; auto: by device"),
    COUNT_OR_AUTO(system, zero_stage, "1", 0, 2, "",
          "ranks share out 1: AdamW's state, 2: and gradients, which are then reduced in each "
          "micro-step; auto: what fits"),
    CHOICE(system, grad_reduce, "reduce_scatter", " reduce_scatter all_reduce ",
           "from zero_stage 1 on; zero_stage 0 always reduces to all"),
    CHOICE(system, comm_dtype, "float32", " float32 bfloat16 ",
           "of gradients on their way to where they are added, in float32"),
    COUNT(system, bucket_mb, "25", 1, 16384, "MiB", "gradients travel in pieces of at least this"),

    BYTES(memory, memory_limit, "auto", 1 << 20, 0x1p50,
          "per rank; auto: what is free at the start; else the rest of a GPU is held back"),
    CHOICE(memory, recompute, "auto", " auto none gelu_ln ffn qkv block ",
           "what backward computes again instead of keeping it"),
    COUNT(memory, head_chunk, "auto", 1, 1 << 30, "rows", "of logits held at once"),
    CHOICE(memory, offload, "auto", " auto none optimizer ",
           "optimizer: AdamW's state lives in host memory and visits the GPU in chunks, same bits"),
    CHOICE(memory, master, "auto", " auto float32 remainder16 ",
           "float32 weights beside 16-bit parameters: whole, or the 16 bits that bfloat16 lacks; "
           "same bits; auto: remainder16 for bfloat16"),

    SECONDS(fault, init_timeout, "120s", 1, 1e6,
            "longest wait for NCCL to start; twice this for any other stage of start and end"),
    SECONDS(fault, step_timeout, "auto", 0, 1e6,
            "longest step, or batch of an evaluation; auto: 60 or 20 medians of the steps so far; "
            "0: no limit"),
    SECONDS(fault, save_timeout, "600s", 0, 1e6,
            "longest writing, or reading, of a checkpoint, or wait for the one before; 0: no limit"),
    COUNT(fault, max_bad_steps, "5", 1, 1e6, "steps", "not finite in a row, then the run ends"),
    REAL(fault, skip_outlier_z, "0", 0, 1e9,
         "skip updates whose loss or gradient norm is so many robust deviations above the last 128 "
         "steps; 0: none"),
    COUNT(fault, replica_check_interval, "1000", 0, 1e9, "steps",
          "between comparisons of the parameters over ranks, which also come before each "
          "checkpoint; 0: none"),
};
/* clang-format on */

enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

/* nanoGPT keys that have no meaning in this program. */
static const char *const IGNORED[] = {"compile", "backend", "wandb_log", "wandb_project",
                                      "wandb_run_name"};

enum { N_IGNORED = sizeof IGNORED / sizeof *IGNORED };

int32_t field_count(void)
{
    return N_FIELDS;
}

const Field *field_at(int32_t i)
{
    return &FIELDS[i];
}

/* ---- names ------------------------------------------------------------------------------- */

int32_t field_find(const char *key)
{
    for (int32_t i = 0; i < N_FIELDS; i++)
        if (strcmp(FIELDS[i].key, key) == 0)
            return i;
    return -1;
}

const char *field_ignored_at(int32_t i)
{
    return i < N_IGNORED ? IGNORED[i] : NULL;
}

bool field_is_ignored(const char *key)
{
    for (int32_t i = 0; i < N_IGNORED; i++)
        if (strcmp(IGNORED[i], key) == 0)
            return true;
    return false;
}

const char *field_nearest_key(const char *key)
{
    Nearest nearest = nearest_begin(key);
    for (int32_t i = 0; i < N_FIELDS + N_IGNORED; i++)
        nearest_try(&nearest, i < N_FIELDS ? FIELDS[i].key : IGNORED[i - N_FIELDS]);
    return nearest.known;
}

/* ---- words ------------------------------------------------------------------------------- */

/* The i-th word of " one two three ", copied to out (FIELD_KEY_BYTES); false past the last. */
static bool nth_word(const char *words, int32_t i, char *out)
{
    words += strspn(words, " ");
    for (; *words && i > 0; i--) {
        words += strcspn(words, " ");
        words += strspn(words, " ");
    }
    snprintf(out, FIELD_KEY_BYTES, "%.*s", (int)strcspn(words, " "), words);
    return *words != '\0';
}

int32_t words_find(const char *words, const char *word)
{
    char candidate[FIELD_KEY_BYTES];
    for (int32_t i = 0; nth_word(words, i, candidate); i++)
        if (strcasecmp(candidate, word) == 0)
            return i;
    return -1;
}

/* out (n_bytes) = "one, two, three". */
static void words_print(const char *words, char *out, size_t n_bytes)
{
    char word[FIELD_KEY_BYTES];
    size_t used = 0;
    *out = '\0';
    for (int32_t i = 0; nth_word(words, i, word) && used < n_bytes; i++)
        used += (size_t)snprintf(out + used, n_bytes - used, "%s%s", i ? ", " : "", word);
}

/* ---- reading ----------------------------------------------------------------------------- */

static void *member(Config *cfg, const Field *f)
{
    return (char *)cfg + f->offset;
}

static const void *const_member(const Config *cfg, const Field *f)
{
    return (const char *)cfg + f->offset;
}

static bool allows_auto(const Field *f)
{
    bool numeric = f->type == AS_COUNT || f->type == AS_BYTES || f->type == AS_SECONDS;
    return f->takes_auto || (numeric && strcmp(f->default_text, "auto") == 0);
}

static ValueText print_number(const Field *f, double value)
{
    return f->type == AS_BYTES ? value_print_bytes((int64_t)value) : value_print_real(value);
}

void field_range(const Field *f, char *out)
{
    if (f->type == AS_BOOL) {
        snprintf(out, FIELD_RANGE_BYTES, "true or false");
    } else if (f->type == AS_TEXT) {
        snprintf(out, FIELD_RANGE_BYTES, "text");
    } else if (f->type == AS_CHOICE) {
        words_print(f->choices, out, FIELD_RANGE_BYTES);
    } else {
        ValueText low = print_number(f, f->low), high = print_number(f, f->high);
        snprintf(out, FIELD_RANGE_BYTES, "%s%s%s%s%s%s", low.text,
                 f->below_high ? " or more, below " : " to ", high.text, *f->unit ? " " : "",
                 f->unit, allows_auto(f) ? ", or auto" : "");
    }
}

static const char *type_name(FieldType type)
{
    switch (type) {
    case AS_BOOL:
        return "neither true nor false";
    case AS_COUNT:
        return "not a whole number";
    case AS_REAL:
        return "not a number";
    case AS_BYTES:
        return "not an amount of memory such as 11.6GiB or 512M";
    case AS_SECONDS:
        return "not a duration such as 120s, 10m or 23h50m";
    case AS_CHOICE:
    case AS_TEXT:
        break;
    }
    return "not known";
}

static Err refuse_type(const Field *f, const char *where, const char *value)
{
    char range[FIELD_RANGE_BYTES];
    field_range(f, range);
    FAIL(ERR_USAGE, "%s%s = %.80s is %s; use %s", where, f->key, value, type_name(f->type), range);
}

static Err read_text(const Field *f, char *out, const char *where, const char *value)
{
    if (strlen(value) >= CONFIG_TEXT_BYTES)
        FAIL(ERR_USAGE, "%s%s is longer than %d bytes; use a shorter path", where, f->key,
             CONFIG_TEXT_BYTES - 1);
    if (strchr(value, '\'') && strchr(value, '"'))
        FAIL(ERR_USAGE, "%s%s holds both kinds of quotes; rename so that it has at most one kind",
             where, f->key);
    memset(out, 0, CONFIG_TEXT_BYTES); /* two equal configs are equal byte for byte */
    memcpy(out, value, strlen(value));
    return OK;
}

static Err read_choice(const Field *f, int32_t *out, const char *where, const char *value)
{
    int32_t i = words_find(f->choices, value);
    if (i < 0)
        return refuse_type(f, where, value);
    *out = i;
    return OK;
}

typedef union {
    int64_t count;
    double real;
} Number;

/* A numeric field's value; *as_double is what its bounds apply to. False: wrong type. */
static bool parse_number(const Field *f, const char *value, Number *number, double *as_double)
{
    bool good;
    if (f->type == AS_REAL || f->type == AS_SECONDS) {
        good = f->type == AS_REAL ? value_read_real(value, &number->real)
                                  : value_read_seconds(value, &number->real);
        *as_double = good ? number->real : 0;
    } else {
        good = f->type == AS_COUNT ? value_read_count(value, &number->count)
                                   : value_read_bytes(value, &number->count);
        *as_double = good ? (double)number->count : 0;
    }
    return good;
}

static Err read_number(const Field *f, void *out, const char *where, const char *value)
{
    Number number = {0};
    double as_double;
    if (allows_auto(f) && strcasecmp(value, "auto") == 0) {
        if (f->type == AS_SECONDS)
            number.real = -1;
        else
            number.count = CONFIG_AUTO;
        memcpy(out, &number, sizeof number);
        return OK;
    }
    if (!parse_number(f, value, &number, &as_double))
        return refuse_type(f, where, value);
    if (as_double < f->low || as_double > f->high || (f->below_high && as_double == f->high)) {
        char range[FIELD_RANGE_BYTES];
        field_range(f, range);
        FAIL(ERR_USAGE, "%s%s = %.80s is out of bounds; use %s", where, f->key, value, range);
    }
    memcpy(out, &number, sizeof number);
    return OK;
}

Err field_read(const Field *f, Config *cfg, const char *where, const char *value)
{
    void *out = member(cfg, f);
    switch (f->type) {
    case AS_TEXT:
        return read_text(f, out, where, value);
    case AS_BOOL:
        return value_read_bool(value, out) ? OK : refuse_type(f, where, value);
    case AS_CHOICE:
        return read_choice(f, out, where, value);
    default:
        return read_number(f, out, where, value);
    }
}

/* ---- printing ---------------------------------------------------------------------------- */

/* Quotes where an INI reader would otherwise lose something. */
static void print_text(char *out, size_t n_bytes, const char *text)
{
    size_t n = strlen(text);
    bool plain = n > 0 && !strpbrk(text, "#;'\"") && text[0] != ' ' && text[n - 1] != ' ';
    const char *quote = plain ? "" : strchr(text, '"') ? "'" : "\"";
    snprintf(out, n_bytes, "%s%s%s", quote, text, quote);
}

static void print_value_text(char *out, ValueText number, bool is_auto)
{
    snprintf(out, FIELD_VALUE_BYTES, "%s", is_auto ? "auto" : number.text);
}

void field_print(const Field *f, const Config *cfg, char *out)
{
    const void *at = const_member(cfg, f);
    switch (f->type) {
    case AS_BOOL:
        snprintf(out, FIELD_VALUE_BYTES, "%s", *(const bool *)at ? "true" : "false");
        return;
    case AS_CHOICE:
        nth_word(f->choices, *(const int32_t *)at, out);
        return;
    case AS_TEXT:
        print_text(out, FIELD_VALUE_BYTES, at);
        return;
    case AS_REAL:
        print_value_text(out, value_print_real(*(const double *)at), false);
        return;
    case AS_SECONDS:
        print_value_text(out, value_print_seconds(*(const double *)at), *(const double *)at < 0);
        return;
    case AS_COUNT:
        print_value_text(out, value_print_count(*(const int64_t *)at),
                         *(const int64_t *)at == CONFIG_AUTO);
        return;
    case AS_BYTES:
        print_value_text(out, value_print_bytes(*(const int64_t *)at),
                         *(const int64_t *)at == CONFIG_AUTO);
        return;
    }
}
