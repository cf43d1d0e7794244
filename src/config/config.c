#include "config/config.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "config/ini.h"
#include "config/value.h"

/* ---- the table
 * ----------------------------------------------------------------------------------- */

typedef enum { AS_BOOL, AS_COUNT, AS_REAL, AS_BYTES, AS_SECONDS, AS_CHOICE, AS_TEXT } FieldType;

typedef struct {
    const char *section, *key;
    FieldType type;
    size_t offset;            /* of the member in Config; its C type follows from `type` */
    const char *default_text; /* read like a user's value; "auto" allows auto */
    double low, high;         /* numbers: smallest and largest value */
    bool below_high;          /* high itself is out of bounds */
    const char *unit;
    const char *choices; /* AS_CHOICE: the words in the order of the enum, between blanks */
    const char
        *unbuilt; /* choices refused for now, between blanks; "*": everything but the default */
    const char *help;
} Field;

/* Does not compile when the member has another type than the row says. */
#define MEMBER(type, section, key)                                                                 \
#section, #key, AS_##type,                                                                     \
        _Generic(((Config *)0)->section.key, C_##type                                              \
                 : offsetof(Config, section.key))
#define C_BOOL    bool
#define C_COUNT   int64_t
#define C_REAL    double
#define C_BYTES   int64_t
#define C_SECONDS double
#define C_CHOICE  int32_t
#define C_TEXT    char *

#define BOOL(section, key, def, help)                                                              \
    {                                                                                              \
        MEMBER(BOOL, section, key), def, 0, 0, false, "", "", "", help                             \
    }
#define COUNT(section, key, def, low, high, unit, help)                                            \
    {                                                                                              \
        MEMBER(COUNT, section, key), def, low, high, false, unit, "", "", help                     \
    }
#define REAL(section, key, def, low, high, help)                                                   \
    {                                                                                              \
        MEMBER(REAL, section, key), def, low, high, false, "", "", "", help                        \
    }
#define BELOW(section, key, def, low, high, help)                                                  \
    {                                                                                              \
        MEMBER(REAL, section, key), def, low, high, true, "", "", "", help                         \
    }
#define BYTES(section, key, def, low, high, help)                                                  \
    {                                                                                              \
        MEMBER(BYTES, section, key), def, low, high, false, "", "", "", help                       \
    }
#define SECONDS(section, key, def, low, high, unbuilt, help)                                       \
    {                                                                                              \
        MEMBER(SECONDS, section, key), def, low, high, false, "seconds", "", unbuilt, help         \
    }
#define CHOICE(section, key, def, choices, unbuilt, help)                                          \
    {                                                                                              \
        MEMBER(CHOICE, section, key), def, 0, 0, false, "", choices, unbuilt, help                 \
    }
#define TEXT(section, key, def, help)                                                              \
    {                                                                                              \
        MEMBER(TEXT, section, key), def, 0, 0, false, "", "", "", help                             \
    }

/* One row for every setting: parsing, defaults, bounds, --help, the echo and the copy in each
 * checkpoint all come from here. Rows of one section stand together, in the order users read them.
 */
