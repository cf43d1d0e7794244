#include "report/reference.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"

enum { N_SHAPE_SETTINGS = 4 };
/* Between two points further apart than this there is no straight line to read a loss off. */
static const double STEEPEST = 0.06;

/* ---- the figures ------------------------------------------------------------------------- */

#define POINTS(...)                                                                                \
    .point = {__VA_ARGS__},                                                                        \
    .n_points = (int32_t)(sizeof(ReferencePoint[]){__VA_ARGS__} / sizeof(ReferencePoint))
#define SETTINGS(...)                                                                              \
    .setting = {__VA_ARGS__},                                                                      \
    .n_settings = (int32_t)(sizeof(ReferenceSetting[]){__VA_ARGS__} / sizeof(ReferenceSetting))

static const Reference REFERENCES[] = {
    {.name = "nanoGPT, Shakespeare characters on a CPU",
     .source =
         "nanoGPT itself (train_shakespeare_char.py with its README's CPU settings) on PyTorch "
         "1.13, one thread, seed 1337; its README says 1.88",
     .text = "Shakespeare's characters",
     .dataset = "shakespeare_char",
     .step_tokens = 768,
     .tolerance = 0.03,
     SETTINGS({"n_layer", 4}, {"n_head", 4}, {"n_embd", 128}, {"block_size", 64},
              {"learning_rate", 1e-3}, {"min_lr", 1e-4}, {"warmup_iters", 100},
              {"lr_decay_iters", 2000}, {"beta2", 0.99}, {"weight_decay", 0.1}, {"dropout", 0}),
     POINTS({0, 4.1649}, {250, 2.4447}, {500, 2.3141}, {750, 2.1905}, {1000, 2.0528},
            {1250, 2.0089}, {1500, 1.9225}, {1750, 1.8921}, {2000, 1.8857})},
    {.name = "llm.c, GPT-2 124M on FineWeb",
     .source = "llm.c's run_gpt2_124M.sh on 8 H100, October 2024: main.log in KellerJordan/"
               "modded-nanogpt, records/track_1_short/2024-10-13_llmc",
     .text = "FineWeb",
     .dataset = "fineweb",
     .step_tokens = 524288,
     .tolerance = 0.015,
     SETTINGS({"n_layer", 12}, {"n_head", 12}, {"n_embd", 768}, {"block_size", 1024},
              {"learning_rate", 6e-4}, {"min_lr", 0}, {"warmup_iters", 700},
              {"lr_decay_iters", 19560}, {"weight_decay", 0.1}, {"dropout", 0}),
     POINTS({0, 11.0092}, {250, 6.1710}, {500, 5.3743}, {750, 4.7097}, {1000, 4.3170},
            {1250, 4.1296}, {1500, 4.0060}, {1750, 3.9189}, {2000, 3.8585}, {2500, 3.7652},
            {3000, 3.6973}, {3500, 3.6543}, {4000, 3.6176}, {5000, 3.5535}, {6000, 3.5069},
            {7000, 3.4726}, {8000, 3.4431}, {9000, 3.4159}, {10000, 3.3924}, {11000, 3.3706},
            {12000, 3.3509}, {13000, 3.3305}, {14000, 3.3149}, {15000, 3.3003}, {16000, 3.2882},
            {17000, 3.2803}, {18000, 3.2746}, {19000, 3.2724}, {19560, 3.2722})},
    {.name = "llm.c, GPT-2 350M on FineWeb",
     .source = "llm.c's run_gpt2_350M.sh: main.log in KellerJordan/modded-nanogpt, "
               "records/track_2_medium/2025-01-18",
     .text = "FineWeb",
     .dataset = "fineweb",
     .step_tokens = 524288,
     .tolerance = 0.015,
     SETTINGS({"n_layer", 24}, {"n_head", 16}, {"n_embd", 1024}, {"block_size", 1024},
              {"learning_rate", 3e-4}, {"lr_decay_iters", 60000}, {"weight_decay", 0.1},
              {"dropout", 0}),
     POINTS({3000, 3.6014}, {6000, 3.3674}, {15000, 3.1648}, {30000, 3.0387}, {45000, 2.9581},
            {60000, 2.9282})},
    {.name = "nanoGPT, GPT-2 124M on OpenWebText",
     .source = "Read off the plot of the run gpt2-nobias in nanoGPT's repository, to about 0.02",
     .text = "OpenWebText",
     .dataset = "openwebtext",
     .step_tokens = 491520,
     .tolerance = 0.02,
     SETTINGS({"n_layer", 12}, {"n_head", 12}, {"n_embd", 768}, {"block_size", 1024},
              {"learning_rate", 6e-4}, {"min_lr", 6e-5}, {"warmup_iters", 2000},
              {"lr_decay_iters", 600000}, {"weight_decay", 0.1}, {"dropout", 0}),
     POINTS({20000, 3.11}, {50000, 3.05}, {100000, 3.01}, {200000, 2.97}, {399000, 2.905})},
};

HellaswagReference reference_hellaswag(void)
{
    return (HellaswagReference){
        .name = "OpenAI's GPT-2 124M",
        .source = "HellaSwag, acc_norm of all 10,042 items: llm.c's dev/data/hellaswag.py; other "
                  "forms of the items move it by a point or two",
        .acc_norm = 0.2955};
}

