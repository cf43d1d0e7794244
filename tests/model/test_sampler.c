#include "model/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { N = 5, DRAWS = 20000 };

static const float LOGITS[N] = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

static int32_t pick(Sampler sampler, const float *logits, uint64_t sample, uint64_t position)
{
    float scratch[N];
    return sampler_pick(&sampler, logits, N, sample, position, scratch);
}

/* How often each token is drawn at DRAWS positions. */
static void count_draws(Sampler sampler, const float *logits, int64_t count[N])
{
    for (int64_t i = 0; i < N; i++)
        count[i] = 0;
    for (uint64_t i = 0; i < DRAWS; i++)
        count[pick(sampler, logits, 0, i)]++;
}

static void zero_temperature_takes_the_first_of_the_largest(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(pick((Sampler){.temperature = 0, .seed = i}, LOGITS, i, i), 1);
}

/* ---- distributions ------------------------------------------------------------------------ */

enum { WORDS = 60 };

/* Logits as a model's: a few large ones, a long tail, no ties. */
static void set_logits(float logits[WORDS])
{
    for (int i = 0; i < WORDS; i++)
        logits[i] = 6.0f * (float)cos(i * 1.7) - 0.05f * (float)i;
}

/* How many words are at least as likely as word i. */
static int rank_of(const float logits[WORDS], int i)
{
    int rank = 0;
    for (int j = 0; j < WORDS; j++)
        rank += logits[j] >= logits[i];
    return rank;
}

/* p = softmax(logits / temperature) of those with keep, 0 of the others. */
static void set_softmax(double p[WORDS], const float logits[WORDS], double temperature,
                        const bool keep[WORDS])
{
    double total = 0;
    for (int i = 0; i < WORDS; i++)
        total += keep[i] ? exp((double)logits[i] / temperature) : 0;
    for (int i = 0; i < WORDS; i++)
        p[i] = keep[i] ? exp((double)logits[i] / temperature) / total : 0;
}

/* What the sampler should draw from, by the definition: word i is within the top p when what is
 * more likely than it has less than that probability. */
static void set_expected(double p[WORDS], const float logits[WORDS], Sampler sampler)
{
    bool keep[WORDS];
    for (int i = 0; i < WORDS; i++)
        keep[i] = sampler.top_k == 0 || rank_of(logits, i) <= sampler.top_k;
    set_softmax(p, logits, sampler.temperature, keep);
    for (int i = 0; i < WORDS; i++) {
        double above = 0;
        for (int j = 0; j < WORDS; j++)
            above += logits[j] > logits[i] ? p[j] : 0;
        keep[i] = keep[i] && (sampler.top_p == 0 || above < sampler.top_p);
    }
    set_softmax(p, logits, sampler.temperature, keep);
}

/* A chi-square of this many degrees of freedom is above it once in a million times. Source: Wilson
 * and Hilferty 1931. */
static double chi_square_limit(int degrees)
{
    double variance = 2.0 / (9.0 * degrees);
    return degrees * pow(1 - variance + 4.753 * sqrt(variance), 3);
}

/* Words that are expected less than five times are taken together. */
static void check_distribution(Sampler sampler)
{
    float logits[WORDS], scratch[WORDS];
    double p[WORDS], chi_square = 0, rare = 0, n_rare = 0;
    int64_t count[WORDS] = {0};
    int n_classes = 0;
    set_logits(logits);
    set_expected(p, logits, sampler);
    for (uint64_t i = 0; i < DRAWS; i++)
        count[sampler_pick(&sampler, logits, WORDS, 1, i, scratch)]++;
    for (int i = 0; i < WORDS; i++) {
        double expected = p[i] * DRAWS, off = (double)count[i] - expected;
        assert_true(count[i] == 0 || p[i] > 0);
        if (expected < 5) {
            rare += expected;
            n_rare += (double)count[i];
        } else {
            chi_square += off * off / expected;
            n_classes++;
        }
    }
    if (rare >= 5) {
        chi_square += (n_rare - rare) * (n_rare - rare) / rare;
        n_classes++;
    }
    assert_true(n_classes >= 2);
    assert_true(chi_square < chi_square_limit(n_classes - 1));
}

static void draws_follow_the_temperature(void **state)
{
    (void)state;
    check_distribution((Sampler){.temperature = 0.5, .seed = 3});
    check_distribution((Sampler){.temperature = 1, .seed = 4});
    check_distribution((Sampler){.temperature = 3, .seed = 5});
}

static void draws_follow_the_top_k(void **state)
{
    (void)state;
    check_distribution((Sampler){.temperature = 1, .top_k = 5, .seed = 6});
    check_distribution((Sampler){.temperature = 2, .top_k = 37, .seed = 7});
}

static void draws_follow_the_top_p(void **state)
{
    (void)state;
    for (int i = 8; i < 20; i++)
        check_distribution((Sampler){.temperature = 1.5, .top_p = 0.05 * i, .seed = 8});
    check_distribution((Sampler){.temperature = 1.5, .top_p = 0.999, .seed = 9});
}

/* The top p are those of what the top k leave. */
static void draws_follow_top_k_and_top_p_together(void **state)
{
    (void)state;
    check_distribution((Sampler){.temperature = 2, .top_k = 12, .top_p = 0.7, .seed = 10});
    check_distribution((Sampler){.temperature = 2, .top_k = 30, .top_p = 0.95, .seed = 11});
}

/* ---- edges ------------------------------------------------------------------------------- */