static const Field FIELDS[] = {
    COUNT(model, n_layer, "12", 1, 1000, "", "transformer blocks"),
    COUNT(model, n_head, "12", 1, 1000, "", "attention heads; divides n_embd"),
    COUNT(model, n_embd, "768", 1, 65536, "", "width of the residual stream"),
    COUNT(model, block_size, "1024", 1, 1 << 20, "tokens", "context length"),
    BOOL(model, bias, "false", "biases in linear layers and LayerNorms; true as OpenAI's GPT-2"),
    BELOW(model, dropout, "0", 0, 1, "rate, after the embedding, attention and each projection"),
    CHOICE(model, gelu, "tanh", " tanh erf ", "", "tanh as OpenAI's GPT-2, erf as nanoGPT"),
    COUNT(model, vocab_size, "auto", 1, 1 << 20, "", "auto: from the data's meta.json, else 50257"),
    TEXT(model, init_from, "scratch",
         "scratch; resume: newest checkpoint in out_dir; auto: resume if there is one, else "
         "scratch; or the directory of a model"),

    TEXT(data, dataset, "openwebtext", "a name under data_dir, or a path: directory, file or glob"),
    TEXT(data, data_dir, "data", "where datasets are looked for"),
    CHOICE(data, sampling, "random", " random shuffled ", "",
           "random: crops as nanoGPT takes them; shuffled: each window once per epoch"),

    COUNT(
        batch, batch_size, "12", 1, 65536, "sequences",
        "a step trains gradient_accumulation_steps * batch_size sequences, on any number of ranks"),
    COUNT(batch, gradient_accumulation_steps, "40", 1, 1 << 20, "", "total over all ranks"),
    COUNT(batch, micro_batch, "auto", 1, 65536, "sequences",
          "what a rank runs at once; changes memory and speed, not the result; auto: what fits"),

    REAL(optim, learning_rate, "6e-4", 0, 10, "the highest, after the warm-up"),
    REAL(optim, min_lr, "6e-5", 0, 10, "the lowest, from lr_decay_iters on"),
    COUNT(optim, warmup_iters, "2000", 0, 1e9, "steps", "the learning rate rises over these"),
    COUNT(optim, lr_decay_iters, "600000", 1, 1e9, "steps", "where the learning rate is min_lr"),
    BOOL(optim, decay_lr, "true", "false: learning_rate throughout, no warm-up"),
    CHOICE(optim, lr_schedule, "cosine", " cosine linear constant wsd ", "",
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
    COUNT(run, log_interval, "1", 1, 1e9, "steps", "between log lines"),
    BOOL(run, always_save_checkpoint, "true",
         "false: only when the validation loss is the best so far"),
    COUNT(run, checkpoint_interval, "auto", 1, 1e9, "steps",
          "between checkpoints; auto: eval_interval"),
    COUNT(run, keep_checkpoints, "3", 1, 1e6, "", "older ones are deleted"),
    COUNT(run, seed, "1337", 0, 0x1p53, "", "of weights, data order, dropout"),

    CHOICE(system, device, "auto", " auto cuda cpu ", "", "auto: a GPU if there is one"),
    CHOICE(system, dtype, "auto", " auto bfloat16 float16 float32 ", "",
           "of parameters and activations; auto: the best the device has; the CPU has float32"),
    CHOICE(system, comm, "auto", " auto nccl mpi ", "", "what moves gradients; auto: by device"),
    COUNT(system, zero_stage, "1", 0, 1, "", "1: optimizer state is shared out over ranks"),
    CHOICE(system, grad_reduce, "reduce_scatter", " reduce_scatter all_reduce ", "",
           "with zero_stage 1; zero_stage 0 always reduces to all"),
    CHOICE(system, comm_dtype, "float32", " float32 bfloat16 ", " bfloat16 ",
           "of gradients on their way between ranks"),
    COUNT(system, bucket_mb, "25", 1, 16384, "MiB", "gradients travel in pieces of at least this"),

    BYTES(memory, memory_limit, "auto", 1 << 20, 0x1p50,
          "per rank; auto: what is free at the start"),
    CHOICE(memory, recompute, "auto", " auto none gelu_ln ffn qkv block ", " ffn qkv block ",
           "what backward computes again instead of keeping it"),
    COUNT(memory, head_chunk, "auto", 1, 1 << 30, "rows", "of logits held at once"),
    CHOICE(memory, offload, "auto", " auto none optimizer ", " optimizer ",
           "what lives on the host"),
    CHOICE(memory, master, "auto", " auto float32 remainder16 ", " remainder16 ",
           "master weights beside 16-bit parameters"),

    SECONDS(fault, init_timeout, "120s", 1, 1e6, "*", "longest start-up"),
    SECONDS(fault, step_timeout, "auto", 1, 1e6, "*", "longest step; auto: from the steps so far"),
    SECONDS(fault, save_timeout, "600s", 1, 1e6, "*", "longest checkpoint"),
    COUNT(fault, max_bad_steps, "5", 1, 1e6, "steps", "not finite in a row, then the run ends"),
};

enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

/* nanoGPT keys that have no meaning in this program. */
static const char *const IGNORED[] = {"compile", "backend", "wandb_log", "wandb_project",
                                      "wandb_run_name"};

enum { N_IGNORED = sizeof IGNORED / sizeof *IGNORED, KEY_BYTES = 64, RANGE_BYTES = 160 };

/* ---- one field
 * ----------------------------------------------------------------------------------- */

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
    return numeric && strcmp(f->default_text, "auto") == 0;
}

