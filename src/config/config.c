#include "config/config.h"

#include <string.h>

#include "base/check.h"
#include "config/field.h"
#include "config/python.h"

enum { WHERE_BYTES = 512 };

/* Where each setting came from, for messages about two of them. */
enum { FROM_DEFAULT = 0, FROM_ARGUMENT = INT32_MAX }; /* between them: the line in the file */

typedef struct {
    const char *path;
    int32_t line[CONFIG_MAX_SETTINGS];
} Origins;

/* ---- setting ----------------------------------------------------------------------------- */

void config_defaults(Config *cfg)
{
    ASSERT(field_count() <= CONFIG_MAX_SETTINGS, "%d fields", (int)field_count());
    memset(cfg, 0, sizeof *cfg); /* two equal configs are equal byte for byte */
    for (int32_t i = 0; i < field_count(); i++) {
        Err err = field_read(field_at(i), cfg, "", field_at(i)->default_text);
        ASSERT(!err, "%s", err_message(err));
    }
}

static Err refuse_key(const char *where, const char *key)
{
    const char *near = field_nearest_key(key);
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

/* Text that is empty by default may be given as empty. */
static bool may_be_empty(const Field *f)
{
    return f->type == AS_TEXT && f->default_text[0] == '\0';
}

/* out (FIELD_VALUE_BYTES) = value without blanks around it and without one pair of outer quotes:
 * nanoGPT users write dataset = 'openwebtext'. */
static Err clean_value(char *out, const char *where, const Field *f, const char *value)
{
    const char *key = f->key;
    size_t n = strlen(value);
    while (n > 0 && strchr(" \t", value[n - 1]))
        n--;
    while (n > 0 && strchr(" \t", *value))
        value++, n--;
    if (n >= 2 && (*value == '\'' || *value == '"') && value[n - 1] == *value)
        value++, n -= 2;
    if (n == 0 && !may_be_empty(f))
        FAIL(ERR_USAGE, "%s%.80s has no value; give it one or leave it out", where, key);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)value[i] < ' ' || value[i] == 0x7f)
            FAIL(ERR_USAGE, "%s%.80s holds a control character (code %d); remove it", where, key,
                 value[i]);
    if (n >= FIELD_VALUE_BYTES)
        FAIL(ERR_USAGE, "%s%.80s is longer than %d bytes; use a shorter value", where, key,
             CONFIG_TEXT_BYTES - 1);
    memcpy(out, value, n);
    out[n] = '\0';
    return OK;
}

static Err set_key(Config *cfg, Origins *origins, int32_t line, const char *where, const char *key,
                   const char *value)
{
    char text[FIELD_VALUE_BYTES];
    int32_t i = field_find(key);
    if (i < 0 && field_is_ignored(key)) {
        note_ignored(cfg, key);
        return OK;
    }
    if (i < 0)
        return refuse_key(where, key);
    TRY(clean_value(text, where, field_at(i), value));
    TRY(field_read(field_at(i), cfg, where, text));
    origins->line[i] = line;
    cfg->given[i] = true;
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

static Err load_file(Config *cfg, Origins *origins, const char *path)
{
    Ini ini;
    bool is_python = python_is_path(path);
    TRY(is_python ? python_read(&ini, path) : ini_read(&ini, path));
    Err err = OK;
    if (is_python)
        cfg->model.gelu = CONFIG_GELU_ERF; /* nanoGPT's */
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
    int32_t i = field_find(key);
    if (i < 0 ||
        (strlen(field_at(i)->section) == n && strncmp(field_at(i)->section, section, n) == 0))
        return OK;
    FAIL(ERR_USAGE, "command line: %s is in section %s, not %.*s; write --%s=value", key,
         field_at(i)->section, (int)n, section, key);
}

/* "--section.key=value", with less and less of it. The first '=' ends the key: the value may hold
 * more. */
static Err load_override(Config *cfg, Origins *origins, const char *argument)
{
    char name[2 * FIELD_KEY_BYTES];
    const char *start = argument + strspn(argument, "-"), *equals = strchr(start, '=');
    if (!equals || equals == start)
        FAIL(ERR_USAGE, "command line: \"%.200s\" is not a setting; write --key=value", argument);
    snprintf(name, sizeof name, "%.*s", (int)(equals - start), start);
    char *dot = strrchr(name, '.'), *key = dot ? dot + 1 : name;
    if (dot)
        TRY(check_section(name, (size_t)(dot - name), key));
    return set_key(cfg, origins, FROM_ARGUMENT, "command line: ", key, equals + 1);
}

/* ---- checks between settings ------------------------------------------------------------- */

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
        int32_t a = check->origins->line[field_find(key)];
        int32_t b = check->origins->line[field_find(other)];
        line = a > b ? a : b;
    }
    if (line == FROM_ARGUMENT)
        snprintf(check->where, sizeof check->where, "command line: ");
    else if (line != FROM_DEFAULT)
        snprintf(check->where, sizeof check->where, "%.480s:%d: ", check->origins->path, (int)line);
    return check->where;
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
    int64_t n_embd = check->cfg->model.n_embd, n_head = check->cfg->model.n_head;
    int64_t fewer = next_divisor(n_embd, n_head, -1), more = next_divisor(n_embd, n_head, 1);
    if (n_embd % n_head == 0)
        return OK;
    char other[32] = "";
    if (more != fewer)
        snprintf(other, sizeof other, " or %lld", (long long)more);
    FAIL(ERR_USAGE, "%sn_embd = %lld is not divisible by n_head = %lld; use n_head = %lld%s",
         where_set(check, "n_embd", "n_head"), (long long)n_embd, (long long)n_head,
         (long long)fewer, other);
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