const Reference *reference_list(int32_t *n_references)
{
    *n_references = sizeof REFERENCES / sizeof *REFERENCES;
    return REFERENCES;
}

/* ---- which one ----------------------------------------------------------------------------- */

/* NaN: not a number, or not known. */
static double setting_number(const Folder *folder, const char *key)
{
    const char *text = folder_setting(folder, key);
    char *end = NULL;
    double value = strtod(text, &end);
    return *text && !*end ? value : NAN;
}

static bool is_setting(const Folder *folder, const ReferenceSetting *s)
{
    return fabs(setting_number(folder, s->key) - s->value) <= 1e-9 * fabs(s->value);
}

static bool is_same_model(const Folder *folder, const Reference *r)
{
    for (int32_t i = 0; i < N_SHAPE_SETTINGS; i++)
        if (!is_setting(folder, &r->setting[i]))
            return false;
    return true;
}

static double step_tokens(const Folder *folder)
{
    return setting_number(folder, "batch_size") *
           setting_number(folder, "gradient_accumulation_steps") *
           setting_number(folder, "block_size");
}

static bool is_same_text(const Folder *folder, const Reference *r)
{
    return strstr(folder_setting(folder, "dataset"), r->dataset) != NULL;
}

const Reference *reference_of(const Folder *folder)
{
    const Reference *found = NULL;
    double tokens = step_tokens(folder);
    for (size_t i = 0; i < sizeof REFERENCES / sizeof *REFERENCES; i++) {
        const Reference *r = &REFERENCES[i];
        double off = fabs(tokens / (double)r->step_tokens - 1);
        if (is_same_model(folder, r) && off <= 0.1 && (!found || is_same_text(folder, r)))
            found = r;
    }
    return found;
}

bool reference_at(const Reference *r, int64_t step, double *loss)
{
    for (int32_t i = 0; i < r->n_points; i++) {
        const ReferencePoint *b = &r->point[i], *a = i > 0 ? b - 1 : b;
        if (step == b->step) {
            *loss = b->val_loss;
            return true;
        }
        if (step > a->step && step < b->step) {
            double part = (double)(step - a->step) / (double)(b->step - a->step);
            *loss = a->val_loss + part * (b->val_loss - a->val_loss);
            return a->val_loss - b->val_loss <= STEEPEST * a->val_loss;
        }
    }
    return false;
}

/* ---- the verdict --------------------------------------------------------------------------- */

static void say(Verdict *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(Verdict *v, const char *fmt, ...)
{
    size_t used = strlen(v->text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->text + used, sizeof v->text - used, fmt, args);
    va_end(args);
}

/* The latest evaluation at a step that the reference has; NULL: none. */
static const Row *common_row(const Folder *folder, const Reference *r, double *loss)
{
    const Table *evals = &folder->metrics.evals;
    for (int64_t i = evals->n_rows - 1; i >= 0; i--)
        if (isfinite(evals->row[i].value[EVAL_VAL_LOSS]) &&
            reference_at(r, evals->row[i].iter, loss))
            return &evals->row[i];
    return NULL;
}

static void say_difference(Verdict *v, const Reference *r, double own, double wanted)
{
    double off = own / wanted - 1;
    v->is_right = fabs(off) <= r->tolerance;
    if (v->is_right)
        say(v, "That is within %.3g %%: your loss is right.", 100 * r->tolerance);
    else if (off > 0)
        say(v, "That is %.1f %% above it, more than the %.3g %% another seed may make.", 100 * off,
            100 * r->tolerance);
    else
        say(v,
            "That is %.1f %% below it: better, or the validation text is not one the model has "
            "not seen.",
            -100 * off);
}

static void say_settings(Verdict *v, const Folder *folder, const Reference *r)
{
    const char *before = " Settings that differ from the reference's: ";
    for (int32_t i = N_SHAPE_SETTINGS; i < r->n_settings; i++) {
        const ReferenceSetting *s = &r->setting[i];
        if (is_setting(folder, s))
            continue;
        say(v, "%s%s %.24s (there %g)", before, s->key, folder_setting(folder, s->key), s->value);
        before = ", ";
    }
    if (before[0] == ',')
        say(v, ".");
}

static void compare(Verdict *v, const Folder *folder, const Reference *r)
{
    double wanted = 0;
    const Row *row = common_row(folder, r, &wanted);
    if (!row) {
        say(v,
            "The reference for this model is %s. No evaluation has been made at a step that it "
            "covers.",
            r->name);
        return;
    }
    double own = row->value[EVAL_VAL_LOSS];
    say(v, "Your validation loss at step %s is %.4f, the reference's (%s) is %.4f there. ",
        human_count(row->iter).text, own, r->name, wanted);
    v->is_compared = is_same_text(folder, r);
    if (v->is_compared)
        say_difference(v, r, own, wanted);
    else
        say(v,
            "The reference learned from %s, this run from another text (dataset %.64s): compare "
            "the course of the curves, not their level.",
            r->text, folder_setting(folder, "dataset"));
    say_settings(v, folder, r);
}

Verdict reference_verdict(const Folder *folder)
{
    Verdict v = {.text = ""};
    const Reference *r = reference_of(folder);
    if (r)
        compare(&v, folder, r);
    else if (folder->config)
        say(&v, "No reference run has this model with steps of as many tokens.");
    else
        say(&v, "The settings are not known, so no reference can be chosen.");
    return v;
}