/* The i-th word of " one two three ", copied to out (KEY_BYTES); false past the last. */
static bool nth_word(const char *words, int32_t i, char *out)
{
    words += strspn(words, " ");
    for (; *words && i > 0; i--) {
        words += strcspn(words, " ");
        words += strspn(words, " ");
    }
    snprintf(out, KEY_BYTES, "%.*s", (int)strcspn(words, " "), words);
    return *words != '\0';
}

/* The position of `word`, or -1. Capitals do not matter. */
static int32_t find_word(const char *words, const char *word)
{
    char candidate[KEY_BYTES];
    for (int32_t i = 0; nth_word(words, i, candidate); i++)
        if (strcasecmp(candidate, word) == 0)
            return i;
    return -1;
}

static void print_words(char *out, const char *words)
{
    char word[KEY_BYTES];
    int used = 0;
    for (int32_t i = 0; nth_word(words, i, word); i++)
        used += snprintf(out + used, RANGE_BYTES - (size_t)used, "%s%s", i ? ", " : "", word);
}

static ValueText print_number(const Field *f, double value)
{
    return f->type == AS_BYTES ? value_print_bytes((int64_t)value) : value_print_real(value);
}

/* What the field accepts, for messages and help: "1 to 1000", "0 or more, below 1", "tanh, erf". */
static void print_range(char *out, const Field *f)
{
    if (f->type == AS_BOOL) {
        snprintf(out, RANGE_BYTES, "true or false");
    } else if (f->type == AS_TEXT) {
        snprintf(out, RANGE_BYTES, "text");
    } else if (f->type == AS_CHOICE) {
        print_words(out, f->choices);
    } else {
        ValueText low = print_number(f, f->low), high = print_number(f, f->high);
        snprintf(out, RANGE_BYTES, "%s%s%s%s%s%s", low.text,
                 f->below_high ? " or more, below " : " to ", high.text, *f->unit ? " " : "",
                 f->unit, allows_auto(f) ? ", or auto" : "");
    }
}

