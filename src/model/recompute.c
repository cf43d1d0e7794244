#include "model/recompute.h"

#include <stdio.h>

#include "base/check.h"

const char *recompute_name(Recompute recompute)
{
    static const char *const NAMES[N_RECOMPUTES] = {
        [RECOMPUTE_NONE] = "none", [RECOMPUTE_GELU_LN] = "gelu_ln", [RECOMPUTE_FFN] = "ffn",
        [RECOMPUTE_QKV] = "qkv",   [RECOMPUTE_BLOCK] = "block",
    };
    return NAMES[recompute];
}

RecomputeMix recompute_all(Recompute recompute, int32_t n_layer)
{
    RecomputeMix mix = {0};
    mix.n_at[recompute] = n_layer;
    return mix;
}

int32_t recompute_n_below(const RecomputeMix *mix, Recompute drops)
{
    int32_t n = 0;
    for (int32_t level = 0; level < (int32_t)drops; level++)
        n += mix->n_at[level];
    return n;
}

int32_t recompute_n_layers(const RecomputeMix *mix)
{
    return recompute_n_below(mix, N_RECOMPUTES);
}

Recompute recompute_at(const RecomputeMix *mix, int32_t layer)
{
    int32_t level = RECOMPUTE_NONE;
    ASSERT(layer >= 0 && layer < recompute_n_layers(mix), "block %d of %d", layer,
           recompute_n_layers(mix));
    while (layer >= mix->n_at[level])
        layer -= mix->n_at[level++];
    return (Recompute)level;
}

static double block_flop_per_token(Recompute recompute, const GptDims *dims)
{
    double C = (double)dims->n_embd, T = (double)dims->block_size;
    switch (recompute) {
    case RECOMPUTE_FFN:
        return 8 * C * C;
    case RECOMPUTE_QKV:
        return 14 * C * C;
    case RECOMPUTE_BLOCK:
        return 16 * C * C + 2 * T * C;
    default:
        return 0;
    }
}

double recompute_flop_per_token(const RecomputeMix *mix, const GptDims *dims)
{
    double flop = 0;
    for (int32_t level = 0; level < N_RECOMPUTES; level++)
        flop += mix->n_at[level] * block_flop_per_token((Recompute)level, dims);
    Recompute last = recompute_at(mix, recompute_n_layers(mix) - 1);
    return flop - block_flop_per_token(last, dims);
}

RecomputeText recompute_text(const RecomputeMix *mix)
{
    RecomputeText out = {""};
    int32_t n_layers = recompute_n_layers(mix);
    size_t used = 0;
    for (int32_t level = 0; level < N_RECOMPUTES; level++) {
        const char *name = recompute_name((Recompute)level);
        if (mix->n_at[level] == n_layers)
            snprintf(out.text, sizeof out.text, "%s", name);
        else if (mix->n_at[level] > 0)
            used += (size_t)snprintf(out.text + used, sizeof out.text - used, "%s%s x %d",
                                     used ? ", " : "", name, mix->n_at[level]);
    }
    return out;
}
