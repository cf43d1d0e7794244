/* Choices as text, one line each:
 *
 *     card | cuBLASLt version | product | algorithm | checksum
 *
 * The product is its key as name=number, the algorithm cuBLASLt's eight words in hexadecimal. They
 * mean something to the same version of the library only, and it may not take nonsense well, so a
 * line ends in the XXH64 of what is before its last bar. */
#include "kernels/cuda/gemm_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { CARD_BYTES = 192, ALGO_WORDS = 8, HEX_DIGITS = 16, NUMBER_DIGITS = 18 };
enum { LINE_BYTES = CARD_BYTES + GEMM_KEY_TEXT_BYTES + (ALGO_WORDS + 3) * (HEX_DIGITS + 3) };

static const char BAR[] = " | ";

/* What says whether a choice is for this device. */
typedef struct {
    char card[CARD_BYTES]; /* "NVIDIA H200, 132 SMs" */
    int64_t version;       /* of cuBLASLt */
} Origin;

static Origin origin_of(const Device *dev)
{
    const CudaDevice *cuda = cuda_device(dev);
    Origin origin = {.version = (int64_t)cublasLtGetVersion()};
    snprintf(origin.card, sizeof origin.card, "%s, %d SMs", cuda->name, (int)cuda->n_sms);
    for (char *c = origin.card; *c; c++)
        if (*c == '|' || (unsigned char)*c < ' ')
            *c = '_';
    return origin;
}

/* ---- writing ----------------------------------------------------------------------------- */

void gemm_key_print(char text[GEMM_KEY_TEXT_BYTES], const GemmKey *key)
{
    size_t used = 0;
#define X(field)                                                                                   \
    used += (size_t)snprintf(text + used, GEMM_KEY_TEXT_BYTES - used, "%s" #field "=%" PRId64,     \
                             used ? " " : "", key->field);
    GEMM_KEY_FIELDS(X)
#undef X
}

/* Returns the length. */
static size_t print_line(char line[LINE_BYTES], const Origin *origin, const GemmPlan *plan)
{
    char key[GEMM_KEY_TEXT_BYTES];
    gemm_key_print(key, &plan->key);
    size_t used = (size_t)snprintf(line, LINE_BYTES, "%s%s%" PRId64 "%s%s%s", origin->card, BAR,
                                   origin->version, BAR, key, BAR);
    for (int i = 0; i < ALGO_WORDS; i++)
        used += (size_t)snprintf(line + used, LINE_BYTES - used, "%s%016" PRIx64, i ? " " : "",
                                 plan->algo.data[i]);
    uint64_t sum = XXH64(line, used, 0);
    return used + (size_t)snprintf(line + used, LINE_BYTES - used, "%s%016" PRIx64 "\n", BAR, sum);
}

Err cuda_tuning_export(Device *dev, char **text)
{
    const GemmTuner *tuner = cuda_device(dev)->tuner;
    char *out = malloc((size_t)tuner->n_plans * LINE_BYTES + 1);
    if (!out)
        FAIL(ERR_SYSTEM, "no memory for the text of %" PRId64 " choices", tuner->n_plans);
    Origin origin = origin_of(dev);
    size_t used = 0;
    for (int64_t i = 0; i < tuner->n_plans; i++)
        if (tuner->plan[i]->chosen)
            used += print_line(out + used, &origin, tuner->plan[i]);
    out[used] = 0;
    *text = out;
    return OK;
}

/* ---- reading: each function moves *at past what it understood, false otherwise ------------- */

typedef struct {
    Origin origin;
    GemmKey key;
    cublasLtMatmulAlgo_t algo;
} Choice;

static bool take(const char **at, const char *wanted)
{
    size_t n = strlen(wanted);
    bool same = strncmp(*at, wanted, n) == 0;
    *at += same ? n : 0;
    return same;
}

/* Of up to 18 decimal digits, so it fits. */
static bool take_number(const char **at, int64_t *number)
{
    size_t n = strspn(*at, "0123456789");
    *number = 0;
    for (size_t i = 0; i < n && n <= NUMBER_DIGITS; i++)
        *number = *number * 10 + ((*at)[i] - '0');
    *at += n;
    return n > 0 && n <= NUMBER_DIGITS;
}

static bool take_hex(const char **at, uint64_t *word)
{
    size_t n = strspn(*at, "0123456789abcdef");
    *word = 0;
    for (size_t i = 0; i < n && n == HEX_DIGITS; i++) {
        char c = (*at)[i];
        *word = *word << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *at += n;
    return n == HEX_DIGITS;
}

static bool take_card(const char **at, char card[CARD_BYTES])
{
    size_t n = strcspn(*at, "|\n");
    if ((*at)[n] != '|' || n < 2 || n - 1 >= CARD_BYTES || (*at)[n - 1] != ' ')
        return false;
    memcpy(card, *at, n - 1);
    card[n - 1] = 0;
    *at += n - 1;
    return true;
}

static bool take_key(const char **at, GemmKey *key)
{
    bool ok = true;
    const char *gap = "";
#define X(field)                                                                                   \
    ok = ok && take(at, gap) && take(at, #field "=") && take_number(at, &key->field);              \
    gap = " ";
    GEMM_KEY_FIELDS(X)
#undef X
    return ok;
}

static bool take_algo(const char **at, cublasLtMatmulAlgo_t *algo)
{
    bool ok = true;
    for (int i = 0; i < ALGO_WORDS && ok; i++)
        ok = take(at, i ? " " : "") && take_hex(at, &algo->data[i]);
    return ok;
}

static bool take_line(const char **at, Choice *choice)
{
    const char *begin = *at;
    uint64_t sum = 0;
    if (!take_card(at, choice->origin.card) || !take(at, BAR) ||
        !take_number(at, &choice->origin.version) || !take(at, BAR) ||
        !take_key(at, &choice->key) || !take(at, BAR) || !take_algo(at, &choice->algo))
        return false;
    size_t summed = (size_t)(*at - begin);
    return take(at, BAR) && take_hex(at, &sum) && sum == XXH64(begin, summed, 0) && take(at, "\n");
}

static Err check_text(const char *text)
{
    Choice choice;
    int64_t line = 0;
    while (*text) {
        line++;
        if (!take_line(&text, &choice))
            FAIL(ERR_DATA,
                 "line %" PRId64 " of the tuning text is damaged: not "
                 "\"card | version | product | algorithm | checksum\"",
                 line);
    }
    return OK;
}

Err cuda_tuning_import(Device *dev, const char *text)
{
    TRY(check_text(text));
    GemmTuner *tuner = cuda_device(dev)->tuner;
    Origin here = origin_of(dev);
    Choice choice;
    while (take_line(&text, &choice)) {
        if (strcmp(choice.origin.card, here.card) != 0 || choice.origin.version != here.version ||
            gemm_tuner_find(tuner, &choice.key))
            continue;
        GemmPlan *plan = gemm_tuner_add(tuner, &choice.key);
        if (!plan)
            FAIL(ERR_SYSTEM, "no memory for a choice of an algorithm");
        plan->algo = choice.algo;
        plan->chosen = true;
    }
    return OK;
}