static Err set_text(char *out, const Field *f, const char *where, const char *value)
{
    if (strlen(value) >= CONFIG_TEXT_BYTES)
        FAIL(ERR_USAGE, "%s%s is longer than %d bytes; use a shorter path", where, f->key,
             CONFIG_TEXT_BYTES - 1);
    if (strchr(value, '\'') && strchr(value, '"'))
        FAIL(ERR_USAGE, "%s%s holds both kinds of quotes; rename so that it has at most one kind",
             where, f->key);
    for (const char *s = value; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            FAIL(ERR_USAGE, "%s%s holds a control character (code %d); remove it", where, f->key,
                 *s);
    memset(out, 0, CONFIG_TEXT_BYTES); /* two equal configs are equal byte for byte */
    memcpy(out, value, strlen(value));
    return OK;
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

static bool read_number(void *out, double *as_double, const Field *f, const char *value)
{
    bool is_auto = allows_auto(f) && strcasecmp(value, "auto") == 0;
    bool good = true;
    if (f->type == AS_REAL || f->type == AS_SECONDS) {
        double number = -1;
        if (!is_auto)
            good = f->type == AS_REAL ? value_read_real(value, &number)
                                      : value_read_seconds(value, &number);
        *(double *)out = *as_double = number;
    } else {
        int64_t number = CONFIG_AUTO;
        if (!is_auto)
            good = f->type == AS_COUNT ? value_read_count(value, &number)
                                       : value_read_bytes(value, &number);
        *(int64_t *)out = number;
        *as_double = (double)number;
    }
    if (is_auto)
        *as_double = f->low; /* within bounds */
    return good;
}

static Err refuse_type(const Field *f, const char *where, const char *value)
{
    char range[RANGE_BYTES];
    print_range(range, f);
    FAIL(ERR_USAGE, "%s%s = %.80s is %s; use %s", where, f->key, value, type_name(f->type), range);
}

static Err set_value(Config *cfg, const Field *f, const char *where, const char *value)
{
    union {
        int64_t count;
        double real;
    } number;
    double as_double = 0;
    if (f->type == AS_TEXT)
        return set_text(member(cfg, f), f, where, value);
    if (f->type == AS_BOOL)
        return value_read_bool(value, member(cfg, f)) ? OK : refuse_type(f, where, value);
    if (f->type == AS_CHOICE) {
        int32_t i = find_word(f->choices, value);
        if (i < 0)
            return refuse_type(f, where, value);
        *(int32_t *)member(cfg, f) = i;
        return OK;
    }
    if (!read_number(&number, &as_double, f, value))
        return refuse_type(f, where, value);
    if (as_double < f->low || as_double > f->high || (f->below_high && as_double == f->high)) {
        char range[RANGE_BYTES];
        print_range(range, f);
        FAIL(ERR_USAGE, "%s%s = %.80s is out of bounds; use %s", where, f->key, value, range);
    }
    memcpy(member(cfg, f), &number, sizeof number);
    return OK;
}

/* Quotes where an INI reader would otherwise lose something. */
static void print_text(char *out, size_t n_bytes, const char *text)
{
    size_t n = strlen(text);
    bool plain = n > 0 && !strpbrk(text, "#;'\"") && text[0] != ' ' && text[n - 1] != ' ';
    const char *quote = plain ? "" : strchr(text, '"') ? "'" : "\"";
    snprintf(out, n_bytes, "%s%s%s", quote, text, quote);
}

enum { PRINTED_BYTES = CONFIG_TEXT_BYTES + 2 };

static void print_value_text(char *out, ValueText number, bool is_auto)
{
    snprintf(out, PRINTED_BYTES, "%s", is_auto ? "auto" : number.text);
}

/* out (PRINTED_BYTES) = the field's value as config_set reads it. */
static void print_value(char *out, const Config *cfg, const Field *f)
{
    const void *at = const_member(cfg, f);
    switch (f->type) {
    case AS_BOOL:
        snprintf(out, PRINTED_BYTES, "%s", *(const bool *)at ? "true" : "false");
        return;
    case AS_CHOICE:
        nth_word(f->choices, *(const int32_t *)at, out);
        return;
    case AS_TEXT:
        print_text(out, PRINTED_BYTES, at);
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

/* ---- names
 * --------------------------------------------------------------------------------------- */

static int32_t find_field(const char *key)
{
    for (int32_t i = 0; i < N_FIELDS; i++)
        if (strcmp(FIELDS[i].key, key) == 0)
            return i;
    return -1;
}

static bool is_ignored(const char *key)
{
    for (int32_t i = 0; i < N_IGNORED; i++)
        if (strcmp(IGNORED[i], key) == 0)
            return true;
    return false;
}

static char fold(char c)
{
    return c == '-' ? '_' : (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Fewest insertions, deletions and changes that turn a into b (Levenshtein 1966), row by row. */
static int edit_distance(const char *a, const char *b)
{
    int row[KEY_BYTES], n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (fold(*a) != fold(b[j - 1]));
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

/* The known key that looks most like `key`; NULL when none is near enough to be meant. */
static const char *nearest_key(const char *key)
{
    const char *nearest = NULL;
    int best = 2 + (int)(strlen(key) / 4);
    for (int32_t i = 0; i < N_FIELDS + N_IGNORED; i++) {
        const char *known = i < N_FIELDS ? FIELDS[i].key : IGNORED[i - N_FIELDS];
        int distance = edit_distance(key, known);
        if (distance < best) {
            best = distance;
            nearest = known;
        }
    }
    return nearest;
}

static Err refuse_key(const char *where, const char *key)
{
    const char *near = nearest_key(key);
    if (near)
        FAIL(ERR_USAGE, "%sunknown key \"%.80s\"; did you mean %s?", where, key, near);
    FAIL(ERR_USAGE, "%sunknown key \"%.80s\"; --help lists the keys", where, key);
}

static void note_ignored(Config *cfg, const char *key)
{
    size_t used = strlen(cfg->notice);
    const char *start = used ? ", " : "nanoGPT keys without meaning here, ignored: ";
    if (!strstr(cfg->notice, key)) /* no ignored key is part of another */
        snprintf(cfg->notice + used, sizeof cfg->notice - used, "%s%s", start, key);
}

/* ---- setting
 * ------------------------------------------------------------------------------------- */

/* Where each setting came from, for messages about two of them. */
enum { FROM_DEFAULT = 0, FROM_ARGUMENT = INT32_MAX }; /* between them: the line in the file */

typedef struct {
    const char *path;
    int32_t line[N_FIELDS];
} Origins;

enum { WHERE_BYTES = 512 };

/* One pair of outer quotes goes: nanoGPT users write dataset = 'openwebtext'. */
static Err strip_quotes(char *out, const char *where, const char *key, const char *value)
{
    size_t n = strlen(value);
    while (n > 0 && strchr(" \t", value[n - 1]))
        n--;
    while (n > 0 && strchr(" \t", *value))
        value++, n--;
    if (n >= 2 && (*value == '\'' || *value == '"') && value[n - 1] == *value)
        value++, n -= 2;
    if (n == 0)
        FAIL(ERR_USAGE, "%s%.80s has no value; give it one or leave it out", where, key);
    if (n >= PRINTED_BYTES)
        FAIL(ERR_USAGE, "%s%.80s is longer than %d bytes; use a shorter value", where, key,
             CONFIG_TEXT_BYTES - 1);
    memcpy(out, value, n);
    out[n] = '\0';
    return OK;
}

static Err set_key(Config *cfg, Origins *origins, int32_t line, const char *where, const char *key,
                   const char *value)
{
    char text[PRINTED_BYTES];
    int32_t i = find_field(key);
    if (i < 0 && is_ignored(key)) {
        note_ignored(cfg, key);
        return OK;
    }
    if (i < 0)
        return refuse_key(where, key);
    TRY(strip_quotes(text, where, key, value));
    TRY(set_value(cfg, &FIELDS[i], where, text));
    origins->line[i] = line;
    return OK;
}

Err config_set(Config *cfg, const char *where, const char *key, const char *value)
{
    char place[WHERE_BYTES] = "";
    Origins origins = {0};
    if (where && *where)
        snprintf(place, sizeof place, "%.*s: ", WHERE_BYTES - 3, where);
    return set_key(cfg, &origins, FROM_ARGUMENT, place, key, value);
}

void config_defaults(Config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    for (int32_t i = 0; i < N_FIELDS; i++) {
        Err err = set_value(cfg, &FIELDS[i], "", FIELDS[i].default_text);
        ASSERT(!err, "%s", err_message(err));
    }
}

static Err load_file(Config *cfg, Origins *origins, const char *path)
{
    Ini ini;
    Err err = OK;
    TRY(ini_read(&ini, path));
    for (int32_t i = 0; i < ini.n_entries && !err; i++) {
        char where[WHERE_BYTES];
        const IniEntry *entry = &ini.entry[i];
        snprintf(where, sizeof where, "%.480s:%d: ", path, (int)entry->line);
        err = set_key(cfg, origins, entry->line, where, entry->key, entry->value);
    }
    ini_free(&ini);
    return err;
}

static Err check_section(const char *section, size_t n, const char *key)
{
    int32_t i = find_field(key);
    if (i < 0 || (strlen(FIELDS[i].section) == n && strncmp(FIELDS[i].section, section, n) == 0))
        return OK;
    FAIL(ERR_USAGE, "command line: %s is in section %s, not %.*s; write --%s=value", key,
         FIELDS[i].section, (int)n, section, key);
}

/* "--section.key=value", with less and less of it. The first '=' ends the key: the value may hold
 * more. */
static Err load_override(Config *cfg, Origins *origins, const char *argument)
{
    char name[2 * KEY_BYTES];
    const char *start = argument + strspn(argument, "-"), *equals = strchr(start, '=');
    if (!equals || equals == start)
        FAIL(ERR_USAGE, "command line: \"%.200s\" is not a setting; write --key=value", argument);
    snprintf(name, sizeof name, "%.*s", (int)(equals - start), start);
    char *dot = strrchr(name, '.'), *key = dot ? dot + 1 : name;
    if (dot)
        TRY(check_section(name, (size_t)(dot - name), key));
    return set_key(cfg, origins, FROM_ARGUMENT, "command line: ", key, equals + 1);
}

/* ---- checks between settings
 * --------------------------------------------------------------------- */

typedef struct {
    const Config *cfg;
    const Origins *origins; /* NULL: unknown */
    char where[WHERE_BYTES];
} Check;

/* "path:line: " of the later of two settings: the one that made the contradiction. */
static const char *where_set(Check *check, const char *key, const char *other)
{
    int32_t line = 0;
    check->where[0] = '\0';
    if (check->origins) {
        int32_t a = check->origins->line[find_field(key)];
        int32_t b = check->origins->line[find_field(other)];
        line = a > b ? a : b;
    }
    if (line == FROM_ARGUMENT)
        snprintf(check->where, sizeof check->where, "command line: ");
    else if (line != FROM_DEFAULT)
        snprintf(check->where, sizeof check->where, "%.480s:%d: ", check->origins->path, (int)line);
    return check->where;
}

static Err check_built(Check *check)
{
    for (const Field *f = FIELDS; f < FIELDS + N_FIELDS; f++) {
        char value[PRINTED_BYTES];
        print_value(value, check->cfg, f);
        bool refused = strcmp(f->unbuilt, "*") == 0 ? strcmp(value, f->default_text) != 0
                                                    : find_word(f->unbuilt, value) >= 0;
        if (refused)
            FAIL(ERR_USAGE, "%s%s = %s is not built yet; use %s = %s",
                 where_set(check, f->key, f->key), f->key, value, f->key, f->default_text);
    }
    return OK;
}

/* The divisor of n next to `from`, going by `step`. 1 divides all, and so does n. */
static int64_t next_divisor(int64_t n, int64_t from, int64_t step)
{
    while (from > 1 && from < n && n % from != 0)
        from += step;
    return from < n ? from : n;
}

static Err check_model(Check *check)
{
    const ModelConfig *m = &check->cfg->model;
    if (m->n_embd % m->n_head != 0)
        FAIL(ERR_USAGE,
             "%sn_embd = %lld is not divisible by n_head = %lld; use n_head = %lld or %lld",
             where_set(check, "n_embd", "n_head"), (long long)m->n_embd, (long long)m->n_head,
             (long long)next_divisor(m->n_embd, m->n_head, -1),
             (long long)next_divisor(m->n_embd, m->n_head, 1));
    return OK;
}

/* Only where the values are used: nanoGPT's fine-tuning configs leave min_lr above a constant
 * learning_rate. */
static Err check_optim(Check *check)
{
    const OptimConfig *o = &check->cfg->optim;
    if (!o->decay_lr || o->lr_schedule == CONFIG_LR_CONSTANT)
        return OK;
    if (o->min_lr > o->learning_rate)
        FAIL(ERR_USAGE,
             "%smin_lr = %g is above learning_rate = %g; lower min_lr (a tenth is usual), or set "
             "decay_lr = false",
             where_set(check, "min_lr", "learning_rate"), o->min_lr, o->learning_rate);
    if (o->warmup_iters > o->lr_decay_iters)
        FAIL(ERR_USAGE, "%swarmup_iters = %lld is above lr_decay_iters = %lld; lower warmup_iters",
             where_set(check, "warmup_iters", "lr_decay_iters"), (long long)o->warmup_iters,
             (long long)o->lr_decay_iters);
    return OK;
}

static Err check_run(Check *check)
{
    const RunConfig *r = &check->cfg->run;
    if (r->always_save_checkpoint || r->checkpoint_interval == CONFIG_AUTO ||
        r->checkpoint_interval % r->eval_interval == 0)
        return OK;
    FAIL(ERR_USAGE,
         "%salways_save_checkpoint = false needs a validation loss at each checkpoint, but "
         "checkpoint_interval = %lld is not a multiple of eval_interval = %lld; use auto",
         where_set(check, "checkpoint_interval", "eval_interval"),
         (long long)r->checkpoint_interval, (long long)r->eval_interval);
}

static Err check_system(Check *check)
{
    const SystemConfig *s = &check->cfg->system;
    if (s->device != CONFIG_DEVICE_CPU)
        return OK;
    if (s->dtype == CONFIG_DTYPE_BF16 || s->dtype == CONFIG_DTYPE_F16)
        FAIL(ERR_USAGE,
             "%sdtype = %s with device = cpu: CPU ranks train in float32; use dtype = auto",
             where_set(check, "dtype", "device"),
             s->dtype == CONFIG_DTYPE_BF16 ? "bfloat16" : "float16");
    if (s->comm == CONFIG_COMM_NCCL)
        FAIL(ERR_USAGE, "%scomm = nccl with device = cpu: NCCL moves GPU memory; use comm = auto",
             where_set(check, "comm", "device"));
    return OK;
}

static Err check_all(Check *check)
{
    TRY(check_built(check));
    TRY(check_model(check));
    TRY(check_optim(check));
    TRY(check_run(check));
    return check_system(check);
}

Err config_check(const Config *cfg)
{
    Check check = {.cfg = cfg};
    return check_all(&check);
}

Err config_load(Config *cfg, const char *path, int32_t n_overrides, char *const override[])
{
    Origins origins = {.path = path};
    Check check = {.cfg = cfg, .origins = &origins};
    config_defaults(cfg);
    if (path)
        TRY(load_file(cfg, &origins, path));
    for (int32_t i = 0; i < n_overrides; i++)
        TRY(load_override(cfg, &origins, override[i]));
    return check_all(&check);
}

/* ---- telling
 * ------------------------------------------------------------------------------------- */

void config_visit(const Config *cfg, void (*visit)(void *arg, const char *key, const char *value),
                  void *arg)
{
    for (const Field *f = FIELDS; f < FIELDS + N_FIELDS; f++) {
        char value[PRINTED_BYTES];
        print_value(value, cfg, f);
        visit(arg, f->key, value);
    }
}

static void print_section(FILE *out, const Field *f)
{
    if (f == FIELDS || strcmp(f->section, f[-1].section) != 0)
        fprintf(out, "%s[%s]\n", f == FIELDS ? "" : "\n", f->section);
}

void config_print(const Config *cfg, FILE *out)
{
    for (const Field *f = FIELDS; f < FIELDS + N_FIELDS; f++) {
        char value[PRINTED_BYTES];
        print_value(value, cfg, f);
        print_section(out, f);
        fprintf(out, "%s = %s\n", f->key, value);
    }
}

/* Words of `text` on lines of at most 80 columns, each indented by 6. */
static void print_wrapped(FILE *out, const char *text)
{
    int column = 80;
    for (size_t n; *text; text += n + (text[n] == ' ')) {
        n = strcspn(text, " ");
        bool fits = column + 1 + (int)n <= 80;
        fprintf(out, "%s%.*s", fits ? " " : "\n      ", (int)n, text);
        column = (fits ? column + 1 : 6) + (int)n;
    }
    fputc('\n', out);
}

static void print_help(FILE *out, const Field *f)
{
    char head[2 * KEY_BYTES], range[RANGE_BYTES], unbuilt[RANGE_BYTES];
    print_range(range, f);
    print_section(out, f);
    snprintf(head, sizeof head, "%s = %s", f->key, f->default_text);
    fprintf(out, "  %-36s (%s)", head, range);
    print_wrapped(out, f->help);
    if (*f->unbuilt == '*') {
        fprintf(out, "      Not built yet: anything but the default.\n");
    } else if (*f->unbuilt) {
        print_words(unbuilt, f->unbuilt);
        fprintf(out, "      Not built yet: %s.\n", unbuilt);
    }
}

void config_help(FILE *out)
{
    for (const Field *f = FIELDS; f < FIELDS + N_FIELDS; f++)
        print_help(out, f);
    fputs(
        "\n"
        "Values: whole numbers take k, M, G (1000, 10^6, 10^9) and products (5*8); memory takes "
        "k,\n"
        "M, G or KiB, MiB, GiB (1024, 1024^2, 1024^3); durations take s, m, h, d (23h50m); true,\n"
        "yes, on and 1 are the same. '#' and ';' start a comment; quotes around a value go.\n"
        "Accepted from nanoGPT configs, without effect:",
        out);
    for (int32_t i = 0; i < N_IGNORED; i++)
        fprintf(out, "%s %s", i ? "," : "", IGNORED[i]);
    fputs(".\n", out);
}

/* ---- derived
 * ------------------------------------------------------------------------------------- */

ConfigInit config_init_kind(const Config *cfg)
{
    static const char WORDS[] = " scratch resume auto "; /* in the order of ConfigInit */
    int32_t i = find_word(WORDS, cfg->model.init_from);
    return i < 0 ? INIT_DIRECTORY : (ConfigInit)i;
}

int64_t config_step_sequences(const Config *cfg)
{
    return cfg->batch.gradient_accumulation_steps * cfg->batch.batch_size;
}