static Err check_memory(Check *check)
{
    const Config *cfg = check->cfg;
    bool on_cpu = cfg->system.device == CONFIG_DEVICE_CPU;
    bool other_dtype =
        cfg->system.dtype == CONFIG_DTYPE_F16 || cfg->system.dtype == CONFIG_DTYPE_F32;
    if (on_cpu && cfg->memory.offload == CONFIG_OFFLOAD_OPTIMIZER)
        FAIL(ERR_USAGE,
             "%soffload = optimizer with device = cpu: its state is in host memory already; use "
             "offload = auto",
             where_set(check, "offload", "device"));
    if ((on_cpu || other_dtype) && cfg->memory.master == CONFIG_MASTER_REMAINDER16)
        FAIL(ERR_USAGE,
             "%smaster = remainder16 with %s: it goes with bfloat16 parameters; use master = auto",
             where_set(check, "master", on_cpu ? "device" : "dtype"),
             on_cpu                                  ? "device = cpu"
             : cfg->system.dtype == CONFIG_DTYPE_F16 ? "dtype = float16"
                                                     : "dtype = float32");
    return OK;
}

static Err check_all(Check *check)
{
    TRY(check_model(check));
    TRY(check_optim(check));
    TRY(check_run(check));
    TRY(check_system(check));
    return check_memory(check);
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

/* ---- telling ----------------------------------------------------------------------------- */

void config_visit(const Config *cfg, void (*visit)(void *arg, const char *key, const char *value),
                  void *arg)
{
    for (int32_t i = 0; i < field_count(); i++) {
        char value[FIELD_VALUE_BYTES];
        field_print(field_at(i), cfg, value);
        visit(arg, field_at(i)->key, value);
    }
}

/* "[section]" before the first field of each. */
static void print_section(FILE *out, int32_t i)
{
    const char *section = field_at(i)->section;
    if (i == 0 || strcmp(section, field_at(i - 1)->section) != 0)
        fprintf(out, "%s[%s]\n", i == 0 ? "" : "\n", section);
}

void config_print(const Config *cfg, FILE *out)
{
    for (int32_t i = 0; i < field_count(); i++) {
        char value[FIELD_VALUE_BYTES];
        field_print(field_at(i), cfg, value);
        print_section(out, i);
        fprintf(out, "%s = %s\n", field_at(i)->key, value);
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
    char head[2 * FIELD_KEY_BYTES], range[FIELD_RANGE_BYTES];
    snprintf(head, sizeof head, "%s = %s", f->key, f->default_text);
    field_range(f, range);
    fprintf(out, "  %-36s (%s)", head, range);
    print_wrapped(out, f->help);
}

void config_help(FILE *out)
{
    for (int32_t i = 0; i < field_count(); i++) {
        print_section(out, i);
        print_help(out, field_at(i));
    }
    fputs("\n"
          "Values: whole numbers take k, M, G (1000, 10^6, 10^9) and products (5*8); memory takes\n"
          "k, M, G or KiB, MiB, GiB (1024, 1024^2, 1024^3); durations take s, m, h, d (23h50m);\n"
          "true, yes, on and 1 are the same. '#' and ';' start a comment, quotes protect them.\n"
          "Accepted from nanoGPT configs, without effect:\n ",
          out);
    for (int32_t i = 0; field_ignored_at(i); i++)
        fprintf(out, "%s %s", i ? "," : "", field_ignored_at(i));
    fputs(".\n", out);
}

/* ---- derived ----------------------------------------------------------------------------- */

ConfigInit config_init_kind(const Config *cfg)
{
    static const char WORDS[] = " scratch resume auto "; /* in the order of ConfigInit */
    int32_t i = words_find(WORDS, cfg->model.init_from);
    return i < 0 ? INIT_DIRECTORY : (ConfigInit)i;
}

bool config_is_given(const Config *cfg, const char *key)
{
    int32_t i = field_find(key);
    ASSERT(i >= 0, "no setting %s", key);
    return cfg->given[i];
}

void config_keep_cut(Config *cfg, const StepCut *cut)
{
    int64_t *setting[] = {&cfg->batch.micro_batch, &cfg->memory.head_chunk,
                          &cfg->system.zero_stage};
    const int64_t value[] = {cut->micro_batch, cut->head_chunk, cut->zero_stage};
    for (size_t i = 0; i < sizeof value / sizeof *value; i++)
        if (*setting[i] == CONFIG_AUTO)
            *setting[i] = value[i];
}

int64_t config_step_sequences(const Config *cfg)
{
    return cfg->batch.gradient_accumulation_steps * cfg->batch.batch_size;
}