static void top_p_keeps_the_likeliest_and_ties(void **state)
{
    (void)state;
    int64_t count[N];
    count_draws((Sampler){.temperature = 1, .top_p = 1e-9}, LOGITS, count);
    assert_true(count[1] > 0 && count[3] > 0 && count[1] + count[3] == DRAWS);
    const float distinct[N] = {0, 3, -1, 2, 1};
    count_draws((Sampler){.temperature = 1, .top_p = 1e-9}, distinct, count);
    assert_int_equal(count[1], DRAWS);
}

static void a_top_p_of_one_is_all(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        int32_t all = pick((Sampler){.temperature = 1}, LOGITS, 1, i);
        assert_int_equal(pick((Sampler){.temperature = 1, .top_p = 1}, LOGITS, 1, i), all);
        assert_int_equal(pick((Sampler){.temperature = 1, .top_p = 1 - 1e-12}, LOGITS, 1, i), all);
    }
}

static void top_k_draws_only_the_k_largest_and_ties(void **state)
{
    (void)state;
    int64_t count[N];
    count_draws((Sampler){.temperature = 1, .top_k = 1}, LOGITS, count);
    assert_true(count[1] > 0 && count[3] > 0 && count[1] + count[3] == DRAWS);
    count_draws((Sampler){.temperature = 1, .top_k = 3}, LOGITS, count);
    assert_true(count[0] == 0 && count[2] == 0 && count[4] > 0);
}

static void top_k_past_the_vocabulary_is_all_of_it(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(pick((Sampler){.temperature = 1, .top_k = 200}, LOGITS, 1, i),
                         pick((Sampler){.temperature = 1, .top_k = 0}, LOGITS, 1, i));
}

/* Selection among many values with ties, against counting. */
static void top_k_threshold_is_the_kth_largest(void **state)
{
    (void)state;
    enum { MANY = 1009, K = 37 };
    float logits[MANY], scratch[MANY];
    for (int i = 0; i < MANY; i++)
        logits[i] = (float)(i * 7919 % 200);
    Sampler sampler = {.temperature = 1e6, .top_k = K}; /* flat: all that may be drawn, are */
    float least = INFINITY;
    for (uint64_t i = 0; i < 5000; i++) {
        float drawn = logits[sampler_pick(&sampler, logits, MANY, 0, i, scratch)];
        least = drawn < least ? drawn : least;
    }
    int above = 0, equal = 0;
    for (int i = 0; i < MANY; i++) {
        above += logits[i] > least;
        equal += logits[i] == least;
    }
    assert_true(above < K && above + equal >= K);
}

static void a_draw_is_a_function_of_seed_sample_and_position(void **state)
{
    (void)state;
    int n_same[3] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        Sampler one = {.temperature = 1, .seed = 1}, two = {.temperature = 1, .seed = 2};
        int32_t drawn = pick(one, LOGITS, 5, i);
        assert_int_equal(drawn, pick(one, LOGITS, 5, i));
        n_same[0] += drawn == pick(two, LOGITS, 5, i);
        n_same[1] += drawn == pick(one, LOGITS, 6, i);
        n_same[2] += drawn == pick(one, LOGITS, 5, i + 1);
    }
    for (int i = 0; i < 3; i++)
        assert_true(n_same[i] < 600);
}

/* Nor do samples, each from its first token on, share the numbers they are drawn with. */
static void samples_are_drawn_independently(void **state)
{
    (void)state;
    const Sampler sampler = {.temperature = 1, .seed = 1};
    int n_same[3] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        n_same[0] += pick(sampler, LOGITS, 0, i + 1) == pick(sampler, LOGITS, 1, i);
        n_same[1] += pick(sampler, LOGITS, i, 0) == pick(sampler, LOGITS, 0, i);
        n_same[2] += pick(sampler, LOGITS, i, i) == pick(sampler, LOGITS, 0, 0);
    }
    for (int i = 0; i < 3; i++)
        assert_true(n_same[i] < 600);
}

static void impossible_tokens_are_never_drawn(void **state)
{
    (void)state;
    const float logits[N] = {NAN, -INFINITY, 0.0f, NAN, 0.0f};
    for (int64_t top_k = 0; top_k <= N; top_k++)
        for (double top_p = 0; top_p < 1; top_p += 0.3) {
            int64_t count[N];
            count_draws((Sampler){.temperature = 1, .top_k = top_k, .top_p = top_p}, logits, count);
            assert_int_equal(count[2] + count[4], DRAWS);
        }
}

static void a_diverged_model_still_gives_a_token(void **state)
{
    (void)state;
    const float logits[N] = {NAN, NAN, NAN, NAN, NAN};
    int32_t token = pick((Sampler){.temperature = 1, .top_k = 2, .top_p = 0.5}, logits, 0, 0);
    assert_true(token >= 0 && token < N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_temperature_takes_the_first_of_the_largest),
        cmocka_unit_test(draws_follow_the_temperature),
        cmocka_unit_test(draws_follow_the_top_k),
        cmocka_unit_test(draws_follow_the_top_p),
        cmocka_unit_test(draws_follow_top_k_and_top_p_together),
        cmocka_unit_test(top_p_keeps_the_likeliest_and_ties),
        cmocka_unit_test(a_top_p_of_one_is_all),
        cmocka_unit_test(top_k_draws_only_the_k_largest_and_ties),
        cmocka_unit_test(top_k_past_the_vocabulary_is_all_of_it),
        cmocka_unit_test(top_k_threshold_is_the_kth_largest),
        cmocka_unit_test(a_draw_is_a_function_of_seed_sample_and_position),
        cmocka_unit_test(samples_are_drawn_independently),
        cmocka_unit_test(impossible_tokens_are_never_drawn),
        cmocka_unit_test(a_diverged_model_still_gives_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
